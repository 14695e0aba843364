# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be done with the GPUs of a host, from what nvidia-smi, the PCI bus and the kernel module say."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import (
    driver_version,
    gpu_capability,
    gpu_exclusion,
    nvidia_smi_errors,
    nvidia_smi_list,
    nvidia_smi_log,
    pci,
    topology,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.driver_version import KernelModule
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_exclusion import EXCLUDED
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_log import VGPU_HOST, Gpu, Log, Lost
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.pci import PciGpu
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT, Run


@dataclass(frozen=True)
class Verdict:
    """A state and its reason, when it is given, and what to do next."""

    state: str
    reason: str | None
    when: str
    remedy: str | None


_DMESG = "the lines with NVRM in 'dmesg'"

# The table of docs/gpus.md.
VERDICTS = {
    "none": Verdict("none", None, "the PCI bus has no NVIDIA GPU and no driver answers, or all are excluded", None),
    "ready": Verdict("ready", None, "all GPUs answer and none is unhealthy", None),
    "not_installed": Verdict(
        "unusable",
        "not_installed",
        "`nvidia-smi` or its library is not there",
        "Install the NVIDIA driver with its tools ('nvidia_driver: present' does), or set nvidia_smi_path if nvidia-smi"
        " is not on the PATH.",
    ),
    "not_loaded": Verdict(
        "unusable",
        "not_loaded",
        "`nvidia-smi` cannot reach the driver and no kernel module of NVIDIA's is loaded",
        "Run 'modprobe nvidia' and read what it says: the module is missing for this kernel (install its headers and"
        " let DKMS build it), Secure Boot refuses it, or it supports none of the GPUs ('No such device').",
    ),
    "version_mismatch": Verdict(
        "unusable",
        "version_mismatch",
        "the driver's libraries were upgraded under the loaded kernel module",
        "Reboot the host, or stop all that uses the GPUs and load the nvidia modules anew, then hold the driver's"
        " packages against unattended upgrades.",
    ),
    "gpu_lost": Verdict(
        "unusable",
        "gpu_lost",
        "no GPU answers: the driver lost them, or they fell off the bus",
        f"Read {_DMESG}, power the host off and on, and have the card, its power and its slot checked if it happens"
        " again.",
    ),
    "some_lost": Verdict(
        "degraded",
        "gpu_lost",
        "some GPUs answer and others, which the driver has, do not",
        f"Drain the host, read {_DMESG}, power the host off and on, and have the card that is missing checked if it"
        " happens again.",
    ),
    "no_devices": Verdict(
        "unusable",
        "no_devices",
        "the driver runs and accepts none of the GPUs",
        f"Read {_DMESG}: the driver or its open or proprietary kind does not fit the GPU, the GPU gets no power, or"
        " the firmware lacks Above 4G Decoding and Resizable BAR.",
    ),
    "some_refused": Verdict(
        "degraded",
        "no_devices",
        "some GPUs answer and the driver does not take the others",
        f"Read {_DMESG}: the driver is too new or too old for the card, its kind does not fit (open modules from Turing"
        " on, proprietary ones up to Hopper), or another driver has the card. Install what serves all of them, or leave"
        " the card out by its address in nvidia_exclude.",
    ),
    "vgpu_host": Verdict(
        "unusable",
        "vgpu_host",
        "the GPUs are shared out to virtual machines (`Host VGPU`), and their host has no CUDA",
        "Make a virtual machine with a vGPU the node, install the driver for data centers in the place of the vGPU"
        " manager, or set 'nvidia_required: false'.",
    ),
    "vfio": Verdict(
        "unusable",
        "vfio",
        "all GPUs are held for virtual machines (`vfio-pci`)",
        "Take the GPUs out of the virtual machines and of vfio-pci's settings if this host shall use them, or set"
        " 'nvidia_required: false' if not.",
    ),
    "nouveau": Verdict(
        "unusable",
        "nouveau",
        "the kernel's own driver holds the GPUs",
        "Install the NVIDIA driver, blacklist nouveau ('nvidia_driver: present' does both) and reboot.",
    ),
    "some_nouveau": Verdict(
        "degraded",
        "nouveau",
        "some GPUs answer and the kernel's own driver holds the others",
        "Blacklist nouveau ('nvidia_driver: present' does) and reboot.",
    ),
    "unhealthy": Verdict(
        "degraded",
        "unhealthy",
        "all GPUs answer and the `health` of some is `bad`",
        "Read the problems of each GPU, drain the host, reset the GPU with 'nvidia-smi --gpu-reset' or reboot, and"
        " have the card replaced where that does not help.",
    ),
    "silent": Verdict(
        "unusable",
        "unknown",
        "`nvidia-smi` does not end within the time limit",
        f"Read {_DMESG}, find out which process or GPU hangs, and reboot the host: an nvidia-smi that hangs cannot be"
        " killed.",
    ),
    "denied": Verdict(
        "unusable",
        "unknown",
        "the account may not use the driver or `nvidia-smi`",
        "Give the account access to /dev/nvidiactl and /dev/nvidia0, which 'nvidia-modprobe' makes with mode 0666.",
    ),
    "cut_off": Verdict(
        "unusable",
        "unknown",
        "NVML cannot open the devices (`Unknown Error`)",
        "In a container, make it anew: 'systemctl daemon-reload' took its devices away; on a host, read"
        f" {_DMESG} and see whether /dev/nvidia0 is there.",
    ),
    "unknown": Verdict(
        "unusable",
        "unknown",
        "`nvidia-smi` fails in a way that is not known, or its answer is cut off",
        f"Run 'nvidia-smi -q' on the host, read it and {_DMESG}, and reboot the host if both do not help.",
    ),
}


@dataclass(frozen=True)
class Topology:
    """Links between pairs of GPUs, each once; empty when they are not known."""

    links: tuple[topology.Link, ...] = ()


@dataclass(frozen=True)
class GpuReport:
    """What the module gpu_info returns; its documentation says what each value means."""

    state: str
    reason: str | None
    remedy: str | None
    detail: str
    driver_version: str | None
    cuda_version: str | None
    kernel_module: str | None
    pci_gpus: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    topology: Topology
    infiniband: bool
    machine: str


@dataclass(frozen=True)
class Answer:
    """What nvidia-smi said: its status, its log if it printed one, its other words, and the GPUs that it lost."""

    status: int
    log: Log | None
    words: str
    lost: tuple[Lost, ...] = ()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.log.gpus if self.log else ()


def read_answer(status: int, out: str, err: str) -> Answer:
    """Read the answer to nvidia_smi_log.QUERY; what is wrong with a log that cannot be read becomes words."""
    around = nvidia_smi_log.around_log(out)  # in the log stand names that accounts choose
    lost = nvidia_smi_errors.lost_gpus(f"{around}\n{err}")
    words = " ".join(f"{around} {err}".split())
    if "<nvidia_smi_log" not in out:
        return Answer(status, None, words, lost)
    try:
        log = nvidia_smi_log.parse_log(out)
    except GpusteadError as error:
        return Answer(status, None, " ".join(f"{err} {error.what}".split()), lost)
    everyone = (*log.lost, *lost)
    gpus = nvidia_smi_errors.with_warnings(_numbered(log.gpus, everyone) if lost else log.gpus, words)
    return Answer(status, replace(log, gpus=gpus), words, everyone)


def _ask(run: Run, smi: str) -> Answer:
    """The answer to QUERY; where names of processes pass for GPUs in it, of each GPU that is listed by itself."""
    status, out, err = run([smi, *nvidia_smi_log.QUERY])
    if nvidia_smi_log.is_forged(out):
        listed = nvidia_smi_list.parse_list(run([smi, *nvidia_smi_list.LIST])[1])
        out = nvidia_smi_log.joined(run([smi, *nvidia_smi_log.QUERY, "-i", gpu.uuid])[1] for gpu in listed)
    return read_answer(status, out, err)


def _numbered(gpus: tuple[Gpu, ...], lost: Sequence[Lost]) -> tuple[Gpu, ...]:
    """The GPUs with their indexes, where some are left out of the log.

    The driver numbers GPUs in the order of their addresses, those that it has lost too.
    """
    addresses = [gpu.pci_address for gpu in lost] + [gpu.pci_address for gpu in gpus]
    if None not in addresses:
        order = sorted(set(addresses), key=str)
        return tuple(replace(gpu, index=order.index(gpu.pci_address)) for gpu in gpus)
    taken = {gpu.index for gpu in lost}
    free = [number for number in range(len(gpus) + len(lost)) if number not in taken]
    return tuple(replace(gpu, index=number) for number, gpu in zip(free, gpus))


def _missing(answer: Answer, cards: Sequence[PciGpu]) -> tuple[PciGpu, ...]:
    """The GPUs on the bus that should answer and do not. Counted first: addresses are not known everywhere."""
    known = {gpu.pci_address for gpu in answer.gpus}
    expected = [card for card in cards if card.address in known or not card.passed_through]
    if len(answer.gpus) >= len(expected):
        return ()
    return tuple(card for card in expected if card.address not in known)


def _case(answer: Answer | None, cards: Sequence[PciGpu], module: KernelModule | None) -> str:
    """The name of the verdict where no GPU answers."""
    if cards and all(card.passed_through for card in cards):
        return "vfio"
    if cards and all(card.nouveau or card.passed_through for card in cards):
        return "nouveau"
    if answer is None:
        case = "not_installed"
    elif answer.status == TIMED_OUT:
        case = "gpu_lost" if any(card.gone for card in cards) else "silent"
    elif answer.log and not answer.lost:
        case = "no_devices"
    else:
        case = "gpu_lost" if answer.lost else nvidia_smi_errors.meaning(answer.words, answer.status) or "unknown"
    if case in ("not_installed", "not_loaded", "no_devices") and not cards:
        return "none"  # Jetson and WSL have GPUs that are not on the bus; their drivers say something else
    return "unknown" if case == "not_loaded" and module else case


def _case_of_missing(missing: Sequence[PciGpu]) -> str:
    """The name of the verdict where some GPUs answer. One that the driver has lost stays bound to it."""
    if any(card.gone or card.driver == "nvidia" for card in missing):
        return "some_lost"
    return "some_nouveau" if all(card.nouveau for card in missing) else "some_refused"


def judge(answer: Answer | None, cards: Sequence[PciGpu], module: KernelModule | None) -> str:
    """Decide which verdict of VERDICTS holds.

    GPUs that are held for virtual machines are not missing where others work: somebody wanted that. Those that the site
    excludes are looked at by nobody.

    Args:
        answer: what nvidia-smi said, None when it is not there.
        cards: the GPUs on the PCI bus.
        module: NVIDIA's kernel module, None when it is not loaded.
    """
    if not answer or not answer.gpus:
        return _case(answer, cards, module)
    wanted = [gpu for gpu in answer.gpus if gpu.withheld != EXCLUDED]
    shared = [gpu for gpu in wanted if gpu.withheld == VGPU_HOST]
    if shared and (len(shared) == len(wanted) or not (answer.log and answer.log.cuda_version)):
        return "vgpu_host"
    missing = _missing(answer, cards)
    if missing or answer.lost:
        return "some_lost" if answer.lost else _case_of_missing(missing)
    if not wanted:
        return "none"
    return "unhealthy" if any(gpu.health == "bad" and not gpu.withheld for gpu in wanted) else "ready"


def _exclude(
    names: Sequence[str], answer: Answer | None, cards: Sequence[PciGpu]
) -> tuple[Answer | None, tuple[PciGpu, ...]]:
    """The answer with what is withheld, without lost GPUs that nobody misses; and the cards without such ones."""
    log, lost = (answer.log, answer.lost) if answer else (None, ())
    gpus = tuple(replace(gpu, withheld=gpu_exclusion.withheld(names, gpu)) for gpu in log.gpus) if log else ()
    known = {gpu.pci_address for gpu in gpus}
    forgotten = [gpu for gpu in lost if gpu_exclusion.is_excluded(names, gpu.index, gpu.pci_address)]
    addresses = {gpu.pci_address for gpu in forgotten}
    missed = tuple(
        card
        for card in cards
        if card.address in known
        or not (card.address in addresses or gpu_exclusion.is_excluded(names, None, card.address))
    )
    if answer is None:
        return None, missed
    left = tuple(gpu for gpu in lost if gpu not in forgotten)
    return replace(answer, log=replace(log, gpus=gpus) if log else None, lost=left), missed


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _of_bus(cards: Sequence[PciGpu]) -> str:
    drivers = Counter(card.driver or "no driver" for card in cards)
    held = ", ".join(f"{count} with {driver}" for driver, count in sorted(drivers.items()))
    return f"the PCI bus has {_counted(len(cards), 'NVIDIA GPU')}" + (f" ({held})" if held else "")


def _of_smi(answer: Answer | None) -> list[str]:
    if answer is None:
        return ["nvidia-smi was not found"]
    if answer.status == TIMED_OUT and not answer.log:
        return ["nvidia-smi did not end within its time limit"]
    said = [f"{_counted(len(answer.gpus), 'GPU')} answer{'s' if len(answer.gpus) == 1 else ''}"] if answer.log else []
    words = f"{answer.words[:400]}…" if len(answer.words) > 400 else answer.words
    if answer.status or words or not answer.log:
        said.append(f"nvidia-smi ended with {answer.status} and said: {words or 'nothing'}")
    return said


def detail(
    answer: Answer | None, cards: Sequence[PciGpu], module: KernelModule | None, forgotten: Sequence[PciGpu] = ()
) -> str:
    """What the verdict was concluded from, for people. `forgotten`: what else is on the bus, and excluded."""
    parts = _of_smi(answer)
    gpus = answer.gpus if answer else ()
    parts += [f"GPU {gpu.index}: {problem}" for gpu in gpus if gpu.withheld != EXCLUDED for problem in gpu.problems]
    parts += [
        f"GPU {gpu.pci_address or gpu.index}: {problem}"
        for gpu in (answer.lost if answer else ())
        for problem in gpu.problems
    ]
    excluded = [f"GPU {gpu.index}" for gpu in gpus if gpu.withheld == EXCLUDED]
    excluded += [card.address for card in forgotten]
    if excluded:
        parts.append(f"excluded: {', '.join(excluded)}")
    missing = [card.address for card in _missing(answer, cards)] if answer and answer.gpus else []
    if missing:
        parts.append(f"silent: {', '.join(missing)}")
    gone = [card.address for card in cards if card.gone]
    if gone:
        parts.append(f"off the bus: {', '.join(gone)}")
    parts.append(_of_bus([*cards, *forgotten]))
    if module:
        parts.append(f"the loaded kernel module is {module.version or 'of an unknown version'}")
    library = driver_version.library_version(answer.words) if answer else None
    if library:
        parts.append(f"the library is {library}")
    return "; ".join(part.rstrip(".") for part in parts)


def _with_mig_names(gpus: tuple[Gpu, ...], listed: tuple[nvidia_smi_list.Listed, ...]) -> tuple[Gpu, ...]:
    by_index = {gpu.index: {mig.position: mig for mig in gpu.mig} for gpu in listed}
    named = []
    for gpu in gpus:
        names = by_index.get(gpu.index, {})
        instances = tuple(
            replace(mig, uuid=names[mig.position].uuid, profile=names[mig.position].profile)
            if mig.position in names
            else mig
            for mig in gpu.mig.instances
        )
        named.append(replace(gpu, mig=replace(gpu.mig, instances=instances)))
    return tuple(named)


def _placed(gpu: Gpu, place: topology.Place, cards: Sequence[PciGpu], devices: tuple[pci.Rdma, ...]) -> Gpu:
    """The GPU with what is near to it: as nvidia-smi says, else as the PCI bus does."""
    card = next((card for card in cards if card.address == gpu.pci_address), PciGpu(""))
    nics = tuple(nic for nic in place.nics if not re.fullmatch("NIC[0-9]+", nic))  # a number is nobody's name
    nodes = () if card.numa_node is None else (card.numa_node,)
    return replace(
        gpu,
        cpus=place.cpus or card.cpus,
        numa_nodes=place.numa_nodes or nodes,
        nics=nics or pci.nearest(card, devices),
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _with_capabilities(gpus: tuple[Gpu, ...], text: str) -> tuple[Gpu, ...]:
    """The GPUs with the compute capability that the driver gives, else that of their name."""
    given = gpu_capability.parse_query(text)
    return tuple(replace(gpu, compute_capability=given.get(gpu.uuid, gpu.compute_capability)) for gpu in gpus)


def observe(
    run: Run, smi: str | None, sysfs: Path, proc: Path, matrix: bool = True, *, exclude: Sequence[str] = ()
) -> GpuReport:
    """Look at the GPUs of a host; at most three processes are started, and one for each GPU where a log is forged.

    Args:
        run: starts a command and gives its status, output and errors; TIMED_OUT when it does not end.
        smi: the nvidia-smi to ask, None when there is none.
        sysfs: where sysfs is mounted.
        proc: where procfs is mounted.
        matrix: whether to ask for the links between the GPUs.
        exclude: GPUs that containers do not get; see `gpu_exclusion.is_excluded`.

    Raises:
        GpusteadError: `exclude` has a name that means no GPU of any host.
    """
    gpu_exclusion.check(exclude)
    cards, devices = pci.gpus(sysfs), pci.rdma(sysfs)
    text = _read(proc / "driver/nvidia/version")
    module = None if text is None else driver_version.parse_module(text)
    answer, missed = _exclude(exclude, _ask(run, smi) if smi else None, cards)
    log = answer.log if answer else None
    gpus, links = answer.gpus if answer else (), topology.Matrix()
    if smi and gpus and gpu_capability.is_asked(log.driver_version if log else None):
        gpus = _with_capabilities(gpus, run([smi, *gpu_capability.QUERY])[1])
    if smi and any(gpu.mig.instances for gpu in gpus):
        gpus = _with_mig_names(gpus, nvidia_smi_list.parse_list(run([smi, *nvidia_smi_list.LIST])[1]))
    elif smi and gpus and matrix:
        links = topology.parse(
            run([smi, *topology.COMMAND])[1], [device.name for device in devices if not device.active]
        )
    active = tuple(device for device in devices if device.active)
    verdict = VERDICTS[judge(answer, missed, module)]
    return GpuReport(
        state=verdict.state,
        reason=verdict.reason,
        remedy=verdict.remedy,
        detail=detail(answer, missed, module, [card for card in cards if card not in missed]),
        driver_version=(log.driver_version if log else None) or (module.version if module else None),
        cuda_version=log.cuda_version if log else None,
        kernel_module=module.kind if module else None,
        pci_gpus=tuple(card.address for card in cards),
        gpus=tuple(_placed(gpu, links.places.get(gpu.index, topology.Place()), cards, active) for gpu in gpus),
        topology=Topology(links.links),
        infiniband=bool(devices),
        machine=os.uname().machine,
    )
