# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An account that goes: first nobody can log in as it any more, then it is removed, as soon as nothing of it runs.

How it was before is written down, so that an account that is declared again while it waits gets all of it back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import host_accounts as hosts
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import Wish as Keys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import put_aside_as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    Account,
    Before,
    Group,
    Host,
    must,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run

NOLOGIN = "/usr/sbin/nologin"
# 1970-01-02: sshd, login, su, sudo, cron and at take nobody whose account has expired, by key or by password.
EXPIRED = "1"

# Puts the keys of an account aside and returns where they lie.
PutAside = Callable[[Keys], "list[str]"]


def record_path(state_dir: Path, name: str) -> Path:
    """Beside the journals of renumberings, which are <name>.json."""
    return state_dir / f"{name}.locked"


def read_record(path: Path) -> Before | None:
    """How an account was before it was locked; None where it was not."""
    try:
        raw = json.loads(path.read_text())
        return Before(**{**raw, "groups": tuple(raw["groups"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        remedy = "Unlock that account by hand (usermod), then remove the file."
        raise GpusteadError(f"{path} cannot be read ({error})", "how an account was", remedy) from error


def now(host: Host, account: Account) -> Before:
    """How it is."""
    hashed = host.hashes.get(account.name, "")
    groups = tuple(group.name for group in host.groups if account.name in group.members)
    return Before(
        shell=account.shell,
        expire=host.expiry.get(account.name, ""),
        password=bool(hashed) and hashed[0] not in "!*",
        groups=groups,
        linger=account.name in host.lingering,
    )


def lock(host: Host, account: Account) -> Iterator[tuple[str, ...]]:
    """What is still to do until nobody can log in as the account, and nothing of it is started by itself."""
    found = now(host, account)
    options = ["--lock"] if found.password else []
    options += ["--expiredate", EXPIRED] if found.expire != EXPIRED else []
    options += ["--shell", NOLOGIN] if account.shell != NOLOGIN else []
    if options:
        yield ("usermod", *options, account.name)
    if found.groups:  # a process of its own could join them once more (newgrp), such as Docker's
        yield ("usermod", "--groups", "", account.name)
    if found.linger:
        yield ("loginctl", "disable-linger", account.name)


def unlock(before: Before, shell: str | None) -> Iterator[tuple[str, ...]]:
    """What gives an account back that is declared again, all but the name; its shell may be another by now."""
    yield ("usermod", "--expiredate", before.expire, "--shell", shell or before.shell)
    if before.password:
        yield ("usermod", "--unlock")
    if before.groups:
        yield ("usermod", "--append", "--groups", ",".join(before.groups))
    if before.linger:
        yield ("loginctl", "enable-linger")


def restore(host: Host, before: Before, name: str, shell: str | None) -> list[tuple[str, ...]]:
    """The steps of `unlock` that are possible now: a group may be gone."""
    there = {group.name for group in host.groups}
    kept = tuple(group for group in before.groups if group in there)
    return [(*step, name) for step in unlock(Before(**{**asdict(before), "groups": kept}), shell)]


def own_group(host: Host, account: Account) -> Group | None:
    """The local group that is this account's alone: its name, its primary group, nobody else in it."""
    group = host.group(account.name)
    others = [one.name for one in (*host.accounts, *host.remote_accounts) if one.gid == account.gid and one != account]
    alone = group and group.gid == account.gid and not others and not set(group.members) - {account.name}
    return group if alone else None


@dataclass(frozen=True)
class Left:
    """What became of an account that goes: what was done to lock it, where its keys are, whether it is removed."""

    account: Account
    steps: tuple[tuple[str, ...], ...] = ()
    aside: tuple[str, ...] = ()
    removed: bool = False

    @property
    def changed(self) -> bool:
        return self.removed or bool(self.steps or self.aside)

    def texts(self) -> tuple[str, str]:
        """Before and after, for a diff."""
        one = self.account
        if self.removed:
            return f"{one}\n", f"files of {one.uid}:{one.gid} stay, {one.home} too\n"
        lines = [*(" ".join(argv) for argv in self.steps), *(f"keys: in {path}" for path in self.aside)]
        return f"{one}\n", "\n".join([str(one), *lines]) + "\n"


def foresee(host: Host, gone: Sequence[Account], refused: list[Refusal] | None = None) -> list[Left]:
    """What `leave` would do, with nothing changed."""
    found = []
    for account in gone:
        busy = hosts.busy(host.processes, account)
        found.append(Left(account, tuple(lock(host, account)) if busy else (), removed=not busy))
        if busy and refused is not None:
            refused.append(Refusal.of(account.name, still_there(account, busy, "nobody will be able to log in as it")))
    return found


def leave(
    run: Run,
    host: Host,
    gone: Sequence[Account],
    state_dir: Path,
    refused: list[Refusal] | None = None,
    *,
    proc: Path = Path("/proc"),
    put_aside: PutAside = put_aside_as_account,
) -> list[Left]:
    """Lock accounts, then remove those of which nothing runs, with their own groups; never a file.

    Args:
        refused: takes the others, with what still runs, and those that cannot be locked or removed; without it the
            first one is an error.
        proc: where processes are read once the accounts are locked.
        put_aside: takes the keys of one that waits.
    """
    done = []
    for account in gone:
        steps: tuple[tuple[str, ...], ...] = ()
        try:
            steps = _lock(run, host, account, state_dir)
            busy = hosts.busy(hosts.read_processes(proc), account)
            if busy:
                aside, words = _take_keys(host, account, put_aside)
                done.append(Left(account, steps, aside))
                raise still_there(account, busy, words)
            _remove(run, host, account)
            record_path(state_dir, account.name).unlink(missing_ok=True)
            done.append(Left(account, steps, removed=True))
        except (GpusteadError, OSError) as error:
            if refused is None:
                raise
            said = error if isinstance(error, GpusteadError) else of_system(error, f"account '{account.name}'")
            refused.append(Refusal.of(account.name, said))
    return done


def _lock(run: Run, host: Host, account: Account, state_dir: Path) -> tuple[tuple[str, ...], ...]:
    path = record_path(state_dir, account.name)
    if not path.exists():
        hosts.write_whole(path, json.dumps(asdict(now(host, account))) + "\n")
    steps = tuple(lock(host, account))
    for argv in steps:
        if argv[0] == "loginctl" and run(argv, "")[0] == 0:
            continue
        # Where logind does not answer, it finds at its next start that the file is gone.
        must(run, ["rm", "-f", f"{hosts.LINGER}/{account.name}"] if argv[0] == "loginctl" else argv)
    return steps


def _remove(run: Run, host: Host, account: Account) -> None:
    must(run, ["userdel", account.name])
    if own_group(host, account):
        # Where login.defs has USERGROUPS_ENAB, userdel has done that: 6 says that there is none.
        must(run, ["groupdel", account.name], fine=(0, 6))


def _take_keys(host: Host, account: Account, put_aside: PutAside) -> tuple[tuple[str, ...], str]:
    """Where its keys are now, and that in words. Should it be unlocked by hand, they would let somebody in."""
    groups = tuple(group.gid for group in host.groups if account.name in group.members)
    keys = Keys(account.name, account.uid, account.gid, account.home, groups=groups)
    try:
        moved = tuple(put_aside(keys))
    except GpusteadError as error:
        return (), f"nobody can log in as it; its keys stay where they are ({error.what})"
    return moved, "nobody can log in as it" + (f", its keys are in {' and '.join(moved)}" if moved else "")


def still_there(account: Account, busy: str, words: str) -> GpusteadError:
    what = f"account '{account.name}' is not declared any more, and still has running processes ({busy}); {words}"
    remedy = f"End them ({how_to_end(account)}), then run again: it is removed when nothing of it runs."
    return GpusteadError(what, "none", remedy)


def how_to_end(account: Account) -> str:
    return f"loginctl terminate-user {account.name}; those of a workspace end when it leaves workspace_instances"
