"""A stand-in for the sysfs of a host with GPUs, laid out as the kernel does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """A PCI device; an H100 when nothing else is said. `under` is the way to it in the device tree."""

    address: str
    vendor: str = "0x10de"
    kind: str = "0x030200"
    under: str = "pci0000:00"
    driver: str | None = None
    numa_node: str | None = None
    cpus: str | None = None
    config: bytes | None = None
    physfn: bool = False
    rdma: str | None = None
    ports: tuple[str, ...] = ("4: ACTIVE",)


def make_sysfs(root: Path, *devices: Device) -> None:
    listed, rdma = root / "bus/pci/devices", root / "class/infiniband"
    listed.mkdir(parents=True)
    for device in devices:
        place = root / "devices" / device.under / device.address
        place.mkdir(parents=True)
        (listed / device.address).symlink_to(place)
        texts = {
            "vendor": device.vendor,
            "class": device.kind,
            "numa_node": device.numa_node,
            "local_cpulist": device.cpus,
        }
        for name, text in texts.items():
            if text is not None:
                (place / name).write_text(f"{text}\n")
        if device.config is not None:
            (place / "config").write_bytes(device.config)
        if device.driver:
            (place / "driver").symlink_to(root / "bus/pci/drivers" / device.driver)
        if device.physfn:
            (place / "physfn").symlink_to(root)
        if device.rdma:
            rdma.mkdir(parents=True, exist_ok=True)
            (place / "infiniband" / device.rdma).mkdir(parents=True)
            (place / "infiniband" / device.rdma / "device").symlink_to(place)
            for number, state in enumerate(device.ports, 1):
                port = place / "infiniband" / device.rdma / "ports" / str(number)
                port.mkdir(parents=True)
                (port / "state").write_text(f"{state}\n")
            (rdma / device.rdma).symlink_to(place / "infiniband" / device.rdma)
