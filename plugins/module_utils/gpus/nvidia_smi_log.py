# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The log of nvidia-smi, which is the XML of ``-q -x``: GPUs, their settings, health and MIG devices.

NVIDIA does not promise the format from one driver to the next (nvidia-smi(1)): fields that are not known are passed
over, fields that are missing are None, and one that has moved is looked for in its old places too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.etree import ElementTree

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import pci
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.driver_version import version
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_capability import compute_capability
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_health import (
    Ecc,
    Remapped,
    Retired,
    ecc_of,
    health_of,
    is_lost,
    remapped_of,
    retired_of,
    troubles_of,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_fields import Fields

QUERY = ("-q", "-x")
VGPU_HOST = "vgpu_host"


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
    ecc: Ecc = field(default=Ecc())
    retired: Retired = field(default=Retired())
    remapped: Remapped = field(default=Remapped())
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


_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_LOG = re.compile(r"<nvidia_smi_log[\s>].*</nvidia_smi_log\s*>", re.DOTALL)
# The clocks are nine tenths of the text.
_CLOCKS = re.compile(r"<supported_clocks>.*?</supported_clocks>", re.DOTALL)
_BEGIN = re.compile(r"^[ \t]*<gpu(?=[ >])", re.MULTILINE)
_ATTACHED = re.compile(r"<attached_gpus>\s*([0-9]{1,4})\s*</attached_gpus>")


def _instance(device: Fields) -> MigInstance:
    uuid = device.text("uuid")
    return MigInstance(
        uuid if uuid and uuid.startswith("MIG-") else None,
        None,
        device.integer("gpu_instance_id"),
        device.integer("compute_instance_id"),
        device.integer("fb_memory_usage/total", unit="MiB"),
        device.integer("index"),
    )


def _mig(gpu: Fields) -> Mig:
    devices = gpu.element.iterfind("mig_devices/mig_device")
    return Mig(
        gpu.switch("mig_mode/current_mig"),
        gpu.switch("mig_mode/pending_mig"),
        tuple(_instance(Fields(device)) for device in devices),
    )


def _processes(gpu: Fields) -> int | None:
    processes = gpu.element.find("processes")
    if processes is None or (processes.text or "").strip():
        return None
    return len(processes.findall("process_info"))


def _address(gpu: Fields) -> str | None:
    return pci.address(gpu.text("pci/pci_bus_id") or gpu.element.get("id") or "")


def _gpu(index: int, uuid: str, gpu: Fields) -> Gpu:
    name, architecture = gpu.text("product_name"), gpu.text("product_architecture")
    ecc, retired, remapped = ecc_of(gpu), retired_of(gpu), remapped_of(gpu)
    health, problems = health_of(gpu, ecc, retired, remapped)
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


def _withheld(gpu: Fields) -> str | None:
    """NVIDIA's vGPU manager brings no CUDA: the GPUs of its host are for virtual machines."""
    mode = gpu.text("gpu_virtualization_mode/virtualization_mode") or ""
    return VGPU_HOST if mode.lower().startswith("host") else None


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
    fields = Fields(root)
    gpus: list[Gpu] = []
    lost: list[Lost] = []
    for index, gpu in enumerate(map(Fields, root.iterfind("gpu"))):
        if is_lost(gpu):
            bad, _warnings = troubles_of(gpu)
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
