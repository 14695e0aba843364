# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The device nodes of the driver: which are there, and making those that only a CUDA program would make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import (
    UVM,
    apply,
    needs_uvm,
    observe,
)
from ansible_collections.gpustead.cluster.tests.unit.captures import PROJECT
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

CTK = "nvidia-ctk system create-device-nodes --control-devices --load-kernel-modules"
MODPROBE = "nvidia-modprobe -u -c 0"
# What nvidia-smi leaves after a boot.
BOOTED = ("nvidiactl", "nvidia0", "nvidia1")
ALL = (*BOOTED, "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")


class Host:
    """A host on which nodes appear only after a command; what it was asked for."""

    def __init__(self, root: Path, nodes: Sequence[str], makes: Mapping[str, Sequence[str]]) -> None:
        self.dev, self.proc, self.makes = root / "dev", root / "proc", makes
        self.asked: list[str] = []
        self.put(nodes)

    def put(self, nodes: Sequence[str]) -> None:
        for name in nodes:
            (self.dev / name).parent.mkdir(parents=True, exist_ok=True)
            (self.dev / name).touch()

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        command = " ".join(argv)
        self.asked.append(command)
        self.put(self.makes.get(command, ()))
        return (0, "", "") if self.makes.get(command) else (1, "", f"{argv[0]}: no such module\n")


# What is there, which command makes what; whether it changes, what is asked for, and words of the problem.
CASES: dict[str, tuple[Sequence[str], Mapping[str, Sequence[str]], bool, list[str], str]] = {
    "after a boot": (BOOTED, {CTK: ALL}, True, [CTK], ""),
    "a toolkit that cannot": (BOOTED, {MODPROBE: ALL}, True, [CTK, MODPROBE], ""),
    "there already": (ALL, {}, False, [], ""),
    "the module cannot be loaded": (
        BOOTED,
        {},
        False,
        [CTK, MODPROBE],
        "nvidia-modprobe ended with 1: nvidia-modprobe",
    ),
    "other nodes come": (BOOTED, {CTK: ["nvidia-modeset"]}, True, [CTK, MODPROBE], "ends with error 999"),
    "WSL": (["dxg"], {}, False, [], ""),
    "Tegra": ([*BOOTED, "nvmap"], {}, False, [], ""),
    "no driver": ([], {}, False, [], ""),
}


@pytest.mark.parametrize("case", CASES)
def test_apply(tmp_path: Path, case: str) -> None:
    nodes, makes, changed, asked, problem = CASES[case]
    host = Host(tmp_path, nodes, makes)
    outcome = apply(host, host.dev, host.proc, check_mode=False)
    assert (outcome.changed, host.asked) == (changed, asked)
    assert problem in outcome.problem
    assert bool(outcome.problem) is bool(problem)
    assert outcome.nodes == observe(host.dev, host.proc)
    again = apply(host, host.dev, host.proc, check_mode=False)
    assert not again.changed


@pytest.mark.parametrize(("nodes", "changed"), [(BOOTED, True), (ALL, False), (["dxg"], False)])
def test_a_check_makes_nothing(tmp_path: Path, nodes: Sequence[str], changed: bool) -> None:
    host = Host(tmp_path, nodes, {CTK: ALL})
    outcome = apply(host, host.dev, host.proc, check_mode=True)
    assert (outcome.changed, outcome.problem, host.asked) == (changed, "", [])
    assert (UVM in outcome.nodes.paths) is needs_uvm(host.dev)


def test_what_the_nodes_are(tmp_path: Path) -> None:
    host = Host(tmp_path, [*ALL, "nvidia-caps/nvidia-cap12", "null"], {})
    for address, minor in {"0000:18:00.0": 1, "0000:3a:00.0": 0}.items():
        folder = host.proc / "driver/nvidia/gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t NVIDIA H100\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n")
    (host.proc / "driver/nvidia/gpus/0000:99:00.0").mkdir()
    caps = host.proc / "driver/nvidia-caps"
    caps.mkdir()
    (caps / "mig-minors").write_text(
        "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\ngpu0/gi1/access 12\n"
    )
    found = observe(host.dev, host.proc)
    assert found.paths == (
        *("/dev/nvidia-caps", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-modeset", UVM, "/dev/nvidia-uvm-tools"),
        *("/dev/nvidia0", "/dev/nvidia1", "/dev/nvidiactl"),
    )
    assert found.minors == {"0000:18:00.0": 1, "0000:3a:00.0": 0}
    assert found.capabilities == {"gpu0/gi0": 3, "gpu0/gi0/ci0": 4, "gpu0/gi1": 12}


def test_nothing_is_known_where_there_is_nothing(tmp_path: Path) -> None:
    found = observe(tmp_path / "dev", tmp_path / "proc")
    assert (found.paths, found.minors, found.capabilities) == ((), {}, {})


def test_the_unit_makes_the_nodes_before_containers_start() -> None:
    template = (PROJECT / "roles/nvidia/templates/gpustead-gpus.service.j2").read_text()
    at_boot = [["-pm", "1"], ["mig", "-i", "0", "-cgi", "9", "-C"]]
    values = {"__nvidia_smi": "nvidia-smi", "__nvidia_boot_commands": at_boot, "__nvidia_cdi_path": "/run/x.yaml"}
    divided = 'nvidia-smi mig -i 0 -lgi | grep -q " MIG " || nvidia-smi mig -i 0 -cgi 9 -C'
    last = {"cdi": "nvidia-ctk cdi generate --output=/run/x.yaml", "runtime": "nvidia-container-cli --load-kmods info"}
    for mode, command in last.items():
        text = Environment(autoescape=False).from_string(template).render(values, __nvidia_containers={"mode": mode})
        commands = [line.strip(" ;\\") for line in text.splitlines() if line.startswith("  ")]
        assert commands == ["nvidia-smi -L", CTK, "nvidia-smi -pm 1", divided, command, "true'"]
        assert text.count("ExecStart=") == 1, "one that hangs would have its time once for each"


@given(st.text())
def test_any_text_has_numbers_or_none(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    proc = tmp_path_factory.mktemp("proc")
    (proc / "driver/nvidia-caps").mkdir(parents=True)
    (proc / "driver/nvidia-caps/mig-minors").write_text(text, errors="replace")
    assert all(minor >= 0 for minor in observe(proc, proc).capabilities.values())
