"""The log of nvidia-smi, from captures of eight generations of drivers, and damaged in every way."""

from __future__ import annotations

import re
from dataclasses import astuple, fields
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import (
    driver_version,
    nvidia_smi_errors,
    nvidia_smi_list,
    nvidia_smi_log,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_health import Ecc, Remapped, Retired
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_log import (
    Gpu,
    Lost,
    Mig,
    MigInstance,
    parse_log,
)
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
    "healthy in all": (
        "<fabric><state>Completed</state><status>Success</status><cliqueId>4026</cliqueId><health><summary>Healthy"
        "</summary><bandwidth>Full</bandwidth><route_recovery_in_progress>False</route_recovery_in_progress>"
        "<route_unhealthy>False</route_unhealthy><access_timeout_recovery>False</access_timeout_recovery>"
        "<incorrect_configuration>None</incorrect_configuration><partition_assigned>True</partition_assigned></health>"
        "</fabric>",
        "problems",
        (),
    ),
    "health of a fabric that nobody knows": (
        "<fabric><health><summary>N/A</summary><bandwidth>Not Supported</bandwidth></health></fabric>",
        "problems",
        (),
    ),
    "not supported, in other words": ("<fan_speed>Freq Not Supported</fan_speed>", "problems", ()),
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
    "fabric is not well": (
        "<fabric><state>Completed</state><status>Success</status><health><bandwidth>Degraded</bandwidth></health></fabric>",
        "is not well (bandwidth Degraded)",
    ),
    "fabric, several": (
        "<fabric><state>Completed</state><status>Success</status><health><summary>Unhealthy</summary><bandwidth>Full"
        "</bandwidth><route_unhealthy>True</route_unhealthy><access_timeout_recovery>False</access_timeout_recovery>"
        "<incorrect_configuration>Insufficient Nvlinks</incorrect_configuration></health></fabric>",
        "(summary Unhealthy, route_unhealthy True, incorrect_configuration Insufficient Nvlinks)",
    ),
    "fabric, limited": (
        "<fabric><health><summary>Limited Capacity</summary></health></fabric>",
        "summary Limited Capacity",
    ),
    "fabric, route": (
        "<fabric><health><route_recovery_in_progress>True</route_recovery_in_progress></health></fabric>",
        "route_recovery_in_progress True",
    ),
    "fabric, partition": (
        "<fabric><health><partition_assigned>False</partition_assigned></health></fabric>",
        "partition",
    ),
    "fabric, a sign to come": ("<fabric><health><new><deep>Bad</deep></new></health></fabric>", "deep Bad"),
    "fabric, in one word": ("<fabric><health>Unhealthy</health></fabric>", "health Unhealthy"),
    "drain": (
        "<gpu_reset_status><drain_and_reset_recommended>Yes</drain_and_reset_recommended></gpu_reset_status>",
        "drained and reset",
    ),
    "clock": ("<clocks><sm_clock>ERR!</sm_clock></clocks>", "'ERR!' for sm_clock."),
    "ECC mode": ("<ecc_mode><current_ecc>[Unknown Error]</current_ecc></ecc_mode>", "'Unknown Error' for current_ecc."),
    "memory of a MIG device": (
        "<mig_devices><mig_device><fb_memory_usage><total>ERR!</total></fb_memory_usage></mig_device></mig_devices>",
        "'ERR!' for total.",
    ),
    "all times out": (
        "<fan_speed>Timeout</fan_speed><performance_state>Timeout</performance_state><fb_memory_usage><total>Timeout</total>"
        "<used>Timeout</used></fb_memory_usage><fabric><state>Timeout</state><status>Timeout</status></fabric>",
        "'Timeout' for total and 5 more fields.",
    ),
    "a sensor of a GPU that has to be reset": ("<fan_speed>GPU requires reset</fan_speed>", "'GPU requires reset' for"),
    "a sensor of a GPU without power": (
        "<fan_speed>Insufficient External Power</fan_speed>",
        "External Power' for fan",
    ),
    "errors": ("<a>[Unknown Error]</a><b>Unknown Error</b>", "'Unknown Error' for a and 1 more"),
    "needs a reset": ("<performance_state>GPU requires reset</performance_state>", "requires reset"),
}


# The words of nvmlErrorString and of its predecessors, which stand where a value should be. None of them is one.
ERRORS = [
    *("Uninitialized", "Invalid Argument", "Insufficient Permissions", "Already Initialized", "Not Found", "Timeout"),
    *("Insufficient Size", "Insufficient External Power", "Driver Not Loaded", "Interrupt Request Issue", "No data"),
    *("NVML Shared Library Not Found", "Function Not Found", "Corrupted infoROM", "infoROM is corrupted", "ERR!"),
    *("GPU requires reset", "GPU requires restart", "GPU access blocked by the operating system", "Unknown Error"),
    *("The operating system has blocked the request.", "Driver/library version mismatch", "In use by another client"),
    *("RM has detected an NVML/RM version mismatch.", "Insufficient Memory", "Insufficient Resources", "Invalid State"),
    *(
        "Argument version mismatch",
        "System is not in ready state",
        "No GPUs were found",
        "[Unknown Error]",
        "[Timeout]",
    ),
]
NAMED = "<product_name>NVIDIA H100 80GB HBM3</product_name>"


@pytest.mark.parametrize("word", ERRORS)
def test_no_word_of_an_error_is_a_value(word: str) -> None:
    said = word.strip("[]").rstrip(".")
    memory = f"<fb_memory_usage><total>{word}</total></fb_memory_usage>"
    gpu = first(f"{memory}<compute_mode>{word.swapcase()}</compute_mode>")
    assert (gpu.memory_mib, gpu.compute_mode, gpu.health) == (None, None, "bad")
    assert gpu.problems[0] == f"nvidia-smi says '{said}' for total."
    nameless = parse_log(smi_xml.log(smi_xml.gpu(0).replace(NAMED, NAMED.replace("NVIDIA H100 80GB HBM3", word)))).gpus[
        0
    ]
    assert (nameless.name, nameless.health) == (None, "bad")
    lost = parse_log(smi_xml.log(smi_xml.gpu(0, uuid=word)))
    assert (lost.gpus, lost.lost[0].problems) == ((), (f"nvidia-smi says '{said}' for uuid.",))


FABRIC = "<fabric><state>Timeout</state><status>Timeout</status></fabric>"
PROCESSES = re.compile(r"<processes>.*?</processes>", re.DOTALL)


@pytest.mark.parametrize("fabric", ["", FABRIC], ids=["without a fabric", "with a fabric"])
@pytest.mark.parametrize("name", ["netdata-tesla-p100", "telegraf-a10g"])
def test_a_gpu_of_which_every_field_times_out_is_bad(name: str, fabric: str) -> None:
    head, start, gpu = capture(f"smi-xml/{name}").partition("<gpu id=")
    whole = PROCESSES.sub("", gpu).replace("</gpu>", f"{fabric}</gpu>")
    kept = r"<(?!uuid|pci_bus_id|product_name|product_architecture)(\w+)>[^<>\n]+</\1>"
    silent, fields = re.subn(kept, r"<\1>Timeout</\1>", whole)
    (found,) = parse_log(f"{head}{start}{silent}").gpus
    assert fields > 50
    assert (found.health, found.memory_mib, found.power_limit_w) == ("bad", None, None)
    (said,) = [problem for problem in found.problems if "Timeout" in problem]
    assert re.fullmatch(r"nvidia-smi says 'Timeout' for total and \d+ more fields\.", said)
    assert "fabricmanager" not in "".join(found.problems)


SENSORS = {
    "fan": "<fan_speed>{}</fan_speed>",
    "temperature": "<temperature><gpu_temp>{}</gpu_temp><memory_temp>45 C</memory_temp></temperature>",
    "power": "<power_readings><power_draw>{}</power_draw></power_readings>",
    "power, newer": "<gpu_power_readings><instant_power_draw>{}</instant_power_draw></gpu_power_readings>",
    "power of the module": "<module_power_readings><power_draw>{}</power_draw></module_power_readings>",
    "load": "<utilization><gpu_util>{}</gpu_util></utilization>",
    "voltage": "<voltage><graphics_volt>{}</graphics_volt></voltage>",
    "link": "<pci><tx_util>{}</tx_util></pci>",
    "an instance": "<mig_devices><mig_device><utilization><a>{}</a></utilization></mig_device></mig_devices>",
}


@pytest.mark.parametrize("sensor", SENSORS)
@pytest.mark.parametrize("word", ["ERR!", "Unknown Error", "Timeout", "[Function Not Found]", "Not Found"])
def test_a_sensor_that_fails_is_told_and_keeps_nobody_from_the_gpu(sensor: str, word: str) -> None:
    gpu = first(f"{SENSORS[sensor].format(word)}<gpu_recovery_action>None</gpu_recovery_action>")
    assert gpu.health == "ok"
    assert [problem.startswith(f"nvidia-smi says '{word.strip('[]')}' for ") for problem in gpu.problems] == [True]


@pytest.mark.parametrize(
    ("status", "told"),
    [("Unlicensed (Restricted)", True), ("Unlicensed (Unrestricted)", False), ("Licensed (Expiry: 2026-7-7)", False)],
)
def test_a_vgpu_without_a_licence_is_slow(status: str, told: bool) -> None:
    xml = "<vgpu_software_licensed_product><license_status>{}</license_status></vgpu_software_licensed_product>"
    gpu = first(xml.format(status))
    assert (gpu.health, bool(gpu.problems)) == (None, told)


def test_sensors_of_an_ill_gpu_are_told_last() -> None:
    gpu = first(f"<fan_speed>Unknown Error</fan_speed>{BAD['rows'][0]}")
    assert gpu.health == "bad"
    assert [problem.split()[0] for problem in gpu.problems] == ["Memory", "nvidia-smi"]


@pytest.mark.parametrize(("mode", "health"), [("Enabled", None), ("Disabled", "bad")])
def test_memory_of_a_gpu_that_is_divided_is_not_for_all_eyes(mode: str, health: str | None) -> None:
    memory = "<fb_memory_usage><total>Insufficient Permissions</total></fb_memory_usage>"
    assert first(f"<mig_mode><current_mig>{mode}</current_mig></mig_mode>{memory}").health == health


@pytest.mark.parametrize(("mode", "withheld"), [("Host VGPU", "vgpu_host"), ("Host vSGA", "vgpu_host"), ("VGPU", None)])
def test_a_gpu_that_is_shared_out_to_virtual_machines(mode: str, withheld: str | None) -> None:
    xml = f"<gpu_virtualization_mode><virtualization_mode>{mode}</virtualization_mode></gpu_virtualization_mode>"
    assert first(xml).withheld == withheld


@pytest.mark.parametrize(("xml", "words"), BAD.values(), ids=list(BAD))
def test_bad_health(xml: str, words: str) -> None:
    gpu = first(xml)
    assert gpu.health == "bad"
    assert len(gpu.problems) == 1
    assert words in gpu.problems[0]
    assert gpu.problems[0].endswith(".")


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


ATTACHED = "<nvidia_smi_log>\n<attached_gpus>{}</attached_gpus>\n"
FORGED = '\n<gpu id="0000">\n<uuid>GPU-forged</uuid>\n<gpu_recovery_action>Reset</gpu_recovery_action>\n<processes>'


def processes(*names: str) -> str:
    every = "".join(f"<process_info>\n<process_name>{name}</process_name>\n</process_info>\n" for name in names)
    return f"\n<processes>\n{every}</processes>\n<accounted_processes/>"


def attached(number: int, text: str) -> str:
    return text.replace("<nvidia_smi_log>\n", ATTACHED.format(number))


@pytest.mark.parametrize(
    "name",
    [
        "</process_name><",
        "&lol; <!ENTITY x> ]]> <!-- <![CDATA[",
        "</process_name></process_info></processes><gpu_recovery_action>Reset</gpu_recovery_action><processes>",
        "</process_name></process_info></processes></gpu><gpu><uuid>GPU-forged</uuid><processes>",
        "</nvidia_smi_log> Unable to determine the device handle for GPU 0000:18:00.0: GPU is lost.",
        "</processes></gpu></nvidia_smi_log><nvidia_smi_log>",
    ],
)
def test_names_of_processes_are_never_read(name: str) -> None:
    text = attached(2, smi_xml.log(smi_xml.gpu(0, processes("a", name)), smi_xml.gpu(1, processes(name))))
    plain = parse_log(attached(2, smi_xml.log(smi_xml.gpu(0, processes("a", "b")), smi_xml.gpu(1, processes("c")))))
    assert not nvidia_smi_log.is_forged(text)
    assert parse_log(text) == plain
    assert [gpu.processes for gpu in plain.gpus] == [2, 1]
    assert not plain.lost


def test_a_name_that_passes_for_a_gpu_is_seen_and_each_gpu_is_read_alone() -> None:
    name = f"x</process_name></process_info></processes></gpu>{FORGED}"
    gpus = [smi_xml.gpu(0, processes(name)), smi_xml.gpu(1, processes("b", name))]
    text = attached(2, smi_xml.log(*gpus))
    assert nvidia_smi_log.is_forged(text)
    with pytest.raises(GpusteadError, match="names more GPUs than there are"):
        parse_log(text)
    log = parse_log(nvidia_smi_log.joined(attached(2, smi_xml.log(gpu)) for gpu in gpus))
    assert [(gpu.uuid, gpu.processes, gpu.problems) for gpu in log.gpus] == [
        (smi_xml.UUIDS[0], 1, ()),
        (smi_xml.UUIDS[1], 2, ()),
    ]
    assert log.driver_version == "590.48.01"
    assert nvidia_smi_log.joined([]) == ""


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
    nvidia_smi_list.parse_list(text)
    nvidia_smi_list.usable_uuids(text)
    driver_version.parse_module(text)
    nvidia_smi_errors.lost_gpus(text)
    nvidia_smi_errors.meaning(text)
    driver_version.library_version(text)
    nvidia_smi_log.around_log(text)
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
