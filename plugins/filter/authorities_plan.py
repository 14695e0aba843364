# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/files/authorities_plan: the files of the authorities that a host trusts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.files.authorities_plan import plan

DOCUMENTATION = r"""
name: authorities_plan
short_description: The files of the certificate authorities that a host trusts
version_added: "0.1.0"
author: gpustead developers
description:
  - Names the files in which role base installs authorities beside the system's own.
options:
  _input:
    description: Paths of the authorities on the controller.
    type: list
    elements: path
    required: true
  previous:
    description: What the role left before, C(previous) of M(gpustead.cluster.receipt_write).
    type: list
    elements: list
    default: []
"""

EXAMPLES = r"""
- name: Show where the authorities lie on a host
  ansible.builtin.debug:
    msg: "{{ (cluster_ca_certificates | gpustead.cluster.authorities_plan).files }}"
"""

RETURN = r"""
_value:
  description: Paths on the host.
  type: dict
  contains:
    files: {description: Those of the declared authorities., type: list, elements: path}
    former: {description: Those of authorities that are no longer declared., type: list, elements: path}
"""


def authorities_plan(certificates: Sequence[str], previous: Sequence[Sequence[Any]] = ()) -> dict[str, Any]:
    return asdict(plan(certificates, previous))


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"authorities_plan": authorities_plan}
