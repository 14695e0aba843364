# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the controller still gets in: a login over a connection of its own, as Ansible would make the first one."""

from __future__ import annotations

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_fan_out import SSH

# In front of all that the host's own settings say: ssh takes what it is told first.
ANEW = "-o ControlPath=none -o ControlMaster=no"
# Seconds for one login, so that two tries fit into the time of a trial.
CONNECT = 10


def is_ssh(action: ActionBase) -> bool:
    """Whether the host is reached by a login at all."""
    return action._connection._load_name in SSH


def trouble(action: ActionBase) -> str:
    """Log in anew and become who the task becomes. What is in the way, in words; empty where nothing is."""
    connection = action._connection
    names = ("ssh_args", "timeout", "reconnection_retries")
    before = {name: connection.get_option(name) for name in names}
    connection.set_option("ssh_args", f"{ANEW} {before['ssh_args'] or ''}".strip())
    connection.set_option("timeout", CONNECT)
    connection.set_option("reconnection_retries", 1)
    try:
        done = action._low_level_execute_command("true")
    except AnsibleConnectionFailure as error:
        return " ".join(str(error).split())
    finally:
        for name, value in before.items():
            connection.set_option(name, value)
    return "" if done["rc"] == 0 else (done["stderr"] or done["stdout"]).strip() or f"true ended with {done['rc']}"
