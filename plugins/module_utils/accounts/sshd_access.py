# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the host's own sshd lets accounts in by the keys in their homes: it may look elsewhere, or keep them out.

Facts: sshd_config(5); `sshd -T` prints one user or group in a line, and `-C` applies the Match blocks of an account.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import DesiredKeys, path_of
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Group
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# From where somebody logs in is not known: an address that is nobody's (RFC 5737).
_FROM = "host=elsewhere.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=22"


def warnings(run: Run, accounts: Iterable[DesiredKeys], groups: Sequence[Group]) -> list[str]:
    """A sentence for each reason why keys do not let accounts in; none where sshd does not tell.

    Args:
        run: runs commands.
        accounts: with the keys that they are to have.
        groups: the local ones.
    """
    found: dict[str, list[str]] = {}
    for account in accounts:
        code, told, _err = run(["sshd", "-T", "-C", f"user={account.name},{_FROM}"]) if account.keys else (1, "", "")
        for reason in reasons(_settings(told), account, groups) if code == 0 else ():
            found.setdefault(reason, []).append(account.name)
    return [f"{reason}, so keys do not let in: {', '.join(names)}." for reason, names in found.items()]


def _settings(told: str) -> dict[str, list[str]]:
    settings: dict[str, list[str]] = {}
    for name, *values in filter(None, map(str.split, told.splitlines())):
        settings.setdefault(name.lower(), []).extend(values)
    return settings


def reasons(settings: Mapping[str, Sequence[str]], account: DesiredKeys, groups: Sequence[Group]) -> Iterator[str]:
    """Why this sshd does not let an account in by its keys. What depends on where it comes from is passed over."""
    if settings.get("pubkeyauthentication") == ["no"]:
        yield "sshd takes no keys (PubkeyAuthentication no)"
    methods = settings.get("authenticationmethods", ["any"])
    if not any(method == "any" or "publickey" in method for method in methods):
        yield f"sshd asks for no key (AuthenticationMethods {' '.join(methods)})"
    files = settings.get("authorizedkeysfile", [])
    if files and not any(_expanded(file, account) == path_of(account.home) for file in files):
        yield f"sshd looks for keys in another place than ~/.ssh/authorized_keys (AuthorizedKeysFile {' '.join(files)})"
    held = [group.name for group in groups if account.name in group.members or group.gid == account.gid]
    known = {group.name for group in groups}
    allowed, denied = settings.get("allowusers", []), settings.get("denyusers", [])
    if any(fnmatch.fnmatchcase(account.name, pattern) for pattern in denied if "@" not in pattern):
        yield "sshd keeps accounts out by DenyUsers"
    if allowed and not any(fnmatch.fnmatchcase(account.name, pattern.partition("@")[0]) for pattern in allowed):
        yield "sshd lets in others alone (AllowUsers)"
    allowed, denied = settings.get("allowgroups", []), settings.get("denygroups", [])
    if any(fnmatch.fnmatchcase(group, pattern) for group in held for pattern in denied):
        yield f"sshd keeps groups out (DenyGroups {' '.join(denied)})"
    # Of a group that is not the host's own a directory knows who is in it.
    if allowed and known.issuperset(allowed) and not set(held).intersection(allowed):
        yield f"sshd lets in other groups alone (AllowGroups {' '.join(allowed)})"


def _expanded(file: str, account: DesiredKeys) -> str:
    for token, value in {"%h": account.home, "%u": account.name, "%U": str(account.uid)}.items():
        file = file.replace(token, value)
    return file if file.startswith("/") else f"{account.home.rstrip('/')}/{file}"
