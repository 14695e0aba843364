# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/workspaces/workspace_plan: workspaces of a node to all that role workspace makes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import beyond
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_plan import Observed, Settings, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Workspace
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: workspace_plan
short_description: All that role workspace makes on a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives what the role mounts and writes on a node and on the share, what the containers of each workspace are made of,
    and what a receipt vouches for.
  - What cannot be meant is an error, such as a path of C(workspace_mounts) that is the system's.
positional: settings, observed
options:
  _input:
    description: The workspaces, as P(gpustead.cluster.workspaces#filter) gives them.
    type: list
    elements: dict
    required: true
  settings:
    description: The variables of the role, without C(workspace_) before each; see its C(vars/main.yml).
    type: dict
    required: true
  observed:
    description:
      - What was found on the node. C(offer), C(mounted) and C(placed), what M(gpustead.cluster.node_offer_info),
        M(gpustead.cluster.binds) and M(gpustead.cluster.local_place) returned; C(drifted), as
        M(gpustead.cluster.receipt_write) returned it; C(blocked), as M(gpustead.cluster.node_offer_info) returned it;
        C(check), whether it is a check.
      - What is left out is not known yet.
    type: dict
    default: {}
seealso:
  - plugin: gpustead.cluster.workspaces
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what the containers of ada's workspace bind
  ansible.builtin.debug:
    msg: "{{ (declared | gpustead.cluster.workspace_plan({'owner': 'ada', 'owner_uid': 1500})).of.ada.binds }}"
  vars:
    declared: "{{ [{'owner': 'ada'}] | gpustead.cluster.workspaces(users=cluster_users, owner='ada',
      ports={'jupyter': 18888, 'tensorboard': 16006, 'gradio': 17860, 'ssh': 10022}, port_range='19000:19999') }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    places:
      description: What M(gpustead.cluster.local_place) makes.
      type: list
      elements: dict
    binds:
      description: What M(gpustead.cluster.binds) mounts.
      type: list
      elements: dict
    image:
      description: The image of all containers.
      type: str
    ports:
      description: All ports on which they listen on the node.
      type: list
      elements: int
    of:
      description:
        - By owner, with C(binds) and C(environment) of its containers, and C(local_binds) and C(local_environment) of
          those of profile local besides; C(gpus), C(cpus); C(secret_digest), which recreates JupyterLab; and
          C(recreate), the services that run otherwise than they were left.
        - C(refused), why there can be no workspace, and C(problem), why its containers cannot be made, or empty.
      type: dict
    host_files:
      description:
        - By owner, the directories of root's and the keys with which each account logs in, as
          M(gpustead.cluster.host_files) makes them.
      type: dict
    nas_files:
      description: By owner, what M(gpustead.cluster.nas_files) makes. A secret may be in it.
      type: dict
    nas_links:
      description: The same, the links from the home to what profile local has on the node.
      type: dict
    receipt:
      description: Subjects of a receipt, C(reads), C(bind), C(file), C(tree), C(container) and C(shared).
      type: dict
"""


@filter_errors()
def workspace_plan(
    workspaces: Sequence[Mapping[str, Any]], settings: Mapping[str, Any], observed: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    if newer := beyond(settings.get("torch_version", "")):
        Display().warning(f"workspace_torch_version: {newer}")
    return asdict(plan([*map(Workspace.parse, workspaces)], Settings(**settings), Observed(**(observed or {}))))


FilterModule = filter_module(workspace_plan=workspace_plan)
