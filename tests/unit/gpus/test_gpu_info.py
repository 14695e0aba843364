"""States of a host with GPUs, from what nvidia-smi, the PCI bus and the kernel module say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import gpu_info as gpu_report
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_info import (
    VERDICTS,
    GpuReport,
    observe,
    read_answer,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nccl_env import nccl_env
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.pci import PciGpu
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT
from ansible_collections.gpustead.cluster.tests.unit import smi_xml
from ansible_collections.gpustead.cluster.tests.unit.captures import PROJECT, capture, captures
from ansible_collections.gpustead.cluster.tests.unit.gpu_host import Device, make_sysfs
from hypothesis import given
from hypothesis import strategies as st

SMI = "/usr/bin/nvidia-smi"
ASKED = ("--query-gpu=uuid,compute_cap", "--format=csv")
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.173.02  Release Build\n"
Said = tuple[int, str, str]


@dataclass
class Host:
    """What the commands of a host say, and which were started."""

    query: Said = (0, "", "")
    topo: Said = (0, "", "")
    listing: Said = (0, "", "")
    capabilities: Said = (2, 'Field "compute_cap" is not a valid field to query.', "")
    started: list[Sequence[str]] = field(default_factory=list)

    def run(self, argv: Sequence[str]) -> Said:
        assert argv[0] == SMI
        self.started.append(argv[1:])
        answers = {"-q": self.query, "topo": self.topo, "-L": self.listing, ASKED[0]: self.capabilities}
        return answers[argv[1]]


def report(
    folder: Path,
    host: Host | None,
    cards: Sequence[Device],
    module: str | None,
    matrix: bool = True,
    *,
    exclude: Sequence[str] = (),
) -> GpuReport:
    make_sysfs(folder / "sys", *cards)
    if module is not None:
        (folder / "proc/driver/nvidia").mkdir(parents=True)
        (folder / "proc/driver/nvidia/version").write_text(module)
    run = (host or Host()).run
    return observe(run, SMI if host else None, folder / "sys", folder / "proc", matrix, exclude=exclude)


def cards(*drivers: str | None, gone: bool = False) -> list[Device]:
    config = b"\xff\xff\xff\xff" if gone else None
    return [Device(smi_xml.ADDRESSES[n], driver=driver, config=config) for n, driver in enumerate(drivers)]


def error(name: str, status: int = 9) -> Host:
    return Host((status, capture(f"smi-error/{name}"), ""))


def log(*numbers: int, err: str = "", status: int = 0) -> Host:
    return Host((status, smi_xml.log(*(smi_xml.gpu(number) for number in numbers)), err))


EIGHT = cards(*["nvidia"] * 8)
ONE = EIGHT[:1]
UNHEALTHY = Host(
    (0, smi_xml.host(1, _0="<remapped_rows><remapped_row_pending>Yes</remapped_row_pending></remapped_rows>"), "")
)
SHARED = "<gpu_virtualization_mode><virtualization_mode>Host VGPU</virtualization_mode></gpu_virtualization_mode>"
LOST = "Unable to determine the device handle for GPU3: 0000:5D:00.0: Unknown Error\n"
# What a host says, its GPUs on the bus, its kernel module, the verdict, the indexes of the GPUs, words of the detail.
HOSTS: dict[str, tuple[Host | None, Sequence[Device], str | None, str, list[int], str]] = {
    "nothing at all": (None, [], None, "none", [], "the PCI bus has 0 NVIDIA GPUs"),
    "tools without a GPU": (error("couldnt-communicate"), [], None, "none", [], "couldn't communicate"),
    "driver without a GPU": (error("no-devices-found-rtx5090-rebar", 6), [], OPEN, "none", [], "No devices were found"),
    "log without a GPU": (log(), [], OPEN, "none", [], "0 GPUs answer"),
    "all answer": (log(*range(8)), EIGHT, OPEN, "ready", list(range(8)), "8 GPUs answer; the PCI bus has 8"),
    "one answers": (log(0), ONE, OPEN, "ready", [0], "1 GPU answers; the PCI bus has 1 NVIDIA GPU (1 with nvidia)"),
    "WSL or Jetson": (log(0), [], None, "ready", [0], "1 GPU answers"),
    "warning": (
        log(0, err="WARNING: infoROM is corrupted", status=14),
        ONE,
        OPEN,
        "ready",
        [0],
        "ended with 14 and said",
    ),
    "one in a virtual machine": (log(1), cards("vfio-pci", "nvidia"), OPEN, "ready", [0], "1 with vfio-pci"),
    "addresses of another host": (log(4, 5), cards("nvidia", "nvidia"), OPEN, "ready", [0, 1], "2 GPUs answer"),
    "no tools": (None, cards(None), None, "not_installed", [], "(1 with no driver)"),
    "no tools, module loaded": (None, ONE, OPEN, "not_installed", [], "the loaded kernel module is 580.173.02"),
    "given tools not there": (
        Host((127, "", "[Errno 2] No such file or directory: '/x'")),
        cards(None),
        None,
        "not_installed",
        [],
        "ended with 127",
    ),
    "library not there": (
        Host((12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", "")),
        ONE,
        OPEN,
        "not_installed",
        [],
        "libnvidia-ml",
    ),
    "not loaded": (error("couldnt-communicate"), cards(None), None, "not_loaded", [], "couldn't communicate"),
    "loaded and not reached": (error("couldnt-communicate"), ONE, OPEN, "unknown", [], "580.173.02"),
    "mismatch": (error("driver-library-mismatch", 18), ONE, OPEN, "version_mismatch", [], "module is 580.173.02"),
    "mismatch of two lines": (
        error("driver-library-mismatch-570-two-lines", 18),
        ONE,
        OPEN,
        "version_mismatch",
        [],
        "the loaded kernel module is 580.173.02; the library is 570.124",
    ),
    "mismatch without a bus": (error("driver-library-mismatch", 18), [], OPEN, "version_mismatch", [], "0 NVIDIA GPUs"),
    "lost": (error("gpu-is-lost", 15), ONE, OPEN, "gpu_lost", [], "GPU is lost"),
    "lost, wrapped": (
        error("gpu-is-lost-wrapped-windows", 15),
        ONE,
        OPEN,
        "gpu_lost",
        [],
        "GPU is lost. Reboot the system",
    ),
    "lost, new words": (error("device-handle-unknown-error-new", 255), ONE, OPEN, "gpu_lost", [], "0000:07:00.0"),
    "lost in the log": (
        Host((0, smi_xml.log(smi_xml.gpu(0, uuid="GPU is lost")), "")),
        ONE,
        OPEN,
        "gpu_lost",
        [],
        "0 GPUs answer",
    ),
    "no devices": (error("no-devices-found-rtx5090-rebar", 6), ONE, OPEN, "no_devices", [], "No devices were found"),
    "log without devices": (log(), ONE, OPEN, "no_devices", [], "0 GPUs answer"),
    "vfio": (error("couldnt-communicate"), cards("vfio-pci", "vfio-pci"), None, "vfio", [], "2 with vfio-pci"),
    "vfio without tools": (None, cards("vfio-pci"), None, "vfio", [], "nvidia-smi was not found"),
    "vfio and a silent one": (
        error("couldnt-communicate"),
        cards("vfio-pci", None),
        None,
        "not_loaded",
        [],
        "1 with no",
    ),
    "nouveau": (error("couldnt-communicate"), cards("nouveau"), None, "nouveau", [], "1 with nouveau"),
    "nouveau without tools": (None, cards("nouveau", "vfio-pci"), None, "nouveau", [], "1 with nouveau, 1 with vfio"),
    "hangs": (Host((TIMED_OUT, "", "")), EIGHT, OPEN, "silent", [], "did not end within its time limit"),
    "hangs on a GPU off the bus": (
        Host((TIMED_OUT, "", "")),
        [*cards("nvidia", gone=True), EIGHT[1]],
        OPEN,
        "gpu_lost",
        [],
        f"off the bus: {smi_xml.ADDRESSES[0]}",
    ),
    "may not": (
        Host((4, "Failed to initialize NVML: Insufficient Permissions", "")),
        ONE,
        OPEN,
        "denied",
        [],
        "Insuff",
    ),
    "container": (error("container-lost-gpu-unknown-error", 255), ONE, OPEN, "cut_off", [], "NVML: Unknown Error"),
    "Docker's words": (error("docker-cdi-mode-needs-runtime", 1), ONE, OPEN, "unknown", [], "Runtime Hook directly"),
    "says nothing": (Host((0, "", "")), ONE, OPEN, "unknown", [], "ended with 0 and said: nothing"),
    "crashes": (Host((139, smi_xml.host()[:1000], "")), EIGHT, OPEN, "unknown", [], "cut off or no XML"),
    "cut off and lost": (Host((255, smi_xml.host()[:1000], LOST)), EIGHT, OPEN, "gpu_lost", [], "cut off or no XML"),
    "seven of eight": (
        log(0, 1, 2, 4, 5, 6, 7),
        EIGHT,
        OPEN,
        "some_lost",
        [0, 1, 2, 3, 4, 5, 6],  # the driver never had it
        f"7 GPUs answer; silent: {smi_xml.ADDRESSES[3]}",
    ),
    "one lost": (log(0, 1, 2, 4, 5, 6, 7, err=LOST), EIGHT, OPEN, "some_lost", [0, 1, 2, 4, 5, 6, 7], "GPU3"),
    "one lost, no address": (
        log(0, 2, err="Unable to determine the device handle for GPU1: Unknown Error\n"),
        cards("nvidia", "nvidia", "nvidia"),
        OPEN,
        "some_lost",
        [0, 2],
        "GPU1",
    ),
    "one lost, words before the log": (
        Host((0, LOST + smi_xml.log(smi_xml.gpu(2), smi_xml.gpu(4)), "")),
        [],
        None,
        "some_lost",
        [0, 2],
        "GPU3",
    ),
    "one lost in the log": (
        Host((0, smi_xml.log(smi_xml.gpu(0, uuid="N/A"), smi_xml.gpu(1)), "")),
        cards("nvidia", "nvidia"),
        OPEN,
        "some_lost",
        [1],
        f"silent: {smi_xml.ADDRESSES[0]}",
    ),
    "one that the driver does not take": (
        log(0),
        cards("nvidia", None),
        OPEN,
        "some_refused",
        [0],
        f"silent: {smi_xml.ADDRESSES[1]}; the PCI bus has 2 NVIDIA GPUs (1 with no driver, 1 with nvidia)",
    ),
    "one that another driver has": (log(0), cards("nvidia", "nvidiafb"), OPEN, "some_refused", [0], "1 with nvidiafb"),
    "one that the driver does not take, one with nouveau": (
        log(0),
        cards("nvidia", None, "nouveau"),
        OPEN,
        "some_refused",
        [0],
        "1 with no driver, 1 with nouveau",
    ),
    "one that the driver does not take, one lost": (
        log(0),
        cards("nvidia", None, "nvidia"),
        OPEN,
        "some_lost",
        [0],
        "1 with no driver",
    ),
    "one without a driver that fell off the bus": (
        log(0),
        [*ONE, Device(smi_xml.ADDRESSES[1], config=b"\xff\xff\xff\xff")],
        OPEN,
        "some_lost",
        [0],
        f"off the bus: {smi_xml.ADDRESSES[1]}",
    ),
    "all time out": (
        Host((0, smi_xml.log(smi_xml.gpu(0, "<fan_speed>Timeout</fan_speed>", uuid="Timeout")), "")),
        ONE,
        OPEN,
        "gpu_lost",
        [],
        f"GPU {smi_xml.ADDRESSES[0]}: nvidia-smi says 'Timeout' for uuid and 1 more field",
    ),
    "a vGPU host": (
        Host((0, smi_xml.log(smi_xml.gpu(0, SHARED), cuda="Not Found"), "")),
        ONE,
        OPEN,
        "vgpu_host",
        [0],
        "",
    ),
    "a vGPU host with CUDA": (Host((0, smi_xml.host(1, _0=SHARED), "")), ONE, OPEN, "vgpu_host", [0], "1 GPU answers"),
    "a vGPU host, a GPU in graphics mode": (
        Host((0, smi_xml.log(smi_xml.gpu(0), smi_xml.gpu(1, SHARED), cuda="N/A"), "")),
        EIGHT[:2],
        OPEN,
        "vgpu_host",
        [0, 1],
        "2 GPUs answer",
    ),
    "a vGPU host that lost a GPU": (
        Host((0, smi_xml.host(1, _0=SHARED), "")),
        EIGHT[:2],
        OPEN,
        "vgpu_host",
        [0],
        "silent",
    ),
    "one shared out to virtual machines beside CUDA": (
        Host((0, smi_xml.host(2, _1=SHARED.replace("VGPU", "VSGA")), "")),
        EIGHT[:2],
        OPEN,
        "ready",
        [0, 1],
        "2 GPUs answer",
    ),
    "a vGPU in a virtual machine": (
        Host((0, smi_xml.host(1, _0=SHARED.replace("Host VGPU", "VGPU")), "")),
        ONE,
        OPEN,
        "ready",
        [0],
        "1 GPU answers",
    ),
    "one with nouveau": (log(0), cards("nvidia", "nouveau"), OPEN, "some_nouveau", [0], "1 with nouveau"),
    "unhealthy": (
        UNHEALTHY,
        ONE,
        OPEN,
        "unhealthy",
        [0],
        "GPU 0: Memory rows wait for a reset to be remapped; the PCI",
    ),
}


@pytest.mark.parametrize("name", HOSTS)
def test_state(tmp_path: Path, name: str) -> None:
    host, devices, module, expected, indexes, detail = HOSTS[name]
    found, verdict = report(tmp_path, host, devices, module), VERDICTS[expected]
    assert (found.state, found.reason, found.remedy) == (verdict.state, verdict.reason, verdict.remedy)
    assert [gpu.index for gpu in found.gpus] == indexes
    assert detail in found.detail
    assert found.pci_gpus == tuple(device.address for device in devices)


def test_every_verdict_has_a_host() -> None:
    assert {name for _, _, _, name, _, _ in HOSTS.values()} == set(VERDICTS)


@pytest.mark.parametrize("text", captures("smi-error"))
def test_all_captures_of_errors(tmp_path: Path, text: str) -> None:
    found = report(tmp_path, Host((1, text, "")), ONE, None)
    assert found.state == "unusable"
    assert found.remedy


@pytest.mark.parametrize("text", captures("smi-xml"))
def test_all_captures_of_the_log(tmp_path: Path, text: str) -> None:
    assert report(tmp_path, Host((0, text, "")), [], None).state == "ready"


@pytest.mark.parametrize("text", [text for kind in ("smi-L", "topo") for text in captures(kind)])
def test_another_answer_is_no_log(tmp_path: Path, text: str) -> None:
    found = report(tmp_path, Host((0, text, "")), ONE, OPEN)
    assert (found.state, found.reason, found.gpus) == ("unusable", "unknown", ())


def test_long_words_are_cut(tmp_path: Path) -> None:
    assert len(report(tmp_path, Host((1, "word " * 1000, "")), ONE, OPEN).detail) < 600


@pytest.mark.parametrize(
    ("module", "driver", "kind"),
    [
        (OPEN, "580.173.02", "open"),
        (capture("proc-driver-version/debian-520"), "520.56.06", "proprietary"),
        ("", None, None),
        (None, None, None),
    ],
)
def test_the_module_speaks_for_a_silent_driver(
    tmp_path: Path, module: str | None, driver: str | None, kind: str | None
) -> None:
    found = report(tmp_path, error("driver-library-mismatch", 18), ONE, module)
    assert (found.driver_version, found.kernel_module, found.cuda_version) == (driver, kind, None)


ROOTS = ("pci0000:16", "pci0000:97")
PLACED = [
    Device(smi_xml.ADDRESSES[n], under=f"{ROOTS[n]}/0000:00:01.0", driver="nvidia", numa_node=str(n), cpus=f"{n}-3{n}")
    for n in range(2)
] + [
    Device(f"0000:1{n}:00.1", vendor="0x15b3", kind="0x020700", under=ROOTS[n], numa_node=str(n), rdma=f"mlx5_{n}")
    for n in range(2)
]


def test_what_is_near_as_nvidia_smi_says(tmp_path: Path) -> None:
    host = log(*range(8))
    host.topo = (0, capture("topo/8xh100-8nic-full"), "")
    found = report(tmp_path, host, PLACED, OPEN)
    assert [" ".join(argv) for argv in host.started] == ["-q -x", " ".join(ASKED), "topo -m"]
    assert len(found.topology.links) == 28
    assert asdict(found.topology.links[0]) == {"a": 0, "b": 1, "link": "NV18"}
    assert [(gpu.cpus, gpu.numa_nodes, gpu.nics) for gpu in found.gpus[3:5]] == [
        ("0-47,96-143", (0,), ("mlx5_3",)),
        ("48-95,144-191", (1,), ("mlx5_4",)),
    ]
    assert found.infiniband


@pytest.mark.parametrize("topo", [(0, "", ""), (255, "Failed to initialize NVML", ""), (TIMED_OUT, "", "")])
def test_what_is_near_as_the_bus_says(tmp_path: Path, topo: Said) -> None:
    host = log(0, 1)
    host.topo = topo
    found = report(tmp_path, host, PLACED, OPEN)
    assert [(gpu.cpus, gpu.numa_nodes, gpu.nics) for gpu in found.gpus] == [
        ("0-30", (0,), ("mlx5_0",)),
        ("1-31", (1,), ("mlx5_1",)),
    ]
    assert found.topology.links == ()


MATRIX = """\
\tGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity
GPU0\tX\tNV4\tPIX\tNODE\t0-7\t0
GPU1\tNV4\tX\tNODE\tPIX\t0-7\t0
NIC Legend:
  NIC0: mlx5_0
  NIC1: mlx5_3
"""
NICS = {
    "mlx5_0": Device("0000:18:00.1", vendor="0x15b3", kind="0x020700", under=f"{ROOTS[0]}/0000:00:01.0", numa_node="0"),
    "mlx5_3": Device("0000:19:00.1", vendor="0x15b3", kind="0x020700", under=ROOTS[0], numa_node="0"),
}
DOWN, UP = ("1: DOWN",), ("4: ACTIVE",)


@pytest.mark.parametrize("topo", [MATRIX, ""], ids=["nvidia-smi says what is near", "the bus says it"])
@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ({"mlx5_0": UP, "mlx5_3": UP}, {"NCCL_IB_HCA": "=mlx5_0"}),
        ({"mlx5_0": DOWN, "mlx5_3": UP}, {"NCCL_IB_HCA": "=mlx5_3"}),
        ({"mlx5_0": (*DOWN, *UP), "mlx5_3": UP}, {"NCCL_IB_HCA": "=mlx5_0"}),
        ({"mlx5_0": DOWN, "mlx5_3": DOWN}, {}),
    ],
    ids=["both up", "the nearest down", "its second port up", "both down"],
)
def test_nccl_is_told_of_devices_with_an_active_port_alone(
    tmp_path: Path, topo: str, ports: dict[str, tuple[str, ...]], told: dict[str, str]
) -> None:
    host = log(0)
    host.topo = (0, topo, "")
    cards = [replace(NICS[name], rdma=name, ports=states) for name, states in ports.items()]
    found = report(tmp_path, host, [PLACED[0], *cards], OPEN)
    assert nccl_env(asdict(found)) == told
    assert found.infiniband


def test_a_card_without_a_name_is_asked_of_the_bus(tmp_path: Path) -> None:
    host = log(0, 1)
    host.topo = (0, "\tGPU0\tGPU1\tNIC0\tCPU Affinity\tNUMA Affinity\nGPU0\tX\tNV4\tPIX\t0-7\tN/A\n", "")
    gpu = report(tmp_path, host, PLACED, OPEN).gpus[0]
    assert (gpu.cpus, gpu.numa_nodes, gpu.nics) == ("0-7", (0,), ("mlx5_0",))


def test_the_topology_is_not_asked_for(tmp_path: Path) -> None:
    host = log(0, 1)
    assert report(tmp_path, host, PLACED, OPEN, matrix=False).gpus[1].cpus == "1-31"
    assert [argv[0] for argv in host.started] == ["-q", ASKED[0]]


def test_a_corrupted_inforom_is_told_of_its_gpu(tmp_path: Path) -> None:
    said = f"WARNING: infoROM is corrupted at gpu 0000{smi_xml.ADDRESSES[1].upper()}\n"
    found = report(tmp_path, log(0, 1, err=said, status=14), EIGHT[:2], OPEN)
    assert (found.state, found.gpus[1].health) == ("ready", None)
    assert [gpu.problems for gpu in found.gpus] == [(), ("Its infoROM is corrupted, where errors are counted.",)]


PENDING = "<remapped_rows><remapped_row_pending>Yes</remapped_row_pending></remapped_rows>"
TWO = (smi_xml.gpu(0), smi_xml.gpu(1, PENDING).replace("NVIDIA H100 80GB HBM3", "NVIDIA DGX Display"))
THREE = cards("nvidia", "nvidia", None)
# What is excluded on a host with a well GPU, an ill one, and one that the driver does not take: the verdict, what is
# withheld, words of the detail.
EXCLUDED: dict[str, tuple[list[str], str, list[str | None], str]] = {
    "nothing": ([], "some_refused", [None, None], "GPU 1: Memory rows wait"),
    "one of another host": (["GT 1030", "gpu:7", "GPU-0"], "some_refused", [None, None], "silent"),
    "the card without a driver": (
        [smi_xml.ADDRESSES[2]],
        "unhealthy",
        [None, None],
        f"excluded: {smi_xml.ADDRESSES[2]}",
    ),
    "both, by model and address": (["DGX Display", "3A:00.0"], "ready", [None, "excluded"], "excluded: GPU 1, 0000:3a"),
    "both, by UUID and address": (
        [smi_xml.UUIDS[1].upper(), "0000003A:00:3a.0"],
        "some_refused",
        [None, "excluded"],
        "GPU 1",
    ),
    "by number": (["gpu:1", smi_xml.ADDRESSES[2]], "ready", [None, "excluded"], "the PCI bus has 3 NVIDIA GPUs"),
    "by address": ([*smi_xml.ADDRESSES[1:3]], "ready", [None, "excluded"], "excluded: GPU 1"),
    "all that answer": (["gpu:0", "gpu:1"], "some_refused", ["excluded"] * 2, "silent"),
    "all": ([*smi_xml.ADDRESSES[:3]], "none", ["excluded"] * 2, "excluded: GPU 0, GPU 1"),
}


@pytest.mark.parametrize("case", EXCLUDED)
def test_the_state_is_that_of_the_gpus_that_are_not_excluded(tmp_path: Path, case: str) -> None:
    exclude, verdict, withheld, words = EXCLUDED[case]
    found = report(tmp_path, Host((0, smi_xml.log(*TWO), "")), THREE, OPEN, exclude=exclude)
    assert (found.state, found.reason) == (VERDICTS[verdict].state, VERDICTS[verdict].reason)
    assert [gpu.withheld for gpu in found.gpus] == withheld
    assert words in found.detail
    assert len(found.pci_gpus) == 3


@pytest.mark.parametrize("exclude", ["gpu:1", "GPU:1", smi_xml.ADDRESSES[1]])
@pytest.mark.parametrize(("first", "state"), [(smi_xml.UUIDS[0], "ready"), ("GPU is lost", "unusable")])
def test_a_lost_gpu_that_is_excluded_is_missed_by_nobody(tmp_path: Path, exclude: str, first: str, state: str) -> None:
    host = Host((0, smi_xml.log(smi_xml.gpu(0, uuid=first), smi_xml.gpu(1, uuid="ERR!")), ""))
    assert report(tmp_path / "one", host, EIGHT[:2], OPEN, exclude=[exclude]).state == state
    assert report(tmp_path / "all", host, EIGHT[:2], OPEN, exclude=[exclude, "gpu:0"]).state == "none"


@pytest.mark.parametrize("exclude", ["", " ", "gpu:", "gpu:x", "1", "60.0", "MIG-1", "gpu:-1"])
def test_what_can_mean_no_gpu_is_refused_whatever_the_host_has(tmp_path: Path, exclude: str) -> None:
    with pytest.raises(GpusteadError, match="nvidia_exclude"):
        report(tmp_path, None, [], None, exclude=[exclude])


CAPABILITIES = f"uuid, compute_cap\n{smi_xml.UUIDS[0]}, 10.3\nUnable to determine it\n{smi_xml.UUIDS[1]}, [N/A]\n"


def test_the_driver_knows_the_compute_capability_better_than_a_name(tmp_path: Path) -> None:
    host = log(0, 1)
    host.capabilities = (0, CAPABILITIES, "")
    assert [gpu.compute_capability for gpu in report(tmp_path, host, EIGHT[:2], OPEN).gpus] == ["10.3", "9.0"]


def test_a_driver_that_does_not_know_the_question_is_not_asked(tmp_path: Path) -> None:
    host = Host((0, smi_xml.log(smi_xml.gpu(0), driver="470.256.02"), ""))
    assert report(tmp_path, host, ONE, OPEN).gpus[0].compute_capability == "9.0"
    assert [argv[0] for argv in host.started] == ["-q", "topo"]


MIG = (
    "<mig_mode><current_mig>Enabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode><mig_devices>"
    + "".join(
        f"<mig_device><index>{n}</index><gpu_instance_id>{n + 1}</gpu_instance_id>"
        "<compute_instance_id>0</compute_instance_id>"
        "<fb_memory_usage><total>19968 MiB</total></fb_memory_usage></mig_device>"
        for n in range(4)
    )
    + "</mig_devices>"
)


def test_mig_devices_get_their_names(tmp_path: Path) -> None:
    listing = capture("smi-L/a100-40gb-mig-on-gpu5-partial").replace("GPU 5", "GPU 1")
    host = Host((0, smi_xml.host(2, _1=MIG), ""), listing=(0, listing.split("Device  3")[0], ""))
    found = report(tmp_path, host, PLACED, OPEN)
    assert [" ".join(argv) for argv in host.started] == ["-q -x", " ".join(ASKED), "-L"]
    whole, divided = found.gpus
    assert (whole.mig.current, whole.mig.instances) == (None, ())
    assert [asdict(mig) for mig in divided.mig.instances[2:]] == [
        {"uuid": "MIG-c6b63f1b-a006-5803-b4f4-cc1b2867b34b", "profile": "1g.5gb", "gi": 3, "ci": 0}
        | {"memory_mib": 19968, "position": 2},
        {"uuid": None, "profile": None, "gi": 4, "ci": 0, "memory_mib": 19968, "position": 3},
    ]
    assert divided.nics == ("mlx5_1",)  # where the topology is not asked for, the bus says what is near


def test_the_table_of_the_documentation_is_this_one() -> None:
    rows = [
        f"| `{verdict.state}` | {f'`{verdict.reason}`' if verdict.reason else ''} | {verdict.when} |"
        f" {verdict.remedy or ''} |"
        for verdict in VERDICTS.values()
    ]
    table = (
        (PROJECT / "docs/gpus.md")
        .read_text()
        .split("| State | Reason | When | Remedy |\n|---|---|---|---|\n")[1]
        .split("\n\n")[0]
    )
    assert table.splitlines() == [" ".join(row.split()) for row in rows]


REASONS = {"not_installed", "not_loaded", "version_mismatch", "gpu_lost", "no_devices", "vgpu_host", "vfio", "nouveau"}


def test_the_states_are_those_that_others_build_on() -> None:
    states = {
        state: {v.reason for v in VERDICTS.values() if v.state == state}
        for state in ("none", "ready", "degraded", "unusable")
    }
    assert states == {
        "none": {None},
        "ready": {None},
        "degraded": {"gpu_lost", "no_devices", "nouveau", "unhealthy"},
        "unusable": REASONS | {"unknown"},
    }
    assert all(bool(verdict.remedy) == bool(verdict.reason) for verdict in VERDICTS.values())
    assert all(verdict.remedy is None or verdict.remedy.endswith(".") for verdict in VERDICTS.values())


TEXT = st.text(st.characters(exclude_categories=()))
CARDS = st.lists(
    st.builds(
        PciGpu,
        st.sampled_from(smi_xml.ADDRESSES),
        st.sampled_from([None, "nvidia", "nouveau", "vfio-pci", "other"]),
        gone=st.sampled_from([None, True, False]),
    ),
    max_size=3,
)
OUT = TEXT | st.lists(st.sampled_from([smi_xml.host(2), smi_xml.host(1)[:700], LOST, "</gpu>", "N/A"])).map("".join)


@given(st.integers(-15, 255), OUT, OUT, CARDS)
def test_any_answer_gives_a_verdict(status: int, out: str, err: str, cards: list[PciGpu]) -> None:
    answer = read_answer(status, out, err)
    verdict = VERDICTS[gpu_report.judge(answer, cards, None)]
    assert (verdict.state in ("ready", "degraded")) == bool(answer.gpus)
    assert len({gpu.index for gpu in answer.gpus}) == len(answer.gpus)
    assert gpu_report.detail(answer, cards, None)
