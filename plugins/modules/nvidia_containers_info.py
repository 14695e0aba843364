#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell how Docker gives NVIDIA GPUs to containers, and what is in the way."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_containers_info
short_description: Tell how Docker gives NVIDIA GPUs to containers, and what is in the way
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Asks the running daemon and reads C(daemon.json) and the configuration of NVIDIA's container toolkit.
  - A Docker from Snap, a daemon that runs rootless, C(no-cgroups), a mode of NVIDIA's runtime that does not go with
    Docker's way, a switched-off CDI and specification directories elsewhere are obstacles, each with its remedy.
  - Fails where nothing else is in the way, and C(daemon.json) could not take what it must hold for GPUs, judged as by
    M(gpustead.cluster.docker_daemon_config).
options:
  mode:
    description:
      - V(cdi), V(runtime) (NVIDIA's runtime and its hook), or V(auto), CDI where Docker starts containers with it again
        by itself (28.2 and newer).
      - V(cdi) with an older Docker gets a warning.
    type: str
    choices: [auto, cdi, runtime]
    default: auto
  configured:
    description: Whether the settings must be in force by now. An obstacle where they are not.
    type: bool
    default: false
  hook_known:
    description: Whether Docker has given GPUs by NVIDIA's hook before, so that a newer hook needs no restart.
    type: bool
    default: false
  former_keys:
    description: Keys of C(daemon.json), as V(runtimes.nvidia), that were set for GPUs before.
    type: list
    elements: str
    default: []
  packages:
    description: Packages of which to tell whether they are installed.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.docker_daemon_config
"""

EXAMPLES = r"""
- name: Ask how containers get GPUs here
  gpustead.cluster.nvidia_containers_info:
  register: containers

- name: Show what is in the way
  ansible.builtin.debug:
    var: containers.obstacles

- name: See what CDI would need in Docker's settings
  gpustead.cluster.nvidia_containers_info:
    mode: cdi
  register: cdi
"""

RETURN = r"""
docker_version:
  description: Version of the daemon; empty where none runs.
  returned: success
  type: str
  sample: 28.2.2
mode:
  description: V(cdi) or V(runtime); null where no Docker runs.
  returned: success
  type: str
settings:
  description: What C(daemon.json) must hold for it.
  returned: success
  type: dict
  sample: {features: {cdi: true}}
dotted_keys:
  description: The keys that these are, with the keys above them.
  returned: success
  type: list
  elements: str
  sample: [features.cdi]
obstacles:
  description: What keeps containers from GPUs, as sentences with the remedy.
  returned: success
  type: list
  elements: str
not_in_force:
  description: Those of them that a restart of Docker removes; empty unless O(configured).
  returned: success
  type: list
  elements: str
drawbacks:
  description: What containers suffer from in this mode though they get their GPUs, as sentences with the remedy.
  returned: success
  type: list
  elements: str
installed:
  description: Those of O(packages) that are installed, with their versions.
  returned: success
  type: list
  elements: str
  sample: [nvidia-container-toolkit=1.20.1-1]
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import (
    daemon_json_check,
    daemon_json_editor,
    dockerd,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_daemon_config import DAEMON_JSON
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.other_dockers import SNAP
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_containers as containers
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.dpkg import installed
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {
    "mode": {"type": "str", "choices": ["auto", "cdi", "runtime"], "default": "auto"},
    "configured": {"type": "bool", "default": False},
    "hook_known": {"type": "bool", "default": False},
    "former_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "packages": {"type": "list", "elements": "str", "default": []},
}


def read(path: str) -> str:
    file = Path(path)
    return file.read_text(errors="replace") if file.exists() else ""


def docker_started(run: Any) -> float:
    """When the daemon was started, in seconds since the epoch."""
    out = run(["systemctl", "show", "docker.service", "--property", "ExecMainStartTimestampMonotonic", "--value"])[1]
    return time.time() - time.monotonic() + int(out.strip() or 0) / 1e6


def observe(run: Any, params: dict[str, Any], hook: str | None) -> dict[str, Any]:
    snap = Path(SNAP).exists()
    info = dockerd.observe_info(run)
    if not info:
        silent = ["Docker does not answer on this host. Run role docker first, or see journalctl -u docker."]
        obstacles = containers.other_dockers(None, snap) or silent
        nothing: dict[str, Any] = {
            "docker_version": "",
            "mode": None,
            "settings": {},
            "dotted_keys": [],
            "not_in_force": [],
            "drawbacks": [],
        }
        return {**nothing, "obstacles": obstacles}
    docker = containers.engine(info)
    mode = containers.choose_mode(docker, params["mode"])
    daemon = daemon_json_editor.parse(read(DAEMON_JSON), DAEMON_JSON).value
    config = containers.parse_config(read(containers.CONFIG))
    obstacles = containers.obstacles(docker, mode, config, daemon, snap)
    hook_is_new = bool(hook) and not params["hook_known"] and Path(hook or "").stat().st_ctime > docker_started(run)
    not_in_force = containers.not_in_force(docker, mode, hook_is_new) if params["configured"] else []
    return {
        "docker_version": docker.text,
        "mode": mode,
        "settings": containers.settings(docker, mode),
        "dotted_keys": containers.keys(docker, mode),
        "obstacles": obstacles + not_in_force,
        "not_in_force": not_in_force,
        "drawbacks": containers.drawbacks(docker, mode),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params, run = module.params, within(60, environment={"LC_ALL": "C"})
    try:
        packages = installed(run, params["packages"]) if params["packages"] else {}
        found = observe(run, params, module.get_bin_path("nvidia-container-runtime-hook"))
        if not (found["obstacles"] or params["configured"]):
            absent = [key for key in params["former_keys"] if key not in found["dotted_keys"]]
            daemon_json_check.check(run, found["settings"], absent, module.get_bin_path("dockerd"), module.tmpdir)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "what Docker says of GPUs")))
    # Once: what is configured by now was warned of before.
    for drawback in () if params["configured"] else found["drawbacks"]:
        module.warn(drawback)
    module.exit_json(changed=False, installed=[f"{name}={version}" for name, version in packages.items()], **found)


if __name__ == "__main__":
    main()
