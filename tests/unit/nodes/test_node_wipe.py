# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node that leaves is trusted by, and that no more than that goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes import node_wipe
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.node_wipe import observe_trust, wipe
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.removal_plan import plan
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.receipts import Receipt, Spec

LOGIN = {"name": "/root/.docker/config.json", "keys": [["auths", "10.0.0.5:5000"]], "secret": True}


def test_what_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, state, other = tmp_path / "etc", tmp_path / "state", tmp_path / "bin-mesh-run"
    for path in (config / "ssh_mesh/ssh", state / "receipts", state / "workspace"):
        path.mkdir(parents=True)
    (config / "ssh_mesh/ssh/key").write_text("secret")
    other.symlink_to("/etc/passwd")
    monkeypatch.setattr(node_wipe, "_PLACES", (str(other), str(tmp_path / "not-there")))
    outputs: list[Spec] = [("file", {"name": "/root/.docker/config.json"}), ("json_keys", LOGIN)]
    seen = {f"{kind} {LOGIN['name']}": None for kind, _subject in outputs}
    receipt = Receipt("registry", "gpu02", "x", {}, [], outputs, seen)
    (state / "receipts/registry.json").write_text(receipt.dump())
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv)
        return 0, "gpustead-mesh\ngpustead-workspace\ngpustead-workspace\n\nown\n" if argv[1] == "ps" else "", ""

    found = observe_trust(run, str(config), str(state))
    assert found.lines() == [
        *("containers of gpustead-mesh", "containers of gpustead-workspace", "login to 10.0.0.5:5000"),
        *(f"{config}/ssh_mesh", str(other), f"{state}/receipts"),
    ]
    wipe(run, found)
    assert [argv[1:] for argv in asked[1:]] == [
        ["compose", "--project-name", "gpustead-mesh", "down"],
        ["compose", "--project-name", "gpustead-workspace", "down"],
        ["logout", "10.0.0.5:5000"],
    ]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["etc", "state", "workspace"]
    assert Path("/etc/passwd").exists()
    assert observe_trust(lambda _argv: (127, "", "no docker"), str(config), str(state)).lines() == []


def test_containers_that_docker_does_not_tell_of_are_not_taken_for_none(tmp_path: Path) -> None:
    with pytest.raises(GpusteadError, match="Cannot connect to the Docker daemon"):
        observe_trust(lambda _argv: (1, "", "Cannot connect to the Docker daemon"), str(tmp_path), str(tmp_path))


def test_what_docker_does_not_take_down_keeps_the_keys(tmp_path: Path) -> None:
    (tmp_path / "ssh_mesh").mkdir()

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (0, "gpustead-mesh", "") if argv[1] == "ps" else (1, "", "in use")

    with pytest.raises(GpusteadError, match="in use"):
        wipe(run, observe_trust(run, str(tmp_path), str(tmp_path)))
    assert (tmp_path / "ssh_mesh").exists()


GROUPS = {"gpu_nodes": ["gpu01", "gpu02", "gpu03"], "registry": ["gpu03"]}


def test_plan() -> None:
    found = plan("gpu02", GROUPS, "gpu01")
    assert (found.node, found.stay) == ("gpu02", ["gpu01", "gpu03"])


@pytest.mark.parametrize(
    ("node", "groups", "said"),
    [
        ("", GROUPS, "no node is named"),
        ("gpu99", GROUPS, "'gpu99' is not in gpu_nodes"),
        ("gpu01", GROUPS, "gpu01 builds the images"),
        ("gpu03", GROUPS, "gpu03 is in registry"),
        ("gpu02", {"gpu_nodes": ["gpu02"]}, "the only node"),
    ],
)
def test_a_node_that_others_need_stays(node: str, groups: dict[str, list[str]], said: str) -> None:
    with pytest.raises(GpusteadError, match=said):
        plan(node, groups, "gpu01")
