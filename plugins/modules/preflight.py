#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name: it runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Everything that is wrong with a cluster's inventory
version_added: 0.2.0
description:
  - Looks at the variables of all hosts in the groups C(gpu_nodes), C(nas_server), C(registry) and C(registry_caches),
    and fails with all that is wrong with them, one line for each problem, with its place in the inventory. No host is
    asked. Use it with C(run_once).
  - Renders every setting, and holds it against the argument specs of the roles. A value that cannot be rendered is a
    problem like others, and hides none of them. Secrets are not shown.
  - Refuses variables, keys, groups, tags and hosts of C(--limit) that nothing reads, with what was meant, and what
    Ansible's variables name that the controller does not have, such as a private key.
  - Where nothing is wrong, it says in one warning what in C(ansible.cfg) would make the run quicker.
author: The gpustead developers (@gpustead)
extends_documentation_fragment: [gpustead.cluster.attributes.info]
seealso:
  - plugin: gpustead.cluster.cluster_hosts
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Check every setting of every host
  gpustead.cluster.preflight:
  run_once: true

- name: The same before the roles of a playbook of your own
  gpustead.cluster.preflight:
  run_once: true
  tags: [always]

- name: Check, and do something else where it is not right
  block:
    - name: Check the inventory
      gpustead.cluster.preflight:
      run_once: true
  rescue:
    - name: Tell somebody
      ansible.builtin.debug:
        msg: "{{ ansible_failed_result.msg }}"
"""

RETURN = r""" # """
