#!/usr/bin/env python3
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give a host what a driver and its GPUs leave there: entries in sysfs and /proc, device nodes, nvidia-smi.

host.py KIND TARGET [files]: from a directory of kinds/ to the places below TARGET (/ on a host of the lab). The entries
of sysfs and /proc go to var/lib/nvidia-standin/{sys,proc}, because nobody can write into the real ones. Running it
again takes away what the former kind left. With `files`, plain files stand for the device nodes, which only root can
make.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# After a boot nvidia-smi makes these, and the others are there once a program has asked for them.
FIRST = {"nvidiactl": (195, 255)}
LATER = {"nvidia-modeset": (195, 254), "nvidia-uvm": (510, 0), "nvidia-uvm-tools": (510, 1)}
MAJORS = (195, 510, 511)
# The node of /dev/null, which every cgroup allows.
EVERYWHERE = (1, 3)
GENERATOR = "etc/systemd/system-generators/nvidia-standin"
NVIDIA, MELLANOX = "0x10de", "0x15b3"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def link(path: Path, to: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(to, path.parent))


def bridge(address: str) -> str:
    """The bridge above a device; a GPU and the NIC on the bus number below share one."""
    domain, bus, _ = address.split(":")
    number = int(bus, 16) & ~1 if int(bus, 16) % 2 == 0 else int(bus, 16) - 1
    return f"pci{domain}:{number:02x}/{domain}:{number:02x}:1f.0"


def make_sysfs(root: Path, host: dict[str, Any]) -> None:
    for address, gpu in host["gpus"].items():
        folder = make_device(root, address, near(host, gpu["node"]), vendor=NVIDIA, device=host["device"])
        write(folder / "class", host["class"])
        # The first bytes of the configuration space; of a device that fell off the bus all bits are set.
        (folder / "config").write_bytes(b"\xff" * 64 if gpu.get("gone") else bytes.fromhex("de10") + bytes(62))
        driver = gpu.get("driver", host["driver"])
        if driver:
            link(folder / "driver", root / "bus/pci/drivers" / driver)
    for name, nic in host["infiniband"].items():
        folder = make_device(root, nic["address"], near(host, nic["node"]), vendor=MELLANOX, device="0x1021")
        write(folder / "class", "0x020700")
        link(root / "class/infiniband" / name / "device", folder)
        write(root / "class/infiniband" / name / "ports/1/state", nic["port"])
    (root / "bus/pci/devices").mkdir(parents=True, exist_ok=True)
    for node, cpus in host["cpus"].items():
        write(root / f"devices/system/node/node{node}/cpulist", cpus)
    if host["module_version"]:
        write(root / "module/nvidia/version", host["module_version"])


def near(host: dict[str, Any], node: int) -> dict[str, str]:
    return {"numa_node": str(node), "local_cpulist": host["cpus"][str(node)]}


def make_device(root: Path, address: str, place: dict[str, str], **values: str) -> Path:
    folder = root / "devices" / bridge(address) / address
    for name, value in {**values, **place}.items():
        write(folder / name, value)
    link(root / "bus/pci/devices" / address, folder)
    return folder


def make_proc(root: Path, host: dict[str, Any], kind: Path) -> None:
    version = host["module_version"]
    write(root / "version", "Linux version 6.12.0 (stand-in)")
    write(root / "modules", "nvidia 56827904 0 - Live 0x0000000000000000 (POE)" if version else "")
    if version:
        given = kind / "proc_version"
        words = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Tue Nov  5 00:00:00 UTC 2024"
        write(root / "driver/nvidia/version", given.read_text().rstrip("\n") if given.exists() else words)
    for minor, address in enumerate(taken(host)):
        write(
            root / f"driver/nvidia/gpus/{address}/information", f"Bus Location: \t {address}\nDevice Minor: \t {minor}"
        )
    write(root / "driver/nvidia-caps/mig-minors", "\n".join(mig_minors(len(taken(host)))))


def taken(host: dict[str, Any]) -> list[str]:
    """The GPUs that the driver has; one may be none that it knows."""
    return [address for address, gpu in sorted(host["gpus"].items()) if gpu.get("driver", host["driver"])]


def mig_minors(gpus: int) -> list[str]:
    """Of all instances that could be, as the driver lists them."""
    lines = ["config 1", "monitor 2"]
    for gpu in range(gpus):
        for gi in range(15):
            minor = 3 + gpu * 135 + gi * 9
            lines.append(f"gpu{gpu}/gi{gi}/access {minor}")
            lines += [f"gpu{gpu}/gi{gi}/ci{ci}/access {minor + 1 + ci}" for ci in range(8)]
    return lines


def make_nodes(dev: Path, gpus: int, files: bool) -> dict[str, Any]:
    """The device nodes that are there after a boot. Returns the numbers of those to come, and the major one of the
    nodes that open MIG instances."""
    (dev / "nvidia-caps").mkdir(parents=True, exist_ok=True)
    nodes = {**FIRST, **{f"nvidia{index}": (195, index) for index in range(gpus)}}
    everywhere = not files and not allow_majors()
    for name, number in nodes.items():
        if files:
            (dev / name).touch()
        else:
            os.mknod(dev / name, 0o20666, os.makedev(*(EVERYWHERE if everywhere else number)))
            (dev / name).chmod(0o666)
    later = {name: None if files else EVERYWHERE if everywhere else number for name, number in LATER.items()}
    return {"later": later, "caps_major": EVERYWHERE[0] if everywhere else MAJORS[-1]}


def allow_majors() -> bool:
    """Allow the nodes in the host's own cgroup and those below; only cgroup v1 can be told from within."""
    lines = Path("/proc/1/cgroup").read_text().splitlines()
    paths = [line.split(":", 2)[2] for line in lines if "devices" in line.split(":")[1].split(",")]
    top = next((Path(f"/sys/fs/cgroup/devices{path.replace('/init.scope', '')}") for path in paths), None)
    if top is None or not (top / "devices.allow").exists():
        return False
    for folder in [top, *(path for path in top.rglob("*") if path.is_dir())]:
        for major in MAJORS:
            (folder / "devices.allow").write_text(f"c {major}:* rwm\n")
    return True


def clear(target: Path) -> None:
    for folder in ("var/lib/nvidia-standin", "usr/lib/nvidia-standin", "dev/nvidia-caps"):
        shutil.rmtree(target / folder, ignore_errors=True)
    for path in [target / "usr/bin/nvidia-smi", target / GENERATOR, *(target / "dev").glob("nvidia*")]:
        path.unlink(missing_ok=True)
    shutil.rmtree(target / "usr/lib/modules" / os.uname().release, ignore_errors=True)


def main(kind: Path, target: Path, files: bool = False) -> None:
    clear(target)
    host = json.loads((kind / "host.json").read_text())
    make_sysfs(target / "var/lib/nvidia-standin/sys", host)
    make_proc(target / "var/lib/nvidia-standin/proc", host, kind)
    if not host["driver"]:
        return
    data = target / "usr/lib/nvidia-standin"
    (target / "usr/bin").mkdir(parents=True, exist_ok=True)
    shutil.copytree(kind, data)
    shutil.copy(kind.parent / "profiles.json", data)
    shutil.copy(HERE / "nvidia_smi.py", target / "usr/bin/nvidia-smi")
    (target / "usr/bin/nvidia-smi").chmod(0o755)
    (target / GENERATOR).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "reload.py", target / GENERATOR)
    (target / GENERATOR).chmod(0o755)
    state = json.loads((data / "state.json").read_text())
    state.update(make_nodes(target / "dev", len(taken(host)), files))
    write(data / "state.json", json.dumps(state, indent=1))
    # What depmod leaves; nvidia-cdi-refresh looks for the driver there.
    write(target / "usr/lib/modules" / os.uname().release / "modules.dep", "updates/dkms/nvidia.ko.xz:")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["files"])
