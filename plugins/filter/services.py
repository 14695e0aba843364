# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/inventory/services: the services of workspaces, and what the firewall opens for them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import (
    WORKSPACE_SERVICES,
    opened,
    ports,
)
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: services
short_description: The services of workspaces and their ports
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives the table in C(plugins/module_utils/inventory/services.py), where each service is declared once.
options:
  _input:
    description: Ports for the workspaces of others than the cluster's owner, as C(first:last). Empty, there are none.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the port of JupyterLab
  ansible.builtin.debug:
    msg: "{{ ('' | gpustead.cluster.services).ports.jupyter }}"
"""

RETURN = r"""
_value:
  description: What follows from the table.
  type: dict
  contains:
    ports:
      description: The port on the node of each service, in the workspace of the cluster's owner.
      type: dict
    container_ports:
      description: The port of each service in its container.
      type: dict
    opened:
      description: Ports and ranges that the firewall opens for all workspaces.
      type: list
      elements: raw
    table:
      description:
        - Each service by its name, with C(title), C(container_port), C(port), C(command) of the image, and C(health), a
          Python program that ends with 0 in its container where it is well.
      type: dict
"""


def services(port_range: str) -> dict[str, Any]:
    table = {
        service.name: {**asdict(service), "command": service.command or service.name, "health": service.health}
        for service in WORKSPACE_SERVICES
    }
    container_ports = {service.name: service.container_port for service in WORKSPACE_SERVICES}
    return {"ports": ports(), "container_ports": container_ports, "opened": opened(port_range), "table": table}


FilterModule = filter_module(services=services)
