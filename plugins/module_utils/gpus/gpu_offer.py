# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host offers to containers of its GPUs (gpus.json), what one gets of it, what it should offer and does not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.cdi_spec import KIND
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_cpuset import gpu_cpuset
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_choice import label
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import CONTROL_NODES

SCHEMA = 1
DRIVERS = {"cdi": "cdi", "runtime": "nvidia"}


@dataclass(frozen=True)
class GivenGpus:
    """What role nvidia left in gpus.json for the containers of a node.

    `driver`: how Docker gives them (cdi or nvidia); None: there are none for containers.
    """

    state: str
    driver: str | None
    uuids: tuple[str, ...]


def devices(gpu: Mapping[str, Any]) -> list[str]:
    """The UUIDs under which a GPU is used: those of its instances where MIG is on, else its own."""
    if gpu["mig"]["current"]:
        return [instance["uuid"] for instance in gpu["mig"]["instances"] if instance["uuid"]]
    return [gpu["uuid"]]


def all_devices(report: Mapping[str, Any]) -> list[str]:
    """The UUIDs of everything that the driver shows, in good health or not."""
    return [uuid for gpu in report["gpus"] for uuid in devices(gpu)]


def _wanted(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [gpu for gpu in report["gpus"] if not gpu.get("withheld")]


def given(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The GPUs that containers get: those that answer, are neither withheld nor ill, and have something to give."""
    usable = _wanted(report) if report["state"] in ("ready", "degraded") else []
    return [gpu for gpu in usable if gpu["health"] != "bad" and devices(gpu)]


def given_uuids(report: Mapping[str, Any]) -> list[str]:
    """The UUIDs of everything that containers get."""
    return [uuid for gpu in given(report) for uuid in devices(gpu)]


def offer(
    report: Mapping[str, Any],
    mode: str | None,
    slots: str = "gpus",
    observed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of gpus.json.

    Args:
        report: what gpu_info returns.
        mode: `cdi` or `runtime`; None where containers get no GPU.
        slots: what counts as a slot, `gpus` or `mig_instances`.
        observed: `nodes` of the driver that are there, which are given with `runtime` alone, the `minors` of the GPUs,
            by PCI address, where these are not their indexes, and the `capabilities` of MIG instances; see
            `nvidia_device_nodes.Nodes`.
    """
    gpus = given(report) if mode else []
    uuids = given_uuids(report) if mode else []
    nodes, minors, capabilities = ((observed or {}).get(key, {}) for key in ("nodes", "minors", "capabilities"))
    numbers = [int(minors.get(gpu["pci_address"], gpu["index"])) for gpu in gpus]
    caps = [_caps(gpu, number, capabilities) for gpu, number in zip(gpus, numbers)]
    of_instances = (node for one in caps for nodes_of_one in one.values() for node in nodes_of_one)
    desired = dict.fromkeys([*(f"/dev/nvidia{number}" for number in numbers), *of_instances, *CONTROL_NODES])
    return {
        "schema": SCHEMA,
        "state": report["state"],
        "driver": DRIVERS[mode] if mode and gpus else None,
        "device_ids": [f"{KIND}={uuid}" for uuid in uuids] if mode == "cdi" else uuids,
        "uuids": uuids,
        "device_nodes": [node for node in desired if node in nodes] if mode == "runtime" and gpus else [],
        "slots": len(uuids if slots == "mig_instances" else gpus),
        "nics": sorted({nic for gpu in gpus for nic in gpu["nics"]}),
        "infiniband": bool(report["infiniband"]),
        "driver_version": report.get("driver_version"),
        "machine": report.get("machine"),
        # What `container_gpus` needs of each GPU.
        "gpus": [
            {
                **{key: gpu.get(key) for key in ("index", "uuid", "compute_capability", "cpus", "numa_nodes")},
                "devices": devices(gpu),
                "node": f"/dev/nvidia{number}",
                "caps": of_gpu,
            }
            for gpu, number, of_gpu in zip(gpus, numbers, caps)
        ],
    }


def _caps(gpu: Mapping[str, Any], number: int, capabilities: Mapping[str, Any]) -> dict[str, list[str]]:
    """The nodes that open each MIG instance of a GPU, by its UUID."""
    found = {}
    for one in gpu["mig"]["instances"] if gpu["mig"]["current"] else ():
        instance = f"gpu{number}/gi{one.get('gi')}"
        minors = [capabilities[name] for name in (instance, f"{instance}/ci{one.get('ci')}") if name in capabilities]
        if one["uuid"] and minors:
            found[one["uuid"]] = [f"/dev/nvidia-caps/nvidia-cap{minor}" for minor in minors]
    return found


def parse_given(text: str, place: str) -> GivenGpus:
    """gpus.json as role nvidia writes it.

    Raises:
        GpusteadError: it is damaged, or of another version.
    """
    try:
        data = json.loads(text)
        given = GivenGpus(data["state"], data["driver"], tuple(data["uuids"]))
        schema = data["schema"]
    except (ValueError, TypeError, KeyError) as error:
        raise GpusteadError(
            f"{place} is damaged", f"JSON with schema {SCHEMA} ({error!r})", "Run role nvidia."
        ) from None
    if schema != SCHEMA:
        raise GpusteadError(f"{place} has schema {schema!r}", f"schema {SCHEMA}", "Run role nvidia.")
    return given


def container_gpus(given: Mapping[str, Any], wanted: Iterable[int | str] | None = None) -> dict[str, Any]:
    """What one container gets of an offer: `driver`, `device_ids`, `uuids` and `device_nodes` of it, and `cpus`, those
    near its GPUs (None: not known, or no GPU).

    Args:
        given: the content of gpus.json.
        wanted: positions in its `uuids`, or UUIDs; that of a GPU which is divided stands for its instances. None: all.

    Raises:
        GpusteadError: one of `wanted` is not offered.
    """
    uuids, gpus = list(given["uuids"]), given.get("gpus", [])
    chosen = set(uuids) if wanted is None else {uuid for name in wanted for uuid in _offered(uuids, gpus, name)}
    taken = [gpu for gpu in gpus if chosen.intersection(gpu["devices"])]
    opened = [(uuid in chosen, node) for gpu in gpus for uuid in gpu["devices"] for node in _nodes(gpu, uuid)]
    # Instances share the node of their GPU, and compute instances that of their GPU instance.
    others = {node for _ours, node in opened} - {node for ours, node in opened if ours}
    return {
        "driver": given["driver"] if chosen else None,
        "device_ids": [name for name, uuid in zip(given["device_ids"], uuids) if uuid in chosen],
        "uuids": [uuid for uuid in uuids if uuid in chosen],
        "device_nodes": [node for node in given["device_nodes"] if node not in others] if chosen else [],
        "cpus": gpu_cpuset(taken).cpus,
    }


def none_by_itself(gpus: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a container that gets these GPUs, as `container_gpus` says it: where there are none, it asks
    for none. Images of CUDA ask for all, and get them where nvidia is Docker's default runtime
    (https://github.com/NVIDIA/nvidia-container-toolkit/issues/451).
    """
    return {} if gpus["device_ids"] else {"NVIDIA_VISIBLE_DEVICES": "void"}


def _nodes(gpu: Mapping[str, Any], uuid: str) -> list[str]:
    """The device nodes of a GPU, or of an instance of it."""
    return [gpu["node"], *gpu.get("caps", {}).get(uuid, ())]


def _offered(uuids: Sequence[str], gpus: Sequence[Mapping[str, Any]], name: int | str) -> list[str]:
    """The UUIDs that a name in `wanted` stands for."""
    text = str(name)
    divided = [uuid for gpu in gpus if gpu["uuid"] == text for uuid in gpu["devices"]]
    if text.isdecimal() and int(text) < len(uuids):
        return [uuids[int(text)]]
    if text in uuids or divided:
        return divided or [text]
    known = ", ".join(f"{place} ({uuid})" for place, uuid in enumerate(uuids))
    raise GpusteadError(
        f"GPU {text}",
        f"one that this host has for containers: {known or 'there is none'}",
        "Correct the GPUs of the workspace, or see what role nvidia says of this host.",
    )


def complaints(report: Mapping[str, Any], obstacles: Sequence[str] = ()) -> list[str]:
    """Why containers cannot use a GPU that the host has, each one with what to do; empty where they use all.

    Args:
        report: what gpu_info returns.
        obstacles: what else is in the way, as sentences.
    """
    found = []
    if report["state"] == "unusable" or (report["state"] == "degraded" and report["reason"] != "unhealthy"):
        found.append(_sentence(f"{report['reason']}: {report['detail']}", report["remedy"]))
    for gpu in _wanted(report):
        if gpu["health"] == "bad":
            problems = " ".join(gpu["problems"]) or report["detail"]
            found.append(_sentence(f"{label(gpu)}, {gpu['uuid']}: {problems}", report["remedy"]))
        elif not devices(gpu):
            found.append(
                f"{label(gpu)}: MIG is on and has no instances. Declare a layout for it in nvidia_mig, or none ([])."
            )
    return [*found, *obstacles]


def warnings(report: Mapping[str, Any]) -> list[str]:
    """What people should know of GPUs that containers get, each one with what to do.

    Args:
        report: what gpu_info returns.
    """
    gpus = given(report)
    found = [f"{label(gpu)}: {problem}" for gpu in gpus for problem in gpu["problems"]]
    most = max((gpu.get("memory_mib") or 0 for gpu in gpus), default=0)
    for gpu in gpus:
        memory = gpu.get("memory_mib")
        if memory and memory * 2 < most:
            found.append(
                f"{label(gpu)} has {memory} MiB and another one {most}; a job over all of them gets no more of each."
                f" nvidia_exclude: [{gpu['uuid']}] leaves it out."
            )
        if not gpu.get("compute_capability"):
            found.append(
                f"{label(gpu)}: its compute capability is not known, by which wheels are chosen. Driver 510 and newer"
                " tell it."
            )
    if gpus and not report.get("cuda_version") and report.get("driver_version"):
        found.append(
            "nvidia-smi names no version of CUDA: without the driver's libcuda (package libcuda1 or libnvidia-compute)"
            " no program in a container computes."
        )
    if report["gpus"] and report["state"] == "none":
        found.append("nvidia_exclude names all GPUs of the host: containers get none.")
    return found


def _sentence(what: str, remedy: str | None) -> str:
    return f"{what.rstrip().rstrip('.')}.{f' {remedy}' if remedy else ''}"
