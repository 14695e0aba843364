"""What a node has for containers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_offer import NO_GPUS, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    """As ip answers on a node with one network, and apt-mark where make was installed."""
    if argv[:2] == ["apt-mark", "showmanual"]:
        return 0, "make\n", ""
    assert argv[:4] == ["ip", "-j", "route", "get"]
    return (0, '[{"dev": "eth0"}]', "") if argv[4].startswith("10.") else (2, "", "Network is unreachable\n")


def test_a_node_on_which_no_role_has_run(tmp_path: Path) -> None:
    found = observe(f"{tmp_path}/image", f"{tmp_path}/gpus.json", run, system=str(tmp_path))
    assert (found.image, found.gpus, found.infiniband, found.machine_id) == ("", None, False, "")


def test_what_roles_have_left(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("registry/x@sha256:01\n")
    (tmp_path / "gpus.json").write_text(json.dumps({"driver": "cdi", "uuids": ["GPU-1"], "infiniband": True}))
    (tmp_path / "dev/infiniband").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123\n")
    found = observe(f"{tmp_path}/image", f"{tmp_path}/gpus.json", run, system=str(tmp_path))
    assert (found.image, found.infiniband, found.machine_id) == ("registry/x@sha256:01", True, "0123")
    assert found.gpus == {**NO_GPUS, "driver": "cdi", "uuids": ["GPU-1"], "infiniband": True}


def test_an_empty_file_offers_nothing(tmp_path: Path) -> None:
    (tmp_path / "gpus.json").touch()
    assert observe(f"{tmp_path}/image", f"{tmp_path}/gpus.json", run, system=str(tmp_path)).gpus == NO_GPUS


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "gpus.json").write_bytes(content)
    with pytest.raises(GpusteadError, match=r"gpus\.json"):
        observe(f"{tmp_path}/image", f"{tmp_path}/gpus.json", run, system=str(tmp_path))


def test_the_route_to_another_node(tmp_path: Path) -> None:
    files = f"{tmp_path}/image", f"{tmp_path}/gpus.json"
    assert observe(*files, run, peer="10.1.0.2").route == '[{"dev": "eth0"}]'
    assert observe(*files, run).route == ""
    with pytest.raises(GpusteadError, match=r"ip -j route get fd00::2 ended with . \(Network is unreachable\)"):
        observe(*files, run, peer="fd00::2")


def test_packages_that_are_missing(tmp_path: Path) -> None:
    files = f"{tmp_path}/image", f"{tmp_path}/gpus.json"
    assert observe(*files, run, packages=["make", "git"]).missing == ("git",)
    assert observe(*files, lambda _argv: (127, "", "apt-mark: No such file"), packages=["make"]).missing == ("make",)
    assert observe(*files, run).missing == ()
