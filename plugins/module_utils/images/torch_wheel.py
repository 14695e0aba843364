# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The index of PyTorch's wheels that fits the GPUs of all hosts: one image is built for all of them.

Sources: indexes by release, pytorch/test-infra's build matrix; architectures by release and index, the support matrix
in pytorch's RELEASE.md, and of each release branch `.ci/manywheel/build_cuda.sh` and for aarch64
`.ci/aarch64_linux/aarch64_ci_build.sh` (pytorch #157517: Pascal and older left CUDA 12.8 with 2.8, #172352: Volta with
2.11, #190385: CUDA 12.6 and all before Turing with 2.15); drivers, NVIDIA's CUDA Toolkit release notes, tables 2 and 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

Version = tuple[int, ...]

CPU = "cpu"
_RELEASE = re.compile(r"(\d{1,9}\.\d{1,9})(?!\d)", re.ASCII)

_UP_TO_HOPPER = "5.0 6.0 7.0 7.5 8.0 8.6 9.0"
_WITH_KEPLER = f"3.7 {_UP_TO_HOPPER}"
_FROM_TURING = "7.5 8.0 8.6 9.0 10.0 12.0"
_FROM_VOLTA = f"7.0 {_FROM_TURING}"
_OLDEST = {"cu118": _WITH_KEPLER, "cu121": _UP_TO_HOPPER, "cu124": _UP_TO_HOPPER}
_LAST_WITH_CUDA_12 = {"cu126": _UP_TO_HOPPER, "cu130": _FROM_TURING, "cu132": _FROM_TURING}
_X86_64: Mapping[str, Mapping[str, str]] = {
    "2.4": _OLDEST,
    "2.5": _OLDEST,
    "2.6": {"cu118": _WITH_KEPLER, "cu124": _UP_TO_HOPPER, "cu126": _UP_TO_HOPPER},
    "2.7": {"cu118": _WITH_KEPLER, "cu126": _UP_TO_HOPPER, "cu128": _FROM_TURING},
    "2.8": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_VOLTA, "cu129": _FROM_VOLTA},
    "2.9": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_VOLTA, "cu130": _FROM_TURING},
    "2.10": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_VOLTA, "cu130": _FROM_TURING},
    "2.11": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_TURING, "cu130": _FROM_TURING},
    "2.12": _LAST_WITH_CUDA_12,
    "2.13": _LAST_WITH_CUDA_12,
    "2.14": _LAST_WITH_CUDA_12,
    "2.15": {"cu130": _FROM_TURING, "cu132": _FROM_TURING},
}

_ARM_WITH_THOR = "8.0 9.0 10.0 11.0 12.0"
_ARM_CUDA_12 = {"cu126": "8.0 9.0", "cu128": "8.0 9.0 10.0 12.0"}
_ARM_LAST_WITH_CUDA_12 = {"cu126": "8.0 9.0", "cu130": _ARM_WITH_THOR, "cu132": _ARM_WITH_THOR}
_AARCH64: Mapping[str, Mapping[str, str]] = {
    "2.7": {"cu128": "9.0 10.0 12.0"},
    "2.8": {"cu129": "8.0 9.0 10.0 12.0"},
    "2.9": {**_ARM_CUDA_12, "cu130": _ARM_WITH_THOR},
    "2.10": {**_ARM_CUDA_12, "cu130": _ARM_WITH_THOR},
    "2.11": {**_ARM_CUDA_12, "cu130": _ARM_WITH_THOR},
    "2.12": _ARM_LAST_WITH_CUDA_12,
    "2.13": _ARM_LAST_WITH_CUDA_12,
    "2.14": _ARM_LAST_WITH_CUDA_12,
    "2.15": {"cu130": _ARM_WITH_THOR, "cu132": _ARM_WITH_THOR},
}

# Machine, as uname names it: release of PyTorch: its indexes, the oldest CUDA first: the architectures for which its
# wheel holds machine code. PTX, which the newest ones hold for GPUs to come, is left out: it needs a driver as new as
# the wheel's CUDA.
WHEELS = {"x86_64": _X86_64, "aarch64": _AARCH64}
_RELEASES = list(_X86_64)
_NEWEST = _RELEASES[-1]

# The driver that each CUDA was shipped with: everything in it works with this one and newer ones.
SHIPPED: Mapping[str, Version] = {
    "cu118": (520, 61),
    "cu121": (530, 30),
    "cu124": (550, 54),
    "cu126": (560, 28),
    "cu128": (570, 26),
    "cu129": (575, 51),
    "cu130": (580, 65),
    "cu132": (595, 45),
}

# The oldest driver on which programs of a major version run, without what newer drivers brought: NVIDIA's
# minor-version compatibility (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
OLDEST_DRIVER: Mapping[str, Version] = {"11": (450,), "12": (525,), "13": (580,)}


@dataclass(frozen=True)
class NodeGpus:
    """A host with usable GPUs. `capabilities`: its GPUs' compute capabilities, such as (9, 0)."""

    name: str
    machine: str
    driver: Version
    capabilities: tuple[Version, ...]

    def wheel(self, release: str, index: str) -> str | None:
        """The architectures in the wheel for this machine; None where there is no such wheel."""
        return WHEELS[self.machine].get(release, {}).get(index)


def torch_wheel(hosts: Mapping[str, Any] | Iterable[Mapping[str, Any]], torch: str) -> str:
    """The newest index that serves every host, `cu128` for example; `cpu` where no host has a usable GPU.

    One whose CUDA is no newer than the drivers goes before one that runs by minor-version compatibility alone.

    Args:
        hosts: one host or several: results of gpu_info, or `driver` and `compute_capabilities`. `host` names it, and
            `machine` says what it is, x86_64 where that is left out.
        torch: version of PyTorch, such as `2.13.0`; its last number and its suffix do not matter. One that is newer
            than the table is taken for its newest; `beyond` says so.

    Raises:
        GpusteadError: no index serves all hosts, or a value is not known or not understood.
    """
    release = _release(torch)
    usable = list(_usable([hosts] if isinstance(hosts, Mapping) else list(hosts)))
    if not usable:
        return CPU
    fitting = [index for index in reversed(_indexes(release)) if not any(_obstacles(release, index, usable))]
    if not fitting:
        raise _refusal(release, usable)
    return _complete(fitting, usable)


def index_of_nodes(hosts: Sequence[Mapping[str, Any]], torch: str, usual: str) -> str:
    """The index for the image of these nodes: the usual one while it serves them all, else what `torch_wheel` chooses.

    An index that changed with each driver would have the image of all built anew. Where no GPU is known it is the usual
    one, too: a node whose driver does not work yet is no reason for wheels without CUDA.

    Args:
        hosts: as for `torch_wheel`; empty: of no node is anything known.
        torch: version of PyTorch.
        usual: name of an index; where the release has none of that name, its oldest takes its place.

    Raises:
        GpusteadError: as of `torch_wheel`.
    """
    release = _release(torch)
    usual = usual if usual in _indexes(release) else _indexes(release)[0]
    chosen = torch_wheel(hosts, torch)
    return usual if chosen == CPU or not any(_obstacles(release, usual, [*_usable(hosts)])) else chosen


def without_kernels(torch: str, index: str, machine: str, capabilities: Iterable[str]) -> list[str]:
    """Those of the compute capabilities for which a wheel holds no code. Of one that is not in the table: none.

    Args:
        torch: version of PyTorch.
        index: name of the index that it is from.
        machine: as uname names it.
        capabilities: such as `9.0`.
    """
    found = _RELEASE.match(torch)
    wheel = WHEELS.get(machine, {}).get(found[1] if found else "", {}).get(index)
    return [] if wheel is None else [one for one in sorted(set(capabilities)) if not _holds(wheel, _number(one))]


def beyond(torch: str) -> str:
    """What to tell of a release that is newer than the table: its index is that of the newest one there. Else empty."""
    found = _RELEASE.match(str(torch))
    if not found or _number(found[1]) <= _number(_NEWEST):
        return ""
    return (
        f"torch {torch} is newer than {_NEWEST}, the newest release whose wheels are known here: its index is chosen "
        "as if it were that one. See that it has such a wheel, or update the collection."
    )


def refuse_index(place: str, torch: str, index: str) -> None:
    """Raise GpusteadError where an index is of a CUDA for which a release has no wheel on any machine.

    An installer would take one of another CUDA from elsewhere. Of what is not in the table nothing is said.

    Args:
        place: where both are declared, for the message.
        torch: version of PyTorch.
        index: URL of its index, of which the last part counts (``cu126``).
    """
    found, name = _RELEASE.match(str(torch)), index.rstrip("/").rpartition("/")[2]
    holding = [release for release in _RELEASES if name in _indexes(release)]
    if found and found[1] in _RELEASES and holding and found[1] not in holding:
        raise GpusteadError(
            f"{place}: torch {torch} from {name}",
            f"an index that has it, {' or '.join(_indexes(found[1]))}",
            f"Take one of these where the drivers know its CUDA, or torch {holding[-1]}.",
        )


def _number(release: str) -> Version:
    return tuple(map(int, release.split(".")))


def _release(torch: str) -> str:
    """The row of the table for a version.

    Raises:
        GpusteadError: it is none, or older than the table.
    """
    found = _RELEASE.match(str(torch))
    if found and _number(found[1]) > _number(_NEWEST):
        return _NEWEST
    if not found or found[1] not in _RELEASES:
        raise GpusteadError(
            f"torch {torch}", f"a release that is known here: {', '.join(_RELEASES)}", "Write one of them, in quotes."
        )
    return found[1]


def _indexes(release: str) -> list[str]:
    """All indexes of a release, for one machine or another, the oldest CUDA first."""
    return sorted({index for releases in WHEELS.values() for index in releases.get(release, {})})


def _usable(hosts: Sequence[Mapping[str, Any]]) -> Iterator[NodeGpus]:
    for number, given in enumerate(hosts, 1):
        name = str(given.get("host") or ("the host" if len(hosts) == 1 else f"host {number}"))
        keys = [key for key in ("driver", "driver_version") if key in given]
        if not keys or not ("compute_capabilities" in given or "gpus" in given):
            raise GpusteadError(
                f"{name}: {sorted(given)}",
                "driver and compute_capabilities, or what gpu_info returns",
                "Give the filter the results of gpu_info.",
            )
        driver, machine = given[keys[0]], str(given.get("machine") or "x86_64")
        listed = given.get("compute_capabilities")
        if listed is None:
            gpus = [gpu for gpu in given.get("gpus") or () if not gpu.get("withheld")]
            _refuse_unknown(name, driver, gpus)
            listed = [gpu["compute_capability"] for gpu in gpus]
        if driver and listed:
            if machine not in WHEELS:
                raise GpusteadError(
                    f"{name}: machine {machine!r}",
                    f"one that has wheels with CUDA: {', '.join(WHEELS)}",
                    "Build PyTorch.",
                )
            yield NodeGpus(
                name,
                machine,
                _version(driver, r"\d+(\.\d+)+", f"{name}: driver", "a version such as 590.48.01"),
                tuple(
                    _version(value, r"\d+\.\d+", f"{name}: compute capability", "a version such as 9.0")
                    for value in listed
                ),
            )


def _refuse_unknown(host: str, driver: object, gpus: Sequence[Mapping[str, Any]]) -> None:
    """A GPU of which something is not known is no reason for a wheel without CUDA."""
    if gpus and not driver:
        remedy = "See nvidia-smi on the host, or leave its GPUs out (nvidia_exclude)."
        raise GpusteadError(f"{host}: the version of the driver is not known", "one such as 590.48.01", remedy)
    for gpu in gpus:
        if not gpu.get("compute_capability"):
            named = ", ".join(str(gpu[key]) for key in ("index", "name", "uuid") if gpu.get(key) is not None)
            raise GpusteadError(
                f"{host}: compute capability None of GPU {named}",
                "one that is known, such as 9.0",
                "Install driver 510 or newer, which tells it, or leave the GPU out (nvidia_exclude).",
            )


def _version(value: object, form: str, what: str, expected: str) -> Version:
    text = str(value).strip()
    if not re.fullmatch(form, text):
        raise GpusteadError(
            f"{what} {value!r}", expected, "See nvidia-smi --query-gpu=driver_version,compute_cap --format=csv."
        )
    return tuple(map(int, text.split(".")))


def _oldest_driver(index: str) -> Version:
    return OLDEST_DRIVER[index[2:4]]


def _holds(wheel: str | None, capability: Version) -> bool:
    """Machine code runs on its own minor version and on later ones of the same major (CUDA programming guide)."""
    held = map(_number, (wheel or "").split())
    return any(entry[0] == capability[0] and entry <= capability for entry in held)


def _obstacles(release: str, index: str, hosts: Iterable[NodeGpus]) -> Iterator[str]:
    """Why the index does not serve these hosts."""
    for host in hosts:
        wheel = host.wheel(release, index)
        if wheel is None:
            yield f"{host.name} is {host.machine}, for which {index} has no wheel"
            continue
        if host.driver < _oldest_driver(index):
            yield f"{host.name} has driver {_dotted(host.driver)}, {index} needs {_dotted(_oldest_driver(index))}"
        for capability in sorted(set(host.capabilities)):
            if not _holds(wheel, capability):
                yield (
                    f"{host.name} has compute capability {_dotted(capability)}, "
                    f"{index} is built for {wheel.replace(' ', ', ')}"
                )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _refusal(release: str, hosts: Sequence[NodeGpus]) -> GpusteadError:
    obstacles = [text for index in _indexes(release) for text in _obstacles(release, index, hosts)]
    remedy = ", or ".join(_ways_out(release, hosts))
    return GpusteadError(
        f"torch {release} has no index for all GPUs ({'; '.join(obstacles)})",
        f"one of {', '.join(_indexes(release))} that holds every compute capability and runs on every driver",
        f"{remedy[0].upper()}{remedy[1:]}.",
    )


def _ways_out(release: str, hosts: Sequence[NodeGpus]) -> Iterator[str]:
    """What would satisfy the constraints, in words."""
    apart = "; ".join(f"{', '.join(names)}: torch {of} from {index}" for names, of, index in _split(release, hosts))
    driver = _driver_for(release, hosts)
    if driver:
        yield _install(driver, hosts)
    # The newest release first; the same drivers, then newer ones.
    others = [other for other in reversed(_RELEASES) if other != release]
    ready = [other for other in others if any(not any(_obstacles(other, i, hosts)) for i in _indexes(other))]
    if ready:
        yield f"take torch {ready[0]}"
    holding = [other for other in others if _driver_for(other, hosts)]
    if not driver and not ready and holding:
        yield f"take torch {holding[0]} and {_install(_driver_for(holding[0], hosts), hosts)}"
    if apart:
        yield f"split the nodes by images_variants ({apart})"
    elif not driver and not holding:
        each = sorted({(capability, host.machine) for host in hosts for capability in host.capabilities})
        lone = [_dotted(one) for one, machine in each if not any(_holds(w, one) for w in _all_wheels(machine))]
        together = ", ".join(dict.fromkeys(_dotted(one) for one, _machine in each))
        yield (
            f"leave out the GPUs of compute capability {', '.join(lone)}: no wheel is built for them"
            if lone
            else f"build an image for each kind: no wheel holds {together} together"
        )


def _split(release: str, hosts: Sequence[NodeGpus]) -> list[tuple[list[str], str, str]]:
    """Parts of the hosts that one wheel serves each, with its release and index; none where there is nothing to split.

    Each has the release that is wanted, or else the newest that serves it.
    """
    wanted = [release, *(other for other in reversed(_RELEASES) if other != release)]
    parts: list[tuple[list[NodeGpus], str, list[str]]] = []
    for host in hosts:
        best = next((other for other in wanted if _serving(other, host)), "")
        if not best:
            return []
        indexes = _serving(best, host)
        for number, (members, theirs, common) in enumerate(parts):
            both = [index for index in common if index in indexes and theirs == best]
            if both:
                parts[number] = ([*members, host], best, both)
                break
        else:
            parts.append(([host], best, indexes))
    found = [([host.name for host in members], best, _complete(indexes, members)) for members, best, indexes in parts]
    return found if len(found) > 1 else []


def _serving(release: str, host: NodeGpus) -> list[str]:
    """The indexes of a release that serve a host, the newest CUDA first."""
    return [index for index in reversed(_indexes(release)) if not any(_obstacles(release, index, [host]))]


def _complete(indexes: Sequence[str], hosts: Sequence[NodeGpus]) -> str:
    """Of indexes that serve the hosts the first whose CUDA is no newer than the drivers, or else the first."""
    ready = (index for index in indexes if all(host.driver >= SHIPPED[index] for host in hosts))
    return next(ready, indexes[0])


def _all_wheels(machine: str) -> Iterator[str]:
    return (wheel for indexes in WHEELS[machine].values() for wheel in indexes.values())


def _driver_for(release: str, hosts: Sequence[NodeGpus]) -> Version:
    """The oldest driver with which an index of the release would serve the hosts; () where none does."""
    indexes = (
        index
        for index in _indexes(release)
        if all(_holds(host.wheel(release, index), one) for host in hosts for one in host.capabilities)
    )
    return min(map(_oldest_driver, indexes), default=())


def _install(driver: Version, hosts: Sequence[NodeGpus]) -> str:
    names = ", ".join(host.name for host in hosts if host.driver < driver)
    return f"install driver {_dotted(driver)} or newer on {names}"
