#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the rules of ufw to what is declared, in one exchange."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_rules
short_description: Declare the complete set of our ufw rules in one exchange
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Reads C(ufw show added), adds what is missing, and removes the rules that bear our tag (a comment that
    begins with C(gpustead:)) and are not declared any more. Rules of others are left, except that one for the
    very same traffic as a declared one becomes ours.
  - Adds rules for SSH by itself, for each port on which this session came in, for which sshd is configured
    (C(ListenAddress) lines too), at which it listens in fact, or whose socket systemd holds for it, and refuses, before
    it changes anything, rules under which the controller could not come back.
  - It neither enables nor disables ufw; M(gpustead.cluster.ufw_enabled) does, afterwards.
  - Within a trial (M(gpustead.cluster.ufw_trial)) each change is under its timer.
options:
  rules:
    description: The rules, in the words of M(community.general.ufw).
    type: list
    elements: dict
    required: true
    suboptions:
      rule:
        description: What happens. Denying rules are put in front of all others.
        type: str
        choices: [allow, deny, reject, limit]
        default: allow
      direction:
        description: Which way the traffic goes.
        type: str
        choices: [in, out]
        default: in
      interface:
        description: Only on this interface.
        type: str
        default: ""
      from_ip:
        description: Addresses or networks, one rule for each; with none there is no rule.
        type: list
        elements: str
        default: [any]
      from_port:
        description: Source port or ports.
        type: str
        default: ""
      to_ip:
        description: Destination address or network.
        type: str
        default: any
      to_port:
        description: Destination ports, as C(22) or C(22,8000:8010).
        type: str
        default: ""
      proto:
        description: Protocol.
        type: str
        choices: [any, tcp, udp, ah, esp, gre, ipv6, igmp, vrrp]
        default: any
      comment:
        description: What it is for; our tag is put before it.
        type: str
        default: declared
  ssh_sources:
    description: Addresses or networks from which SSH is allowed. The controller's own is always added.
    type: list
    elements: str
    default: [any]
  ssh_port:
    description: The SSH port, where neither the session nor sshd tells it.
    type: int
    default: 22
extends_documentation_fragment: [gpustead.cluster.attributes]
seealso:
  - module: gpustead.cluster.ufw_live
  - module: gpustead.cluster.ufw_trial
  - module: community.general.ufw
"""

EXAMPLES = r"""
- name: Declare the rules
  gpustead.cluster.ufw_rules:
    rules:
      - from_ip: [10.1.0.0/24, "fd00:1::/64"]
        to_port: 2222,29500:29510
        proto: tcp
        comment: mesh
    ssh_sources: [10.9.0.0/16]

- name: Rate-limit SSH on another port, and keep a printer out
  gpustead.cluster.ufw_rules:
    rules:
      - {rule: limit, to_port: "2022", proto: tcp, comment: ssh of others}
      - {rule: deny, from_ip: [10.1.0.77], comment: printer}
    ssh_port: 2022

- name: See what would change
  gpustead.cluster.ufw_rules:
    rules: []
    ssh_sources: [any]
  check_mode: true
  diff: true
"""

RETURN = r"""
rules:
  description: All rules of ufw, in order, as they stand (in check mode, as they would stand).
  returned: success
  type: list
  elements: str
ssh_ports:
  description: The ports that were kept open for SSH.
  returned: success
  type: list
  elements: int
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_lock, ufw_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_rules as ufw

RULE = {
    "rule": {"type": "str", "choices": list(ufw.ACTIONS), "default": "allow"},
    "direction": {"type": "str", "choices": ["in", "out"], "default": "in"},
    "interface": {"type": "str", "default": ""},
    "from_ip": {"type": "list", "elements": "str", "default": ["any"]},
    "from_port": {"type": "str", "default": ""},
    "to_ip": {"type": "str", "default": "any"},
    "to_port": {"type": "str", "default": ""},
    "proto": {"type": "str", "choices": list(ufw.PROTOCOLS), "default": "any"},
    "comment": {"type": "str", "default": "declared"},
}
ARGUMENTS = {
    "rules": {"type": "list", "elements": "dict", "required": True, "options": RULE},
    "ssh_sources": {"type": "list", "elements": "str", "default": ["any"]},
    "ssh_port": {"type": "int", "default": 22},
}


def declared(rule: dict[str, Any], source: str) -> ufw.UfwRule:
    start = ufw.UfwRule(rule["rule"], rule["direction"], rule["interface"], source, rule["from_port"])
    end = {"destination": rule["to_ip"], "port": rule["to_port"], "proto": rule["proto"]}
    return ufw.normal(replace(start, **end, comment=ufw.TAG + rule["comment"]))


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def run(argv: Any) -> tuple[int, str, str]:
        environ = {"LC_ALL": "C", "LANGUAGE": "C"}
        try:
            code, out, err = module.run_command(list(argv), environ_update=environ, handle_exceptions=False)
        except OSError as error:
            return 127, "", str(error)
        return code, out, err

    try:
        ufw_lock.close_to_accounts(module.warn)
        session = ufw.find_session(os.environ, os.getppid(), read)
        numbers = ufw.ssh_ports(run, session, module.params["ssh_port"])
        # In a check of a host on which ufw is not installed yet, there are no rules yet.
        there = module.get_bin_path("ufw") or not module.check_mode
        present = ufw.show_added(run) if there else []
        wanted = ufw.ssh_rules(numbers, module.params["ssh_sources"], session)
        wanted += [declared(rule, source) for rule in module.params["rules"] for source in rule["from_ip"]]
        todo = ufw.plan(present, wanted)
        after = list(todo.after)
        ufw.guard_ipv6(read("/etc/default/ufw"), session)
        ufw.guard(after, session, numbers)
        if todo.changed and not module.check_mode:
            ufw.apply(ufw_trial.guarded(run), todo)
            after = ufw.show_added(run)
            ufw.guard(after, session, numbers)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    texts = [[f"{rule}\n" for rule in rules] for rules in (present, after)]
    module.exit_json(
        changed=todo.changed,
        rules=[str(rule) for rule in after],
        ssh_ports=list(numbers),
        diff={
            "before": "".join(texts[0]),
            "after": "".join(texts[1]),
            "before_header": "ufw",
            "after_header": "ufw",
        },
    )


if __name__ == "__main__":
    main()
