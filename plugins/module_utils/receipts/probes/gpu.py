# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""NVIDIA GPUs: which ones there are and answer, and the settings that a reboot or anybody's nvidia-smi takes away."""

from __future__ import annotations

import os

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_list import LIST, uuid_in
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Unreadable,
    Value,
    each,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND, TIMED_OUT, TOO_MUCH

_TIMEOUT = 15  # seconds; without persistence mode the driver wakes each GPU first
_SETTINGS = ("--query-gpu=uuid,persistence_mode,power.limit", "--format=csv,noheader")


def _on_bus(sysfs: str, host: Host) -> list[str]:
    """Address and driver of NVIDIA's display devices."""
    folder = f"{sysfs}/bus/pci/devices"
    found = []
    for address in sorted(os.listdir(host.path(folder))) if os.path.isdir(host.path(folder)) else []:
        vendor, kind = (host.text(f"{folder}/{address}/{name}") or "" for name in ("vendor", "class"))
        if vendor.strip() == "0x10de" and kind.startswith("0x03"):
            link = host.path(f"{folder}/{address}/driver")
            found.append(f"{address} {os.path.basename(os.readlink(link)) if os.path.islink(link) else 'no driver'}")
    return found


def _gpus(subject: Subject, host: Host) -> Value:
    """The GPUs on the bus with the driver that holds each, and what nvidia-smi lists: GPUs and MIG devices.

    Its other words are kept too, as that it finds no driver: they are how a GPU that is lost is seen.
    """
    code, out, err = host.run([subject["name"], *LIST], _TIMEOUT)
    if code in (TIMED_OUT, TOO_MUCH):
        raise Unreadable(err)
    lines = [line.strip() for line in f"{out}\n{err}".splitlines() if line.strip()]
    return {
        "bus": _on_bus(subject.get("sysfs", "/sys"), host),
        "listed": [uuid for uuid in map(uuid_in, lines) if uuid],
        "said": [] if code == NOT_FOUND else [line[:200] for line in lines if not uuid_in(line)],
    }


def _settings(subject: Subject, host: Host) -> Value:
    """Persistence mode and power limit by UUID; of each GPU that answers what the subject asks for.

    GPUs in `withheld` are left to others.
    """
    code, out, err = host.run([subject["name"], *_SETTINGS], _TIMEOUT)
    rows = [line.split(",") for line in out.splitlines() if line.startswith("GPU-") and line.count(",") == 2]
    if not rows:
        raise Unreadable(f"nvidia-smi ended with {code}: {' '.join(f'{out} {err}'.split())[:200]}")
    value: dict[str, object] = {}
    for row in rows:
        uuid, persistence, limit = (field.strip() for field in row)
        if uuid in subject.get("withheld", ()):
            continue
        if subject.get("persistence"):
            value[f"{uuid} persistence"] = persistence
        if uuid in subject.get("limits", ()):
            value[f"{uuid} limit"] = limit
    return value


gpus = each(_gpus)
settings = each(_settings)
