# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The device nodes of NVIDIA's driver: which are there, and making those of its module nvidia-uvm.

`nvidia-smi` makes nvidiactl and a node for each GPU, and no more. Without /dev/nvidia-uvm all of CUDA ends with error
999 (unknown error), though nvidia-smi works; after a boot it is not there until the first CUDA program or
nvidia-modprobe makes it. Containers can be given only what is there, and a CDI specification lists nothing else
(NVIDIA/nvidia-container-toolkit #50).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

UVM = "/dev/nvidia-uvm"
# Of all GPUs together.
CONTROL_NODES = ("/dev/nvidiactl", "/dev/nvidia-modeset", UVM, "/dev/nvidia-uvm-tools")
# Each loads the module, where it must, and makes its nodes. The toolkit may be there without nvidia-modprobe, which the
# driver's packages only recommend.
_MAKERS = (
    ("nvidia-ctk", "system", "create-device-nodes", "--control-devices", "--load-kernel-modules"),
    ("nvidia-modprobe", "-u", "-c", "0"),
)
_MINOR = re.compile(r"^Device Minor:\s*([0-9]{1,9})", re.MULTILINE)
_CAPABILITY = re.compile(r"^(gpu[0-9]{1,9}/gi[0-9]{1,9}(?:/ci[0-9]{1,9})?)/access ([0-9]{1,9})$", re.MULTILINE)


@dataclass(frozen=True)
class Nodes:
    """What is in /dev, and what its numbers mean.

    Attributes:
        paths: the driver's device nodes, sorted.
        minors: minor number of each GPU by PCI address.
        capabilities: minor number of the node that opens a MIG instance, by ``gpu0/gi1`` and ``gpu0/gi1/ci0``, where
            the first is the minor number of the GPU.
    """

    paths: tuple[str, ...]
    minors: Mapping[str, int]
    capabilities: Mapping[str, int]


@dataclass(frozen=True)
class Outcome:
    """The nodes after it, in check mode as they would be; `problem`: why CUDA cannot run, with what to do."""

    nodes: Nodes
    changed: bool
    problem: str


def needs_uvm(dev: Path) -> bool:
    """Whether CUDA needs UVM on a host: where the driver has its control node. WSL has none, and on Tegra, which
    has nvmap, the GPU shares the memory of the CPU."""
    return (dev / "nvidiactl").exists() and not (dev / "nvmap").exists()


def observe(dev: Path, proc: Path) -> Nodes:
    """Look at the nodes; what the driver does not tell is empty. `dev` and `proc`: where these are mounted."""
    names = [*_names(dev), *(f"nvidia-caps/{name}" for name in _names(dev / "nvidia-caps"))]
    gpus = proc / "driver/nvidia/gpus"
    told = (
        {address: _MINOR.search(_read(gpus / address / "information")) for address in os.listdir(gpus)}
        if gpus.is_dir()
        else {}
    )
    return Nodes(
        tuple(sorted(f"/dev/{name}" for name in names if name.startswith("nvidia"))),
        {address: int(minor[1]) for address, minor in sorted(told.items()) if minor},
        {name: int(minor) for name, minor in _CAPABILITY.findall(_read(proc / "driver/nvidia-caps/mig-minors"))},
    )


def apply(run: Run, dev: Path, proc: Path, check_mode: bool) -> Outcome:
    """Make the nodes of nvidia-uvm where they are missing and CUDA needs them."""
    before = observe(dev, proc)
    if UVM in before.paths or not needs_uvm(dev):
        return Outcome(before, False, "")
    if check_mode:
        return Outcome(Nodes(tuple(sorted({*before.paths, UVM})), before.minors, before.capabilities), True, "")
    said = []
    for command in _MAKERS:
        code, out, err = run(command)
        after = observe(dev, proc)
        if UVM in after.paths:
            return Outcome(after, True, "")
        said.append(f"{command[0]} ended with {code}: {' '.join(f'{out} {err}'.split())[-200:] or 'no words'}")
    return Outcome(
        after,
        after.paths != before.paths,
        f"There is no {UVM}, without which CUDA ends with error 999, and it cannot be made ({'; '.join(said)}). Run "
        "modprobe nvidia-uvm on the host and read what it says: the module is missing for this kernel, is another "
        "version than the driver, or Secure Boot refuses it.",
    )


def _names(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
