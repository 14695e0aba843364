#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Find every problem of the inventory before a host is changed
version_added: "0.1.0"
author: gpustead developers
description:
  - Runs on the controller, without a connection, and fails with all the problems that it finds, a line for each.
  - Without O(answers) it judges the inventory; with them, what the hosts said.
options:
  answers:
    description: What each host answered to the question that this action returns.
    type: dict
attributes:
  check_mode:
    support: full
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: Judge the inventory
  gpustead.cluster.preflight:
  run_once: true
"""

RETURN = r"""
question:
  description: The shell command whose output O(answers) takes.
  returned: success
  type: str
"""
