#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/docker: what is there before Docker is set up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_setup_info
short_description: Tell whether Docker can be set up on a host, and which packages it lacks
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Fails where Docker cannot be set up. That is where the distribution's own is too old, the engine of the other source
    is installed, or a package that Docker's would push out or stumble over (C(containerd), C(runc), C(podman-docker),
    another compose), the Docker from Snap is there, or C(daemon.json) cannot take the settings. The file is read and
    judged as M(gpustead.cluster.docker_daemon_config) does, before Docker's package, which fails on one that is broken.
    Of settings in it with which a part of a cluster does not work it warns.
  - Asks the sockets in C(/run/user) as the accounts that they belong to. One where a rootless daemon answers is warned
    of, with whose it is. A file, or a socket that says nothing or something else, is nobody's Docker.
  - Changes nothing.
extends_documentation_fragment: [gpustead.cluster.attributes.info]
options:
  source:
    description: Where Docker comes from, its own repository or the distribution.
    type: str
    choices: [docker, distribution]
    required: true
  release:
    description: Codename of the distribution's release.
    type: str
    required: true
  packages:
    description: The packages that Docker needs.
    type: list
    elements: str
    default: []
  settings:
    description: As of M(gpustead.cluster.docker_daemon_config).
    type: dict
    default: {}
  secret:
    description: The same, and is shown nowhere.
    type: dict
    default: {}
  absent:
    description: As of M(gpustead.cluster.docker_daemon_config).
    type: list
    elements: str
    default: []
seealso:
  - module: gpustead.cluster.docker_daemon_config
  - module: gpustead.cluster.docker_service
"""

EXAMPLES = r"""
- name: See whether Docker can be set up
  gpustead.cluster.docker_setup_info:
    source: distribution
    release: trixie
    packages: [docker.io, docker-cli]
  register: setup

- name: Install the packages that are missing
  ansible.builtin.apt:
    name: "{{ setup.missing }}"
  when: setup.missing | length > 0

- name: See whether Docker would take these settings, before anything is installed
  gpustead.cluster.docker_setup_info:
    source: docker
    release: bookworm
    packages: [docker-ce, docker-ce-cli]
    settings: {data-root: /data/docker}
"""

RETURN = r"""
has_engine:
  description: Whether an engine is installed.
  type: bool
  returned: success
missing:
  description: Those of the packages that are not installed, or only because others need them.
  type: list
  elements: str
  returned: success
  sample: [docker.io]
rootless:
  description: The rootless daemons that answered.
  type: list
  elements: dict
  returned: success
  contains:
    uid:
      description: Id of the account.
      type: int
    account:
      description: Its name.
      type: str
      sample: ada
    socket:
      description: Where the daemon answers.
      type: str
      sample: /run/user/1500/docker.sock
    version:
      description: Its version, as it says.
      type: str
      sample: 28.2.2
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import (
    daemon_json_check,
    docker_setup,
    other_dockers,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_daemon_config import merge
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.dpkg import installed, lacking
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {
    "source": {"type": "str", "choices": list(docker_setup.ENGINES), "required": True},
    "release": {"type": "str", "required": True},
    "packages": {"type": "list", "elements": "str", "default": []},
    "settings": {"type": "dict", "default": {}},
    "secret": {"type": "dict", "default": {}, "no_log": True},
    "absent": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given, run = module.params, within(60, environment={"LC_ALL": "C"})
    try:
        there = installed(run, {*docker_setup.asked(given["source"]), *given["packages"]})
        missing = lacking(run, given["packages"], there) if given["packages"] else []
        others = other_dockers.observe()
        docker_setup.check(given["source"], given["release"], there, others.snap)
        settings = merge(given["settings"], given["secret"])
        program, absent = module.get_bin_path("dockerd"), given["absent"]
        unfit = daemon_json_check.check(run, settings, absent, program, module.tmpdir)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "what is there of Docker")))
    for setting in unfit:
        module.warn(f"daemon.json has {setting}: {setting.why}.")
    for each in others.rootless:
        module.warn(f"{each}. It is that account's alone and gives no GPUs; root's Docker goes on beside it.")
    module.exit_json(
        changed=False,
        has_engine=not there.keys().isdisjoint(docker_setup.ENGINES.values()),
        missing=missing,
        rootless=[asdict(each) for each in others.rootless],
    )


if __name__ == "__main__":
    main()
