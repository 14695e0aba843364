# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every problem of an inventory before a host is asked; documented in plugins/modules/preflight.py."""

from __future__ import annotations

from functools import partial
from typing import Any

from ansible import context
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_files import listed
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_run import of_inventory, of_run
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_settings import InventorySettings
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_speed import slow
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_inputs import as_written

# Of what Ansible adds to a host's variables in a task, what the settings may look at.
MAGIC = ("ansible_check_mode", "ansible_play_hosts", "ansible_play_hosts_all", "ansible_version", "play_hosts")


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        given = task_vars or {}
        self.validate_argument_spec({})
        result: dict[str, Any] = super().run(tmp, given)
        groups, arguments = given["groups"], context.CLIARGS
        magic = {name: given[name] for name in MAGIC if name in given}
        hostvars = given["hostvars"]
        written = partial(as_written, self, hostvars)
        settings = InventorySettings(self._templar, hostvars, magic, self._loader.get_basedir(), written)
        sources = [str(source) for source in arguments.get("inventory") or ()]
        found = [
            *of_run(arguments, groups, given["ansible_play_hosts_all"]),
            *of_inventory(settings, groups, self._loader, sources),
        ]
        warning = slow(len(given["ansible_play_hosts_all"]), settings.raw(given["inventory_hostname"]))
        if warning and not found:
            self._display.warning(warning)
        result.update(changed=False, failed=bool(found), msg=listed(found))
        return result
