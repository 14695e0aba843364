# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log of nvidia-smi, which is the XML of ``-q -x``: GPUs, their settings, health and MIG devices.

NVIDIA does not promise the format from one driver to the next (nvidia-smi(1)): fields that are not known are passed
over, fields that are missing are None, and one that has moved is looked for in its old places too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from xml.etree import ElementTree

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.driver_version import version
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_capability import compute_capability

QUERY = ("-q", "-x")


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
    """A GPU that answers. None and an empty list mean: not known."""

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


@dataclass(frozen=True)
class Lost:
    """A GPU that the driver knows and that does not answer."""

    index: int | None
    pci_address: str | None


@dataclass(frozen=True)
class Log:
    """The answer to QUERY. `lost` are GPUs that are listed and cannot be used."""

    driver_version: str | None
    cuda_version: str | None
    gpus: tuple[Gpu, ...]
    lost: tuple[Lost, ...] = ()


# What stands in a field that has no value. nvidia-smi puts some in brackets in tables.
_NO_VALUE = re.compile(
    r"\[?(|n/a|none|not supported|not found|not available|unknown error|err!|error|insufficient permissions|"
    r"gpu is lost|(gpu )?requires reset|requested functionality has been deprecated|deprecated)\]?",
    re.IGNORECASE,
)
# Of these, what a GPU in order does not say.
_TROUBLE = re.compile(r"\[?(unknown error|err!|gpu requires reset)\]?", re.IGNORECASE)
_GONE = re.compile(r"\[?gpu is lost\]?", re.IGNORECASE)
# Drivers of branch 535 say this of GPUs that work.
_HARMLESS = ("addressing_mode",)
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


def _troubles(gpu: _Fields) -> list[str]:
    """One sentence for each word that a GPU in order does not say, with the fields that say it."""
    fields: dict[str, list[str]] = {}
    for field in gpu.element.iter():
        text = " ".join((field.text or "").split())
        if _TROUBLE.fullmatch(text) and field.tag not in _HARMLESS:
            fields.setdefault(text.strip("[]"), []).append(str(field.tag))
    return [
        f"nvidia-smi says '{said}' for {tags[0]}" + (f" and {len(tags) - 1} more fields." if tags[1:] else ".")
        for said, tags in fields.items()
    ]


def _fabric(gpu: _Fields) -> str | None:
    """The NVLink fabric of a GPU behind NVSwitch; CUDA does not start (error 802) before it is ready."""
    state, status = gpu.text("fabric/state"), gpu.text("fabric/status")
    if state is None or (state == "Completed" and status in (None, "Success")):
        return None
    return f"The NVLink fabric is not ready (state {state}, status {status or 'not known'}): see nvidia-fabricmanager."


def _health(gpu: _Fields, ecc: Ecc, retired: Retired, remapped: Remapped) -> tuple[str | None, tuple[str, ...]]:
    """What is bad follows NVIDIA's "GPU memory error management" and "dynamic page retirement"."""
    action = gpu.text("gpu_recovery_action")
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
        f"The driver asks for recovery: {action}.": bool(action),
    }
    problems = [sentence for sentence, bad in signs.items() if bad]
    problems += [sentence for sentence in (_fabric(gpu), *_troubles(gpu)) if sentence]
    if problems:
        return "bad", tuple(problems)
    says = (
        ecc.uncorrected,
        retired.pending,
        remapped.pending,
        remapped.failed,
        gpu.element.find("gpu_recovery_action"),
    )
    return (None if all(sign is None for sign in says) else "ok"), ()


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
    )


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
    left = "<process_info/>" * count or (said if re.fullmatch(r"[\w\s/\[\]]*", said) else "")
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
            lost.append(Lost(index, _address(gpu)))
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
