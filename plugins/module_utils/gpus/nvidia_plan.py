# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role nvidia does on a host and holds in its receipt, from what is declared and what has been found so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.cdi_spec import PATH as CDI_FILE
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import UVM

TOOLKIT = "nvidia-container-toolkit"
REFRESH_UNIT = "nvidia-cdi-refresh.path"
DAEMON_JSON = "/etc/docker/daemon.json"
KINDS = ("package", "file", "json_keys", "unit", "gpu_settings")
HOOK = ["runtimes", "nvidia"]


@dataclass(frozen=True)
class Declared:
    """The settings of the role on a host.

    Attributes:
        driver: present, absent or unmanaged.
        driver_packages: packages of the driver.
        driver_files: files that the role leaves with the driver.
        toolkit_packages: packages of NVIDIA's container toolkit.
        toolkit_files: files that the role leaves where containers get GPUs, besides the CDI specification.
        boot_unit: name of the unit that sets the GPUs up at boot.
        gpus_file: path of gpus.json.
        smi: the command nvidia-smi.
        persistence: whether persistence mode is kept on.
        check_mode: whether nothing may be changed.
    """

    driver: str
    driver_packages: Sequence[str]
    driver_files: Sequence[str]
    toolkit_packages: Sequence[str]
    toolkit_files: Sequence[str]
    boot_unit: str
    gpus_file: str
    smi: str
    persistence: bool
    check_mode: bool


@dataclass(frozen=True)
class Found:
    """What the tasks have found so far; what they have not come to is empty.

    Attributes:
        state: of the GPUs, as gpu_info has it.
        previous: what the role left before, as [kind, subject].
        containers: what nvidia_containers_info returned before anything was set up, the toolkit's packages among it.
        obstacles: what it says is in the way of containers after that; None where it was not asked again.
        nodes: device nodes of the driver that are there now.
        problems: why these or the CDI specification do not serve; what is empty counts for nothing.
        boot_commands: the commands of nvidia_settings at boot.
        withheld: UUIDs of GPUs that the role leaves alone.
        refresh_unit: LoadState of the toolkit's own unit for the CDI specification.
    """

    state: str
    previous: Sequence[Sequence[Any]] = ()
    containers: Mapping[str, Any] = field(default_factory=dict)
    obstacles: Sequence[str] | None = None
    nodes: Sequence[str] = ()
    problems: Sequence[str] = ()
    boot_commands: Sequence[Sequence[str]] = ()
    withheld: Sequence[str] = ()
    refresh_unit: str = ""


@dataclass(frozen=True)
class Plan:
    """What the tasks of the role take, and what its receipt holds.

    Attributes:
        answers: whether a GPU answers.
        has_driver: whether the driver is the role's to install.
        sets_up_containers: whether containers are to get GPUs; judged by what was in the way before.
        mode: how they get them now, `cdi` or `runtime`; None where they get none.
        obstacles: what is in the way of containers, as sentences.
        hook_is_known: whether Docker gave GPUs by NVIDIA's hook before, and the hook was there when this run began.
        refreshes_cdi: whether the toolkit's own unit keeps the CDI specification up to date.
        former_keys: keys of daemon.json (``runtimes.nvidia``) that the role set last time and does not any more.
        former_files: what it left last time, without gpus.json.
        receipt: subjects by kind.
    """

    answers: bool
    has_driver: bool
    sets_up_containers: bool
    mode: str | None
    obstacles: list[str]
    hook_is_known: bool
    refreshes_cdi: bool
    former_keys: list[str]
    former_files: list[str]
    receipt: dict[str, list[Any]]


def plan(declared: Declared, found: Found) -> Plan:
    """What is to be done follows from what was seen."""
    before = {kind: [subject for of, subject in found.previous if of == kind] for kind in KINDS}
    answers = found.state in ("ready", "degraded")
    has_driver = declared.driver == "present" and found.state != "none"
    # In a check of a fresh host Docker is yet to come.
    awaits_docker = declared.check_mode and not found.containers.get("docker_version")
    at_first = list(found.containers.get("obstacles") or ())
    obstacles = [] if awaits_docker else list(at_first if found.obstacles is None else found.obstacles)
    if not awaits_docker:
        obstacles += filter(None, found.problems)
    used = answers and bool(found.containers) and not awaits_docker and not at_first
    mode = found.containers["mode"] if used and not obstacles else None
    former = [key for subject in before["json_keys"] for key in subject["keys"]]
    keys = found.containers.get("dotted_keys") or () if used else ()
    toolkit = found.containers.get("installed") or ()
    refreshes = found.containers.get("mode") == "cdi" and found.refresh_unit == "loaded"
    if found.state == "none":
        receipt: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    elif used:
        receipt = _leaves(declared, found, mode, refreshes)
    else:
        receipt = _stays(declared, before)
    if has_driver:
        receipt["package"] += declared.driver_packages
        # keep: with nvidia_driver: unmanaged the driver stays as it is, and with it what holds it.
        receipt["file"] += [{"name": path, "keep": True} for path in declared.driver_files]
    return Plan(
        answers=answers,
        has_driver=has_driver,
        sets_up_containers=used,
        mode=mode,
        obstacles=obstacles,
        hook_is_known=HOOK in former and any(line.startswith(f"{TOOLKIT}=") for line in toolkit),
        refreshes_cdi=refreshes,
        former_keys=_without(map(".".join, former), keys),
        former_files=_without((subject["name"] for subject in before["file"]), [declared.gpus_file, UVM]),
        receipt=receipt,
    )


def _leaves(declared: Declared, found: Found, mode: str | None, refreshes: bool) -> dict[str, list[Any]]:
    """What the role leaves where containers get GPUs. keep: its own tasks take these back."""
    keys = [key.split(".") for key in found.containers["dotted_keys"]]
    daemon = {"name": f"{DAEMON_JSON} (GPUs)", "path": DAEMON_JSON, "keep": True, "keys": keys}
    limited = [command[1] for command in found.boot_commands if command[0] == "-i" and "-pl" in command]
    files: list[Any] = [*declared.toolkit_files]
    files += [{"name": CDI_FILE, "content": False}] if mode == "cdi" else []
    # Whether it is there still, and may be used.
    files += [{"name": UVM, "content": False, "keep": True}] if mode and UVM in found.nodes else []
    settings = {"name": declared.smi, "keep": True, "persistence": declared.persistence, "limits": limited}
    if found.withheld:
        settings["withheld"] = [*found.withheld]
    return {
        "package": [*declared.toolkit_packages],
        "file": files,
        "json_keys": [daemon] if keys else [],
        "unit": [{"name": declared.boot_unit, "running": False}, *([REFRESH_UNIT] if refreshes else [])],
        "gpu_settings": [settings] if declared.persistence or limited else [],
    }


def _stays(declared: Declared, before: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """A GPU that is out of order may come back: until then all stays. The driver is a matter of its own."""
    files = (*declared.toolkit_files, CDI_FILE)
    return {
        "package": [subject for subject in before["package"] if subject["name"] in declared.toolkit_packages],
        "file": [subject for subject in before["file"] if subject["name"] in files],
        "json_keys": before["json_keys"],
        "unit": before["unit"],
        "gpu_settings": [],
    }


def _without(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Each of `names` once, without `others`."""
    left_out = set(others)
    return [name for name in dict.fromkeys(names) if name not in left_out]
