# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a GPU is well, by its part of the log of nvidia-smi: errors of its memory, its fabric, words of trouble."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_fields import (
    ERROR,
    Fields,
    integer_in,
    value_in,
)


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


_TROUBLE = re.compile(rf"\[?(?:{ERROR})\.?\]?", re.IGNORECASE)
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


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def ecc_of(gpu: Fields) -> Ecc:
    """Three generations of names: single_bit and double_bit, then sram and dram, then sram by parity and SEC-DED."""
    counts = {field.tag: integer_in(value_in(field.text)) for field in gpu.element.iterfind("ecc_errors/volatile/*")}
    counts["uncorrectable"] = gpu.integer("ecc_errors/volatile/double_bit/total")
    counts["correctable"] = gpu.integer("ecc_errors/volatile/single_bit/total")
    uncorrected = _sum(number for name, number in counts.items() if "uncorrectable" in name)
    if uncorrected is None:  # with MIG on, the GPU itself does not count, its instances do
        instances = gpu.element.iterfind("mig_devices/mig_device/ecc_error_count/volatile_count/sram_uncorrectable")
        uncorrected = _sum(integer_in(value_in(field.text)) for field in instances)
    return Ecc(
        gpu.switch("ecc_mode/current_ecc"),
        gpu.switch("ecc_mode/pending_ecc"),
        uncorrected,
        _sum(number for name, number in counts.items() if "uncorrectable" not in name and "correctable" in name),
    )


def retired_of(gpu: Fields) -> Retired:
    """Summed over the kinds of errors for which pages are retired."""
    kinds = ("multiple_single_bit_retirement", "double_bit_retirement")
    return Retired(
        _sum(gpu.integer(f"retired_pages/{kind}/retired_count") for kind in kinds),
        gpu.switch("retired_pages/pending_retirement", "retired_pages/pending_blacklist"),
    )


def remapped_of(gpu: Fields) -> Remapped:
    """Those of the whole GPU."""
    return Remapped(
        gpu.integer("remapped_rows/remapped_row_corr"),
        gpu.integer("remapped_rows/remapped_row_unc"),
        gpu.switch("remapped_rows/remapped_row_pending"),
        gpu.switch("remapped_rows/remapped_row_failure"),
    )


def _fields(gpu: Fields) -> Iterator[tuple[ElementTree.Element, int]]:
    """The GPU's element and all below, in their order, each with how little it weighs: memory 0, a sensor 2."""
    waiting = [(gpu.element, 1)]
    while waiting:
        element, weight = waiting.pop()
        weight = 2 if element.tag in _SENSORS else 0 if element.tag == "fb_memory_usage" else weight
        yield element, weight
        waiting += [(child, weight) for child in reversed(element)]


def troubles_of(gpu: Fields) -> tuple[list[str], list[str]]:
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


def _fabric(gpu: Fields) -> list[str]:
    """The NVLink fabric of a GPU behind NVSwitch; CUDA does not start (error 802) before it is ready.

    What is wrong with one that is ready stands in its health (nvmlGpuFabricInfo_v3_t).
    """
    state, status = gpu.text("fabric/state"), gpu.text("fabric/status")
    found = []
    if state is not None and (state != "Completed" or status not in (None, "Success")):
        found.append(f"is not ready (state {state}, status {status or 'not known'})")
    signs = {str(sign.tag): value_in(sign.text) for sign in gpu.element.iterfind("fabric/health//*") if not len(sign)}
    signs["health"] = gpu.text("fabric/health")
    bad = [
        f"{name} {value}"
        for name, value in signs.items()
        if value is not None and value.lower() not in _FABRIC_FIELDS_GOOD.get(name, _FABRIC_GOOD)
    ]
    if bad:
        found.append(f"is not well ({', '.join(bad)})")
    return [f"The NVLink fabric {what}: see nvidia-fabricmanager." for what in found]


def health_of(gpu: Fields, ecc: Ecc, retired: Retired, remapped: Remapped) -> tuple[str | None, tuple[str, ...]]:
    """`ok`, `bad` or None (nothing tells), and a sentence for each sign; one that is ok may have warnings.

    What is bad follows NVIDIA's "GPU memory error management" and "dynamic page retirement".
    """
    action = gpu.text("gpu_recovery_action")
    troubles, warnings = troubles_of(gpu)
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


def is_lost(gpu: Fields) -> bool:
    """A GPU without a name that stays cannot be given to anybody."""
    uuid = gpu.text("uuid")
    return (
        uuid is None or " " in uuid or any(_GONE.fullmatch((field.text or "").strip()) for field in gpu.element.iter())
    )
