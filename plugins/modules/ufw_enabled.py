#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Enable ufw, with its policies and its logging."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_enabled
short_description: Enable ufw, with its policies and what it logs
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Compares C(/etc/ufw/ufw.conf), C(/etc/default/ufw) and C(ufw status) with what is wanted and carries out what
    differs; ufw is enabled at last.
  - Within a trial (M(gpustead.cluster.ufw_trial)) each change is under its timer.
options:
  incoming:
    description: What becomes of traffic that comes in and that no rule is for.
    type: str
    choices: [allow, deny, reject]
    default: deny
  outgoing:
    description: What becomes of traffic that goes out and that no rule is for.
    type: str
    choices: [allow, deny, reject]
    default: allow
  logging:
    description: What ufw logs.
    type: str
    choices: ["off", low, medium, high, full]
    default: low
extends_documentation_fragment: [gpustead.cluster.attributes]
seealso:
  - module: gpustead.cluster.ufw_rules
  - module: gpustead.cluster.ufw_trial
  - module: community.general.ufw
"""

EXAMPLES = r"""
- name: Enable, and keep out what no rule lets in
  gpustead.cluster.ufw_enabled:
    logging: low

- name: Keep in, too, what no rule lets out
  gpustead.cluster.ufw_enabled:
    outgoing: deny

- name: Answer those who are kept out, and log nothing
  gpustead.cluster.ufw_enabled:
    incoming: reject
    logging: "off"
"""

RETURN = r"""
commands:
  description: What was done, or would be.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_enabled, ufw_lock, ufw_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

POLICY = list(ufw_enabled.POLICIES)
ARGUMENTS = {
    "incoming": {"type": "str", "choices": POLICY, "default": "deny"},
    "outgoing": {"type": "str", "choices": POLICY, "default": "allow"},
    "logging": {"type": "str", "choices": list(ufw_enabled.LEVELS), "default": "low"},
}


def read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted = ufw_enabled.UfwState(active=True, **module.params)

    run = within(120, environment={"LC_ALL": "C", "LANGUAGE": "C"})
    try:
        ufw_lock.close_to_accounts(module.warn)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    status = run(["ufw", "status"])[1]
    before = ufw_enabled.observe(read("/etc/ufw/ufw.conf"), read("/etc/default/ufw"), status)
    todo = ufw_enabled.plan(before, wanted)
    if todo and not module.check_mode:
        try:
            ufw_enabled.apply(ufw_trial.guarded(run), todo)
        except GpusteadError as error:
            module.fail_json(msg=str(error))
    headers = {"before_header": "ufw", "after_header": "ufw"}
    diff = {"before": str(before), "after": str(wanted), **headers}
    module.exit_json(changed=bool(todo), commands=[" ".join(argv) for argv in todo], diff=diff)


if __name__ == "__main__":
    main()
