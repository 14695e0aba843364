# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certify a node's host key: made there, signed here; documented in plugins/modules/mesh_certificate.py."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import HostKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import (
    DesiredCertificate,
    parse_certificate,
    reason_to_sign,
    sign,
    unlocked,
)

MODULE = "gpustead.cluster.ssh_host_key"
ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "authority": {"type": "str", "required": True},
    "authority_key": {"type": "path", "required": True, "no_log": False},
    "passphrase": {"type": "str", "required": True, "no_log": True},
    "key_id": {"type": "str", "required": True, "no_log": False},
    "principals": {"type": "list", "elements": "str", "required": True},
    "days": {"type": "int", "default": 364},
    "renew_days": {"type": "int", "default": 30},
}


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        key = {"path": args["path"], "comment": args["key_id"]}
        result.update(self._on_host(key, task_vars), reason="")
        if result.get("failed"):
            return result
        try:
            certificate = self._certificate(args, result)
        except GpusteadError as error:
            raise AnsibleActionFail(str(error)) from error
        except OSError as error:
            raise AnsibleActionFail(str(of_system(error, f"authority {args['authority_key']}"))) from error
        result["changed"] |= bool(result["reason"])
        if certificate:
            written = self._on_host({**key, "certificate": certificate}, task_vars)
            diffs = [*result.get("diff", []), *written.get("diff", [])]
            result.update({**written, "changed": True, "diff": diffs})
        return result

    def _on_host(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        return answer

    def _certificate(self, args: dict[str, Any], result: dict[str, Any]) -> str:
        """A new certificate where one is due and may be made; notes the reason."""
        public = result["public"]
        if not (public and args["authority"]):  # a check, in which the host's key or the authority's was not made
            result["reason"] = "there is none"
            return ""
        desired = DesiredCertificate(
            public, args["authority"], args["key_id"], tuple(args["principals"]), args["days"], args["renew_days"]
        )
        result["reason"] = reason_to_sign(parse_certificate(result["certificate"]), desired, time.time())
        if self._task.check_mode:
            return ""
        # Where mesh_authority has made it, which Ansible runs in the directory of the playbook.
        authority = Path(self._loader.get_basedir(), args["authority_key"])
        HostKeys(authority).note(args["key_id"], public)
        if not result["reason"]:
            return ""
        with unlocked(args["passphrase"]) as (run, work):
            return sign(run, authority, desired, work)
