#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/docker/docker_service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_service
short_description: Start, restart or reload Docker so that it runs afterwards
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Starts, restarts or reloads C(docker.service). systemd's limit for starts is cleared before, since after some failed
    ones it refuses all others, whatever has been mended.
  - Where Docker does not start, nor at a second attempt, or does not take over its C(daemon.json) on a reload, the one
    with which it last started is put back (M(gpustead.cluster.docker_daemon_config) keeps it), and Docker is started
    with that. The module fails all the same, with Docker's own words. The refused file is kept beside the other as
    C(daemon.json.<time>.bak).
  - Where C(daemon.json) is not to blame (a drop-in, a mount that the unit requires), it is left as it is.
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
options:
  state:
    description: What is to be done. V(started) does nothing where Docker runs, V(reloaded) starts it where it does not.
    type: str
    choices: [started, restarted, reloaded]
    required: true
  enabled:
    description: Whether to have it started at boot. Without it that stays as it is.
    type: bool
    default: false
  daemon_reload:
    description: Have systemd read its units before.
    type: bool
    default: false
seealso:
  - module: gpustead.cluster.docker_daemon_config
"""

EXAMPLES = r"""
- name: Start Docker, now and at boot
  gpustead.cluster.docker_service:
    state: started
    enabled: true

- name: Restart Docker
  gpustead.cluster.docker_service:
    state: restarted
    daemon_reload: true

- name: Have Docker read its daemon.json
  gpustead.cluster.docker_service:
    state: reloaded
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import docker_service
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.run import must, within

REMEDY = "See systemctl status docker."
ARGUMENTS = {
    "state": {"type": "str", "choices": list(docker_service.VERBS), "required": True},
    "enabled": {"type": "bool", "default": False},
    "daemon_reload": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run = within(docker_service.SECONDS, environment={"LC_ALL": "C"})
    state, unit = module.params["state"], docker_service.observe(run)
    to_bring = state != "started" or not unit.active
    to_enable = module.params["enabled"] and not unit.enabled
    try:
        if module.params["daemon_reload"] and not module.check_mode:
            must(run, ["systemctl", "daemon-reload"], remedy=REMEDY)
        if to_enable and not module.check_mode:
            must(run, ["systemctl", "enable", "--quiet", docker_service.UNIT], remedy=REMEDY)
        said = docker_service.bring(run, state) if to_bring and not module.check_mode else ""
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, docker_service.UNIT)))
    if said:
        module.warn(f"Docker started at the second attempt alone. At the first it said: {said}")
    module.exit_json(changed=to_bring or to_enable)


if __name__ == "__main__":
    main()
