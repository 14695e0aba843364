#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/nodes/node_wipe."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_wipe
short_description: Take from a node what a cluster trusts it by
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Takes down the containers of the cluster's compose projects, logs Docker out of the cluster's registry, and removes
    the keys of the mesh and the receipts. Nobody's files are touched; Docker, drivers, accounts and mounts stay.
options:
  config_dir:
    description: Where the cluster's settings lie.
    type: path
    default: /etc/gpustead
  state_dir:
    description: Where receipts are.
    type: path
    default: /var/lib/gpustead
  timeout:
    description: Seconds that each command has.
    type: int
    default: 300
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.node_removal
"""

EXAMPLES = r"""
- name: Take from the node what the cluster trusts it by
  gpustead.cluster.node_wipe:

- name: Show what would go
  gpustead.cluster.node_wipe:
    config_dir: /etc/gpustead
  check_mode: true
  register: would

- name: Show it
  ansible.builtin.debug:
    var: would.gone
"""

RETURN = r"""
gone:
  description: What there was, each in a line.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.nodes.node_wipe import observe_trust, wipe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown_in

ARGUMENTS = {
    "config_dir": {"type": "path", "default": "/etc/gpustead"},
    "state_dir": {"type": "path", "default": "/var/lib/gpustead"},
    "timeout": {"type": "int", "default": 300},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run = within(module.params["timeout"])
    try:
        found = observe_trust(run, module.params["config_dir"], module.params["state_dir"])
        if not module.check_mode:
            wipe(run, found)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "what the cluster trusts this node by")))
    module.exit_json(changed=bool(found.lines()), gone=shown_in(found.lines()))


if __name__ == "__main__":
    main()
