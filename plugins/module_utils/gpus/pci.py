# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA GPUs and RDMA devices as the kernel shows them on the PCI bus, with or without a driver of NVIDIA's.

The files are described in the kernel's Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_NVIDIA = "0x10de"
_DISPLAY = "0x03"  # the PCI base class: VGA, 3D and other display controllers
_ADDRESS = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_LIST = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")
_ROOT = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
_ACTIVE = "4: ACTIVE"  # the state of a port in sysfs (Documentation/ABI/stable/sysfs-class-infiniband)
_GONE = b"\xff\xff"  # what a read of a device returns that has fallen off the bus

# vfio-pci, its variants such as nvgrace-gpu-vfio-pci, and the two others that hold a device for a virtual machine.
_PASSED_THROUGH = ("pci-stub", "pciback")
_NOUVEAU = ("nouveau", "nova_core", "NovaCore")


@dataclass(frozen=True)
class PciGpu:
    """A display device of NVIDIA's.

    Attributes:
        address: as sysfs writes it, ``0000:18:00.0``.
        driver: the kernel driver that holds it, None when there is none.
        numa_node: the memory node it hangs on, None when the firmware does not say.
        cpus: the CPUs near to it in the kernel's list syntax, ``0-31,64-95``.
        path: its place in the device tree, the PCI bridges above it first.
        gone: whether reads of its configuration fail: it has fallen off the bus. None when that cannot be read.
    """

    address: str
    driver: str | None = None
    numa_node: int | None = None
    cpus: str | None = None
    path: tuple[str, ...] = ()
    gone: bool | None = None

    @property
    def passed_through(self) -> bool:
        """Whether it is held for a virtual machine."""
        driver = (self.driver or "").replace("_", "-")
        return "vfio" in driver or driver in _PASSED_THROUGH

    @property
    def nouveau(self) -> bool:
        """Whether a driver of the kernel's own holds it."""
        return self.driver in _NOUVEAU


@dataclass(frozen=True)
class Rdma:
    """An InfiniBand or RoCE device, ``mlx5_0``; `active`: whether a port of it is, since NCCL uses no other."""

    name: str
    numa_node: int | None
    path: tuple[str, ...]
    active: bool


def address(text: str) -> str | None:
    """The address as sysfs writes it, None when it is none: nvidia-smi writes the domain with eight digits."""
    match = _ADDRESS.fullmatch(text.strip().lower())
    return f"{int(match[1] or '0', 16):04x}:{match[2]}" if match else None


def cpu_list(text: str) -> str | None:
    """The text, if it is a list as the kernel writes them: ``0-31,64-95``."""
    text = text.strip()
    return text if _LIST.fullmatch(text) else None


def expand(text: str) -> tuple[int, ...]:
    """The numbers of a list, ``0,3-5`` as (0, 3, 4, 5); nothing for what is no list."""
    numbers: set[int] = set()
    for part in (cpu_list(text) or "").split(","):
        first, _separator, last = part.partition("-")
        if first:
            numbers.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(numbers))


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _node(device: Path) -> int | None:
    text = _read(device / "numa_node")
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None  # -1: not known


def _driver(device: Path) -> str | None:
    try:
        return os.path.basename(os.readlink(device / "driver")) or None
    except OSError:
        return None


def _gone(device: Path) -> bool | None:
    try:
        with (device / "config").open("rb") as config:
            vendor = config.read(2)
    except OSError:
        return None
    return vendor == _GONE if len(vendor) == 2 else None


def gpus(sysfs: Path) -> tuple[PciGpu, ...]:
    """NVIDIA's display devices, by address. Virtual functions of a GPU are not counted: they are parts of one."""
    found = []
    for name in _names(sysfs / "bus/pci/devices"):
        device = sysfs / "bus/pci/devices" / name
        if _read(device / "vendor") != _NVIDIA or not _read(device / "class").startswith(_DISPLAY):
            continue
        if not (device / "physfn").exists():
            near = cpu_list(_read(device / "local_cpulist"))
            path = device.resolve().parts
            found.append(PciGpu(name.lower(), _driver(device), _node(device), near, path, _gone(device)))
    return tuple(found)


def rdma(sysfs: Path) -> tuple[Rdma, ...]:
    """The host's InfiniBand and RoCE devices, by name."""
    folder = sysfs / "class/infiniband"
    devices = [(name, folder / name / "device") for name in _names(folder)]
    return tuple(
        Rdma(name, _node(device), device.resolve().parts, _active(folder / name / "ports")) for name, device in devices
    )


def _active(ports: Path) -> bool:
    return any(_read(ports / name / "state") == _ACTIVE for name in _names(ports))


def _bridges(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many steps from the root of a PCI bus downwards two devices have in common."""
    shared = 0
    for left, right in zip(one[:-1], other[:-1]):
        if left != right:
            break
        shared += bool(shared) or bool(_ROOT.fullmatch(left))
    return shared


def nearest(gpu: PciGpu, devices: tuple[Rdma, ...]) -> tuple[str, ...]:
    """The RDMA devices with the most PCI bridges in common with a GPU, else those on its memory node."""
    steps = {device.name: _bridges(gpu.path, device.path) for device in devices}
    most = max(steps.values(), default=0)
    if most:
        return tuple(name for name, shared in steps.items() if shared == most)
    return tuple(d.name for d in devices if gpu.numa_node is not None and d.numa_node == gpu.numa_node)
