"""What containers get of a host's GPUs, and what is said of those that they do not get."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import (
    all_devices,
    complaints,
    container_gpus,
    offer,
    warnings,
)

NODES = [f"/dev/nvidia{n}" for n in range(4)] + ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-caps"]
REMEDY = "Reboot the host."


def gpu(
    index: int, instances: list[str | None] | None = None, health: str | None = "ok", **more: Any
) -> dict[str, Any]:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "name": "NVIDIA A100",
        "pci_address": f"0000:0{index}:00.0",
        "health": health,
        "problems": [] if health != "bad" else ["3 uncorrectable errors."],
        "mig": {
            "current": None if instances is None else True,
            "instances": [{"uuid": uuid} for uuid in instances or []],
        },
        "nics": [f"mlx5_{index // 2}"],
        **more,
    }


def report(state: str, *gpus: dict[str, Any], reason: str | None = None, infiniband: bool = False) -> dict[str, Any]:
    return {
        "state": state,
        "reason": reason,
        "detail": "nvidia-smi said so",
        "remedy": REMEDY if reason else None,
        "pci_gpus": [f"0000:0{index}:00.0" for index in range(4)] if state != "none" else [],
        "gpus": list(gpus),
        "infiniband": infiniband,
    }


NOTHING: dict[str, Any] = {"driver": None, "device_ids": [], "uuids": [], "device_nodes": [], "slots": 0, "nics": []}
MIXED = report("ready", gpu(0, ["MIG-a", "MIG-b"]), gpu(1), gpu(2, []), infiniband=True)
OFFERS: dict[str, tuple[dict[str, Any], str | None, str, dict[str, Any]]] = {
    "none": (report("none"), None, "gpus", NOTHING),
    "unusable": (report("unusable", reason="not_loaded"), "cdi", "gpus", NOTHING),
    "something is in the way": (report("ready", gpu(0)), None, "gpus", NOTHING),
    "ready by CDI": (
        report("ready", gpu(0), gpu(1), gpu(2)),
        "cdi",
        "gpus",
        {
            "driver": "cdi",
            "device_ids": [f"nvidia.com/gpu=GPU-{n}" for n in range(3)],
            "uuids": ["GPU-0", "GPU-1", "GPU-2"],
            "device_nodes": [],
            "slots": 3,
            "nics": ["mlx5_0", "mlx5_1"],
        },
    ),
    "ready by the runtime": (
        report("ready", gpu(0), gpu(3)),
        "runtime",
        "gpus",
        {
            "driver": "nvidia",
            "device_ids": ["GPU-0", "GPU-3"],
            "uuids": ["GPU-0", "GPU-3"],
            "device_nodes": ["/dev/nvidia2", "/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"],
            "slots": 2,
            "nics": ["mlx5_0", "mlx5_1"],
        },
    ),
    "mixed MIG, slots by GPU": (
        MIXED,
        "cdi",
        "gpus",
        {
            "driver": "cdi",
            "device_ids": ["nvidia.com/gpu=MIG-a", "nvidia.com/gpu=MIG-b", "nvidia.com/gpu=GPU-1"],
            "uuids": ["MIG-a", "MIG-b", "GPU-1"],
            "device_nodes": [],
            "slots": 2,
            "nics": ["mlx5_0"],
            "infiniband": True,
        },
    ),
    "mixed MIG, slots by instance": (MIXED, "cdi", "mig_instances", {"slots": 3, "uuids": ["MIG-a", "MIG-b", "GPU-1"]}),
    "one lost, one ill, one whose health is not known": (
        report("degraded", gpu(0, health="bad"), gpu(1, health=None), reason="gpu_lost"),
        "cdi",
        "gpus",
        {"uuids": ["GPU-1"], "slots": 1, "driver": "cdi", "state": "degraded"},
    ),
    "all ill": (report("degraded", gpu(0, health="bad"), reason="unhealthy"), "runtime", "gpus", NOTHING),
    "one excluded, one for virtual machines": (
        report("ready", gpu(0), gpu(1, withheld="excluded"), gpu(2, withheld="vgpu_host"), gpu(3, withheld=None)),
        "runtime",
        "gpus",
        {
            **{"uuids": ["GPU-0", "GPU-3"], "device_ids": ["GPU-0", "GPU-3"], "slots": 2, "driver": "nvidia"},
            "device_nodes": ["/dev/nvidia2", "/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"],
            "nics": ["mlx5_0", "mlx5_1"],
        },
    ),
    "all for virtual machines": (
        report("unusable", gpu(0, withheld="vgpu_host"), reason="vgpu_host"),
        "cdi",
        "gpus",
        NOTHING,
    ),
    "an instance without a name": (
        report("ready", gpu(0, [None, "MIG-a"])),
        "cdi",
        "gpus",
        {"uuids": ["MIG-a"], "slots": 1},
    ),
}


@pytest.mark.parametrize(("found", "mode", "slots", "expected"), OFFERS.values(), ids=list(OFFERS))
def test_offer(found: dict[str, Any], mode: str | None, slots: str, expected: dict[str, Any]) -> None:
    made = offer(found, mode, slots, {"nodes": NODES, "minors": {"0000:00:00.0": 2}})
    assert made == {**made, **expected}
    assert set(made) == {*NOTHING, "schema", "state", "infiniband", "driver_version", "machine", "gpus"}
    assert [uuid for gpu in made["gpus"] for uuid in gpu["devices"]] == made["uuids"]
    assert made["state"] == found["state"]


def test_all_devices() -> None:
    assert all_devices(MIXED) == ["MIG-a", "MIG-b", "GPU-1"]
    assert all_devices(report("degraded", gpu(0, health="bad"), reason="unhealthy")) == ["GPU-0"]


COMPLAINTS: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "none": (report("none"), [], []),
    "ready": (report("ready", gpu(0), gpu(1, ["MIG-a"])), [], []),
    "unusable": (report("unusable", reason="not_loaded"), [], [f"not_loaded: nvidia-smi said so. {REMEDY}"]),
    "lost": (report("degraded", gpu(0), reason="gpu_lost"), [], [f"gpu_lost: nvidia-smi said so. {REMEDY}"]),
    "ill": (
        report("degraded", gpu(0), gpu(1, health="bad"), reason="unhealthy"),
        [],
        [f"GPU 1 (NVIDIA A100), GPU-1: 3 uncorrectable errors. {REMEDY}"],
    ),
    "an ill one that is excluded": (report("ready", gpu(0), gpu(1, health="bad", withheld="excluded")), [], []),
    "a divided one that is excluded": (report("ready", gpu(0), gpu(1, [], withheld="excluded")), [], []),
    "a vGPU host": (
        report("unusable", gpu(0, withheld="vgpu_host"), reason="vgpu_host"),
        [],
        ["vgpu_host: nvidia-smi said so."],
    ),
    "MIG without instances": (report("ready", gpu(0, [])), [], ["MIG is on and has no instances"]),
    "in the way": (report("ready", gpu(0)), ["Docker runs rootless."], ["Docker runs rootless."]),
}


@pytest.mark.parametrize(("found", "obstacles", "said"), COMPLAINTS.values(), ids=list(COMPLAINTS))
def test_complaints(found: dict[str, Any], obstacles: list[str], said: list[str]) -> None:
    sentences = complaints(found, obstacles)
    assert len(sentences) == len(said)
    assert all(words in sentence for words, sentence in zip(said, sentences))


SOUND: dict[str, Any] = {"compute_capability": "8.0", "memory_mib": 81920}
DISPLAY: dict[str, Any] = {"compute_capability": "7.5", "memory_mib": 3911, "name": "NVIDIA DGX Display"}
FAN: dict[str, Any] = {**SOUND, "problems": ["nvidia-smi says 'ERR!' for fan_speed."]}
WARNINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "none": (report("none"), []),
    "all alike": (report("ready", *(gpu(n, **SOUND) for n in range(4))), []),
    "a card for the display": (
        report("ready", gpu(0, **SOUND), gpu(1, **DISPLAY)),
        ["GPU 1 (NVIDIA DGX Display) has 3911 MiB and another one 81920", "nvidia_exclude: [GPU-1] leaves it out."],
    ),
    "one that is excluded": (report("ready", gpu(0, **SOUND), gpu(1, **DISPLAY, withheld="excluded")), []),
    "one that is ill": (report("degraded", gpu(0, **SOUND), gpu(1, **DISPLAY, health="bad"), reason="unhealthy"), []),
    "half of it": (report("ready", gpu(0, **SOUND), gpu(1, **{**SOUND, "memory_mib": 40960})), []),
    "not known how much": (report("ready", gpu(0, **SOUND), gpu(1, **{**SOUND, "memory_mib": None})), []),
    "a sensor": (report("ready", gpu(0, **FAN)), ["GPU 0 (NVIDIA A100): nvidia-smi says 'ERR!' for fan_speed."]),
    "a capability": (
        report("ready", gpu(0, **{**SOUND, "compute_capability": None})),
        ["GPU 0 (NVIDIA A100): its compute capability is not known"],
    ),
    "no CUDA": ({**report("ready", gpu(0, **SOUND)), "driver_version": "590.48.01", "cuda_version": None}, ["libcuda"]),
    "all excluded": (report("none", gpu(0, **SOUND, withheld="excluded")), ["nvidia_exclude names all GPUs"]),
}


@pytest.mark.parametrize(("found", "said"), WARNINGS.values(), ids=list(WARNINGS))
def test_warnings(found: dict[str, Any], said: list[str]) -> None:
    sentences = warnings(found)
    assert len(sentences) == bool(said)
    assert all(words in sentences[0] for words in said)


NEAR = report("ready", gpu(0, cpus="0-7"), gpu(1, cpus="8-15"), gpu(2, cpus="8-15"), gpu(3))
CONTROL = ["/dev/nvidiactl", "/dev/nvidia-uvm"]
# Of three or four GPUs; what is wanted: driver, UUIDs, device nodes, CPUs.
SHARES: dict[str, tuple[dict[str, Any], str, Any, tuple[str | None, list[str], list[str], str | None]]] = {
    "all": (MIXED, "cdi", None, ("cdi", ["MIG-a", "MIG-b", "GPU-1"], [], None)),
    "none": (NEAR, "runtime", [], (None, [], [], None)),
    "by position": (NEAR, "cdi", [1, 2], ("cdi", ["GPU-1", "GPU-2"], [], "8-15")),
    "in the host's order": (NEAR, "cdi", ["1", "0"], ("cdi", ["GPU-0", "GPU-1"], [], "0-15")),
    "of one nothing is known": (NEAR, "cdi", [0, 3], ("cdi", ["GPU-0", "GPU-3"], [], None)),
    "by UUID, with its own device node": (
        NEAR,
        "runtime",
        ["GPU-0"],
        ("nvidia", ["GPU-0"], ["/dev/nvidia2", *CONTROL], "0-7"),
    ),
    "an instance": (MIXED, "cdi", [1], ("cdi", ["MIG-b"], [], None)),
    "a GPU that is divided": (MIXED, "cdi", ["GPU-0"], ("cdi", ["MIG-a", "MIG-b"], [], None)),
}


@pytest.mark.parametrize(("found", "mode", "wanted", "expected"), SHARES.values(), ids=list(SHARES))
def test_container_gpus(
    found: dict[str, Any], mode: str, wanted: Any, expected: tuple[str | None, list[str], list[str], str | None]
) -> None:
    given = offer(found, mode, "gpus", {"nodes": NODES, "minors": {"0000:00:00.0": 2, "0000:02:00.0": 0}})
    made = container_gpus(given, wanted)
    assert (made["driver"], made["uuids"], made["device_nodes"], made["cpus"]) == expected
    assert made["device_ids"] == [name for name in given["device_ids"] if name.split("=")[-1] in made["uuids"]]


@pytest.mark.parametrize("wanted", [4, "GPU-9", -1, "7"])
def test_a_gpu_that_is_not_offered_is_refused(wanted: Any) -> None:
    with pytest.raises(GpusteadError, match=f"GPU {wanted}: .*0 .GPU-0., 1 .GPU-1."):
        container_gpus(offer(NEAR, "cdi", "gpus", {"nodes": NODES}), [wanted])


CAPS = "/dev/nvidia-caps/nvidia-cap"
# GPU 1 with two GPU instances, of which the first has two compute instances; GPU 0 is whole.
DIVIDED = report("ready", gpu(0), gpu(1))
DIVIDED["gpus"][1]["mig"] = {
    "current": True,
    "instances": [
        {"uuid": "MIG-a", "gi": 1, "ci": 0},
        {"uuid": "MIG-b", "gi": 1, "ci": 1},
        {"uuid": "MIG-c", "gi": 2, "ci": 0},
    ],
}
OPENED = {
    "nodes": [*NODES, *(f"{CAPS}{minor}" for minor in (12, 13, 14, 21, 22))],
    "capabilities": {
        **{"gpu1/gi1": 12, "gpu1/gi1/ci0": 13, "gpu1/gi1/ci1": 14, "gpu1/gi2": 21, "gpu1/gi2/ci0": 22},
        **{"gpu0/gi1": 3, "gpu1/gi3": 30},
    },
}
ONE, TWO, WHOLE = "/dev/nvidia1", (f"{CAPS}21", f"{CAPS}22"), "/dev/nvidia0"


@pytest.mark.parametrize(
    ("wanted", "nodes"),
    [
        (None, [WHOLE, ONE, f"{CAPS}12", f"{CAPS}13", f"{CAPS}14", *TWO]),
        (["MIG-c"], [ONE, *TWO]),
        (["MIG-b"], [ONE, f"{CAPS}12", f"{CAPS}14"]),
        (["GPU-0"], [WHOLE]),
        (["GPU-0", "MIG-a"], [WHOLE, ONE, f"{CAPS}12", f"{CAPS}13"]),
    ],
    ids=["all", "an instance", "a part of one", "the whole GPU", "both"],
)
def test_mig_instances_keep_their_nodes_in_mode_runtime(wanted: Any, nodes: list[str]) -> None:
    """Without them a container would lose its instances at a daemon-reload."""
    given = offer(DIVIDED, "runtime", "gpus", OPENED)
    assert container_gpus(given, wanted)["device_nodes"] == [*nodes, *CONTROL]
    assert offer(DIVIDED, "cdi", "gpus", OPENED)["device_nodes"] == []


def test_nodes_of_instances_that_the_driver_does_not_tell_are_not_given() -> None:
    given = offer(DIVIDED, "runtime", "gpus", {"nodes": NODES})
    assert given["device_nodes"] == [WHOLE, ONE, *CONTROL]
