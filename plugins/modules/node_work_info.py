#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nodes/node_work: what runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_work_info
short_description: What runs on a node that somebody would miss
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Looks which runs of C(mesh-run) have a part on the node, of all accounts, and which processes use a GPU. Services of
    the host are not among them.
  - What computes on CPUs in a workspace, or was started by hand in the mesh without a GPU, is not seen.
options:
  timeout:
    description: Seconds that each command has.
    type: int
    default: 120
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - module: gpustead.cluster.node_work
  - module: gpustead.cluster.gpu_users_info
"""

EXAMPLES = r"""
- name: Look what runs
  gpustead.cluster.node_work_info:
  register: work

- name: Wait an hour until nothing does
  gpustead.cluster.node_work_info:
  register: work
  until: work.lines | length == 0
  retries: 60
  delay: 60

- name: Say what runs
  ansible.builtin.debug:
    var: work.lines
"""

RETURN = r"""
lines:
  description: Each in a line. An account whose runs could not be asked for is one as well.
  type: list
  elements: str
  returned: success
  sample: ["run 20261130-101500-a1b2 of ada on gpu01 (2), gpu02 (2): train.py", "process 4711 bob python uses a GPU"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import users
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.node_work import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within


def main() -> None:
    module = AnsibleModule(argument_spec={"timeout": {"type": "int", "default": 120}}, supports_check_mode=True)
    try:
        found = observe(within(module.params["timeout"]), users)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "what runs")))
    module.exit_json(changed=False, lines=found.lines())


if __name__ == "__main__":
    main()
