# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts that are to go: first nobody can log in as one any more, then it is removed, as soon as nothing of it runs.

How it was before is written down, so that an account that is declared again while it waits gets all of it back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    FIRST_USER_ID,
    NOBODY,
    Account,
    Group,
    HostAccounts,
    StateBeforeLock,
    how_to_end,
    processes_of,
    refuse_busy,
    stays,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.names import reserved
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal

NOLOGIN = "/usr/sbin/nologin"
# 1970-01-02: sshd, login, su, sudo, cron and at take nobody whose account has expired, by key or by password.
EXPIRED = "1"


def removable(
    host: HostAccounts,
    names: Sequence[str],
    declared: Collection[str],
    system: Sequence[str] = (),
    refused: list[Refusal] | None = None,
) -> list[Account]:
    """The local accounts that go. One of a directory service is not ours to remove.

    `refused` takes those that must stay; one of which something runs is locked and removed later. Without it both are
    errors.
    """
    both = sorted(set(names) & set(declared))
    if both:
        raise GpusteadError(f"account '{both[0]}' is in users and in absent", "it in one", "Take it out of the other.")
    gone = []
    for account in filter(None, map(host.account, dict.fromkeys(names))):
        try:
            refuse_removal(host, account, system)
            if refused is None:
                refuse_busy(host, account)
        except GpusteadError as error:
            if refused is None:
                raise
            refused.append(Refusal.of(account.name, error))
        else:
            gone.append(account)
    return gone


def refuse_removal(host: HostAccounts, account: Account, system: Sequence[str]) -> None:
    """Some accounts are never ours to remove."""
    if account.uid == 0:
        remedy = "Root is no account of the cluster: take it out of absent."
        raise GpusteadError(f"account '{account.name}' with id 0 in absent", "ids above 0", remedy)
    if account.uid == host.login:
        what = f"account '{account.name}', as which Ansible logs in, is not declared any more"
        remedy = "Declare it again, or let Ansible log in as another (ansible_user)."
        raise GpusteadError(what, "another account than that", remedy)
    if account.name in system and account.uid not in NOBODY:
        return
    remedy = f"Declare it again, or see that nothing needs it and remove it by hand (userdel {account.name})."
    if stays(account.uid, as_system=False):
        # It may have been there before it was declared, as Debian's own.
        what = f"account '{account.name}' in absent has the system id {account.uid}"
        raise GpusteadError(what, f"{FIRST_USER_ID} or above, or its name in absent_system", remedy)
    if reserved(account.name):  # its group may be the one that Docker has found
        what = f"account '{account.name}' in absent: {reserved(account.name)}"
        raise GpusteadError(what, "another name, or this one in absent_system", remedy)


def state_before_lock(host: HostAccounts, account: Account) -> StateBeforeLock:
    """How it is now."""
    hashed = host.hashes.get(account.name, "")
    groups = tuple(group.name for group in host.groups if account.name in group.members)
    return StateBeforeLock(
        shell=account.shell,
        expire=host.expiry.get(account.name, ""),
        password=bool(hashed) and hashed[0] not in "!*",
        groups=groups,
        linger=account.name in host.lingering,
    )


def lock(host: HostAccounts, account: Account) -> Iterator[tuple[str, ...]]:
    """What is still to do until nobody can log in as the account, and nothing of it is started by itself."""
    found = state_before_lock(host, account)
    options = ["--lock"] if found.password else []
    options += ["--expiredate", EXPIRED] if found.expire != EXPIRED else []
    options += ["--shell", NOLOGIN] if account.shell != NOLOGIN else []
    if options:
        yield ("usermod", *options, account.name)
    if found.groups:  # a process of its own could join them once more (newgrp), such as Docker's
        yield ("usermod", "--groups", "", account.name)
    if found.linger:
        yield ("loginctl", "disable-linger", account.name)


def unlock(before: StateBeforeLock, shell: str | None) -> Iterator[tuple[str, ...]]:
    """What gives an account back that is declared again, all but the name; its shell may be another by now.

    Not its groups: it gets those that are declared, as any account.
    """
    yield ("usermod", "--expiredate", before.expire, "--shell", shell or before.shell)
    if before.password:
        yield ("usermod", "--unlock")
    if before.linger:
        yield ("loginctl", "enable-linger")


def own_group(host: HostAccounts, account: Account) -> Group | None:
    """The local group that is this account's alone: its name, its primary group, nobody else in it."""
    group = host.group(account.name)
    others = [one.name for one in (*host.accounts, *host.remote_accounts) if one.gid == account.gid and one != account]
    alone = group and group.gid == account.gid and not others and not set(group.members) - {account.name}
    return group if alone else None


@dataclass(frozen=True)
class Removal:
    """What became of an account that goes: what was done to lock it, where its keys are, whether it is removed."""

    account: Account
    steps: tuple[tuple[str, ...], ...] = ()
    retired_keys: tuple[str, ...] = ()
    removed: bool = False

    @property
    def changed(self) -> bool:
        return self.removed or bool(self.steps or self.retired_keys)

    def texts(self) -> tuple[str, str]:
        """Before and after, for a diff."""
        one = self.account
        if self.removed:
            return f"{one}\n", f"files of {one.uid}:{one.gid} stay, {one.home} too\n"
        lines = [*(" ".join(argv) for argv in self.steps), *(f"keys: in {path}" for path in self.retired_keys)]
        return f"{one}\n", "\n".join([str(one), *lines]) + "\n"


def plan_removals(host: HostAccounts, gone: Sequence[Account], refused: list[Refusal] | None = None) -> list[Removal]:
    """What `remove` would do, with nothing changed."""
    found = []
    for account in gone:
        running = processes_of(account, host.processes, host.subuids.get(account.name, ()))
        found.append(Removal(account, tuple(lock(host, account)) if running else (), removed=not running))
        if running and refused is not None:
            error = still_running(account, running, "nobody will be able to log in as it")
            refused.append(Refusal.of(account.name, error))
    return found


def still_running(account: Account, running: str, words: str) -> GpusteadError:
    what = f"account '{account.name}' is not declared any more, and still has running processes ({running}); {words}"
    remedy = f"End them ({how_to_end(account)}), then run again: it is removed when nothing of it runs."
    return GpusteadError(what, "none", remedy)
