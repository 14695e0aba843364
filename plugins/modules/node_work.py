#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nodes/node_work: its end."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_work
short_description: End what runs on a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Ends the runs of C(mesh-run) that have a part on the node, on all their nodes, and the processes that use a GPU.
    These are asked to end, and made to after 10 seconds. An account that does not end its runs loses all that it has
    in the mesh's container of the node.
options:
  timeout:
    description: Seconds that each command has.
    type: int
    default: 300
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.node_work_info
"""

EXAMPLES = r"""
- name: End what runs
  gpustead.cluster.node_work:
  register: work

- name: Say what does not end
  ansible.builtin.assert:
    that: work.left | length == 0
    fail_msg: "{{ work.left }}"

- name: Show what would be ended
  gpustead.cluster.node_work:
  check_mode: true
"""

RETURN = r"""
ended:
  description: What there was, each in a line.
  type: list
  elements: str
  returned: success
left:
  description: What is there still.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import users
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.node_work import end, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within


def main() -> None:
    module = AnsibleModule(argument_spec={"timeout": {"type": "int", "default": 300}}, supports_check_mode=True)
    run = within(module.params["timeout"])
    try:
        found = observe(run, users) if module.check_mode else end(run, users)
        left = [] if module.check_mode else observe(run, users).lines()
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "what runs")))
    module.exit_json(changed=bool(found.lines()), ended=found.lines(), left=left)


if __name__ == "__main__":
    main()
