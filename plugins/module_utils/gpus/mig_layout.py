# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""MIG: how GPUs are divided, what it takes to divide them as declared, and whether that can be.

The commands and tables are those of `nvidia-smi mig` as NVIDIA's MIG user guide shows them
(https://docs.nvidia.com/datacenter/tesla/mig-user-guide/).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_choice import choose, label
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

VARIABLE = "nvidia_mig"
APPS = ("--query-compute-apps=gpu_uuid,pid,process_name", "--format=csv,noheader")

_ROW = re.compile(r"\|\s*\d+\s.*\bMIG\s")
_PROFILE = re.compile(
    r"\|\s*(\d{1,9})\s+MIG (\S+)\s+(\d{1,9})\s+(\d{1,9})/(\d{1,9})\s+(\d{1,9}(?:\.\d{1,9})?)\s", re.ASCII
)
_GPU_INSTANCE = re.compile(r"\|\s*(\d{1,9})\s+MIG (\S+)\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9}):(\d{1,9})\s*\|", re.ASCII)
# Drivers before 470 print no placement.
_COMPUTE_INSTANCE = re.compile(
    r"\|\s*(\d{1,9})\s+(\d{1,9})\s+MIG (\S+)\s+(\d{1,9})\s+(\d{1,9})(?:\s+\d+:\d+)?\s*\|", re.ASCII
)
_NOTHING = re.compile(r"No (GPU instances|compute instances|MIG-enabled devices|MIG-supported devices) found")
_NAME = re.compile(r"(\d{1,9})g\.(\d{1,9})gb\S*\Z", re.ASCII)
_SLICES = 7
# What follows the size: +me, -me, +me.all, +gfx.
_ATTRIBUTES = re.compile(r"(?<=gb)[+-]\S*\Z")


@dataclass(frozen=True)
class Profile:
    """A kind of GPU instance: how many more fit now and on the empty GPU, and its memory (GiB)."""

    gpu: int
    name: str
    number: int
    free: int
    total: int
    memory_gib: float


@dataclass(frozen=True)
class GpuInstance:
    """A GPU instance; `start` and `size` in memory slices."""

    gpu: int
    profile: str
    number: int
    start: int
    size: int


@dataclass(frozen=True)
class ComputeInstance:
    """A compute instance. One that has all of its GPU instance bears the size of that one as its name: 2g.20gb, not
    1c.2g.20gb; and 1g.10gb in a GPU instance 1g.10gb+me.
    """

    gpu: int
    gpu_instance: int
    profile: str
    number: int


@dataclass(frozen=True)
class State:
    """How the GPUs are divided now."""

    profiles: tuple[Profile, ...] = ()
    gpu_instances: tuple[GpuInstance, ...] = ()
    compute_instances: tuple[ComputeInstance, ...] = ()

    def layout(self, gpu: int) -> list[str]:
        """The GPU instances by name, big ones first; those that are not one whole device say so."""
        return in_order(
            one.profile if self._is_whole(one) else f"{one.profile} (in parts)"
            for one in self.gpu_instances
            if one.gpu == gpu
        )

    def _is_whole(self, instance: GpuInstance) -> bool:
        """Whether a GPU instance has one compute instance, and that has all of it."""
        sizes = [
            _ATTRIBUTES.sub("", one.profile)
            for one in self.compute_instances
            if (one.gpu, one.gpu_instance) == (instance.gpu, instance.number)
        ]
        return sizes == [_ATTRIBUTES.sub("", instance.profile)]


@dataclass(frozen=True)
class MigStep:
    """Commands (without `nvidia-smi`) that bring a GPU forward, and what they do.

    `desired`: with the step that switches MIG on, the profiles to come.
    """

    gpu: int
    text: str
    commands: tuple[tuple[str, ...], ...]
    desired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """`before` and `after`: a line for each GPU that something is declared for."""

    steps: tuple[MigStep, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def _rows(text: str, row: re.Pattern[str], what: str) -> list[tuple[str, ...]]:
    found = []
    for line in text.splitlines():
        if not _ROW.match(line.strip()):
            continue
        match = row.match(line.strip())
        if not match:
            raise GpusteadError(
                f"nvidia-smi mig printed {line.strip()!r}",
                f"a row of the table of {what}",
                "Run the command on the host; a driver that prints other tables is not supported.",
            )
        found.append(match.groups(""))
    return found


def parse_profiles(text: str) -> tuple[Profile, ...]:
    """Read `nvidia-smi mig -lgip`."""
    rows = _rows(text, _PROFILE, "GPU instance profiles")
    return tuple(Profile(int(g), name, int(n), int(free), int(all_), float(m)) for g, name, n, free, all_, m in rows)


def parse_gpu_instances(text: str) -> tuple[GpuInstance, ...]:
    """Read `nvidia-smi mig -lgi`."""
    rows = _rows(text, _GPU_INSTANCE, "GPU instances")
    return tuple(GpuInstance(int(g), name, int(n), int(start), int(size)) for g, name, _third, n, start, size in rows)


def parse_compute_instances(text: str) -> tuple[ComputeInstance, ...]:
    """Read `nvidia-smi mig -lci`."""
    rows = _rows(text, _COMPUTE_INSTANCE, "compute instances")
    return tuple(ComputeInstance(int(g), int(parent), name, int(n)) for g, parent, name, _fourth, n in rows)


def _said(answer: tuple[int, str, str]) -> str:
    return " ".join(f"{answer[1]} {answer[2]}".split())


def observe(run: Run, smi: str) -> State:
    """How the GPUs are divided now.

    Raises:
        GpusteadError: nvidia-smi does not tell.
    """
    texts = []
    for option in ("-lgip", "-lgi", "-lci"):
        answer = run([smi, "mig", option])
        if answer[0] != 0 and not _NOTHING.search(_said(answer)):
            raise GpusteadError(
                f"nvidia-smi mig {option} ended with {answer[0]}: {_said(answer)}",
                "the table of it",
                "Run it on the host as root and repair what it names.",
            )
        texts.append(answer[1] if answer[0] == 0 else "")
    return State(parse_profiles(texts[0]), parse_gpu_instances(texts[1]), parse_compute_instances(texts[2]))


def in_order(names: Iterable[str]) -> list[str]:
    """Big ones first: the driver places them in the order in which they are asked for, and big ones have few places."""

    def size(name: str) -> tuple[int, int, str]:
        match = re.match(r"(\d{1,9})g\.(\d{1,9})gb", name, re.ASCII)
        return (-int(match[1]), -int(match[2]), name) if match else (0, 0, name)

    return sorted(names, key=size)


def bad_layout(value: Any) -> str:
    """What is wrong with a layout that is declared, on any GPU; empty: nothing."""
    if not isinstance(value, (list, tuple)):
        return f"{value!r}, which is no list of profiles"
    for name in value:
        if not isinstance(name, str) or not _NAME.match(name) or not re.search(r"gb([+-][\w.]+)*\Z", name, re.ASCII):
            return f"the profile {name!r}"
    slices = sum(int(match[1]) for match in map(_NAME.match, value) if match)
    return f"{slices} compute slices, and no GPU has more than {_SLICES}" if slices > _SLICES else ""


def declared_for(declared: Mapping[str, Sequence[str]], gpu: Mapping[str, Any]) -> list[str] | None:
    """The profiles that are declared for a GPU, in the order of their creation; none ([]): MIG is to be off.

    Raises:
        GpusteadError: a profile is not written as one.
    """
    desired = choose(VARIABLE, declared, gpu)
    if desired is None:
        return None
    for name in desired:
        if not _NAME.match(name):
            raise GpusteadError(
                f"{VARIABLE}: the profile {name!r} for {label(gpu)}", "one as 1g.10gb", "Correct it in the inventory."
            )
    return in_order(desired)


def check_fit(gpu: Mapping[str, Any], desired: Sequence[str], profiles: Iterable[Profile]) -> None:
    """Whether a GPU can be divided so. Where the driver names no profiles for it (before MIG is on), anything passes.

    Raises:
        GpusteadError: it has no such profile, or they are too many.
    """
    known = {profile.name: profile for profile in profiles if profile.gpu == gpu["index"]}
    if not known:
        return
    place = f"{VARIABLE}: {', '.join(desired)} for {label(gpu)}"
    for name, count in Counter(desired).items():
        if name not in known:
            raise GpusteadError(
                f"{place}: no profile {name}", f"some of {', '.join(known)}", "Correct it in the inventory."
            )
        if count > known[name].total:
            raise GpusteadError(
                f"{place}: {count} of {name}", f"at most {known[name].total}", "Correct it in the inventory."
            )
    slices = [int(match[1]) for match in map(_NAME.match, desired) if match]
    most = max((int(match[1]) for match in map(_NAME.match, known) if match), default=0)
    if sum(slices) > most:
        raise GpusteadError(f"{place}: {sum(slices)} compute slices", f"at most {most}", "Take smaller or fewer ones.")
    memory, largest = sum(known[name].memory_gib for name in desired), max(one.memory_gib for one in known.values())
    if memory > largest:
        raise GpusteadError(
            f"{place}: {memory:.2f} GiB of memory", f"at most {largest:.2f} GiB", "Take smaller or fewer ones."
        )


def plan(gpus: Sequence[Mapping[str, Any]], declared: Mapping[str, Sequence[str]], state: State) -> Plan:
    """What it takes to divide the GPUs as declared. A GPU that nothing is declared for is left alone.

    Args:
        gpus: as gpu_info returns them.
        declared: profiles by model, UUID or number; see `nvidia_choice.choose`.

    Raises:
        GpusteadError: a layout is malformed, does not fit, or the GPU has no MIG.
    """
    steps: list[MigStep] = []
    before, after = [], []
    for gpu in gpus:
        desired, index, enabled = declared_for(declared, gpu), gpu["index"], gpu["mig"]["current"]
        if desired is None or (enabled is None and not desired):
            continue
        if enabled is None:
            raise GpusteadError(
                f"{VARIABLE}: {', '.join(desired)} for {label(gpu)}",
                "a GPU that has MIG",
                "Name another model, or this GPU's UUID with an empty list.",
            )
        check_fit(gpu, desired, state.profiles)
        observed = state.layout(index)
        before.append(f"{label(gpu)}: {_layout_text(enabled, observed)}")
        after.append(f"{label(gpu)}: {_layout_text(bool(desired), desired)}")
        if desired and not enabled:
            steps.append(MigStep(index, "switch MIG on", (("-i", str(index), "-mig", "1"),), tuple(desired)))
        if observed != desired:
            steps += _rebuild(index, observed, desired, state)
        if enabled and not desired:
            steps.append(MigStep(index, "switch MIG off", (("-i", str(index), "-mig", "0"),)))
    return Plan(tuple(steps), tuple(before), tuple(after))


def _layout_text(enabled: bool, layout: Sequence[str]) -> str:
    return (", ".join(layout) or "no instances") if enabled else "MIG off"


def _rebuild(index: int, observed: Sequence[str], desired: Sequence[str], state: State) -> list[MigStep]:
    on = ("mig", "-i", str(index))
    steps = []
    if observed:
        inner = any(one.gpu == index for one in state.compute_instances)
        commands = ((*on, "-dci"), (*on, "-dgi")) if inner else ((*on, "-dgi"),)
        steps.append(MigStep(index, f"destroy {', '.join(observed)}", commands))
    if desired:
        steps.append(MigStep(index, f"create {', '.join(desired)}", ((*on, "-cgi", ",".join(desired), "-C"),)))
    return steps


def check_idle(gpus: Sequence[Mapping[str, Any]], steps: Sequence[MigStep], run: Run, smi: str) -> None:
    """Refuse to touch a GPU that a process uses, or of which that is not known.

    Raises:
        GpusteadError: with the process ids.
    """
    touched = {gpu["uuid"]: gpu for gpu in gpus if gpu["index"] in {step.gpu for step in steps}}
    answer = run([smi, *APPS])
    if answer[0] != 0 and touched:
        raise GpusteadError(
            f"nvidia-smi {' '.join(APPS)} ended with {answer[0]}: {_said(answer)}",
            "the processes on the GPUs that are to be divided anew",
            "Run it on the host and repair what it names.",
        )
    users: dict[str, list[str]] = {}
    for line in answer[1].splitlines():
        fields = [part.strip() for part in line.split(",", 2)]
        if len(fields) == 3 and fields[0] in touched:
            users.setdefault(fields[0], []).append(f"{fields[1]} {fields[2]}")
    for uuid, gpu in touched.items():
        count = gpu.get("processes") or 0
        if users.get(uuid) or count:
            names = ", ".join(users.get(uuid, [])) or f"{count} processes, see nvidia-smi -q -i {gpu['index']}"
            raise GpusteadError(
                f"{label(gpu)} is in use: {names}",
                "no process on a GPU that is to be divided anew",
                "Stop them, and run again.",
            )


def apply(run: Run, smi: str, gpus: Sequence[Mapping[str, Any]], plan: Plan) -> None:
    """Carry the plan out.

    Raises:
        GpusteadError: a GPU is in use, a command fails, or MIG is on only after a reset or a reboot.
    """
    check_idle(gpus, plan.steps, run, smi)
    for step in plan.steps:
        for command in step.commands:
            answer = run([smi, *command])
            if answer[0] != 0:
                raise GpusteadError(
                    f"nvidia-smi {' '.join(command)} ended with {answer[0]}: {_said(answer)}",
                    f"it to {step.text}",
                    "Stop what uses the GPU (containers, dcgm, nvsm) or correct its layout, and run again.",
                )
            if "-mig" in command:
                _check_mode(run, smi, step.gpu, command[-1] == "1", _said(answer))
        if step.desired:
            _check_profiles(run, smi, next(gpu for gpu in gpus if gpu["index"] == step.gpu), step.desired)


def _check_mode(run: Run, smi: str, gpu: int, desired: bool, said: str) -> None:
    _code, out, _err = run([smi, "-i", str(gpu), "--query-gpu=mig.mode.current", "--format=csv,noheader"])
    if out.strip() != ("Enabled" if desired else "Disabled"):
        raise GpusteadError(
            f"MIG mode of GPU {gpu} is {out.strip() or 'not known'} ({said})",
            f"it {'on' if desired else 'off'} at once",
            f"Stop what uses the GPU (dcgm, nvsm), reset it by nvidia-smi --gpu-reset -i {gpu} or reboot the host, and "
            "run again.",
        )


def _check_profiles(run: Run, smi: str, gpu: Mapping[str, Any], desired: Sequence[str]) -> None:
    """Old drivers name a GPU's profiles only now: switch MIG off again where the layout does not fit."""
    code, out, _err = run([smi, "mig", "-lgip"])
    try:
        check_fit(gpu, desired, parse_profiles(out) if code == 0 else ())
    except GpusteadError:
        run([smi, "-i", str(gpu["index"]), "-mig", "0"])
        raise


def check_made(gpus: Sequence[Mapping[str, Any]], declared: Mapping[str, Sequence[str]], state: State) -> None:
    """Whether the driver has made what it was asked for.

    Raises:
        GpusteadError: it has not.
    """
    for gpu in gpus:
        desired, observed = declared_for(declared, gpu), state.layout(gpu["index"])
        if desired and observed != desired:
            raise GpusteadError(
                f"{label(gpu)} has {', '.join(observed) or 'no instances'}",
                f"{', '.join(desired)}, which nvidia-smi said it made",
                "Look at nvidia-smi mig -lgi and -lci on the host.",
            )


def at_boot(gpus: Sequence[Mapping[str, Any]], declared: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The commands (without `nvidia-smi`) that make the declared layouts anew after a reboot, which forgets them.

    By UUID, as numbers may be others then.
    """
    commands: list[list[str]] = []
    for gpu in gpus:
        desired = declared_for(declared, gpu)
        if desired:
            commands.append(["-i", gpu["uuid"], "-mig", "1"])
            commands.append(["mig", "-i", gpu["uuid"], "-cgi", ",".join(desired), "-C"])
    return commands
