"""What role nvidia does on a host and holds in its receipt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_plan import (
    KINDS,
    Declared,
    Found,
    Plan,
    plan,
)
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

TOOLKIT = [
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
]
FILES = [
    "/etc/apt/keyrings/nvidia-container-toolkit.asc",
    "/etc/apt/sources.list.d/nvidia-container-toolkit.sources",
    "/etc/apt/preferences.d/gpustead-nvidia-toolkit.pref",
    "/etc/systemd/system/gpustead-gpus.service",
]
DRIVER_FILES = ["/etc/apt/apt.conf.d/90gpustead-nvidia-driver", "/etc/modprobe.d/gpustead-nouveau.conf"]
SPEC = "/var/run/cdi/nvidia.yaml"
UNIT: dict[str, Any] = {"name": "gpustead-gpus.service", "running": False}
DECLARED = Declared(
    driver="unmanaged",
    driver_packages=[],
    driver_files=DRIVER_FILES,
    toolkit_packages=TOOLKIT,
    toolkit_files=FILES,
    boot_unit=UNIT["name"],
    gpus_file="/etc/gpustead/gpus.json",
    smi="nvidia-smi",
    persistence=True,
    check_mode=False,
)


def daemon(*keys: list[str]) -> dict[str, Any]:
    path = "/etc/docker/daemon.json"
    return {"name": f"{path} (GPUs)", "path": path, "keep": True, "keys": [*keys]}


def settings(*limits: str, smi: str = "nvidia-smi") -> dict[str, Any]:
    return {"name": smi, "keep": True, "persistence": True, "limits": [*limits]}


PREVIOUS: list[list[Any]] = [
    *(["package", {"name": name, "version": "1"}] for name in (*TOOLKIT, "libcuda1")),
    *(["file", {"name": name}] for name in ("/etc/gpustead/gpus.json", *FILES, SPEC, DRIVER_FILES[0])),
    ["json_keys", daemon(["features", "cdi"], ["runtimes", "nvidia"])],
    ["unit", UNIT],
    ["unit", {"name": "nvidia-cdi-refresh.path"}],
    ["gpu_settings", settings()],
]
STAYS: dict[str, list[Any]] = {
    "package": [{"name": name, "version": "1"} for name in TOOLKIT],
    "file": [{"name": name} for name in (*FILES, SPEC)],
    "json_keys": [daemon(["features", "cdi"], ["runtimes", "nvidia"])],
    "unit": [UNIT, {"name": "nvidia-cdi-refresh.path"}],
    "gpu_settings": [],
}
NOTHING: dict[str, list[Any]] = {kind: [] for kind in KINDS}
INSTALLED = ["libnvidia-container1=1.20.1-1", "nvidia-container-toolkit=1.20.1-1"]
CDI = {
    **{"docker_version": "28.1", "mode": "cdi", "obstacles": [], "dotted_keys": ["features.cdi"]},
    "installed": INSTALLED,
}
HOOK = {"docker_version": "24.0", "mode": "runtime", "obstacles": [], "dotted_keys": ["runtimes.nvidia", "exec-opts"]}
NO_DOCKER = {"docker_version": "", "mode": "cdi", "obstacles": ["Docker is not there."], "dotted_keys": []}
BOOT = [["-pm", "1"], ["-i", "GPU-1", "-pl", "500"], ["-i", "GPU-2", "-pl", "300"]]
BY_CDI: dict[str, list[Any]] = {
    "package": TOOLKIT,
    "file": [*FILES, {"name": SPEC, "content": False}],
    "json_keys": [daemon(["features", "cdi"])],
    "unit": [UNIT],
    "gpu_settings": [settings()],
}
NODES = ["/dev/nvidia-uvm", "/dev/nvidia0", "/dev/nvidiactl"]
UVM = {"name": NODES[0], "content": False, "keep": True}
READY = Found("ready", containers=CDI, obstacles=[], boot_commands=BOOT, refresh_unit="loaded")
KEYS_BEFORE = ["features.cdi", "runtimes.nvidia"]
FILES_BEFORE = [*FILES, SPEC, DRIVER_FILES[0]]

# As the role's variables gave them when they were written in Jinja.
CASES: dict[str, tuple[Declared, Found, Plan]] = {
    "no GPU": (
        replace(DECLARED, driver="present"),
        Found("none", PREVIOUS),
        Plan(False, False, False, None, [], False, False, KEYS_BEFORE, FILES_BEFORE, NOTHING),
    ),
    "CDI on a fresh host": (
        DECLARED,
        READY,
        Plan(
            *(True, False, True, "cdi", [], False, True, [], []),
            {**BY_CDI, "unit": [UNIT, "nvidia-cdi-refresh.path"], "gpu_settings": [settings("GPU-1", "GPU-2")]},
        ),
    ),
    "CDI after the hook, nothing set at boot": (
        replace(DECLARED, persistence=False),
        replace(READY, previous=PREVIOUS, boot_commands=[], refresh_unit="not-found"),
        Plan(
            *(True, False, True, "cdi", [], True, False, ["runtimes.nvidia"], FILES_BEFORE),
            {**BY_CDI, "gpu_settings": []},
        ),
    ),
    "UVM is held in the receipt, and never removed": (
        DECLARED,
        replace(READY, previous=[["file", UVM]], nodes=NODES),
        Plan(
            *(True, False, True, "cdi", [], False, True, [], []),
            {
                **BY_CDI,
                "file": [*BY_CDI["file"], UVM],
                "unit": [UNIT, "nvidia-cdi-refresh.path"],
                "gpu_settings": [settings("GPU-1", "GPU-2")],
            },
        ),
    ),
    "UVM cannot be made": (
        DECLARED,
        replace(READY, nodes=NODES[1:], problems=["There is no UVM.", ""]),
        Plan(
            *(True, False, True, None, ["There is no UVM."], False, True, [], []),
            {
                **BY_CDI,
                "file": FILES,
                "unit": [UNIT, "nvidia-cdi-refresh.path"],
                "gpu_settings": [settings("GPU-1", "GPU-2")],
            },
        ),
    ),
    "a specification that does not serve": (
        DECLARED,
        Found("ready", PREVIOUS, CDI, obstacles=["Docker says no."], problems=["", "It names no GPU."]),
        Plan(
            *(True, False, True, None, ["Docker says no.", "It names no GPU."], True, False),
            *(["runtimes.nvidia"], FILES_BEFORE, {**BY_CDI, "file": FILES}),
        ),
    ),
    "the hook, MIG and a driver of ours on a host with a GPU that is ill": (
        replace(DECLARED, driver="present", driver_packages=["nvidia-open-kernel-dkms"], smi="/opt/smi"),
        Found("degraded", (), HOOK, [], boot_commands=BOOT),
        Plan(
            *(True, True, True, "runtime", [], False, False, [], []),
            {
                "package": [*TOOLKIT, "nvidia-open-kernel-dkms"],
                "file": [*FILES, *({"name": path, "keep": True} for path in DRIVER_FILES)],
                "json_keys": [daemon(["runtimes", "nvidia"], ["exec-opts"])],
                "unit": [UNIT],
                "gpu_settings": [settings("GPU-1", "GPU-2", smi="/opt/smi")],
            },
        ),
    ),
    "a GPU that is left out": (
        DECLARED,
        replace(READY, boot_commands=[["-i", "GPU-1", "-pm", "1"], BOOT[1]], withheld=["GPU-2"]),
        Plan(
            *(True, False, True, "cdi", [], False, True, [], []),
            {
                **BY_CDI,
                "unit": [UNIT, "nvidia-cdi-refresh.path"],
                "gpu_settings": [{**settings("GPU-1"), "withheld": ["GPU-2"]}],
            },
        ),
    ),
    "CDI as Docker has it by default": (
        DECLARED,
        Found("ready", (), {**CDI, "dotted_keys": []}, [], boot_commands=BOOT[:1]),
        Plan(True, False, True, "cdi", [], False, False, [], [], {**BY_CDI, "json_keys": []}),
    ),
    "something in the way": (
        DECLARED,
        Found("ready", PREVIOUS, {**CDI, "obstacles": ["Docker is rootless."]}),
        Plan(
            *(True, False, False, None, ["Docker is rootless."], True, False, KEYS_BEFORE, FILES_BEFORE),
            STAYS,
        ),
    ),
    "no GPU answers": (
        replace(DECLARED, driver="absent"),
        Found("unusable", PREVIOUS),
        Plan(False, False, False, None, [], False, False, KEYS_BEFORE, FILES_BEFORE, STAYS),
    ),
    "nobody has looked at Docker yet": (
        DECLARED,
        Found("ready"),
        Plan(True, False, False, None, [], False, False, [], [], NOTHING),
    ),
    "a check of a host without Docker": (
        replace(DECLARED, check_mode=True),
        Found("ready", (), NO_DOCKER, problems=["", "It names no GPU."]),
        Plan(True, False, False, None, [], False, False, [], [], NOTHING),
    ),
    "a check of a host with Docker": (
        replace(DECLARED, check_mode=True),
        Found("ready", PREVIOUS, CDI, boot_commands=BOOT[:1]),
        Plan(True, False, True, "cdi", [], True, False, ["runtimes.nvidia"], FILES_BEFORE, BY_CDI),
    ),
}


@pytest.mark.parametrize(("declared", "found", "expected"), CASES.values(), ids=list(CASES))
def test_plan(declared: Declared, found: Found, expected: Plan) -> None:
    assert plan(declared, found) == expected


def test_the_role_hands_over_what_its_tasks_have_found(tmp_path: Path) -> None:
    """With a second look at Docker, after its restart, and a receipt of an earlier run."""
    registered = {
        "__nvidia_gpus": {"state": "ready"},
        "__nvidia_receipt": {"previous": PREVIOUS},
        "__nvidia_containers": CDI,
        "__nvidia_after": {"obstacles": ["Docker has to be restarted."]},
        "__nvidia_again": {"obstacles": []},
        "__nvidia_cdi": {"skipped": True},
        "__nvidia_devices": {"nodes": NODES, "problem": ""},
        "__nvidia_settings": {"at_boot": BOOT},
        "__nvidia_refresh": {"stdout": "loaded"},
    }
    found = render(tmp_path, "nvidia", ["__nvidia_plan"], {"gpu_nodes": ["a"]}, registered)
    assert found["__nvidia_plan"] == vars(plan(DECLARED, replace(READY, previous=PREVIOUS, nodes=NODES)))


def test_the_role_knows_what_its_tasks_have_not_come_to(tmp_path: Path) -> None:
    """What is in the way and what is left of a GPU that is out of order is a plan, too."""
    registered = {
        "__nvidia_gpus": {"state": "unusable"},
        "__nvidia_receipt": {"previous": PREVIOUS},
        "__nvidia_source": {"dest": "/etc/apt/sources.list.d/gpustead-non-free.sources"},
        "nvidia_driver": "present",
        "nvidia_driver_version": "550.*",
        "ansible_facts": {"distribution": "Ubuntu", "kernel": "6.8"},
    }
    found = render(tmp_path, "nvidia", ["__nvidia_plan"], {"gpu_nodes": ["a"]}, registered)["__nvidia_plan"]
    assert found["receipt"] == {
        **STAYS,
        "package": [*STAYS["package"], "nvidia-headless-580-server-open", "nvidia-utils-580-server"],
        "file": [
            *STAYS["file"],
            *({"name": path, "keep": True} for path in DRIVER_FILES),
            {"name": "/etc/apt/preferences.d/gpustead-nvidia-driver.pref", "keep": True},
            {"name": "/etc/apt/sources.list.d/gpustead-non-free.sources", "keep": True},
        ],
    }


GPU = {"index": 0, "uuid": "GPU-1", "name": "NVIDIA A100", "mig": {"current": None}, "compute_capability": "8.0"}
FAN = {**GPU, "health": "ok", "withheld": None, "problems": ["nvidia-smi says 'ERR!' for fan_speed."]}
ILL = {**GPU, "health": "bad", "withheld": None, "problems": ["Memory rows wait for a reset to be remapped."]}
OTHER = {**ILL, "index": 1, "uuid": "GPU-2", "withheld": "excluded"}
SAID = "GPU 0 (NVIDIA A100): nvidia-smi says 'ERR!' for fan_speed."


@pytest.mark.parametrize(
    ("gpus", "required", "warned"),
    [
        ([FAN, OTHER], True, [SAID]),
        ([FAN, {**ILL, "index": 1, "uuid": "GPU-3"}], True, [SAID]),
        ([FAN, {**ILL, "index": 1, "uuid": "GPU-3"}], False, ["a has GPUs that containers cannot use:", SAID]),
        ([{**FAN, "problems": []}, OTHER], True, []),
    ],
)
def test_what_the_role_says_at_its_end(
    tmp_path: Path, gpus: list[dict[str, Any]], required: bool, warned: list[str]
) -> None:
    ill = any(gpu["health"] == "bad" and not gpu["withheld"] for gpu in gpus)
    report = {"reason": "unhealthy" if ill else None, "remedy": "Reset it.", "detail": "", "gpus": gpus}
    registered = {
        "__nvidia_gpus": {"state": "degraded" if ill else "ready", **report},
        "__nvidia_receipt": {"previous": []},
        "nvidia_required": required,
    }
    names = ["__nvidia_warnings", "__nvidia_complaints", "__nvidia_plan", "__nvidia_fails"]
    found = render(tmp_path, "nvidia", names, {"gpu_nodes": ["a"]}, registered)
    assert [text.partition("\n")[0] for text in found["__nvidia_warnings"]] == warned
    assert (len(found["__nvidia_complaints"]), found["__nvidia_fails"]) == (int(ill), required)
