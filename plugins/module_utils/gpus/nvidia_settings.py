# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Persistence mode and power limits: what nvidia-smi must be told so that GPUs run as declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_choice import choose, label
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

VARIABLE = "nvidia_power_limit_w"
_SAME = 0.5  # watts: the driver rounds what it is given


@dataclass(frozen=True)
class GpuChange:
    """A command (without `nvidia-smi`) and what it changes, before and after in words."""

    command: tuple[str, ...]
    before: str
    after: str


def bad_limit(value: Any) -> str:
    """What is wrong with a limit that is declared, on any GPU; empty: nothing."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"{value!r}, which is no number of watts"
    return "" if value > 0 else f"{value} watts"


def limit_for(limits: Mapping[str, float], gpu: Mapping[str, Any]) -> float | None:
    """The power limit (W) that is declared for a GPU.

    Raises:
        GpusteadError: the GPU has none, or not that one.
    """
    wanted = choose(VARIABLE, limits, gpu)
    if wanted is None:
        return None
    least, most = gpu.get("power_limit_min_w"), gpu.get("power_limit_max_w")
    if gpu.get("power_limit_w") is None:
        raise GpusteadError(
            f"{VARIABLE}: {wanted:g} W for {label(gpu)}", "a GPU that has a power limit", "Name another model."
        )
    if (least is not None and wanted < least) or (most is not None and wanted > most):
        raise GpusteadError(
            f"{VARIABLE}: {wanted:g} W for {label(gpu)}",
            f"from {least if least is None else format(least, 'g')} to {most if most is None else format(most, 'g')} W",
            "Correct it in the inventory.",
        )
    return wanted


def plan(gpus: Sequence[Mapping[str, Any]], persistence: bool, limits: Mapping[str, float]) -> tuple[GpuChange, ...]:
    """What must change; of what the driver does not tell, nothing. Without `persistence` it stays as it is.

    Args:
        gpus: as gpu_info returns them; those that are withheld from containers are left alone.
        limits: power limits (W) by model, UUID or number; see `nvidia_choice.choose`.

    Raises:
        GpusteadError: a limit cannot be set.
    """
    steps = []
    for gpu in _ours(gpus):
        on, limit, now = ("-i", str(gpu["index"])), limit_for(limits, gpu), gpu.get("power_limit_w")
        if persistence and gpu.get("persistence") is False:
            steps.append(
                GpuChange(
                    (*on, "-pm", "1"), f"{label(gpu)}: persistence mode off", f"{label(gpu)}: persistence mode on"
                )
            )
        if limit is not None and now is not None and abs(now - limit) >= _SAME:
            steps.append(
                GpuChange(
                    (*on, "-pl", f"{limit:g}"), f"{label(gpu)}: {now:g} W at most", f"{label(gpu)}: {limit:g} W at most"
                )
            )
    return tuple(steps)


def apply(run: Run, smi: str, steps: Sequence[GpuChange]) -> None:
    """Carry the plan out.

    Raises:
        GpusteadError: nvidia-smi refuses.
    """
    for step in steps:
        code, out, err = run([smi, *step.command])
        if code != 0:
            raise GpusteadError(
                f"nvidia-smi {' '.join(step.command)} ended with {code}: {' '.join(f'{out} {err}'.split())}",
                step.after,
                "Run it on the host as root and repair what it names.",
            )


def at_boot(gpus: Sequence[Mapping[str, Any]], persistence: bool, limits: Mapping[str, float]) -> list[list[str]]:
    """The commands (without `nvidia-smi`) that set all of it again after a reboot, which forgets it."""
    ours = _ours(gpus)
    on = [["-pm", "1"]] if len(ours) == len(gpus) else [["-i", gpu["uuid"], "-pm", "1"] for gpu in ours]
    chosen = [(gpu["uuid"], limit_for(limits, gpu)) for gpu in ours]
    power = [["-i", uuid, "-pl", f"{limit:g}"] for uuid, limit in chosen if limit is not None]
    return (on if persistence else []) + power


def _ours(gpus: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [gpu for gpu in gpus if not gpu.get("withheld")]
