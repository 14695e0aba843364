#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/firewall/firewall_setup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_setup_info
short_description: Tell whether a firewall can govern a host, and which packages it lacks
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Fails where no network of the nodes is named, Docker filters with its nftables backend, the chain C(DOCKER-USER)
    holds rules of others, or a bridge that is not Docker's would be taken for one of its. So it does where another
    firewall is enabled beside ufw (firewalld), or one that would put ufw's rules away (C(flush ruleset) in
    C(/etc/nftables.conf), rules of netfilter-persistent). Of chains of nftables' own that drop what they do not let in
    it warns.
  - Changes nothing.
extends_documentation_fragment: [gpustead.cluster.attributes.info]
options:
  networks:
    description: Networks (CIDR) in which the nodes live.
    type: list
    elements: str
    required: true
  bridges:
    description: Names of Docker's bridges, as iptables matches them. Without them no bridge is looked at.
    type: list
    elements: str
    default: []
  packages:
    description: The packages that the firewall needs.
    type: list
    elements: str
    default: []
seealso:
  - module: gpustead.cluster.ufw_rules
  - module: gpustead.cluster.ufw_enabled
"""

EXAMPLES = r"""
- name: See whether the firewall can govern this host
  gpustead.cluster.firewall_setup_info:
    networks: [10.1.0.0/24]
    bridges: [docker0, br-+]
    packages: [ufw, iptables]
  register: setup

- name: Install the packages that are missing
  ansible.builtin.apt:
    name: "{{ setup.missing }}"
  when: setup.missing | length > 0

- name: Look at a host whose containers have a bridge of another name, and IPv6
  gpustead.cluster.firewall_setup_info:
    networks: [10.1.0.0/24, "fd00:1::/64"]
    bridges: [docker0, br-+, lab0]
"""

RETURN = r"""
missing:
  description: Those of the packages that are not installed, or only because others need them.
  type: list
  elements: str
  returned: success
  sample: [ufw]
bridges:
  description: The bridges of Docker's networks that O(bridges) does not match.
  type: list
  elements: str
  returned: success
  sample: [docker-ml]
ipv6:
  description: Whether the kernel has IPv6.
  type: bool
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import other_firewalls
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.docker_bridges import unmatched
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_setup import check, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.dpkg import installed, lacking
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ARGUMENTS = {
    "networks": {"type": "list", "elements": "str", "required": True},
    "bridges": {"type": "list", "elements": "str", "default": []},
    "packages": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    run, packages = within(60, environment={"LC_ALL": "C"}), module.params["packages"]
    try:
        missing = lacking(run, packages, installed(run, packages)) if packages else []
        others = other_firewalls.observe(run)
        other_firewalls.refuse(others)
        observed = observe(run)
        check(observed, module.params["networks"], module.params["bridges"])
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "what the firewall depends on")))
    for warning in other_firewalls.warnings(others):
        module.warn(warning)
    bridges = unmatched(observed.networks, module.params["bridges"])
    module.exit_json(changed=False, missing=missing, bridges=bridges, ipv6=observed.ipv6)


if __name__ == "__main__":
    main()
