# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/base/base_plan: what role base writes on a host."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.base.base_plan import plan
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: base_plan
short_description: What role base writes on a host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes files of a host of the proxies, the authorities that are trusted beside the system's own, and the umask.
  - Fails where a file on the controller is not one certificate that is valid.
options:
  _input:
    description: Paths of the authorities on the controller.
    type: list
    elements: path
    required: true
  proxies:
    description: What programs are told of the proxies, as filter P(gpustead.cluster.proxy_plan#filter) has it.
    type: dict
    required: true
  umask:
    description: umask of login shells of accounts, octal; empty leaves the system's.
    type: str
    default: ""
  previous:
    description: What the role left before, C(previous) of M(gpustead.cluster.receipt_write).
    type: list
    elements: list
    default: []
"""

EXAMPLES = r"""
- name: Show where the authorities lie on a host
  ansible.builtin.debug:
    msg: "{{ (cluster_ca_certificates | gpustead.cluster.base_plan({} | gpustead.cluster.proxy_plan)).authorities }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    authorities: {description: The files of the declared authorities on the host., type: list, elements: path}
    entries: {description: "All files, as M(gpustead.cluster.host_files) takes them.", type: list, elements: dict}
"""


@filter_errors()
def base_plan(
    certificates: Sequence[str], proxies: Mapping[str, Any], umask: str = "", previous: Sequence[Sequence[Any]] = ()
) -> dict[str, Any]:
    found = plan(certificates, proxies, previous, lambda path: Path(path).read_bytes(), time.time(), umask=umask)
    return asdict(found)


FilterModule = filter_module(base_plan=base_plan)
