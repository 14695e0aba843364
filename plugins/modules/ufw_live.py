#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the kernel's rules to what ufw keeps in its files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_live
short_description: Reload ufw where the kernel has other rules than its files
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Compares the chains of ufw's user rules, the chains that govern what Docker publishes, the policies and ufw's jumps
    in the built-in chains, IPv4 and IPv6, with what C(/etc/ufw) says, and reloads ufw where they differ.
  - The files are loaded in a network namespace of their own to learn how the kernel prints them, so only a real
    difference counts.
  - Jumps of ufw's that are missing are put back before the reload. C(ufw reload) does not do that, but sets the policy
    to deny, and would cut SSH.
  - The jump to C(DOCKER-USER) must come first in C(FORWARD) where Docker publishes ports there, since without it what
    Docker publishes is open to everyone.
  - Rules in other chains are not looked at, since nobody but ufw knows what it makes of its files there. Of a ufw that
    is not enabled the jumps alone are, if its chains are still there, since C(ufw enable) would not make them anew
    either.
  - Within a trial (M(gpustead.cluster.ufw_trial)) the change is under its timer.
options:
  input_accepts:
    description:
      - The rules that may accept in C(INPUT) itself, past ufw, as C(v4) or C(v6) and the rule as C(iptables -S) prints
        it without C(-A INPUT). All others are removed.
      - Without it such rules are not looked at.
    type: list
    elements: str
  protected:
    description:
      - Addresses and networks (CIDR) that nobody may shut out. Rules of others in these chains that only keep out
        others (fail2ban's) stay, also those in C(DOCKER-USER), which a reload empties.
      - Without it all are protected.
    type: list
    elements: str
  reload:
    description:
      - Reload ufw in any case, if it is enabled. For who has seen that other chains of ufw's are not as they were.
    type: bool
    default: false
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
attributes:
  check_mode:
    description: Tells which chains differ.
seealso:
  - module: gpustead.cluster.ufw_rules
  - module: gpustead.cluster.ufw_trial
"""

EXAMPLES = r"""
- name: Load the rules anew where the kernel has others
  gpustead.cluster.ufw_live:

- name: The same, and take out what accepts past ufw
  gpustead.cluster.ufw_live:
    input_accepts: ["v4 -i virbr0 -p udp -m udp --dport 53 -j ACCEPT"]

- name: Reload in any case, and leave what shuts out others alone
  gpustead.cluster.ufw_live:
    reload: true
    protected: [10.1.0.0/24, 10.9.0.5]
"""

RETURN = r"""
stale:
  description: The chains that differed, as C(iptables) or C(ip6tables) and their names, and the rules taken out.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import bans, ufw_live, ufw_lock, ufw_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.spans import EVERY


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def main() -> None:
    argument_spec = {
        "input_accepts": {"type": "list", "elements": "str"},
        "protected": {"type": "list", "elements": "str"},
        "reload": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    input_accepts: list[str] | None = module.params["input_accepts"]
    protected: ufw_live.Protected = EVERY
    if module.params["protected"] is not None:
        kept = [read(f"/etc/ufw/user{family.suffix}.rules") for family in ufw_live.FAMILIES]
        protected = bans.protected_sources(module.params["protected"], kept)

    def run(argv: Any, data: str) -> tuple[int, str, str]:
        environ = {"LC_ALL": "C", "LANGUAGE": "C"}
        try:
            code, out, err = module.run_command(
                list(argv), data=data, binary_data=True, environ_update=environ, handle_exceptions=False
            )
        except OSError as error:
            return 127, "", str(error)
        return code, out, err

    try:
        ufw_lock.close_to_accounts(module.warn)
        stale = ufw_live.observe(run, read, input_accepts, protected)
        changed = bool(stale) or (module.params["reload"] and ufw_live.is_enabled(read))
        if changed and not module.check_mode:
            ufw_trial.arm(lambda argv: run(argv, ""))
            ufw_live.heal(run, read, stale, input_accepts, protected)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, stale=[str(one) for one in stale])


if __name__ == "__main__":
    main()
