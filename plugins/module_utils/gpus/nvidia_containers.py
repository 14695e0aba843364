# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How Docker on a host gives GPUs to containers: by CDI or by NVIDIA's runtime, and what is in the way of it.

Facts: Docker reads CDI from 25 on where `features.cdi` says so, and by default from 28.2
(https://docs.docker.com/reference/cli/dockerd/#configure-cdi-devices). Before 28.2 it does not start containers with
CDI devices when it starts itself, whatever their restart policy: it restores them before it knows CDI, and they end as
Exited (255) (https://github.com/moby/moby/issues/49989). From 1.19.1 on NVIDIA's toolkit writes specifications of
version 0.7.0, which Docker reads since the change of April 2024 between 26.0 and 26.1
(https://github.com/moby/moby/pull/47706). NVIDIA's runtime and its configuration:
https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

CDI_SINCE = (25, 0)
CDI_OF_THE_TOOLKIT_SINCE = (26, 1)
CDI_BY_DEFAULT_SINCE = CDI_RESTARTS_SINCE = (28, 2)
SPEC_DIR = "/var/run/cdi"
CONFIG = "/etc/nvidia-container-runtime/config.toml"
RUNTIME = {"args": [], "path": "nvidia-container-runtime"}


@dataclass(frozen=True)
class Engine:
    """What `docker info` tells of the daemon; `version` is (major, minor)."""

    version: tuple[int, int]
    text: str
    rootless: bool
    snap: bool
    default_runtime: str
    runtimes: tuple[str, ...]
    cdi_dirs: tuple[str, ...]


def engine(info: Mapping[str, Any]) -> Engine:
    """Read `docker info --format '{{json .}}'`.

    Raises:
        GpusteadError: it names no version.
    """
    text = str(info.get("ServerVersion") or "")
    match = re.match(r"(\d{1,9})\.(\d{1,9})", text, re.ASCII)
    if not match:
        raise GpusteadError(f"docker info names the version {text!r}", "one as 28.2.1", "Run docker info on the host.")
    return Engine(
        version=(int(match[1]), int(match[2])),
        text=text,
        rootless=any("rootless" in str(option) for option in info.get("SecurityOptions") or []),
        snap=str(info.get("DockerRootDir") or "").startswith("/var/snap/"),
        default_runtime=str(info.get("DefaultRuntime") or ""),
        runtimes=tuple(sorted(info.get("Runtimes") or {})),
        cdi_dirs=tuple(info.get("CDISpecDirs") or ()),
    )


def choose_mode(docker: Engine, declared: str) -> str:
    """`cdi` or `runtime`; of `auto` CDI where Docker starts containers with it again by itself.

    Raises:
        GpusteadError: CDI is declared, and Docker has none.
    """
    if declared == "cdi" and docker.version < CDI_SINCE:
        raise GpusteadError(
            f"nvidia_container_mode is cdi, and Docker is {docker.text}",
            "Docker 25 or newer",
            "Upgrade Docker, or set nvidia_container_mode: auto.",
        )
    if declared == "auto":
        return "cdi" if docker.version >= CDI_RESTARTS_SINCE else "runtime"
    return declared


def drawbacks(docker: Engine, mode: str) -> list[str]:
    """What containers suffer from in this mode with this Docker, though they get their GPUs: each with its remedy."""
    if mode != "cdi" or docker.version >= CDI_RESTARTS_SINCE:
        return []
    found = [
        f"nvidia_container_mode is cdi, and Docker {docker.text} does not start containers with CDI devices when it "
        "starts itself: after a reboot they stay Exited (255). Set nvidia_container_mode: auto, or upgrade Docker to "
        "28.2."
    ]
    if docker.version < CDI_OF_THE_TOOLKIT_SINCE:
        found.append(
            f"Docker {docker.text} cannot read the CDI specifications that NVIDIA's toolkit writes from 1.19.1 on. Set "
            "nvidia_container_mode: auto, or upgrade Docker to 28.2."
        )
    return found


def settings(docker: Engine, mode: str) -> dict[str, Any]:
    """What daemon.json must hold for it."""
    if mode == "runtime":
        return {"runtimes": {"nvidia": RUNTIME}}
    return {"features": {"cdi": True}} if docker.version < CDI_BY_DEFAULT_SINCE else {}


def keys(docker: Engine, mode: str) -> list[str]:
    """The keys of daemon.json that these are."""
    return [f"{key}.{inner}" for key, value in settings(docker, mode).items() for inner in value]


def parse_config(text: str) -> dict[str, str]:
    """The settings of NVIDIA's config.toml as ``section.key``, values without quotation marks; comments left out.

    It holds plain ``key = value`` lines in sections; Python 3.9 has no parser of TOML.
    """
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        header = re.match(r"\s*\[\s*([\w.-]+)\s*\]", line)
        entry = re.match(r"\s*([\w-]+)\s*=\s*(\"[^\"]*\"|'[^']*'|[^#]*)", line)
        if header:
            section = header[1]
        elif entry:
            found[f"{section}.{entry[1]}" if section else entry[1]] = entry[2].strip().strip("\"'")
    return found


def obstacles(
    docker: Engine, mode: str, config: Mapping[str, str], daemon: Mapping[str, Any], snap: bool = False
) -> list[str]:
    """What keeps containers from their GPUs although toolkit and settings are there: each one with its remedy.

    Args:
        config: NVIDIA's config.toml, as `parse_config` reads it.
        daemon: daemon.json.
        snap: whether a Docker from Snap is installed.
    """
    found = other_dockers(docker, snap)
    if config.get("nvidia-container-cli.no-cgroups") == "true":
        found.append(
            f"{CONFIG} has no-cgroups = true, with which containers of root's Docker may not use their GPUs. Run "
            "nvidia-ctk config --in-place --set nvidia-container-cli.no-cgroups=false."
        )
    found += _mismatches(docker, mode, config, daemon)
    return found


def other_dockers(docker: Engine | None, snap: bool) -> list[str]:
    """A Docker that cannot give GPUs as root's own one does; `docker` is None where that one does not run.

    A rootless one beside it is its account's alone, and nothing in the way: role docker warns of it.
    """
    found = []
    if (docker and docker.snap) or snap:
        found.append(
            "Docker is the one from Snap, which cannot reach GPUs. Remove it (snap remove docker) and run role docker."
        )
    if docker and docker.rootless:
        found.append(
            "Docker runs rootless, where GPUs need settings that break those of root's Docker. As its user run "
            "dockerd-rootless-setuptool.sh uninstall, and run role docker."
        )
    return found


def _mismatches(docker: Engine, mode: str, config: Mapping[str, str], daemon: Mapping[str, Any]) -> list[str]:
    """What of the runtime's, Docker's and our own ways does not go together."""
    found = []
    repair = "Run nvidia-ctk config --in-place --set nvidia-container-runtime.mode=auto."
    runtime_mode = config.get("nvidia-container-runtime.mode", "auto")
    hook_asks = config.get("nvidia-container-runtime-hook.skip-mode-detection") != "true"
    if mode == "runtime" and runtime_mode not in ("", "auto", "legacy") and hook_asks:
        # Docker calls the hook itself for driver nvidia: "invoking the NVIDIA Container Runtime Hook directly".
        found.append(
            f"{CONFIG} has mode = {runtime_mode}, and Docker {docker.text} gives GPUs by the hook, which refuses that. "
            f"{repair}"
        )
    if mode == "cdi" and runtime_mode == "legacy" and docker.default_runtime == "nvidia":
        found.append(
            f"{CONFIG} has mode = legacy and nvidia is Docker's default runtime: its hook would give all GPUs to every "
            f"container that asks by its environment, beside those by CDI. {repair}"
        )
    features = daemon.get("features")
    off = isinstance(features, dict) and features.get("cdi") is False
    if mode == "cdi" and off and docker.version >= CDI_BY_DEFAULT_SINCE:
        found.append("daemon.json switches CDI off (features.cdi). Remove it there, and restart Docker.")
    if mode == "cdi" and docker.cdi_dirs and SPEC_DIR not in {path.rstrip("/") for path in docker.cdi_dirs}:
        found.append(
            f"Docker looks for CDI specifications in {', '.join(docker.cdi_dirs)} alone. Add {SPEC_DIR} to "
            "cdi-spec-dirs in daemon.json."
        )
    return found


def not_in_force(docker: Engine, mode: str, hook_is_new: bool) -> list[str]:
    """What Docker should do by now, and does not before it is restarted.

    It looks for the hook of its driver nvidia when it starts, and then only (moby, daemon/nvidia_linux.go).
    """
    if mode == "cdi" and not docker.cdi_dirs:
        return [f"Docker {docker.text} runs without CDI, although its settings ask for it. Restart it."]
    if mode == "runtime" and "nvidia" not in docker.runtimes:
        return [f"Docker {docker.text} does not know the runtime nvidia, although its settings do. Restart it."]
    if mode == "runtime" and hook_is_new:
        return [f"Docker {docker.text} was started before NVIDIA's hook was there. Restart it."]
    return []
