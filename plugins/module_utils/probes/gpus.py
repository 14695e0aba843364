# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The GPUs as the kernel knows them, from files alone: nvidia-smi would take seconds on a host with many.

Sources: the sysfs of PCI devices (kernel, Documentation/ABI/testing/sysfs-bus-pci); /proc/driver/nvidia (NVIDIA driver
README, chapter "The NVIDIA /proc interface"; NVIDIA MIG user guide, "/proc based nvidia-capabilities").
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.probes.files import Host, Subject, Value, each

_NVIDIA, _DISPLAY = "0x10de", "0x03"
_VERSION = re.compile(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s")
_UUID = re.compile(r"^GPU UUID:\s*(\S+)", re.MULTILINE)
_INSTANCE = re.compile(r"gpu\d+/mig/gi\d+(/ci\d+)?")


def _gpu(subject: Subject, host: Host) -> Value:
    """Driver, cards (PCI address to bound driver), UUIDs (PCI address to UUID) and MIG instances; never None.

    Options `sysfs_root` and `proc_root` stand for /sys and /proc.
    """
    sysfs, proc = subject.get("sysfs_root", "/sys"), f"{subject.get('proc_root', '/proc')}/driver/nvidia"
    version = _VERSION.search(host.text(f"{proc}/version") or "")
    value: dict[str, Any] = {
        "driver": version.group(1) if version else None,
        "cards": dict(_cards(f"{sysfs}/bus/pci/devices", host)),
        "uuids": dict(_uuids(f"{proc}/gpus", host)),
        "mig": sorted(_instances(f"{proc}/capabilities", host)),
    }
    return value


def _names(path: str, host: Host) -> list[str]:
    try:
        return sorted(os.listdir(host.path(path)))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _cards(devices: str, host: Host) -> Iterator[tuple[str, str]]:
    for address in _names(devices, host):
        vendor, kind = (host.text(f"{devices}/{address}/{name}") or "" for name in ("vendor", "class"))
        if vendor.strip() == _NVIDIA and kind.startswith(_DISPLAY):
            driver = host.path(f"{devices}/{address}/driver")
            yield address, os.path.basename(os.readlink(driver)) if os.path.islink(driver) else "none"


def _uuids(gpus: str, host: Host) -> Iterator[tuple[str, str]]:
    for address in _names(gpus, host):
        found = _UUID.search(host.text(f"{gpus}/{address}/information") or "")
        yield address, found.group(1) if found else "unknown"


def _instances(capabilities: str, host: Host) -> Iterator[str]:
    top = host.path(capabilities)
    for folder, _, _ in os.walk(top):
        name = os.path.relpath(folder, top)
        if _INSTANCE.fullmatch(name):
            yield name


gpu = each(_gpu)
