# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/credentials/proxy_plan: the proxies of a site to what each program is told of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.proxy_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: proxy_plan
short_description: What each program is told of the proxies of a site
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Tells the passwords of proxies from the rest, so that they stand only where root alone reads them.
options:
  _input:
    description: Variables such as C(http_proxy), C(https_proxy) and C(no_proxy), in either case.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the proxies without their passwords
  ansible.builtin.debug:
    msg: "{{ (cluster_proxy_env | gpustead.cluster.proxy_plan).plain }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    full: {description: "Variables in lower case, with passwords.", type: dict}
    plain: {description: The same without passwords., type: dict}
    secret: {description: Those of RV(_value.full) that have a password., type: dict}
    docker: {description: "What Docker's C(daemon.json) has as C(proxies), with passwords.", type: dict}
    environment: {description: "Lines for C(/etc/environment), without passwords.", type: str}
    apt: {description: "apt's configuration, without passwords.", type: str}
    apt_auth: {description: "apt's passwords, as in apt_auth.conf(5); empty where there is none.", type: str}
"""


@filter_errors()
def proxy_plan(variables: Any) -> dict[str, Any]:
    return asdict(plan(variables))


FilterModule = filter_module(proxy_plan=proxy_plan)
