# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/nas/nas_plan: what role nas wants of a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_plan import Settings, plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: nas_plan
short_description: What role nas wants of a host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes of the settings of the role, and of what was found on the host, what its tasks take and its receipt holds.
  - Fails where a mount has no source, or another version of NFS than its kind, where GlusterFS is to have quotas, and
    where what is declared would hide the files of the cluster.
options:
  _input:
    description:
      - The settings. C(is_client) and C(backend) (V(nfs4), V(nfs3), V(glusterfs) or empty) say what the host is to the
        share, C(mounts), C(nfs_version), C(automount), C(automount_idle), C(automount_timeout) and C(packages) what a
        client mounts and how, C(export), C(volume), C(address), C(networks) and C(root_squash) what a server serves,
        C(quotas) what each account may have there, by uid, C(has_quotas), whether any has a limit, C(client_files),
        C(exports), C(nfs_conf), C(lockd_conf), C(quota_files) and C(quota_command) which files are the role's,
        C(service_account), C(users) and C(nodes) whose the layout of the share is and was, C(served) whether the
        cluster serves it, C(moved_to) where the files of a single node have been moved.
    type: dict
    required: true
  previous:
    description: What the role left before, C(previous) of M(gpustead.cluster.receipt_write).
    type: list
    elements: list
    default: []
  volume:
    description: Lines of C(gluster volume info). Default there is no volume.
    type: list
    elements: str
  bound:
    description: Sources of the mounts of running containers, as C(docker ps) prints them.
    type: str
    default: ""
  released:
    description: Where places are mounted for containers, C(released) of M(gpustead.cluster.binds).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Show what is no longer declared
  ansible.builtin.debug:
    msg: "{{ (settings | gpustead.cluster.nas_plan(previous=receipt.previous)).former.mounts }}"
"""

RETURN = r"""
_value:
  description:
    - C(mounts), their C(units) of systemd and C(packages) of a client, or C(place) and C(cover) on its own disk;
      C(server_packages), C(serves_nfs), C(serves_nfs3), C(layout_owner), C(layout), C(quotas), C(volume_options) and
      C(cover) of a server; C(nfs_conf), C(lockd_ports) and C(rpc_units) of whoever has NFS; C(former) (C(main),
      C(mounts), C(bound), C(files), C(volumes), C(units), C(timers)) that is to be taken back; and C(receipt), its
      subjects by kind.
  type: dict
"""


@filter_errors()
def nas_plan(declared: Mapping[str, Any], **found: Any) -> dict[str, Any]:
    return asdict(plan(Settings(**declared), **found))


FilterModule = filter_module(nas_plan=nas_plan)
