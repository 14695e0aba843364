#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name: it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: receipt_survey
short_description: Which roles of which hosts are stale, all hosts at once
version_added: 0.2.0
description:
  - Does for all hosts of the play what M(gpustead.cluster.receipt_check) does for one, from one process and with as
    many hosts at a time as Ansible has C(forks), or 50 where nothing sets these. Ansible forks a process for each host
    of a task, which costs the controller about as much as the SSH connection in it. Use it with C(run_once).
  - Connects with Ansible's own SSH plugin and the options that Ansible would give it; user, port, key, jump host,
    control socket, become and its password are those of each host. What C(-K) asked for is sent when the host asks.
  - Leaves hosts to M(gpustead.cluster.receipt_check) that need more than that, and names them in RV(unasked). Those are
    hosts with another connection than C(ssh), with a password to log in (C(-k), too), hosts whose key is not known yet,
    hosts that did not answer, hosts of which a variable cannot be rendered, and, where the first host of the play has
    a password for become of its own, those that have none. Ansible asks its questions then, and reports its errors, for
    each of them.
  - Digests what the roles are run with on all hosts alike, for M(gpustead.cluster.receipt_check).
options:
  force:
    description: Hold every role of every host stale.
    type: bool
    default: false
  to_run:
    description:
      - What is stale is to run. Roles that run again because another one does are stale as well, and the reasons are
        printed.
    type: bool
    default: false
author: The gpustead developers (@gpustead)
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.receipt_check
  - module: gpustead.cluster.receipt_write
"""

EXAMPLES = r"""
- name: Check the receipts of all hosts
  gpustead.cluster.receipt_survey:
  register: survey
  run_once: true

- name: Say which hosts are stale
  ansible.builtin.debug:
    var: survey.stale
  run_once: true

- name: Hold every role stale, and get ready to run them
  gpustead.cluster.receipt_survey:
    force: true
    to_run: true
  register: survey
  run_once: true
"""

RETURN = r"""
hosts:
  description: Of each host that answered, what M(gpustead.cluster.receipt_check) returns for it.
  returned: success
  type: dict
stale:
  description: The hosts on which a role is stale.
  returned: success
  type: list
  elements: str
unasked:
  description: The hosts that M(gpustead.cluster.receipt_check) has to ask.
  returned: success
  type: list
  elements: str
inputs:
  description: What the roles are run with on all hosts alike.
  returned: success
  type: dict
  contains:
    common:
      description: Of each role, digests of what is the same for all hosts, by a phrase that names it.
      type: dict
      sample:
        docker:
          its file defaults/main.yml: 3f0c2a5ad0c0f4d2b5e0a7c1
          ansible-core: 9c56cc51b374c3ba189210d5
"""
