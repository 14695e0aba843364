#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/verify/node_verify."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_verify
short_description: Compare a host of the cluster with what is declared for it
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Looks at the share, accounts, containers and the GPUs they see, the mesh, ports and the firewall of one host, in one
    exchange.
  - Changes nothing, and does not fail for what it finds. C(playbooks/verify.yml) collects it from all hosts.
options:
  host:
    description: Name of the host in the inventory.
    type: str
    required: true
  node:
    description: Whether it is a GPU node. Of others only O(listening) and the firewall are looked at.
    type: bool
    default: false
  owner:
    description: Account that owns the mesh and the shared files. One of O(accounts).
    type: str
    default: ""
  accounts:
    description: Accounts with their ids.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      uid:
        description: Its user id.
        type: int
        required: true
      gid:
        description: Id of its primary group. The user id by default.
        type: int
  service:
    description: Ids of the account that the layout of the share belongs to.
    type: dict
    default: {uid: 941, gid: 941}
    suboptions:
      uid:
        description: Its uid.
        type: int
        required: true
      gid:
        description: Its gid.
        type: int
        required: true
  nas_path:
    description: Where the share is mounted.
    type: path
    default: /mnt/nas
  nas_source:
    description: What is mounted there. Empty, the node has the places of the share on its own disk.
    type: str
    default: ""
  nas_fstype:
    description: Its type.
    type: str
    default: nfs4
  nodes:
    description: Names of all GPU nodes.
    type: list
    elements: str
    default: []
  image_file:
    description: File with the image that the node runs.
    type: path
    default: /etc/gpustead/image
  variant:
    description: Name of that image, where it is another than that of most nodes. It is not compared with theirs then.
    type: str
    default: ""
  projects:
    description: The compose projects that run.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the project.
        type: str
        required: true
      services:
        description: Its services, with the port that each publishes on the host, or 0.
        type: dict
        required: true
      owner:
        description: Account that its containers are used by.
        type: str
        required: true
      image:
        description: Its image, where it is not the one in O(image_file).
        type: str
        default: ""
      gpus:
        description: Those of the GPUs in O(gpus_file) that it has, by position or UUID. All by default.
        type: list
        elements: raw
  listening:
    description: Ports on which something must listen, by what it is.
    type: dict
    default: {}
  networks:
    description:
      - Networks from which the ports in O(listening) are called; a listener at an address elsewhere is a problem.
      - Without them any address will do that is not the host's alone.
    type: list
    elements: str
    default: []
  firewall_policy:
    description:
      - Whom the firewall may let in, as the role firewall declares it to its receipt. C(rules) as
        M(gpustead.cluster.ufw_rules) takes them, C(ssh_sources), C(protected) (sources that nobody may shut out), and
        where Docker's ports are governed C(published), C(published_to) and C(bridges).
      - A rule that lets in more is a problem, whoever made it.
    type: dict
    default: {}
  firewall:
    description: Whether ufw must be on.
    type: bool
    default: true
  gpus_file:
    description: File with the GPUs that role nvidia found for containers.
    type: path
    default: /etc/gpustead/gpus.json
  gpus_required:
    description: Whether each GPU of the node must be usable.
    type: bool
    default: true
  gpu_info:
    description: What M(gpustead.cluster.gpu_info) returns now.
    type: dict
    default: {}
  state_dir:
    description: Where receipts are. What the last run of a role had to leave undone is a problem.
    type: path
    default: /var/lib/gpustead
  timeout:
    description: Seconds that each command has.
    type: int
    default: 30
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.gpu_info
  - module: gpustead.cluster.receipt_check
"""

EXAMPLES = r"""
- name: Look at the firewall and the registry of a host
  gpustead.cluster.node_verify:
    host: "{{ inventory_hostname }}"
    listening: {the registry: 5000}
  register: found

- name: Look at a node, its share, its accounts and its mesh
  gpustead.cluster.node_verify:
    host: gpu01
    node: true
    owner: ada
    accounts: [{name: ada, uid: 1500}]
    nas_source: 10.1.0.5:/export/cluster
    nodes: [gpu01, gpu02]
    projects:
      - {name: gpustead-mesh, services: {mesh: 0}, owner: ada}
  register: found

- name: Stop where something is not as declared
  ansible.builtin.assert:
    that: found.problems | length == 0
    fail_msg: "{{ found.problems }}"
"""

RETURN = r"""
seen:
  description: What was seen, for comparison with other hosts.
  type: dict
  returned: always
notices:
  description:
    - What will be wrong soon, with the same keys as RV(problems). Certificates that end within 60 days.
    - A runtime of containers with a hole that is known to lead out of them.
  type: list
  elements: dict
  returned: always
gpu_warnings:
  description: What is to be known of the GPUs that containers get, as P(gpustead.cluster.gpu_warnings#filter) says.
  type: list
  elements: str
  returned: always
problems:
  description: What is wrong.
  type: list
  elements: dict
  returned: always
  contains:
    subject:
      description: The thing.
      type: str
      sample: account grace
    what:
      description: Its value, and what is declared.
      type: str
      sample: has the ids 1777:1501, declared are 1501:1501
    remedy:
      description: What to do.
      type: str
      sample: Run site.yml --limit gpu02.
"""

import posixpath
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.port_holders import SERVICES, holders
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import warnings
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.agent import undone
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown_in
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.expiry import endings
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import (
    DeclaredAccount,
    Desired,
    Finding,
    Project,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.host import host_of
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.node_verify import examine

ACCOUNT = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int", "required": True},
    "gid": {"type": "int"},
}
PROJECT = {
    "name": {"type": "str", "required": True},
    "services": {"type": "dict", "required": True},
    "owner": {"type": "str", "required": True},
    "image": {"type": "str", "default": ""},
    "gpus": {"type": "list", "elements": "raw"},
}
IDS = {"uid": {"type": "int", "required": True}, "gid": {"type": "int", "required": True}}
ARGUMENTS = {
    "host": {"type": "str", "required": True},
    "node": {"type": "bool", "default": False},
    "owner": {"type": "str", "default": ""},
    "accounts": {"type": "list", "elements": "dict", "default": [], "options": ACCOUNT},
    "service": {"type": "dict", "default": {"uid": 941, "gid": 941}, "options": IDS},
    "nas_path": {"type": "path", "default": "/mnt/nas"},
    "nas_source": {"type": "str", "default": ""},
    "nas_fstype": {"type": "str", "default": "nfs4"},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "image_file": {"type": "path", "default": "/etc/gpustead/image"},
    "variant": {"type": "str", "default": ""},
    "projects": {"type": "list", "elements": "dict", "default": [], "options": PROJECT},
    "listening": {"type": "dict", "default": {}},
    "networks": {"type": "list", "elements": "str", "default": []},
    "firewall": {"type": "bool", "default": True},
    "firewall_policy": {"type": "dict", "default": {}},
    "gpus_file": {"type": "path", "default": "/etc/gpustead/gpus.json"},
    "gpus_required": {"type": "bool", "default": True},
    "gpu_info": {"type": "dict", "default": {}},
    "state_dir": {"type": "path", "default": "/var/lib/gpustead"},
    "timeout": {"type": "int", "default": 30},
}


def _ports(given: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(port) for name, port in given.items()}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = dict(module.params)
    timeout, state_dir = params.pop("timeout"), params.pop("state_dir")
    environment = {"LC_ALL": "C", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    # Not the module's own run_command: a share that hangs must not hang us, and several run at a time.
    run = within(timeout, environment=environment)
    accounts = [
        DeclaredAccount(a["name"], a["uid"], a["uid"] if a["gid"] is None else a["gid"]) for a in params["accounts"]
    ]
    projects = [Project(**{**each, "services": _ports(each["services"])}) for each in params["projects"]]
    params.update(accounts=tuple(accounts), nodes=tuple(params["nodes"]), projects=tuple(projects))
    params["service"] = Identity(**params["service"])
    params["listening"] = _ports(params["listening"])
    findings = examine(Desired(**params), run, host_of(run))
    for role, subject, what in undone(state_dir):
        findings.problems.append(Finding(f"{role}: {subject}:", what.rstrip("."), "Then run again."))
    ours = [*params["listening"].values(), *(port for each in projects for port in each.services.values() if port)]
    for holder in holders(ours, SERVICES):
        findings.problems.append(Finding(f"port {holder.port}", f"is taken by {holder}", "End it, then run site.yml."))
    notices = findings.notices
    for one in endings(params["host"], posixpath.dirname(params["image_file"]), time.time()):
        (findings.problems if one.over else notices).append(Finding(one.subject, one.what, one.remedy))
    problems, soon = ([asdict(each) for each in some] for some in (findings.problems, notices))
    known = warnings(params["gpu_info"]) if "state" in params["gpu_info"] else []
    found = {"seen": findings.seen, "problems": problems, "notices": soon, "gpu_warnings": known}
    module.exit_json(changed=False, **shown_in(found))


if __name__ == "__main__":
    main()
