#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name: it starts on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: receipt_check
short_description: Which roles of a host are stale, in one exchange
version_added: 0.2.0
description:
  - Compares the receipts that roles left on the host with what the roles would be run with now, and with what is on
    the host now. Changes nothing.
  - One exchange with the host. Nothing is copied there; it needs Python 3.9 or newer on the host and root.
  - Reads two variables of the host, C(receipt_host), its name in its receipts (its name in the inventory), and
    C(cluster_state_dir), whose directory C(receipts) holds them (V(/var/lib/gpustead)).
  - A receipt that is missing, damaged, of another version, machine or host makes its role stale, with the reason.
options:
  inputs:
    description: RV(gpustead.cluster.receipt_survey#module:inputs).
    type: dict
    required: true
  force:
    description: Hold every role of the host stale.
    type: bool
    default: false
  group:
    description: Group to put the host into when a role is stale; empty for none. The reasons are printed then.
    type: str
    default: ""
author: The gpustead developers (@gpustead)
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.receipt_survey
  - module: gpustead.cluster.receipt_write
"""

EXAMPLES = r"""
- name: Check the receipts
  gpustead.cluster.receipt_check:
    inputs: "{{ survey.inputs }}"
  register: __receipts

- name: Hold all roles stale, and gather the hosts where one is
  gpustead.cluster.receipt_check:
    inputs: "{{ survey.inputs }}"
    force: true
    group: to_run
  register: __receipts

- name: Say which roles are stale, and why
  ansible.builtin.debug:
    msg: "{{ __receipts.lines }}"
  when: __receipts.stale | length > 0
"""

RETURN = r"""
stale:
  description: The roles that would run, by name.
  returned: success
  type: dict
  contains:
    reasons:
      description: Why, each as [subject, what is the matter with it]; no reason is left out.
      type: list
      elements: list
    drifted:
      description: Ids of the outputs that are not as the role left them, such as V(file /etc/docker/daemon.json).
      type: list
      elements: str
    common:
      description: Digests of what all hosts run the role with, for M(gpustead.cluster.receipt_write).
      type: dict
findings:
  description: All reasons, each with role, subject and what.
  returned: success
  type: list
  elements: dict
lines:
  description: The findings, a line each.
  returned: success
  type: list
  elements: str
refused:
  description:
    - Those of RV(stale) whose last run had to leave something undone, which their reasons say, and those in whose way
      nothing is but what accounts have made of what is theirs.
  returned: success
  type: list
  elements: str
left:
  description: Roles that left receipts on the host and do not belong on it any more.
  returned: success
  type: list
  elements: str
readable:
  description: Whether the host could be asked.
  returned: success
  type: bool
partial:
  description: Whether this run was asked for some tasks only (C(--tags), C(--start-at-task), C(--step)).
  returned: success
  type: bool
nonce:
  description: Names this run; only it may write the receipts of the roles that it begins.
  returned: success
  type: str
"""
