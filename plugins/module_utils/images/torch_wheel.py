# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The index of PyTorch's wheels that fits the GPUs of all hosts: one image is built for all of them.

Sources: indexes by release, pytorch/test-infra's build matrix; architectures by release and index, the support matrix
in pytorch's RELEASE.md and `.ci/manywheel/build_cuda.sh` of each release branch (pytorch #157517: Pascal and older left
CUDA 12.8 with 2.8, #172352: Volta with 2.11); drivers, NVIDIA's CUDA Toolkit release notes, tables 2 and 3.
All of it is for wheels of Linux on x86-64.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

Version = tuple[int, ...]

CPU = "cpu"

_UP_TO_HOPPER = "5.0 6.0 7.0 7.5 8.0 8.6 9.0"
_WITH_KEPLER = f"3.7 {_UP_TO_HOPPER}"
_FROM_TURING = "7.5 8.0 8.6 9.0 10.0 12.0"
_FROM_VOLTA = f"7.0 {_FROM_TURING}"
_OLDEST = {"cu118": _WITH_KEPLER, "cu121": _UP_TO_HOPPER, "cu124": _UP_TO_HOPPER}
_NEWEST = {"cu126": _UP_TO_HOPPER, "cu130": _FROM_TURING, "cu132": _FROM_TURING}

# Release of PyTorch: its indexes, the oldest CUDA first: the architectures for which its wheel holds machine code.
# PTX, which the newest ones hold for GPUs to come, is left out: it needs a driver as new as the wheel's CUDA.
WHEELS: Mapping[str, Mapping[str, str]] = {
    "2.4": _OLDEST,
    "2.5": _OLDEST,
    "2.6": {"cu118": _WITH_KEPLER, "cu124": _UP_TO_HOPPER, "cu126": _UP_TO_HOPPER},
    "2.7": {"cu118": _WITH_KEPLER, "cu126": _UP_TO_HOPPER, "cu128": _FROM_TURING},
    "2.8": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_VOLTA, "cu129": _FROM_VOLTA},
    "2.9": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_VOLTA, "cu130": _FROM_TURING},
    "2.10": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_VOLTA, "cu130": _FROM_TURING},
    "2.11": {"cu126": _UP_TO_HOPPER, "cu128": _FROM_TURING, "cu130": _FROM_TURING},
    "2.12": _NEWEST,
    "2.13": _NEWEST,
}

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
class Host:
    """A host with usable GPUs. `capabilities`: its GPUs' compute capabilities, such as (9, 0)."""

    name: str
    driver: Version
    capabilities: tuple[Version, ...]


def torch_wheel(hosts: Mapping[str, Any] | Iterable[Mapping[str, Any]], torch: str) -> str:
    """The newest index that serves every host, `cu128` for example; `cpu` where no host has a usable GPU.

    One whose CUDA is no newer than the drivers goes before one that runs by minor-version compatibility alone.

    Args:
        hosts: one host or several: results of gpu_info, or `driver` and `compute_capabilities`. `host` names it.
        torch: version of PyTorch, such as `2.13.0`; its last number and its suffix do not matter.

    Raises:
        GpusteadError: no index serves all hosts, or a value is not known or not understood.
    """
    release = _release(torch)
    usable = list(_usable([hosts] if isinstance(hosts, Mapping) else list(hosts)))
    if not usable:
        return CPU
    fitting = [index for index in reversed(list(WHEELS[release])) if not any(_obstacles(release, index, usable))]
    if not fitting:
        raise _refusal(release, usable)
    complete = (index for index in fitting if all(host.driver >= SHIPPED[index] for host in usable))
    return next(complete, fitting[0])


def _release(torch: str) -> str:
    found = re.match(r"(\d+\.\d+)(?![\d])", str(torch))
    if not found or found.group(1) not in WHEELS:
        raise GpusteadError(
            f"torch {torch}", f"a release that is known here: {', '.join(WHEELS)}", "Write one of them, in quotes."
        )
    return found.group(1)


def _usable(hosts: Sequence[Mapping[str, Any]]) -> Iterator[Host]:
    for number, given in enumerate(hosts, 1):
        name = str(given.get("host") or ("the host" if len(hosts) == 1 else f"host {number}"))
        keys = [key for key in ("driver", "driver_version") if key in given]
        if not keys or not ("compute_capabilities" in given or "gpus" in given):
            raise GpusteadError(
                f"{name}: {sorted(given)}",
                "driver and compute_capabilities, or what gpu_info returns",
                "Give the filter the results of gpu_info.",
            )
        driver = given[keys[0]]
        listed = given.get("compute_capabilities")
        if listed is None:
            gpus = [gpu for gpu in given.get("gpus") or () if not gpu.get("withheld")]
            _refuse_unknown(name, driver, gpus)
            listed = [gpu["compute_capability"] for gpu in gpus]
        if driver and listed:
            yield Host(
                name,
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


def _holds(release: str, index: str, capability: Version) -> bool:
    """Machine code runs on its own minor version and on later ones of the same major (CUDA programming guide)."""
    held = (tuple(map(int, entry.split("."))) for entry in WHEELS[release][index].split())
    return any(entry[0] == capability[0] and entry <= capability for entry in held)


def _obstacles(release: str, index: str, hosts: Iterable[Host]) -> Iterator[str]:
    """Why the index does not serve these hosts."""
    for host in hosts:
        if host.driver < _oldest_driver(index):
            yield f"{host.name} has driver {_dotted(host.driver)}, {index} needs {_dotted(_oldest_driver(index))}"
        for capability in sorted(set(host.capabilities)):
            if not _holds(release, index, capability):
                yield (
                    f"{host.name} has compute capability {_dotted(capability)}, "
                    f"{index} is built for {WHEELS[release][index].replace(' ', ', ')}"
                )


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _refusal(release: str, hosts: Sequence[Host]) -> GpusteadError:
    obstacles = [text for index in WHEELS[release] for text in _obstacles(release, index, hosts)]
    remedy = ", or ".join(_ways_out(release, hosts))
    return GpusteadError(
        f"torch {release} has no index for all GPUs ({'; '.join(obstacles)})",
        f"one of {', '.join(WHEELS[release])} that holds every compute capability and runs on every driver",
        f"{remedy[0].upper()}{remedy[1:]}.",
    )


def _ways_out(release: str, hosts: Sequence[Host]) -> Iterator[str]:
    """What would satisfy the constraints, in words."""
    driver = _driver_for(release, hosts)
    if driver:
        yield _install(driver, hosts)
    # The newest release first; the same drivers, then newer ones.
    others = [other for other in reversed(list(WHEELS)) if other != release]
    ready = [other for other in others if any(not any(_obstacles(other, i, hosts)) for i in WHEELS[other])]
    if ready:
        yield f"take torch {ready[0]}"
    holding = [other for other in others if _driver_for(other, hosts)]
    if not driver and not ready and holding:
        yield f"take torch {holding[0]} and {_install(_driver_for(holding[0], hosts), hosts)}"
    if not driver and not holding:
        capabilities = sorted({capability for host in hosts for capability in host.capabilities})
        lone = [_dotted(c) for c in capabilities if not any(_holds(r, i, c) for r in WHEELS for i in WHEELS[r])]
        yield (
            f"leave out the GPUs of compute capability {', '.join(lone)}: no wheel is built for them"
            if lone
            else f"build an image for each kind: no wheel holds {', '.join(map(_dotted, capabilities))} together"
        )


def _driver_for(release: str, hosts: Sequence[Host]) -> Version:
    """The oldest driver with which an index of the release would serve the hosts; () where none does."""
    capabilities = {capability for host in hosts for capability in host.capabilities}
    indexes = (index for index in WHEELS[release] if all(_holds(release, index, c) for c in capabilities))
    return min(map(_oldest_driver, indexes), default=())


def _install(driver: Version, hosts: Sequence[Host]) -> str:
    names = ", ".join(host.name for host in hosts if host.driver < driver)
    return f"install driver {_dotted(driver)} or newer on {names}"
