# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes a run slow that Ansible's configuration leaves as it comes, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible import constants as C
from ansible import context
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import COLLECTION

SKELETON = "docs/ansible.cfg"


def slow(hosts: int, variables: Mapping[str, Any]) -> str:
    """A warning, or nothing. What somebody has chosen is left alone.

    Args:
        hosts: how many the run is for.
        variables: of one of them, as written.
    """
    found = [*_slow(hosts, variables)]
    if not found:
        return ""
    if _value("DEFAULT_STDOUT_CALLBACK")[1] == "default":
        found.append("stdout_callback = gpustead.cluster.progress")
    config = C.CONFIG_FILE or "none, as there is no ansible.cfg"
    return (
        f"This run takes longer than it has to. Set in ansible.cfg (read was {config}): {'; '.join(found)}."
        f" {COLLECTION / SKELETON} has all of it: copy it to where you start."
    )


def _slow(hosts: int, variables: Mapping[str, Any]) -> Iterator[str]:
    forks, origin = _value("DEFAULT_FORKS")
    if origin == "default" and context.CLIARGS.get("forks") == forks < hosts:
        yield "forks = 50"
    pipelining, origin = _value("pipelining", variables)
    if not pipelining and origin == "default":
        yield "pipelining = True"
    arguments = " ".join(
        str(_value(name, variables)[0] or "") for name in ("ssh_args", "ssh_common_args", "ssh_extra_args")
    )
    if "ControlPersist" not in arguments:
        yield "ssh_args = -o ControlMaster=auto -o ControlPersist=120s"


def _value(name: str, variables: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """A value of the configuration, or of the ssh plugin where variables are given, and where it comes from."""
    plugin = {} if variables is None else {"plugin_type": "connection", "plugin_name": "ssh", "variables": variables}
    value, origin = C.config.get_config_value_and_origin(name, **plugin)
    return value, str(origin)
