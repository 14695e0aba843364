# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over module_utils/workspace_binds: what the containers of workspaces bind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import workspace_binds as library

DOCUMENTATION = r"""
name: workspace_binds
short_description: What the containers of the workspaces bind
version_added: "0.1.0"
author: gpustead developers
description:
  - Gives the places that module P(gpustead.cluster.binds#module) has to mount for all workspaces of a node, and what
    the containers of each bind.
  - A path of O(mounts) that is the system's, root's, an account's or the root of the share is an error.
options:
  _input:
    description: The workspaces, as filter P(gpustead.cluster.workspaces#filter) gives them.
    type: list
    elements: dict
    required: true
  mounts:
    description: V(workspace_mounts) of role workspace.
    type: list
    elements: dict
    default: []
  nas:
    description: Where the share is mounted.
    type: str
    default: /mnt/nas
  local_dir:
    description: Where the workspaces have their places on the node.
    type: str
    default: /var/lib/gpustead/workspace
  config_dir:
    description: Where root's files for containers lie.
    type: str
    default: /etc/gpustead
  owner_uid:
    description: The user id of the account that owns the cluster.
    type: int
  propagation:
    description: How later mounts are seen, as Docker names it.
    type: str
    default: rslave
  display:
    description: Whether a display of the host is shown.
    type: bool
    default: false
  places:
    description: Directories in the place of each workspace on the node.
    type: list
    elements: str
    default: []
  homes:
    description: Where the homes lie on the host.
    type: str
    default: /home
  settings:
    description: What of the homes is copied.
    type: list
    elements: str
    default: []
  mounted:
    description: What module P(gpustead.cluster.binds#module) returned.
    type: dict
    default: {}
  placed:
    description: What module P(gpustead.cluster.local_place#module) returned.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what containers of ada's workspace bind
  ansible.builtin.debug:
    msg: "{{ (workspaces | gpustead.cluster.workspace_binds(nas='/mnt/nas')).of.ada }}"
  vars:
    workspaces: [{owner: ada, accounts: [{name: ada, uid: 1500}]}]
"""

RETURN = r"""
_value:
  description:
    - C(binds), for the module. C(receipt), what a receipt vouches for.
    - C(of), by owner, with C(binds) and C(local) (of profile local), each with C(name), C(host), C(path) and
      C(read_only); C(guests), those who do not come in as their home is missing; C(refused), why there can be no
      workspace, or empty.
  type: dict
"""


def workspace_binds(
    workspaces: Sequence[Mapping[str, Any]],
    mounts: Sequence[Mapping[str, Any]] = (),
    mounted: Mapping[str, Any] | None = None,
    placed: Mapping[str, Any] | None = None,
    **site: Any,
) -> dict[str, Any]:
    host = library.Site(**site)
    refused, missing = ((mounted or {}).get(key) or [] for key in ("refused", "missing"))
    no_place = {one["name"]: library.words(one) for one in (placed or {}).get("refused") or []}
    try:
        found = library.plan(workspaces, mounts, host)
    except GpusteadError as error:
        raise AnsibleFilterError(f"workspace_mounts: {error}") from error
    return {
        "binds": found["binds"],
        "receipt": library.receipt(workspaces, found["binds"], host),
        "of": {
            one["owner"]: library.settled(
                found["of"][one["owner"]],
                one.get("profile", "server"),
                refused,
                missing,
                no_place.get(one["owner"], ""),
            )
            for one in workspaces
        },
    }


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"workspace_binds": workspace_binds}
