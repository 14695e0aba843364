# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gives a further name of a container receipts; see bench/vouch.yml.

Its inputs are computed as receipt_check computes them, and never leave this process but for the host.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import (
    ROLES,
    HostInputs,
    shared_inputs,
)

COPY = Path(__file__).resolve().parents[1] / "vouch.py"


class ActionModule(ActionBase):
    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        task_vars = task_vars or {}
        _, args = self.validate_argument_spec({"source": {"type": "path"}, "target": {"type": "path"}})
        result: dict[str, Any] = super().run(tmp, task_vars)
        ours = HostInputs(self, task_vars)
        common = shared_inputs(ours)["common"]
        mine = [name for name, role in ROLES.items() if set(role.groups) & set(task_vars["group_names"])]
        request = {
            "from": args["source"],
            "to": args["target"],
            "host": task_vars["inventory_hostname"],
            "inputs": {name: {**common[name], **ours.of_role(name)} for name in mine},
        }
        answer = self._low_level_execute_command(
            f"python3 -c {shlex.quote(COPY.read_text())}", in_data=json.dumps(request).encode()
        )
        if answer["rc"]:
            raise AnsibleActionFail(f"The receipts could not be copied: {answer['stderr'].strip()}")
        result.update(changed=True)
        return result
