#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name: it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: receipt_inputs
short_description: What the roles are run with on all hosts alike, as digests
version_added: 0.1.0
description:
  - Digests the roles' files, the collection's plugins, the versions of ansible-core and of the collections that the
    roles use, the groups that the roles read and what they read of other hosts.
  - Finds the files on the controller that the roles are run with on the first host. Hosts whose variables name them in
    the same way take that over.
  - Runs on the controller. Use it with C(run_once), before M(gpustead.cluster.receipt_check).
options: {}
author: The gpustead developers (@gpustead)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
seealso:
  - module: gpustead.cluster.receipt_check
"""

EXAMPLES = r"""
- name: Digest what all hosts have in common
  gpustead.cluster.receipt_inputs:
  register: receipt_inputs
  run_once: true
"""

RETURN = r"""
roles:
  description: The roles that leave receipts, each with the groups it runs on and the roles after which it runs again.
  returned: success
  type: dict
common:
  description: Of each role, digests of the inputs that are the same for all hosts, by a phrase that names the input.
  returned: success
  type: dict
  sample:
    docker:
      its file defaults/main.yml: 3f0c2a5ad0c0f4d2b5e0a7c1
      ansible-core: 9c56cc51b374c3ba189210d5
files:
  description: Of each role, the files on the controller that the first host runs it with.
  returned: success
  type: dict
  contains:
    key:
      description: Digest of all that their names depend on. Empty where that is the host itself.
      type: str
    paths:
      description: Their names.
      type: list
      elements: str
"""
