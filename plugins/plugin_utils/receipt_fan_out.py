# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connections to many hosts from the one process in which an action runs.

Ansible forks a process for each host of a task, which costs the controller about as much as the ssh in it. The
connections are Ansible's own plugins with the options that Ansible would give them: user, port, key, jump host, control
socket, become with its password. What needs more than that (a password to log in, a question to answer, another kind of
connection) is Ansible's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.playbook.play_context import PlayContext
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import become_loader, connection_loader

SSH = frozenset({"ssh", "ansible.builtin.ssh", "ansible.legacy.ssh"})
LOGIN_ASKED = ("ask_pass", "connection_password_file")
BECOME_ASKED = ("become_ask_pass", "become_password_file")
# A thread with an ssh in it costs far less than a fork of Ansible, of which there are 5 where nobody says how many.
AT_ONCE = 50


def at_once() -> int:
    """How many hosts are asked at a time."""
    forks, origin = C.config.get_config_value_and_origin("DEFAULT_FORKS")
    asked = int(context.CLIARGS["forks"])
    return AT_ONCE if origin == "default" and asked == forks else asked


class FanOut:
    """Reaches the hosts of the play that an action runs in."""

    def __init__(self, action: ActionBase) -> None:
        self.action, self.task = action, action._task
        # An action's task has the connection of the host that it runs for, and the timeout of tasks.
        self.keywords = {
            key: value for key, value in self.task.dump_attrs().items() if key not in ("timeout", "retries")
        }
        self.play = self.task.get_play()
        self.password = self._asked_password()

    def to(self, host: str, variables: Mapping[str, Any]) -> ActionBase | None:
        """An action like this one with a connection to a host; None where Ansible has to make it.

        Args:
            host: its name in the inventory.
            variables: its variables, with `hostvars`.

        Raises:
            AnsibleError: one of them cannot be rendered, or there is no such become plugin.
        """
        templar = self.action._templar.copy_with_new_env(available_variables=variables)
        kind = templar.template(variables.get("ansible_connection")) or self.play.connection
        if kind not in SSH or any(context.CLIARGS.get(option) for option in LOGIN_ASKED):
            return None
        play_context = PlayContext(play=self.play)
        play_context = play_context.set_task_and_variable_override(self.task, variables, templar)
        play_context.post_validate(templar)
        play_context.remote_addr = play_context.remote_addr or host
        connection = connection_loader.get("ansible.builtin.ssh", play_context)
        connection.set_become_plugin(self._become(variables, templar))
        keywords = {**self.keywords, "timeout": play_context.timeout}
        # The password goes to the become plugin alone, which waits for the host's question and answers it on stdin.
        secret = {"become_pass": self.password} if self.password else {}
        for plugin, more in ((connection, {}), (connection._shell, {}), (connection.become, secret)):
            if plugin:
                plugin.set_options(task_keys={**keywords, **more}, var_options=options_of(plugin, variables, templar))
        if connection.get_option("password"):
            return None
        if self.password is None and connection.become and not connection.become.get_option("become_pass"):
            return None
        # Nobody would answer: a host whose key is not known, or a key with a passphrase, is then Ansible's.
        connection.set_option(
            "ssh_extra_args", f"{connection.get_option('ssh_extra_args') or ''} -o BatchMode=yes".strip()
        )
        play_context.set_attributes_from_plugin(connection)
        return type(self.action)(
            task=self.task,
            connection=connection,
            play_context=play_context,
            loader=self.action._loader,
            templar=templar,
            shared_loader_obj=self.action._shared_loader_obj,
        )

    def _asked_password(self) -> str | None:
        """What -K asked for; empty: nothing; None: not known, as Ansible has put the first host's own in its place."""
        if not any(context.CLIARGS.get(option) for option in BECOME_ASKED):
            return ""
        given, become = self.action._templar.available_variables, self.action._connection.become
        own = any(name in given for name in C.MAGIC_VARIABLE_MAPPING["become_pass"])
        own = own or (become and become.get_option_and_origin("become_pass")[1].startswith("var: "))
        return None if own else str(self.action._play_context.become_pass or "")

    def _become(self, variables: Mapping[str, Any], templar: Any) -> Any:
        wanted = variables.get("ansible_become")
        if not (self.task.become if wanted is None else boolean(templar.template(wanted))):
            return None
        method = templar.template(variables.get("ansible_become_method")) or self.task.become_method
        plugin = become_loader.get(method)
        if plugin is None:
            raise AnsibleError(f"there is no become plugin {method}")
        return plugin


def options_of(plugin: Any, variables: Mapping[str, Any], templar: Any) -> dict[str, Any]:
    """Those of a host's variables that are options of a plugin, rendered."""
    names = C.config.get_plugin_vars(plugin.plugin_type, plugin._load_name)
    return {name: templar.template(variables[name]) for name in names if name in variables}
