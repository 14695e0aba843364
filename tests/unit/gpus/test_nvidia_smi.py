"""What nvidia-smi says, from captures of eight generations of drivers, and damaged in every way."""

from __future__ import annotations

from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_smi
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_capability import compute_capability
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi import (
    Ecc,
    Gpu,
    KernelModule,
    Lost,
    Mig,
    MigInstance,
    Remapped,
    Retired,
    parse_log,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND, run
from ansible_collections.gpustead.cluster.tests.unit import smi_xml
from ansible_collections.gpustead.cluster.tests.unit.captures import capture, captures
from hypothesis import given
from hypothesis import strategies as st

# Of each capture the versions of driver and CUDA, and the first GPU.
LOGS = {
    "telegraf-gtx-1660-ti": (
        "418.43",
        "10.1",
        Gpu(
            *(0, "GPU-304a277d-3545-63b8-3a36-dfde3c992989", "Graphics Device", None, None, "0000:43:00.0", 5912),
            *(False, "Default"),
            power_limit_w=130.0,
            power_limit_min_w=70.0,
            power_limit_max_w=130.0,
            processes=0,
        ),
    ),
    "netdata-tesla-p100": (
        "510.47.03",
        "11.6",
        Gpu(
            *(0, "GPU-d3da8716-eaab-75db-efc1-60e88e1cd55e", "Tesla P100-PCIE-16GB", "Pascal", "6.0", "0000:00:04.0"),
            *(16384, False, "Default"),
            ecc=Ecc(True, True, 0, 0),
            retired=Retired(0, False),
            power_limit_w=250.0,
            power_limit_min_w=125.0,
            power_limit_max_w=250.0,
            processes=0,
            health="ok",
        ),
    ),
    "netdata-a100-sxm4-mig": (
        "510.47.03",
        "11.6",
        Gpu(
            *(0, "GPU-27b94a00-ed54-5c24-b1fd-1054085de32a", "NVIDIA A100-SXM4-40GB", "Ampere", "8.0", "0000:00:04.0"),
            *(40960, False, "Default"),
            ecc=Ecc(True, True, 0, None),  # the GPU does not count while MIG is on: what its instances count
            power_limit_w=400.0,
            power_limit_min_w=100.0,
            power_limit_max_w=400.0,
            processes=0,
            health="ok",
            mig=Mig(True, True, (MigInstance(None, None, 1, 0, 19968, 0), MigInstance(None, None, 2, 0, 19968, 1))),
        ),
    ),
    "telegraf-a10g": (
        "515.105.01",
        "11.7",
        Gpu(
            *(0, "GPU-9a9a6c50-2a47-2f51-a902-b82c3b127e94", "NVIDIA A10G", "Ampere", "8.6", "0000:00:1e.0"),
            *(23028, False, "Default"),
            ecc=Ecc(True, True, 0, 0),
            remapped=Remapped(0, 0, False, False),
            power_limit_w=300.0,
            power_limit_min_w=100.0,
            power_limit_max_w=300.0,
            processes=1,
            health="ok",
        ),
    ),
    "telegraf-rtx-3080-v13": (
        "595.58.03",
        "13.2",
        Gpu(
            *(0, "GPU-19d6d965-2acc-f646-00f8-4c76979aabb4", "NVIDIA GeForce RTX 3080", "Ampere", "8.6"),
            *("0000:0c:00.0", 10240, False, "Default"),
            power_limit_w=320.0,
            power_limit_min_w=100.0,
            power_limit_max_w=336.0,
            processes=0,
            health="ok",
        ),
    ),
}


@pytest.mark.parametrize(("name", "driver", "cuda", "gpu"), [(k, *v) for k, v in LOGS.items()], ids=list(LOGS))
def test_log(name: str, driver: str, cuda: str, gpu: Gpu) -> None:
    log = parse_log(capture(f"smi-xml/{name}"))
    assert (log.driver_version, log.cuda_version, log.gpus, log.lost) == (driver, cuda, (gpu,), ())


@pytest.mark.parametrize("text", captures("smi-xml"))
def test_all_captures_of_the_log(text: str) -> None:
    log = parse_log(text)
    assert log.driver_version
    assert [gpu.index for gpu in log.gpus] == list(range(text.count("<gpu id=")))
    assert all(gpu.pci_address and gpu.memory_mib and gpu.power_limit_w and not gpu.problems for gpu in log.gpus)


def first(fields: str) -> Gpu:
    return parse_log(smi_xml.log(smi_xml.gpu(0, fields))).gpus[0]


# What newer and older drivers write, and what becomes of it.
FIELDS: dict[str, tuple[str, str, Any]] = {
    "no processes known": ("<processes>N/A</processes>", "processes", None),
    "processes": ("<processes><process_info/><process_info/></processes>", "processes", 2),
    "no field": ("", "processes", None),
    "shared memory": ("<fb_memory_usage><total>Not Supported</total></fb_memory_usage>", "memory_mib", None),
    "other unit": ("<fb_memory_usage><total>80 GiB</total></fb_memory_usage>", "memory_mib", None),
    "limit": ("<gpu_power_readings><power_limit>700.00 W</power_limit></gpu_power_readings>", "power_limit_w", 700.0),
    "limit in brackets": ("<power_readings><power_limit>[N/A]</power_limit></power_readings>", "power_limit_w", None),
    "mode": ("<compute_mode>Exclusive_Process</compute_mode>", "compute_mode", "Exclusive_Process"),
    "mode with spaces": ("<compute_mode>\n  Prohibited\n</compute_mode>", "compute_mode", "Prohibited"),
    "pending ECC": (
        "<ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Disabled</pending_ecc></ecc_mode>",
        "ecc",
        Ecc(True, False),
    ),
    "ECC by parity": (
        "<ecc_errors><volatile><sram_correctable>1</sram_correctable><sram_uncorrectable_parity>0"
        "</sram_uncorrectable_parity><sram_uncorrectable_secded>0</sram_uncorrectable_secded><dram_correctable>2"
        "</dram_correctable><dram_uncorrectable>N/A</dram_uncorrectable></volatile></ecc_errors>",
        "ecc",
        Ecc(uncorrected=0, corrected=3),
    ),
    "MIG without devices": (
        "<mig_mode><current_mig>Enabled</current_mig><pending_mig>Disabled</pending_mig></mig_mode>"
        "<mig_devices>None</mig_devices>",
        "mig",
        Mig(True, False),
    ),
    "MIG with its UUID": (
        "<mig_devices><mig_device><index>3</index><uuid>MIG-1</uuid></mig_device></mig_devices>",
        "mig",
        Mig(instances=(MigInstance("MIG-1", None, None, None, None, 3),)),
    ),
    "no bus": ("<pci><pci_bus_id>N/A</pci_bus_id></pci>", "pci_address", "0000:18:00.0"),
    "healthy fabric": ("<fabric><state>Completed</state><status>Success</status></fabric>", "problems", ()),
    "no fabric": ("<fabric><state>N/A</state><status>N/A</status></fabric>", "problems", ()),
    "harmless": ("<addressing_mode>Unknown Error</addressing_mode>", "health", None),
    "deprecated": (
        "<gpu_reset_status><reset_required>Requested functionality has been deprecated</reset_required>"
        "</gpu_reset_status><gpu_recovery_action>None</gpu_recovery_action>",
        "health",
        "ok",
    ),
}


@pytest.mark.parametrize(("xml", "name", "value"), FIELDS.values(), ids=list(FIELDS))
def test_field(xml: str, name: str, value: Any) -> None:
    assert getattr(first(xml), name) == value


# What makes a GPU bad, and a word of the sentence that says so.
BAD = {
    "ECC": (
        "<ecc_errors><volatile><dram_uncorrectable>3</dram_uncorrectable></volatile></ecc_errors>",
        "3 uncorrected",
    ),
    "ECC, before Turing": (
        "<ecc_errors><volatile><double_bit><total>2</total></double_bit></volatile></ecc_errors>",
        "2 uncorrected",
    ),
    "ECC of a MIG device": (
        "<mig_devices><mig_device><ecc_error_count><volatile_count><sram_uncorrectable>1</sram_uncorrectable>"
        "</volatile_count></ecc_error_count></mig_device></mig_devices>",
        "1 uncorrected",
    ),
    "pages": ("<retired_pages><pending_blacklist>Yes</pending_blacklist></retired_pages>", "to be retired"),
    "pages, newer": ("<retired_pages><pending_retirement>Yes</pending_retirement></retired_pages>", "to be retired"),
    "rows": ("<remapped_rows><remapped_row_pending>Yes</remapped_row_pending></remapped_rows>", "to be remapped"),
    "failed": ("<remapped_rows><remapped_row_failure>Yes</remapped_row_failure></remapped_rows>", "be replaced"),
    "channel": ("<ecc_errors><channel_repair_pending>Yes</channel_repair_pending></ecc_errors>", "channel"),
    "cluster": ("<ecc_errors><tpc_repair_pending>Yes</tpc_repair_pending></ecc_errors>", "cluster"),
    "memory": ("<ecc_errors><unrepairable_memory>Yes</unrepairable_memory></ecc_errors>", "cannot be repaired"),
    "threshold": (
        "<ecc_errors><aggregate><sram_threshold_exceeded>Yes</sram_threshold_exceeded></aggregate></ecc_errors>",
        "threshold",
    ),
    "recovery": ("<gpu_recovery_action>Drain and Reset</gpu_recovery_action>", "Drain and Reset"),
    "reset": ("<gpu_reset_status><reset_required>Yes</reset_required></gpu_reset_status>", "reset"),
    "fabric": ("<fabric><state>In Progress</state><status>N/A</status></fabric>", "fabricmanager"),
    "fabric failed": ("<fabric><state>Completed</state><status>Failure</status></fabric>", "status Failure"),
    "one error": ("<fan_speed>ERR!</fan_speed>", "'ERR!' for fan_speed."),
    "errors": ("<a>[Unknown Error]</a><b>Unknown Error</b>", "'Unknown Error' for a and 1 more"),
    "needs a reset": ("<performance_state>GPU requires reset</performance_state>", "requires reset"),
}


@pytest.mark.parametrize(("xml", "words"), BAD.values(), ids=list(BAD))
def test_bad_health(xml: str, words: str) -> None:
    gpu = first(xml)
    assert gpu.health == "bad"
    assert len(gpu.problems) == 1
    assert words in gpu.problems[0]
    assert gpu.problems[0].endswith(".")


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("590.48.01", "590.48.01"),
        ("610.57.04 [Deprecated: use kmd_version]", "610.57.04"),
        ("610.57.04[Deprecated]", "610.57.04"),
        ("N/A", None),
        ("Not Found", None),
        ("", None),
    ],
)
def test_version(written: str, version: str | None) -> None:
    log = parse_log(smi_xml.log(driver=written, cuda=written))
    assert (log.driver_version, log.cuda_version) == (version, version)


def test_versions_by_the_names_of_driver_610() -> None:
    text = (
        "<nvidia_smi_log><kmd_version>610.57.04</kmd_version><cuda_umd_version>13.4</cuda_umd_version></nvidia_smi_log>"
    )
    log = parse_log(text)
    assert (log.driver_version, log.cuda_version) == ("610.57.04", "13.4")


def test_a_gpu_in_the_log_that_is_lost() -> None:
    log = parse_log(
        smi_xml.log(
            smi_xml.gpu(0),
            smi_xml.gpu(1, uuid="Unknown Error"),
            smi_xml.gpu(2, "<fan_speed>[GPU is lost]</fan_speed>"),
            smi_xml.gpu(3),
        )
    )
    assert [gpu.index for gpu in log.gpus] == [0, 3]
    assert log.lost == (Lost(1, smi_xml.ADDRESSES[1]), Lost(2, smi_xml.ADDRESSES[2]))


def test_a_jetson_is_a_gpu_without_a_bus() -> None:
    text = smi_xml.log(
        '<gpu id="N/A"><product_name>Orin (nvgpu)</product_name><uuid>1833c8b5-aa72-5382-b784-68b2e77eb185</uuid>'
        "<pci><pci_bus_id>N/A</pci_bus_id></pci><fb_memory_usage><total>Not Supported</total></fb_memory_usage></gpu>",
        driver="N/A",
    )
    (gpu,) = parse_log(text).gpus
    assert (gpu.name, gpu.compute_capability, gpu.pci_address, gpu.memory_mib) == ("Orin (nvgpu)", "8.7", None, None)


REFUSED = {
    "nothing": ("", "cut off or no XML"),
    "an error": ("No devices were found", "cut off or no XML"),
    "cut off": (smi_xml.host()[:900], "cut off or no XML"),
    "end tag lost": (smi_xml.host(1).replace("</gpu>", ""), "mismatched tag"),
    "bare ampersand": (smi_xml.log(smi_xml.gpu(0, "<serial>a & b</serial>")), "not well-formed"),
    "unknown entity": (smi_xml.log(smi_xml.gpu(0, "<serial>&lol;</serial>")), "undefined entity"),
    "entities": ('<!DOCTYPE nvidia_smi_log [<!ENTITY lol "lol">]>' + smi_xml.host(1), "declares an entity"),
    "DTD inside": ("<nvidia_smi_log><!DOCTYPE x SYSTEM 'file:///etc/passwd'></nvidia_smi_log>", "not well-formed"),
}


@pytest.mark.parametrize(("text", "what"), REFUSED.values(), ids=list(REFUSED))
def test_refused(text: str, what: str) -> None:
    with pytest.raises(GpusteadError, match=what) as error:
        parse_log(text)
    assert error.value.remedy


@pytest.mark.parametrize(
    "text",
    [
        "Warning: persistence mode is disabled\n"
        + smi_xml.host(1)
        + "\nWARNING: infoROM is corrupted at gpu 0000:18:00.0\n",
        smi_xml.host(1, _0="<new_in_700><deeper>7</deeper></new_in_700>"),
        smi_xml.host(
            1, _0="<processes>\x00<process_info><process_name>a & <b \x1b</process_name></process_info></processes>"
        ),
        smi_xml.host(1, _0="<serial>\ud800</serial>"),
        smi_xml.host(1, _0="<a>" * 20000 + "</a>" * 20000),
        smi_xml.host(1).replace("\n", "\r\n"),
    ],
)
def test_tolerated(text: str) -> None:
    assert [gpu.uuid for gpu in parse_log(text).gpus] == [smi_xml.UUIDS[0]]


# Name, architecture, capability: every row of NVIDIA's table that is on sale or in the captures.
CAPABILITIES = [
    ("NVIDIA GeForce RTX 3080", "Ampere", "8.6"),
    ("NVIDIA GeForce RTX 2050", "Ampere", "8.6"),
    ("NVIDIA RTX A6000", "Ampere", "8.6"),
    ("NVIDIA A10G", "Ampere", "8.6"),
    ("NVIDIA A40-48Q", "Ampere", "8.6"),
    ("NVIDIA A100-SXM4-80GB", "Ampere", "8.0"),
    ("NVIDIA A100 80GB PCIe", "Ampere", "8.0"),
    ("GRID A100X-40C", "Ampere", "8.0"),
    ("GRID A100D-40C", "Ampere", "8.0"),
    ("NVIDIA A30", "Ampere", "8.0"),
    ("NVIDIA GeForce RTX 4080 SUPER", "Ada Lovelace", "8.9"),
    ("NVIDIA L40S", "Ada Lovelace", "8.9"),
    ("NVIDIA L4", None, "8.9"),
    ("NVIDIA RTX 6000 Ada Generation", None, "8.9"),
    ("NVIDIA RTX 5000 Ada Generation", "Ada Lovelace", "8.9"),
    ("NVIDIA RTX 4000 SFF Ada Generation", None, "8.9"),
    ("NVIDIA H100 80GB HBM3", "Hopper", "9.0"),
    ("NVIDIA H200", "Hopper", "9.0"),
    ("NVIDIA GH200 480GB", None, "9.0"),
    ("NVIDIA H20", None, "9.0"),
    ("NVIDIA B200", "Blackwell", "10.0"),
    ("NVIDIA GB200", "Blackwell", "10.0"),
    ("NVIDIA B300 SXM6 AC", "Blackwell", "10.3"),
    ("NVIDIA Thor", "Blackwell", "11.0"),
    ("NVIDIA GB10", "Blackwell", "12.1"),
    ("NVIDIA GeForce RTX 5090", "Blackwell", "12.0"),
    ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "Blackwell", "12.0"),
    ("NVIDIA GeForce RTX 5050", "Blackwell", "12.0"),
    ("NVIDIA RTX PRO 4500", None, "12.0"),
    ("Tesla V100-SXM2-32GB", "Volta", "7.0"),
    ("Tesla T4", "Turing", "7.5"),
    ("NVIDIA T1000", "Turing", "7.5"),
    ("Quadro RTX 8000", "Turing", "7.5"),
    ("Quadro RTX 5000 with Max-Q Design", "Turing", "7.5"),
    ("Quadro RTX 4000", None, "7.5"),
    ("Quadro RTX 3000", None, "7.5"),
    ("NVIDIA GeForce GTX 1660 Ti", "Turing", "7.5"),
    ("Tesla P100-PCIE-16GB", "Pascal", "6.0"),
    ("Tesla P40", "Pascal", "6.1"),
    ("GeForce GTX 1070", None, "6.1"),
    ("GeForce GTX TITAN X", None, "5.2"),
    ("NVIDIA TITAN X (Pascal)", None, "6.1"),
    ("Tesla K80", None, "3.7"),
    ("Orin (nvgpu)", None, "8.7"),
    ("Graphics Device", "Hopper", "9.0"),
    ("Graphics Device", "Ampere", None),
    ("Graphics Device", None, None),
    ("NVIDIA B9000", "Feynman", None),
    (None, "Turing", "7.5"),
]


@pytest.mark.parametrize(("name", "architecture", "capability"), CAPABILITIES)
def test_compute_capability(name: str | None, architecture: str | None, capability: str | None) -> None:
    assert compute_capability(name, architecture) == capability


# Name of the capture; of the last GPU its index and name; profiles of its MIG devices.
LISTS = {
    "l40s": (0, "NVIDIA L40S", []),
    "insights-mixed-t1000-v100": (1, "Tesla V100-PCIE-16GB", []),
    "a100-40gb-mig-on-gpu5-partial": (5, "NVIDIA A100-SXM4-40GB", ["1g.5gb"] * 4),
    "h100-mig-mixed-realuuid": (0, "NVIDIA H100 80GB HBM3", ["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"]),
    "h200-mig": (0, "NVIDIA H200", ["1c.3g.71gb", "2c.3g.71gb", "2g.35gb", "1g.18gb", "1g.18gb"]),
}


@pytest.mark.parametrize(("name", "index", "product", "profiles"), [(k, *v) for k, v in LISTS.items()], ids=list(LISTS))
def test_list(name: str, index: int, product: str, profiles: list[str]) -> None:
    gpu = nvidia_smi.parse_list(capture(f"smi-L/{name}"))[-1]
    assert (gpu.index, gpu.name, [mig.profile for mig in gpu.mig]) == (index, product, profiles)
    assert [mig.position for mig in gpu.mig] == list(range(len(profiles)))
    assert all(mig.uuid.startswith("MIG-") for mig in gpu.mig)


@pytest.mark.parametrize("text", captures("smi-L"))
def test_all_captures_of_the_list(text: str) -> None:
    gpus = nvidia_smi.parse_list(text)
    assert len(gpus) == text.count("GPU ")
    assert sum(len(gpu.mig) for gpu in gpus) == text.count("Device ")


def test_a_list_with_other_lines_and_out_of_order() -> None:
    text = (
        "Unable to determine the device handle for GPU2: 0000:3A:00.0: Unknown Error\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-nobody)\n"
        "GPU 3: Orin (nvgpu) (UUID: 1833c8b5)\nGPU 1: NVIDIA H100 NVL (UUID: GPU-1)\n"
        "  MIG 1g.10gb+me  Device  4: (UUID: MIG-4)\n"
    )
    gpus = nvidia_smi.parse_list(text)
    assert [(gpu.index, gpu.uuid) for gpu in gpus] == [(1, "GPU-1"), (3, "1833c8b5")]
    assert gpus[0].mig == (nvidia_smi.MigName(4, "1g.10gb+me", "MIG-4"),)


MEANINGS = {
    "command-not-found-bash": "not_installed",
    "container-lost-gpu-unknown-error": "cut_off",
    "couldnt-communicate": "not_loaded",
    "device-handle-unknown-error-new": "gpu_lost",
    "device-handle-unknown-error-old": "gpu_lost",
    "docker-cdi-mode-needs-runtime": None,
    "docker-exec-not-found-in-path": "not_installed",
    "driver-library-mismatch": "version_mismatch",
    "driver-library-mismatch-570-two-lines": "version_mismatch",
    "gpu-is-lost": "gpu_lost",
    "gpu-is-lost-wrapped-windows": "gpu_lost",
    "no-devices-found-rtx5090-kernel-log": "no_devices",
    "no-devices-found-rtx5090-rebar": "no_devices",
}


@pytest.mark.parametrize(("name", "meaning"), MEANINGS.items(), ids=list(MEANINGS))
def test_meaning_of_captures(name: str, meaning: str | None) -> None:
    assert nvidia_smi.meaning(capture(f"smi-error/{name}")) == meaning


@pytest.mark.parametrize(
    ("words", "status", "meaning"),
    [
        ("NVIDIA-SMI has failed because it couldn\u2019t communicate with the NVIDIA driver.", 9, "not_loaded"),
        ("Failed to initialize NVML: Driver Not Loaded", 9, "not_loaded"),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", 12, "not_installed"),
        ("NVRM: API mismatch: the client has the version 570.124", 1, "version_mismatch"),
        ("Failed to initialize NVML: Insufficient Permissions", 4, "denied"),
        ("[Errno 13] Permission denied: '/opt/nvidia-smi'", 127, "denied"),
        ("Failed to initialize NVML: GPU access blocked by the operating system", 17, "cut_off"),
        ("", 9, "not_loaded"),
        ("", 12, "not_installed"),
        ("", 15, "gpu_lost"),
        ("", 127, "not_installed"),
        ("", 139, None),
    ],
)
def test_meaning(words: str, status: int, meaning: str | None) -> None:
    assert nvidia_smi.meaning(words, status) == meaning


LOST = {
    "GPU 0000:09:00.0: Unknown Error": Lost(None, "0000:09:00.0"),
    "GPU0000:07:00.0: Unknown Error": Lost(None, "0000:07:00.0"),
    "GPU3: 0000:5F:00.0: Unknown Error": Lost(3, "0000:5f:00.0"),
    "GPU2: Unknown Error": Lost(2, None),
    "GPU\n 0000:02:00.0: GPU is lost.  Reboot\n the system": Lost(None, "0000:02:00.0"),
    "GPU0": Lost(0, None),
}


@pytest.mark.parametrize(("words", "lost"), LOST.items())
def test_lost(words: str, lost: Lost) -> None:
    assert nvidia_smi.lost_gpus(f"Unable to determine the device handle for {words}\n") == (lost,)


MODULES = {
    capture("proc-driver-version/debian-520"): KernelModule("520.56.06", "proprietary"),
    capture("proc-driver-version/mismatch-580"): KernelModule("580.173.02", "proprietary"),
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder)": KernelModule(
        "580.95.05", "open"
    ),
    "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  TempVersion  Release Build": KernelModule(None, "open"),
    "": KernelModule(None, None),
}


@pytest.mark.parametrize(("text", "module"), MODULES.items())
def test_module(text: str, module: KernelModule) -> None:
    assert nvidia_smi.parse_module(text) == module


@pytest.mark.parametrize(
    ("mode", "meaning"), [(None, "not_installed"), (0o644, "denied")], ids=["missing", "not executable"]
)
def test_what_it_means_that_nvidia_smi_does_not_start(tmp_path: Path, mode: int | None, meaning: str) -> None:
    command = tmp_path / "nvidia-smi"
    if mode:
        command.touch(mode)
    status, out, err = run([str(command)])
    assert (status, out) == (NOT_FOUND, "")
    assert nvidia_smi.meaning(err, status) == meaning


SMALL = capture("smi-xml/netdata-a100-sxm4-mig")
TYPES: dict[str, type | tuple[type, ...]] = {
    "index": int,
    "uuid": str,
    "memory_mib": (int, type(None)),
    "persistence": (bool, type(None)),
    "power_limit_w": (float, type(None)),
    "processes": (int, type(None)),
}


def read(text: str) -> None:
    """Everything that reads text gives a value or the one error."""
    nvidia_smi.parse_list(text)
    nvidia_smi.parse_module(text)
    nvidia_smi.lost_gpus(text)
    nvidia_smi.meaning(text)
    nvidia_smi.library_version(text)
    nvidia_smi.around_log(text)
    try:
        log = parse_log(text)
    except GpusteadError:
        return
    for gpu in log.gpus:
        assert all(isinstance(getattr(gpu, name), types) for name, types in TYPES.items())
        assert len(astuple(gpu)) == len(fields(Gpu))


TEXT = st.text(st.characters(exclude_categories=()))


@given(TEXT)
def test_any_text(text: str) -> None:
    read(text)
    read(f"<nvidia_smi_log>{text}</nvidia_smi_log>")
    read(smi_xml.host(1, _0=text))


@given(st.integers(0, len(SMALL)), st.integers(0, 60), TEXT)
def test_a_damaged_capture(place: int, length: int, text: str) -> None:
    read(SMALL[:place] + text + SMALL[place + length :])


@given(st.integers(0, len(SMALL) - len("</nvidia_smi_log>") - 1))
def test_a_capture_that_is_cut_off(end: int) -> None:
    with pytest.raises(GpusteadError, match="cut off or no XML"):
        parse_log(SMALL[:end])


VALUES = st.sampled_from(
    ["", "N/A", "ERR!", "Yes", "1", "9" * 5000, "-1", "1e400 W", "٣ MiB", "99999999999999 MiB", "Enabled"]
)
PLACES = [place for place in range(len(SMALL)) if SMALL[place] == ">" and SMALL[place + 1] not in "\n<"]


@given(st.sampled_from(PLACES), VALUES | TEXT)
def test_any_value_in_any_field(place: int, value: str) -> None:
    end = SMALL.index("<", place)
    read(SMALL[: place + 1] + value.replace("&", "").replace("<", "") + SMALL[end:])
