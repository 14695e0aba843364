#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/firewall/port_holders."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_holders
short_description: Refuse ports on which an account of the host listens already
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Fails where a process of an account listens on one of the ports, on any address, or keeps others from listening
    there by a socket that it has bound to it. Names account and process.
  - What listens as root is not judged. It is Docker's for a container that runs, or an administrator's.
  - Changes nothing.
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
options:
  ports:
    description: Ports (TCP), by what is to listen there. A port 0 is none.
    type: dict
    required: true
  allowed:
    description: Accounts besides root that may listen there.
    type: list
    elements: str
    default: []
  remedy:
    description: How another port is chosen, as the end of a sentence that begins with C(End what listens there, or).
    type: str
    required: true
seealso:
  - module: gpustead.cluster.compose_project
  - module: ansible.builtin.wait_for
"""

EXAMPLES = r"""
- name: See that the port of the mesh is free
  gpustead.cluster.port_holders:
    ports: {the mesh's sshd: 2222}
    remedy: set ssh_mesh_port

- name: See that nobody has the ports of a workspace
  gpustead.cluster.port_holders:
    ports: {JupyterLab: 18888, TensorBoard: 16006}
    remedy: set workspace_ports

- name: The same for a service that runs as an account of its own
  gpustead.cluster.port_holders:
    ports: {the registry: 5000}
    allowed: [docker-registry]
    remedy: set cluster_registry
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.port_holders import holders, refuse

ARGUMENTS = {
    "ports": {"type": "dict", "required": True},
    "allowed": {"type": "list", "elements": "str", "default": []},
    "remedy": {"type": "str", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    ports = {name: int(port) for name, port in module.params["ports"].items() if int(port)}
    try:
        refuse(ports, holders(ports.values(), module.params["allowed"]), module.params["remedy"])
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "who listens on which port")))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
