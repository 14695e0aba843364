"""What role binds takes away that an earlier release needed."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

BELOW = "/usr/local/lib/gpustead/python/ansible_collections/gpustead/cluster/plugins/module_utils"


def test_a_file_of_the_library_goes_when_it_is_needed_no_more(tmp_path: Path) -> None:
    names = [f"{BELOW}/workspaces/mounts.py", f"{BELOW}/binds/program.py", f"{BELOW}/binds", "/etc/other"]
    previous = [["file", {"name": name}] for name in names] + [["unit", {"name": f"{BELOW}/x"}]]
    settings = {"__binds_receipt": {"previous": previous}}
    found = render(tmp_path, "binds", ["__binds_of_former"], {"gpu_nodes": ["a"]}, settings)
    assert found == {"__binds_of_former": [{"path": f"{BELOW}/workspaces/mounts.py", "state": "absent"}]}


def test_a_directory_goes_after_what_lies_in_it(tmp_path: Path) -> None:
    names = [f"{BELOW}/gone", f"{BELOW}/gone/a.py"]
    settings = {"__binds_receipt": {"previous": [["file", {"name": name}] for name in names]}}
    found = render(tmp_path, "binds", ["__binds_of_former"], {"gpu_nodes": ["a"]}, settings)
    assert [one["path"] for one in found["__binds_of_former"]] == [f"{BELOW}/gone/a.py", f"{BELOW}/gone"]
