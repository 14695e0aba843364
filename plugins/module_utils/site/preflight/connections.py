# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How Ansible reaches the hosts: names of its variables that it does not read, and what they name that is not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Problem
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import likeness

KEY_FILES = ("ansible_ssh_private_key_file", "ansible_private_key_file")
# Read by Ansible, and written in many inventories.
VARIABLES = (
    "ansible_become",
    "ansible_become_exe",
    "ansible_become_flags",
    "ansible_become_method",
    "ansible_become_password",
    "ansible_become_user",
    "ansible_connection",
    "ansible_host",
    "ansible_password",
    "ansible_port",
    "ansible_python_interpreter",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_user",
    *KEY_FILES,
)
# What people write for these: ssh alone reads the first three, and nothing the others.
_OLD = {"ansible_ssh_host": "ansible_host", "ansible_ssh_port": "ansible_port", "ansible_ssh_user": "ansible_user"}
_MEANT = {
    **dict.fromkeys(("ansible_address", "ansible_addr", "ansible_hostname_or_ip", "ansible_ip"), "ansible_host"),
    **dict.fromkeys(("ansible_login", "ansible_remote_user", "ansible_username"), "ansible_user"),
    **dict.fromkeys(
        (
            "ansible_key_file",
            "ansible_private_key",
            "ansible_ssh_key",
            "ansible_ssh_key_file",
            "ansible_ssh_private_key",
        ),
        "ansible_ssh_private_key_file",
    ),
    **dict.fromkeys(("ansible_sudo", "ansible_become_root"), "ansible_become"),
    "ansible_sudo_password": "ansible_become_password",
}
_CLOSE = 0.85


def unread(names: Collection[str], known: Callable[[str], bool], read: Collection[str]) -> Iterator[Problem]:
    """Variables that look like Ansible's and that neither it nor anything of ours reads.

    Args:
        names: of a host's variables.
        known: whether Ansible reads one, and whether it is a fact.
        read: names that the values of others name: somebody meant them.
    """
    for name in sorted(names):
        if not name.startswith("ansible_") or name in read or name in VARIABLES:
            continue
        if name in _OLD:
            if _OLD[name] not in names:
                what = f"ssh alone reads a variable of this name, and the roles take {_OLD[name]}"
                yield Problem(name, what, f"Write it as {_OLD[name]}.")
        elif not known(name):
            meant = _MEANT.get(name) or max(VARIABLES, key=lambda one: _closeness(name, one))
            if name in _MEANT or _closeness(name, meant) >= _CLOSE:
                yield Problem(name, "Ansible reads no variable of this name", f"Did you mean {meant}?")


def _closeness(name: str, one: str) -> float:
    start = len("ansible_")
    return likeness(name[start:], one[start:]) if abs(len(name) - len(one)) <= 2 else 0.0


def absent(values: Mapping[str, Any], plugins: Mapping[str, Callable[[str], bool]]) -> Iterator[Problem]:
    """What a host's variables name and the controller does not have.

    Args:
        values: the variables, rendered.
        plugins: by variable, whether there is a plugin of this name.
    """
    for name, exists in plugins.items():
        plugin = values.get(name)
        if isinstance(plugin, str) and plugin and not exists(plugin):
            kind = name.removeprefix("ansible_").replace("_method", "")
            remedy = "Take the line away: ssh and sudo are meant then. Or correct it."
            yield Problem(name, f"there is no {kind} plugin {plugin!r}", remedy)
    for name in ("ansible_user", "ansible_become_user"):
        login = values.get(name)
        if login is not None and (not isinstance(login, (str, int)) or isinstance(login, bool) or " " in str(login)):
            yield Problem(name, f"is {login!r}, the name of no account", "Write one account.")
    for name in KEY_FILES:
        file = values.get(name)
        if isinstance(file, str) and file and values.get("ansible_connection", "ssh") == "ssh":
            yield from (Problem(name, *found) for found in _key_file(file))


def _key_file(file: str) -> Iterator[tuple[str, str]]:
    path = os.path.expanduser(file)
    try:
        mode = os.stat(path).st_mode
        with open(path, "rb") as stream:
            begin = stream.read(64)
    except OSError as error:
        yield f"{file!r} cannot be read ({error.strerror})", "Name the private key that logs in, on this machine."
        return
    # An agent may have the private one.
    if begin.startswith((b"ssh-", b"ecdsa-", b"sk-")) and not os.environ.get("SSH_AUTH_SOCK"):
        yield f"{file!r} is a public key", f"Name the private one: {file.removesuffix('.pub')}."
    elif mode & 0o077 and os.stat(path).st_uid == os.geteuid():
        yield (
            f"{file!r} may be read by others (mode {mode & 0o777:04o}), and ssh takes no such key",
            f"chmod 600 {file}.",
        )
