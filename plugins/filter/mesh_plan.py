# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/mesh/mesh_plan: the settings of the mesh to all that role ssh_mesh makes on a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_plan import Observed, Settings, plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: mesh_plan
short_description: All that role ssh_mesh makes on a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives what the role writes on the share and mounts on a node, and what the container of the mesh is made of.
  - Where the mesh cannot be on the node, it is an error that says why.
positional: observed
options:
  _input:
    description: The variables of the role, without C(ssh_mesh_) before each; see its C(vars/main.yml).
    type: dict
    required: true
  observed:
    description:
      - What was found on the node. C(offer), what M(gpustead.cluster.node_offer_info) returned; C(replaced), as
        M(gpustead.cluster.binds) returned it; C(drifted), as M(gpustead.cluster.receipt_write) returned it; C(check),
        whether it is a check.
      - What is left out is not known yet.
    type: dict
    default: {}
seealso:
  - plugin: gpustead.cluster.nccl_env
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show the environment of the mesh's container
  ansible.builtin.debug:
    msg: "{{ (settings | gpustead.cluster.mesh_plan).environment }}"
  vars:
    settings:
      host: gpu01
      members: {gpu01: true}
      user: ada
      account: {uid: 1500}
      former: []
      service_account: {uid: 941, gid: 941}
      address: 10.1.0.1
      port: 2222
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    uid: {description: User id of the mesh's user., type: int}
    gid: {description: Its group id., type: int}
    layout_owner: {description: "C(uid) and C(gid) of the account that the layout of the share belongs to.", type: dict}
    owned: {description: "C(owner), C(group) and C(former) of what belongs to it.", type: dict}
    nas_layout:
      description: Directories and the node's record, as M(gpustead.cluster.nas_files) takes them.
      type: list
      elements: dict
    node_env: {description: Settings of this node for all programs in the container., type: dict}
    environment: {description: That of the container., type: dict}
    image: {description: The image; empty where it is not known yet., type: str}
    gpus: {description: "C(driver), C(device_ids) and C(uuids) of the GPUs, as compose takes them.", type: dict}
    devices: {description: Devices of the container., type: list, elements: str}
    places: {description: What M(gpustead.cluster.binds) mounts., type: list, elements: dict}
    binds:
      description: What the container binds, each with C(host), C(path), C(read_only) and C(propagation).
      type: list
      elements: dict
    recreate: {description: Services that run otherwise than they were left., type: list, elements: str}
"""


@filter_errors()
def mesh_plan(settings: Mapping[str, Any], observed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return asdict(plan(Settings(**settings), Observed(**(observed or {}))))


FilterModule = filter_module(mesh_plan=mesh_plan)
