#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name: it starts on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: receipt_write
short_description: Begin a role's run, or that of several roles, or leave a role's receipt on the host
version_added: 0.2.0
description:
  - Stands in a role, as its first task with O(state=begun) and as its last one without. What the role reads and leaves
    is declared in its C(meta/receipt.yml).
  - The end looks at every output. It fails, and leaves no receipt, when one is not as declared, when one that is no
    longer declared is still there, or when the role did not restore one although it was run with the same as before.
    Where all of these are an account's own to change (C(account) of a subject), it returns them in RV(refused) instead.
  - What runs without a receipt may have left is remembered until one is written, so that it is taken back when it is
    not declared any more.
  - In front of several roles, with O(state=begun) and O(roles), it begins them in one exchange. Their own first tasks
    are skipped then, but in a role whose last run did not come to its end, where it has to notify.
  - Changes nothing in check mode. Leaves no receipt in a run of some tasks only, or where nothing was checked before.
options:
  state:
    description: V(begun) makes the receipt vouch no longer; V(ended) writes a new one.
    type: str
    choices: [begun, ended]
    default: ended
  roles:
    description:
      - With O(state=begun), roles of this collection in the order in which they run. Those that O(checked) holds stale
        begin; in a run of some tasks only none does.
    type: list
    elements: str
    default: []
  checked:
    description: What M(gpustead.cluster.receipt_check) returned for this host; empty in playbooks that do not check.
    type: dict
    default: {}
  refused:
    description:
      - With O(state=ended), what the role had to leave undone, as modules return it (C(refused) of
        M(gpustead.cluster.uid_match) and others, each with C(name), C(what), C(expected) and C(remedy)).
      - Then no receipt is left. What was refused is kept in its place, and is why the role is stale at the next check.
      - Fails where nothing was checked before, as nobody looks later. C(site.yml) says it at its end.
    type: list
    elements: dict
    default: []
author: The gpustead developers (@gpustead)
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
seealso:
  - module: gpustead.cluster.receipt_check
"""

EXAMPLES = r"""
- name: Begin a receipt
  gpustead.cluster.receipt_write:
    state: begun
    checked: "{{ __receipts | default({}) }}"
  register: __docker_receipt

- name: Begin the receipts of two roles
  gpustead.cluster.receipt_write:
    state: begun
    roles: [docker, firewall]
    checked: "{{ __receipts }}"
  register: __receipts

- name: Leave a receipt
  gpustead.cluster.receipt_write:
    checked: "{{ __receipts | default({}) }}"
"""

RETURN = r"""
begun:
  description:
    - With O(roles), of each role that was begun what O(state=begun) returns in it. All that O(checked) has is returned
      as well, so that the result can take its place.
  returned: with O(roles)
  type: dict
refused:
  description: With O(state=ended), what was refused, and what accounts have made of what is theirs, a line each.
  returned: success
  type: list
  elements: str
previous:
  description: With O(state=begun), what the role may have left before, as [kind, subject].
  returned: success
  type: list
  elements: list
seen:
  description: What the last receipt's outputs and what the role read looked like then, by id; secrets as digests.
  returned: success
  type: dict
unfinished:
  description:
    - With O(state=begun), whether the last run of the role did not come to its end. What it had notified by then may
      never have been carried out.
  returned: success
  type: bool
drifted:
  description: Ids of the outputs that were found not as the role had left them.
  returned: success
  type: list
  elements: str
"""
