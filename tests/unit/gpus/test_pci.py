"""GPUs and RDMA devices in a sysfs that looks like the real one."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.pci import PciGpu
from ansible_collections.gpustead.cluster.tests.unit.gpu_host import Device, make_sysfs
from hypothesis import given
from hypothesis import strategies as st

ROOT = "pci0000:16/0000:16:01.0"


def test_gpus(tmp_path: Path) -> None:
    make_sysfs(
        tmp_path,
        Device(
            "0000:18:00.0", under=ROOT, driver="nvidia", numa_node="0", cpus="0-31,64-95", config=b"\xde\x10\x30\x23"
        ),
        Device("0000:06:00.0", kind="0x030000", driver="vfio-pci", numa_node="-1"),
        Device("0000:07:00.0", kind="0x030000", config=b"\xff\xff\xff\xff"),
        Device("0000:07:00.1", kind="0x040300", driver="snd_hda_intel"),  # the sound card of a graphics card
        Device("0000:08:00.0", kind="0x068000"),  # an NVSwitch
        Device("0000:00:02.0", vendor="0x1a03", kind="0x030000"),  # a BMC's graphics
        Device("0000:18:00.4", physfn=True),
    )
    vfio, gone, h100 = pci.gpus(tmp_path)
    assert (h100.address, h100.driver, h100.numa_node, h100.cpus) == ("0000:18:00.0", "nvidia", 0, "0-31,64-95")
    assert (h100.gone, h100.passed_through, h100.nouveau) == (False, False, False)
    assert h100.path[-2:] == ("0000:16:01.0", "0000:18:00.0")
    assert (vfio.address, vfio.passed_through, vfio.numa_node, vfio.cpus, vfio.gone) == (
        "0000:06:00.0",
        True,
        None,
        None,
        None,
    )
    assert (gone.driver, gone.gone) == (None, True)
    assert pci.gpus(tmp_path / "missing") == ()


@pytest.mark.parametrize(
    ("driver", "passed_through", "nouveau"),
    [
        ("nvidia", False, False),
        ("nouveau", False, True),
        ("NovaCore", False, True),
        ("vfio-pci", True, False),
        ("nvgrace-gpu-vfio-pci", True, False),
        ("vfio_pci", True, False),
        ("pci-stub", True, False),
        ("pciback", True, False),
        ("nvidiafb", False, False),
        (None, False, False),
    ],
)
def test_drivers(driver: str | None, passed_through: bool, nouveau: bool) -> None:
    card = PciGpu("0000:18:00.0", driver)
    assert (card.passed_through, card.nouveau) == (passed_through, nouveau)


# Where three RDMA devices hang and on which memory node, and which of them is nearest to the GPU at ROOT.
NEAREST = {
    "same switch": ((f"{ROOT}", "0"), ("pci0000:16/0000:16:02.0", "0"), ("pci0000:97/0000:97:01.0", "1"), ("mlx5_0",)),
    "same host bridge": (("pci0000:97", "0"), ("pci0000:16/0000:16:02.0", "0"), ("pci0000:97", "1"), ("mlx5_1",)),
    "same node": (("pci0000:97", "0"), ("pci0000:a7", "1"), ("pci0000:b7", "0"), ("mlx5_0", "mlx5_2")),
    "none near": (("pci0000:97", "1"), ("pci0000:a7", "-1"), ("pci0000:b7", "1"), ()),
}


@pytest.mark.parametrize(("one", "two", "three", "nearest"), NEAREST.values(), ids=list(NEAREST))
def test_nearest(
    tmp_path: Path, one: tuple[str, str], two: tuple[str, str], three: tuple[str, str], nearest: tuple[str, ...]
) -> None:
    cards = [
        Device(f"0000:2{n}:00.0", vendor="0x15b3", kind="0x020700", under=under, numa_node=node, rdma=f"mlx5_{n}")
        for n, (under, node) in enumerate((one, two, three))
    ]
    make_sysfs(tmp_path, Device("0000:18:00.0", under=ROOT, numa_node="0"), *cards)
    devices = pci.rdma(tmp_path)
    assert [device.name for device in devices] == ["mlx5_0", "mlx5_1", "mlx5_2"]
    assert pci.nearest(pci.gpus(tmp_path)[0], devices) == nearest


# The states of a device's ports, as the kernel writes them, and whether NCCL could use it.
PORTS = {
    "up": (("4: ACTIVE",), True),
    "no cable": (("1: DOWN",), False),
    "no subnet manager": (("2: INIT",), False),
    "armed": (("3: ARMED",), False),
    "just lost": (("5: ACTIVE_DEFER",), False),
    "the second port is up": (("1: DOWN", "4: ACTIVE"), True),
    "both are down": (("1: DOWN", "1: DOWN"), False),
    "no port": ((), False),
}


@pytest.mark.parametrize(("ports", "active"), PORTS.values(), ids=list(PORTS))
def test_a_device_is_active_where_a_port_is(tmp_path: Path, ports: tuple[str, ...], active: bool) -> None:
    make_sysfs(tmp_path, Device("0000:20:00.0", vendor="0x15b3", kind="0x020700", rdma="mlx5_0", ports=ports))
    assert [device.active for device in pci.rdma(tmp_path)] == [active]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:18:00.0", "0000:18:00.0"),
        ("00001580:00:1E.0", "1580:00:1e.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("0000:0A:00.0 ", "0000:0a:00.0"),
        ("18:00.0", "0000:18:00.0"),
        ("N/A", None),
        ("", None),
        ("0000:18:00.9", None),
    ],
)
def test_address(text: str, address: str | None) -> None:
    assert pci.address(text) == address


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0,3-5,11", (0, 3, 4, 5, 11)), ("7", (7,)), ("N/A", ()), ("", ()), ("5-3", ()), ("0-9999999", ())],
)
def test_expand(text: str, numbers: tuple[int, ...]) -> None:
    assert pci.expand(text) == numbers


@given(st.text())
def test_any_text(text: str) -> None:
    pci.expand(text)
    found = pci.address(text)
    assert found is None or pci.address(found) == found
