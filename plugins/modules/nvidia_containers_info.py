#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell how Docker gives NVIDIA GPUs to containers, and what is in the way."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nvidia_containers_info
short_description: Tell how Docker gives NVIDIA GPUs to containers, and what is in the way
version_added: "0.1.0"
author: gpustead developers
description:
  - Asks the running daemon and reads C(daemon.json) and the configuration of NVIDIA's container toolkit.
  - A Docker from Snap or a rootless one, C(no-cgroups), a mode of NVIDIA's runtime that does not go with Docker's way,
    a switched-off CDI and specification directories elsewhere are obstacles, each with its remedy.
options:
  mode:
    description: V(cdi), V(runtime) (NVIDIA's runtime and its hook), or V(auto), CDI where Docker has it (25 and newer).
    type: str
    choices: [auto, cdi, runtime]
    default: auto
  configured:
    description: Whether the settings must be in force by now. An obstacle where they are not.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Ask how containers get GPUs here
  gpustead.cluster.nvidia_containers_info:
  register: containers

- name: Show what is in the way
  ansible.builtin.debug:
    var: containers.obstacles
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
keys:
  description: The keys that these are.
  returned: success
  type: list
  elements: str
  sample: [features.cdi]
obstacles:
  description: What keeps containers from GPUs, as sentences with the remedy.
  returned: success
  type: list
  elements: str
"""

import glob
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils import daemon_json
from ansible_collections.gpustead.cluster.plugins.module_utils import nvidia_containers as containers
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

DAEMON_JSON = "/etc/docker/daemon.json"
ARGUMENTS = {
    "mode": {"type": "str", "choices": ["auto", "cdi", "runtime"], "default": "auto"},
    "configured": {"type": "bool", "default": False},
}


def read(path: str) -> str:
    file = Path(path)
    return file.read_text(errors="replace") if file.exists() else ""


def observe(run: Any, wanted: str, configured: bool) -> dict[str, Any]:
    others = [*glob.glob("/snap/bin/docker"), *glob.glob("/run/user/*/docker.sock")]
    info = daemon_json.docker_info(run)
    if not info:
        obstacles = ["Docker does not answer on this host. Run role docker first, or see journalctl -u docker."]
        return {"docker_version": "", "mode": None, "settings": {}, "keys": [], "obstacles": obstacles}
    docker = containers.engine(info)
    mode = containers.choose_mode(docker, wanted)
    daemon = daemon_json.parse(read(DAEMON_JSON), DAEMON_JSON).value
    config = containers.parse_config(read(containers.CONFIG))
    obstacles = containers.obstacles(docker, mode, config, daemon, others)
    return {
        "docker_version": docker.text,
        "mode": mode,
        "settings": containers.settings(docker, mode),
        "keys": containers.keys(docker, mode),
        "obstacles": obstacles + (containers.not_in_force(docker, mode) if configured else []),
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def run(argv: Any) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(argv), environ_update={"LC_ALL": "C"})
        return code, out, err

    try:
        found = observe(run, module.params["mode"], module.params["configured"])
    except (GpusteadError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
