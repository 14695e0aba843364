# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one host is asked about its receipts, and what its answer means for a run."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown
from ansible_collections.gpustead.cluster.plugins.plugin_utils.partial_run import is_partial
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_exchange import exchange
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import ROLES, HostInputs


class HostCheck:
    """The check of one host.

    Args:
        inputs: the host's own inputs.
        shared: what all hosts have in common, by `shared_inputs`.

    Raises:
        AnsibleError: a variable of the host cannot be rendered.
    """

    def __init__(self, inputs: HostInputs, shared: Mapping[str, Any]) -> None:
        self.common = shared["common"]
        self.roles = [name for name, role in ROLES.items() if set(role.groups) & set(inputs.given["group_names"])]
        self.host = str(inputs.value("receipt_host", inputs.host))
        self.state_dir = str(inputs.value("cluster_state_dir", "/var/lib/gpustead"))
        self.python = str(inputs.value("ansible_python_interpreter", "auto"))
        self.request = {
            "operation": "check",
            "state_dir": self.state_dir,
            "host": self.host,
            "roles": {name: {**self.common[name], **inputs.of_role(name)} for name in self.roles},
            "current": {name: specs for name in self.roles for specs in [inputs.current(name)] if specs},
        }

    def ask(self, action: ActionBase) -> dict[str, Any]:
        """The host's answer, over the connection of `action`.

        One that cannot give any (no Python) is left to the preflight, which says what to do.

        Raises:
            AnsibleConnectionFailure: the host cannot be reached.
        """
        try:
            return {**exchange(action, self.python, self.request), "readable": True}
        except AnsibleActionFail as error:
            blind = {"reasons": [["host", str(error)]], "drifted": []}
            return {"roles": dict.fromkeys(self.roles, blind), "left": [], "readable": False}

    def result(self, answer: Mapping[str, Any], force: bool, following: bool) -> dict[str, Any]:
        """What the answer means, as module receipt_check returns it.

        Args:
            answer: what the host said.
            force: hold every role stale.
            following: hold also those stale that run again because another does.
        """
        stale = self._stale(answer["roles"], force, following)
        findings = [
            {"role": name, "subject": shown(subject, 1000), "what": shown(what, 2000)}
            for name, verdict in stale.items()
            for subject, what in verdict["reasons"]
        ]
        return {
            # Digests of this host's own variables are not told: a short secret could be guessed from one.
            "stale": {name: {**verdict, "common": self.common[name]} for name, verdict in stale.items()},
            "findings": findings,
            "lines": [f"{found['role']}: {found['subject']}: {found['what']}" for found in findings],
            "refused": [name for name in answer.get("refused", []) if name in stale],
            "left": answer["left"],
            "readable": answer["readable"],
            "host": self.host,
            "state_dir": self.state_dir,
            "force": force,
            "nonce": secrets.token_hex(16),
            "partial": is_partial(),
        }

    def _stale(self, verdicts: Mapping[str, Any], force: bool, following: bool) -> dict[str, Any]:
        """The roles to run, each with reasons; those that only run because another does are not reported as drift."""
        stale = {name: verdicts[name] for name in self.roles if verdicts[name]["reasons"]}
        if force or is_partial():
            reason = ["run", "site_force is set" if force else "only some of the tasks are asked for"]
            stale = {name: stale.get(name, {"reasons": [reason], "drifted": []}) for name in self.roles}
        for name in self.roles if following else []:
            causes = [other for other in ROLES[name].after if other in stale]
            if causes and name not in stale:
                stale[name] = {"reasons": [[f"role {cause}", "runs again"] for cause in causes], "drifted": []}
        return stale


def explained(host: str, result: Mapping[str, Any]) -> str:
    """What a person reads of a stale host; of a fresh one all roles say the same, once."""
    roles: dict[tuple[str, str], list[str]] = {}
    for found in result["findings"]:
        alone = "" if found["subject"] in ("receipt", "run") else found["role"]
        roles.setdefault((alone, f"{found['subject']}: {found['what']}"), []).append(found["role"])
    lines = [f"{', '.join(of)}: {reason}" for (_alone, reason), of in roles.items()]
    return f"{host} is stale:\n  " + "\n  ".join(lines)
