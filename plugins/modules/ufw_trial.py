#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put changed rules on trial: they are taken back unless a new login proves them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ufw_trial
short_description: Take changed firewall rules back unless the controller can log in anew
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - With C(state=noted) the files of ufw and the kernel's rules are kept in C(/run/gpustead/firewall). From then on
    M(gpustead.cluster.ufw_rules), M(gpustead.cluster.ufw_live), M(gpustead.cluster.foreign_openings) and
    M(gpustead.cluster.ufw_enabled) start, before each change, a service on the host that puts them back after 40 s.
  - With C(state=proved) the controller logs in over a connection of its own, past the one that stands
    (C(ControlPath=none), through jump hosts and with all else that the host's connection has), and stops that service.
    If it cannot log in, it waits until the rules were taken back and fails with the reason.
  - Where nothing was changed, nothing runs on the host and no login is tried. Where the run dies in between, the
    service does its work.
  - Only connections of the plugin C(ssh) are proved. With another the rules stay.
options:
  state:
    description: Keep what is there, or end the trial. C(asked) and C(released) are parts of C(proved).
    type: str
    choices: [noted, proved, asked, released]
    required: true
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
attributes:
  check_mode:
    description: Does nothing.
seealso:
  - module: gpustead.cluster.ufw_rules
  - module: gpustead.cluster.ufw_live
  - module: gpustead.cluster.ufw_enabled
  - module: gpustead.cluster.foreign_openings
"""

EXAMPLES = r"""
- name: Keep what is there
  gpustead.cluster.ufw_trial:
    state: noted

- name: Enable
  gpustead.cluster.ufw_enabled:

- name: Log in anew, or have it taken back
  gpustead.cluster.ufw_trial:
    state: proved
"""

RETURN = r"""
armed:
  description: Whether something was changed, and so had to be proved.
  returned: success
  type: bool
"""


from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_lock, ufw_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {"state": {"type": "str", "choices": ["noted", "proved", "asked", "released"], "required": True}}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    state = module.params["state"]

    run = within(120, environment={"LC_ALL": "C", "LANGUAGE": "C"})
    result = {"changed": False, "armed": False, "taken_back": False}
    if module.check_mode:
        module.exit_json(**result)
    try:
        ufw_lock.close_to_accounts(module.warn)
        if state == "noted":
            result["changed"] = ufw_trial.note(run)
            if result["changed"]:
                module.warn("an earlier run had changed the firewall and never proved it: that was taken back first")
        else:
            result["armed"] = ufw_trial.is_armed()
            if state == "released" or not result["armed"]:
                result["taken_back"] = not ufw_trial.release(run)
    except (GpusteadError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
