# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log of nvidia-smi, which is the XML of ``-q -x``: GPUs, their settings, health and MIG devices.

NVIDIA does not promise the format from one driver to the next (nvidia-smi(1)): fields that are not known are passed
over, fields that are missing are None, and one that has moved is looked for in its old places too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.driver_version import version
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_capability import compute_capability

QUERY = ("-q", "-x")
VGPU_HOST = "vgpu_host"


@dataclass(frozen=True)
class Ecc:
    """Whether memory errors are corrected, now and after a reboot, and the errors since the driver was loaded."""

    current: bool | None = None
    pending: bool | None = None
    uncorrected: int | None = None
    corrected: int | None = None


@dataclass(frozen=True)
class Retired:
    """Pages of memory taken out of use, on cards before Ampere; `pending`: more at the next reboot."""

    pages: int | None = None
    pending: bool | None = None


@dataclass(frozen=True)
class Remapped:
    """Rows of memory replaced by spare ones, from Ampere on; `pending`: more at the next reset."""

    correctable: int | None = None
    uncorrectable: int | None = None
    pending: bool | None = None
    failed: bool | None = None


@dataclass(frozen=True)
class MigInstance:
    """A MIG device. `position` is its number on the GPU, as in ``Device  1:`` of ``-L`` and in CDI's ``0:1``."""

    uuid: str | None
    profile: str | None
    gi: int | None
    ci: int | None
    memory_mib: int | None
    position: int | None


@dataclass(frozen=True)
class Mig:
    """MIG mode now and after a reset; None: the GPU has no MIG."""

    current: bool | None = None
    pending: bool | None = None
    instances: tuple[MigInstance, ...] = ()


@dataclass(frozen=True)
class Gpu:
    """A GPU that answers. None and an empty list mean: not known.

    `withheld`: why containers do not get it, whatever its health.
    """

    index: int
    uuid: str
    name: str | None = None
    architecture: str | None = None
    compute_capability: str | None = None
    pci_address: str | None = None
    memory_mib: int | None = None
    persistence: bool | None = None
    compute_mode: str | None = None
    ecc: Ecc = Ecc()
    retired: Retired = Retired()
    remapped: Remapped = Remapped()
    power_limit_w: float | None = None
    power_limit_min_w: float | None = None
    power_limit_max_w: float | None = None
    processes: int | None = None
    health: str | None = None
    problems: tuple[str, ...] = ()
    mig: Mig = Mig()
    numa_nodes: tuple[int, ...] = ()
    cpus: str | None = None
    nics: tuple[str, ...] = ()
    withheld: str | None = None


@dataclass(frozen=True)
class Lost:
    """A GPU that the driver knows and that does not answer; `problems` is what its fields say of it."""

    index: int | None
    pci_address: str | None
    problems: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Log:
    """The answer to QUERY. `lost` are GPUs that are listed and cannot be used."""

    driver_version: str | None
    cuda_version: str | None
    gpus: tuple[Gpu, ...]
    lost: tuple[Lost, ...] = ()


# What stands in a field that has no value, and is no sign of anything. nvidia-smi puts some in brackets in tables.
_ABSENT = r"|n/a|none|[\w ]*not (?:supported|available)|(?:requested functionality has been )?deprecated"
# The words of nvmlErrorString and what nvidia-smi makes of some. It writes them where a value should be. From NVML's
# API reference and nvml_error_strings.h of NVIDIA/DCGM, with the older words of pynvml.
_ERROR = (
    r"unknown error|err!|error|timeout|uninitialized|already initialized|invalid (?:argument|state)|no data|"
    r"insufficient (?:permissions|size|external power|memory|resources)|driver not loaded|interrupt request issue|"
    r"(?:function |gpu |nvml shared library )?not found|no gpus were found|corrupted inforom|inforom is corrupted|"
    r"gpu is lost|(?:gpu )?requires (?:reset|restart)|gpu access blocked by the operating system|"
    r"the operating system has blocked the request|driver/library version mismatch|argument version mismatch|"
    r"rm has detected an nvml/rm version mismatch|in use by another client|(?:system is )?not (?:in )?ready(?: state)?"
)
_NO_VALUE = re.compile(rf"\[?(?:{_ABSENT}|{_ERROR})\.?\]?", re.IGNORECASE)
_TROUBLE = re.compile(rf"\[?(?:{_ERROR})\.?\]?", re.IGNORECASE)
_GONE = re.compile(r"\[?gpu is lost\.?\]?", re.IGNORECASE)
# What concerns the whole GPU, whichever field says it.
_OF_GPU = re.compile(
    r"\[?(?:(?:gpu )?requires .*|insufficient external power|interrupt request issue)\.?\]?", re.IGNORECASE
)
# With MIG on, memory and clocks of the whole GPU are not for everybody.
_NOT_ALLOWED = re.compile(r"\[?insufficient permissions\.?\]?", re.IGNORECASE)
# Drivers of branch 535 say this of GPUs that work.
_HARMLESS = ("addressing_mode",)
# Fields, and groups of them, that measure. A GPU computes as well without.
_SENSORS = frozenset(
    {
        *(
            "fan_speed",
            "temperature",
            "supported_gpu_target_temp",
            "voltage",
            "replay_counter",
            "replay_rollover_counter",
        ),
        *("power_readings", "gpu_power_readings", "module_power_readings", "gpu_memory_power_readings"),
        *("utilization", "encoder_stats", "fbc_stats", "tx_util", "rx_util"),
    }
)
# What is good in the health of the NVLink fabric. Each field but the last one names a fault.
_FABRIC_GOOD = ("full", "healthy", "false", "no", "ok", "good", "normal", "success", "0")
_FABRIC_FIELDS_GOOD = {"partition_assigned": ("true", "yes", "1")}
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LOG = re.compile(r"<nvidia_smi_log[\s>].*</nvidia_smi_log\s*>", re.DOTALL)
# The clocks are nine tenths of the text.
_CLOCKS = re.compile(r"<supported_clocks>.*?</supported_clocks>", re.DOTALL)
_BEGIN = re.compile(r"^[ \t]*<gpu(?=[ >])", re.MULTILINE)
_ATTACHED = re.compile(r"<attached_gpus>\s*([0-9]{1,4})\s*</attached_gpus>")


def _value(text: str | None) -> str | None:
    text = " ".join((text or "").split())
    return None if _NO_VALUE.fullmatch(text) else text


def _number(text: str | None, unit: str = "") -> float | None:
    match = re.fullmatch(rf"([0-9]{{1,12}}(?:\.[0-9]{{1,9}})?)\s?{unit}", text or "")
    return float(match[1]) if match else None


def _integer(text: str | None, unit: str = "") -> int | None:
    number = _number(text, unit)
    return None if number is None else int(number)


_SWITCH = {"enabled": True, "disabled": False, "yes": True, "no": False}


def _switch(text: str | None) -> bool | None:
    return _SWITCH.get((text or "").lower())


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


class _Fields:
    """Values in an element by path; the first path that has one counts."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element

    def text(self, *paths: str) -> str | None:
        return next((value for path in paths if (value := _value(self.element.findtext(path)))), None)

    def integer(self, *paths: str, unit: str = "") -> int | None:
        return _integer(self.text(*paths), unit)

    def watts(self, *names: str) -> float | None:
        groups = ("gpu_power_readings", "power_readings")
        return _number(self.text(*(f"{group}/{name}" for group in groups for name in names)), "W")

    def switch(self, *paths: str) -> bool | None:
        return _switch(self.text(*paths))


def _ecc(gpu: _Fields) -> Ecc:
    """Three generations of names: single_bit and double_bit, then sram and dram, then sram by parity and SEC-DED."""
    counts = {field.tag: _integer(_value(field.text)) for field in gpu.element.iterfind("ecc_errors/volatile/*")}
    counts["uncorrectable"] = gpu.integer("ecc_errors/volatile/double_bit/total")
    counts["correctable"] = gpu.integer("ecc_errors/volatile/single_bit/total")
    uncorrected = _sum(number for name, number in counts.items() if "uncorrectable" in name)
    if uncorrected is None:  # with MIG on, the GPU itself does not count, its instances do
        instances = gpu.element.iterfind("mig_devices/mig_device/ecc_error_count/volatile_count/sram_uncorrectable")
        uncorrected = _sum(_integer(_value(field.text)) for field in instances)
    return Ecc(
        gpu.switch("ecc_mode/current_ecc"),
        gpu.switch("ecc_mode/pending_ecc"),
        uncorrected,
        _sum(number for name, number in counts.items() if "uncorrectable" not in name and "correctable" in name),
    )


def _retired(gpu: _Fields) -> Retired:
    kinds = ("multiple_single_bit_retirement", "double_bit_retirement")
    return Retired(
        _sum(gpu.integer(f"retired_pages/{kind}/retired_count") for kind in kinds),
        gpu.switch("retired_pages/pending_retirement", "retired_pages/pending_blacklist"),
    )


def _remapped(gpu: _Fields) -> Remapped:
    return Remapped(
        gpu.integer("remapped_rows/remapped_row_corr"),
        gpu.integer("remapped_rows/remapped_row_unc"),
        gpu.switch("remapped_rows/remapped_row_pending"),
        gpu.switch("remapped_rows/remapped_row_failure"),
    )


def _instance(device: _Fields) -> MigInstance:
    uuid = device.text("uuid")
    return MigInstance(
        uuid if uuid and uuid.startswith("MIG-") else None,
        None,
        device.integer("gpu_instance_id"),
        device.integer("compute_instance_id"),
        device.integer("fb_memory_usage/total", unit="MiB"),
        device.integer("index"),
    )


def _mig(gpu: _Fields) -> Mig:
    devices = gpu.element.iterfind("mig_devices/mig_device")
    return Mig(
        gpu.switch("mig_mode/current_mig"),
        gpu.switch("mig_mode/pending_mig"),
        tuple(_instance(_Fields(device)) for device in devices),
    )


def _fields(gpu: _Fields) -> Iterator[tuple[ElementTree.Element, int]]:
    """The GPU's element and all below, in their order, each with how little it weighs: memory 0, a sensor 2."""
    waiting = [(gpu.element, 1)]
    while waiting:
        element, weight = waiting.pop()
        weight = 2 if element.tag in _SENSORS else 0 if element.tag == "fb_memory_usage" else weight
        yield element, weight
        waiting += [(child, weight) for child in reversed(element)]


def _troubles(gpu: _Fields) -> tuple[list[str], list[str]]:
    """One sentence for each word that a GPU in order does not say, with the fields that say it.

    Returns: those of which the GPU is bad, and those that sensors alone say.
    """
    fields: dict[str, list[tuple[int, str]]] = {}
    divided = gpu.switch("mig_mode/current_mig")
    for element, weight in _fields(gpu):
        text = " ".join((element.text or "").split())
        if not _TROUBLE.fullmatch(text) or element.tag in _HARMLESS or (divided and _NOT_ALLOWED.fullmatch(text)):
            continue
        said = text.strip("[]").rstrip(".")
        fields.setdefault(said, []).append((1 if weight == 2 and _OF_GPU.fullmatch(text) else weight, str(element.tag)))
    bad: list[str] = []
    warnings: list[str] = []
    for said, found in fields.items():
        (weight, tag), *more = sorted(found, key=lambda one: one[0])
        rest = f" and {len(more)} more field{'s' if more[1:] else ''}." if more else "."
        (warnings if weight == 2 else bad).append(f"nvidia-smi says '{said}' for {tag}{rest}")
    return bad, warnings


def _fabric(gpu: _Fields) -> list[str]:
    """The NVLink fabric of a GPU behind NVSwitch; CUDA does not start (error 802) before it is ready.

    What is wrong with one that is ready stands in its health (nvmlGpuFabricInfo_v3_t).
    """
    state, status = gpu.text("fabric/state"), gpu.text("fabric/status")
    found = []
    if state is not None and (state != "Completed" or status not in (None, "Success")):
        found.append(f"is not ready (state {state}, status {status or 'not known'})")
    signs = {str(sign.tag): _value(sign.text) for sign in gpu.element.iterfind("fabric/health//*") if not len(sign)}
    signs["health"] = gpu.text("fabric/health")
    bad = [
        f"{name} {value}"
        for name, value in signs.items()
        if value is not None and value.lower() not in _FABRIC_FIELDS_GOOD.get(name, _FABRIC_GOOD)
    ]
    if bad:
        found.append(f"is not well ({', '.join(bad)})")
    return [f"The NVLink fabric {what}: see nvidia-fabricmanager." for what in found]


def _health(gpu: _Fields, ecc: Ecc, retired: Retired, remapped: Remapped) -> tuple[str | None, tuple[str, ...]]:
    """What is bad follows NVIDIA's "GPU memory error management" and "dynamic page retirement"."""
    action = gpu.text("gpu_recovery_action")
    troubles, warnings = _troubles(gpu)
    licence = gpu.text("vgpu_software_licensed_product/license_status") or ""
    if "(restricted)" in licence.lower():
        warnings.append(f"The licence of the vGPU is '{licence}': its driver slows it down.")
    signs = {
        f"{ecc.uncorrected} uncorrected ECC error(s) since the driver was loaded.": bool(ecc.uncorrected),
        "Memory pages wait for a reboot to be retired.": retired.pending,
        "Memory rows wait for a reset to be remapped.": remapped.pending,
        "Memory rows could not be remapped: the card has to be replaced.": remapped.failed,
        "A memory channel waits for a reset to be repaired.": gpu.switch("ecc_errors/channel_repair_pending"),
        "A processing cluster waits for a reset to be repaired.": gpu.switch("ecc_errors/tpc_repair_pending"),
        "Memory cannot be repaired: the card has to be replaced.": gpu.switch("ecc_errors/unrepairable_memory"),
        "SRAM errors are past NVIDIA's threshold: the card has to be replaced.": gpu.switch(
            "ecc_errors/aggregate/sram_threshold_exceeded"
        ),
        "The driver says that the GPU has to be reset.": gpu.switch("gpu_reset_status/reset_required"),
        "The driver says that the GPU should be drained and reset.": gpu.switch(
            "gpu_reset_status/drain_and_reset_recommended"
        ),
        f"The driver asks for recovery: {action}.": bool(action),
    }
    problems = [sentence for sentence, bad in signs.items() if bad]
    problems += [*_fabric(gpu), *troubles]
    if problems:
        return "bad", (*problems, *warnings)
    says = (
        ecc.uncorrected,
        retired.pending,
        remapped.pending,
        remapped.failed,
        gpu.element.find("gpu_recovery_action"),
    )
    return (None if all(sign is None for sign in says) else "ok"), tuple(warnings)


def _processes(gpu: _Fields) -> int | None:
    processes = gpu.element.find("processes")
    if processes is None or (processes.text or "").strip():
        return None
    return len(processes.findall("process_info"))


def _address(gpu: _Fields) -> str | None:
    return pci.address(gpu.text("pci/pci_bus_id") or gpu.element.get("id") or "")


def _gpu(index: int, uuid: str, gpu: _Fields) -> Gpu:
    name, architecture = gpu.text("product_name"), gpu.text("product_architecture")
    ecc, retired, remapped = _ecc(gpu), _retired(gpu), _remapped(gpu)
    health, problems = _health(gpu, ecc, retired, remapped)
    return Gpu(
        index=index,
        uuid=uuid,
        name=name,
        architecture=architecture,
        compute_capability=compute_capability(name, architecture),
        pci_address=_address(gpu),
        memory_mib=gpu.integer("fb_memory_usage/total", unit="MiB"),
        persistence=gpu.switch("persistence_mode"),
        compute_mode=gpu.text("compute_mode"),
        ecc=ecc,
        retired=retired,
        remapped=remapped,
        power_limit_w=gpu.watts("current_power_limit", "power_limit"),
        power_limit_min_w=gpu.watts("min_power_limit"),
        power_limit_max_w=gpu.watts("max_power_limit"),
        processes=_processes(gpu),
        health=health,
        problems=problems,
        mig=_mig(gpu),
        withheld=_withheld(gpu),
    )


def _withheld(gpu: _Fields) -> str | None:
    """NVIDIA's vGPU manager brings no CUDA: the GPUs of its host are for virtual machines."""
    mode = gpu.text("gpu_virtualization_mode/virtualization_mode") or ""
    return VGPU_HOST if mode.lower().startswith("host") else None


def _is_lost(gpu: _Fields) -> bool:
    """A GPU without a name that stays cannot be given to anybody."""
    uuid = gpu.text("uuid")
    return (
        uuid is None or " " in uuid or any(_GONE.fullmatch((field.text or "").strip()) for field in gpu.element.iter())
    )


def _cut(gpu: str, alone: bool) -> str:
    """The text of a GPU without that of its processes, of which only the number is left.

    Their names are whatever accounts call them, and nvidia-smi does not escape them: they may be XML. What stands
    before the first process is nvidia-smi's own, and so is what follows the last one.

    Args:
        gpu: the text.
        alone: whether nothing of what follows is taken, as it cannot be told where the names end.
    """
    before, begin, rest = gpu.partition("<processes>")
    if not begin:
        return gpu
    said, end, after = (rest, "", "") if alone else rest.rpartition("</processes>")
    if not alone and not end:
        return gpu
    count = said.count("<process_info")
    left = "<process_info/>" * count or (said if re.fullmatch(r"[\w\s/\[\]!.]*", said) else "")
    return f"{before}<processes>{left}</processes>" + ("</gpu>\n" if alone else after)


def _parts(document: str) -> tuple[str, list[str]]:
    """What stands before the first GPU, and the text of each from its beginning to the next one's."""
    starts = [found.start() for found in _BEGIN.finditer(document)]
    ends = [*starts[1:], len(document)]
    return document[: starts[0]] if starts else document, [document[a:b] for a, b in zip(starts, ends)]


def is_forged(text: str) -> bool:
    """Whether more GPUs begin in the log than there are: then names of processes pass for GPUs.

    None that is there can be missing, so the log is right where the numbers agree.
    """
    document = _LOG.search(text)
    before, gpus = _parts(document[0]) if document else ("", [])
    attached = _ATTACHED.search(before)
    return attached is not None and len(gpus) > int(attached[1])


def joined(texts: Iterable[str]) -> str:
    """One log of answers to QUERY for one GPU each: of every one what stands before the names of processes."""
    head, gpus = "", []
    for text in texts:
        document = _LOG.search(text)
        before, parts = _parts(document[0]) if document else ("", [])
        head = head or before
        gpus += [_cut(part, alone="<processes>" in part) for part in parts[:1]]
    return f"{_ATTACHED.sub('', head)}{''.join(gpus)}</nvidia_smi_log>" if head else ""


def _root(text: str) -> ElementTree.Element:
    """The document without its prolog: no DTD is read, so no entity can be declared in it."""
    what = "the answer of nvidia-smi -q -x"
    remedy = "Run 'nvidia-smi -q -x' on the host and see why it does not end as it should."
    found = _LOG.search(text)
    before, gpus = _parts(found[0]) if found else (text, [])
    document = before + "".join(_cut(gpu, alone=False) for gpu in gpus)
    if "<!ENTITY" in (text[: found.start()] if found else "") + document:
        raise GpusteadError(f"{what} declares an entity", "XML as nvidia-smi writes it", remedy)
    if not found:
        raise GpusteadError(f"{what} is cut off or no XML", "an element nvidia_smi_log with its end", remedy)
    if is_forged(text):
        raise GpusteadError(f"{what} names more GPUs than there are", "processes that are not called so", remedy)
    try:
        return ElementTree.fromstring(_CLOCKS.sub("", _NOT_XML.sub("?", document)))
    except ElementTree.ParseError as error:
        raise GpusteadError(f"{what}: {error}", "well-formed XML", remedy) from error


def parse_log(text: str) -> Log:
    """Read the XML of QUERY; what stands before and after it (warnings) is passed over.

    The index is the place in the XML: nvidia-smi asks the driver for GPU 0, 1 and so on. The minor number is not it.

    Raises:
        GpusteadError: the XML is cut off or broken.
    """
    root = _root(text)
    fields = _Fields(root)
    gpus: list[Gpu] = []
    lost: list[Lost] = []
    for index, gpu in enumerate(map(_Fields, root.iterfind("gpu"))):
        if _is_lost(gpu):
            bad, _warnings = _troubles(gpu)
            lost.append(Lost(index, _address(gpu), tuple(bad)))
        else:
            gpus.append(_gpu(index, str(gpu.text("uuid")), gpu))
    return Log(
        version(fields.text("driver_version", "kmd_version")),
        version(fields.text("cuda_version", "cuda_umd_version")),
        tuple(gpus),
        tuple(lost),
    )


def around_log(text: str) -> str:
    """What nvidia-smi printed besides the XML."""
    text = _LOG.sub(" ", text)
    return re.sub(r"<\?xml.*?\?>|<!DOCTYPE[^>]*>", " ", text)
