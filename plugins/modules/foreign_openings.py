#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find, and take out, rules of others that open the cluster's ports to more than was declared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: foreign_openings
short_description: See that nobody is let in beyond what is declared
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Walks the kernel's rules, IPv4 and IPv6, as a new connection from outside would, and compares whom they let in to
    the declared ports with whom they should. Ports that are not declared are nobody's business here.
  - Names each rule, whoever made it, that lets in more, with port and remedy, and who was declared and is surely kept
    out. With O(exclusive) it takes such rules out, of ufw, of the files in C(/etc/ufw) and of the kernel. It does not
    fail for what is left, since changes may be on trial (M(gpustead.cluster.ufw_trial)); RV(complaint) is for who does.
  - The receipt of role firewall and M(gpustead.cluster.node_verify) look with the same library.
options:
  policy:
    description:
      - Whom the firewall may let in. C(rules) as M(gpustead.cluster.ufw_rules) takes them, C(ssh_sources), C(protected)
        (sources that nobody may shut out), and where Docker's ports are governed C(published) (ports),
        C(published_to) (sources) and C(bridges).
    type: dict
    required: true
  exclusive:
    description: Whether the rules that let in more are taken out.
    type: bool
    default: false
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would be taken out.
  diff_mode:
    description: Shows the openings.
seealso:
  - module: gpustead.cluster.ufw_rules
  - module: gpustead.cluster.ufw_trial
"""

EXAMPLES = r"""
- name: Let nobody else into the mesh
  gpustead.cluster.foreign_openings:
    policy:
      rules: [{from_ip: [10.1.0.0/24], to_port: "2222", proto: tcp}]
      ssh_sources: [any]
    exclusive: true
  register: found

- name: Nobody else is let in
  ansible.builtin.assert:
    that: found.complaint | length == 0
    fail_msg: "{{ found.complaint }}"

- name: Tell who else is let in, and leave it so
  gpustead.cluster.foreign_openings:
    policy:
      rules: []
      ssh_sources: [10.9.0.0/16]
      published: ["18888"]
      published_to: [10.1.0.0/24]
      bridges: [docker0, br-+]
"""

RETURN = r"""
openings:
  description: What lets in more than was declared, as it was found.
  returned: success
  type: list
  elements: str
complaint:
  description: What is left of them, and who is kept out, each with its remedy. Empty where all is as declared.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import foreign_openings, ufw_lock, ufw_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import Unreadable
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.network import find_openings
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {
    "policy": {"type": "dict", "required": True},
    "exclusive": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    policy = {"name": "ports", **module.params["policy"]}
    try:
        ufw_lock.close_to_accounts(module.warn)
        before, closed = found, _second = find_openings(policy, Host())
        theirs = [one for one in before if one.argv] if module.params["exclusive"] else []
        if theirs and not module.check_mode:
            foreign_openings.close(ufw_trial.guarded(within(60, environment={"LC_ALL": "C"})), theirs)
            found, closed = find_openings(policy, Host())
        left = [one for one in found if one not in theirs] if module.check_mode else found
    except (GpusteadError, Unreadable, OSError) as error:
        module.fail_json(msg=str(error))
    after = [one for one in before if one not in theirs]
    texts = ["".join(f"{one}\n" for one in part) for part in (before, after)]
    module.exit_json(
        changed=bool(theirs),
        openings=[str(one) for one in before],
        complaint=foreign_openings.complaint(left, closed),
        diff={"before": texts[0], "after": texts[1], "before_header": "openings", "after_header": "openings"},
    )


if __name__ == "__main__":
    main()
