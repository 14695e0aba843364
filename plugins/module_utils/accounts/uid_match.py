# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts with exactly the declared ids: all changes are planned before the first one is made.

A refusal leaves the host as it was, or, where all others are to be changed, that account.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import (
    FIRST_SUBORDINATE_ID,
    FIRST_USER_ID,
    NOBODY,
    Account,
    Group,
    HostAccounts,
    Range,
    Renumbering,
    how_to_end,
    is_within,
    processes_of,
    refuse_busy,
    stays,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.names import FORM, is_name, reserved
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.removal import unlock
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal

# usermod -u walks through the home directory by itself, and across file systems; not through one that is not there.
NOWHERE = "/nonexistent/gpustead"
NO_SHELL = ("nologin", "false")


@dataclass(frozen=True)
class DesiredAccount:
    """An account as declared; None is "as it is".

    `hold` says why one that is there must keep its ids; `former_groups` are those that it was given and that are not
    declared any more; `group_ids` are the gids that some of `groups` must have.
    """

    name: str
    uid: int
    gid: int
    group: str
    groups: tuple[str, ...] = ()
    home: str | None = None
    shell: str | None = None
    comment: str | None = None
    system: bool = False
    password_hash: str | None = field(default=None, repr=False)
    roots: tuple[str, ...] = ("/home",)
    hold: str = ""
    former_groups: tuple[str, ...] = ()
    group_ids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class AccountChange:
    """All that is to be done for one account, in this order: core, then (after the others' core) extras.

    `left`: groups that it is taken out of; `subordinate`: ids that what runs in its name may have as well.
    """

    desired: DesiredAccount
    before: Account | None
    after: Account
    renumbering: Renumbering | None = None
    core: tuple[tuple[str, ...], ...] = ()
    extras: tuple[tuple[str, ...], ...] = ()
    password: bool = False
    unlock: bool = False
    left: tuple[Group, ...] = ()
    subordinate: tuple[Range, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.renumbering or self.core or self.extras or self.password or self.unlock)

    def texts(self) -> tuple[str, str]:
        """Before and after, for a diff; without secrets."""
        before = f"{self.before}\n" if self.before else ""
        after = [str(self.after)]
        after += [self.renumbering.text()] if self.renumbering else []
        after += [" ".join(argv) for argv in self.extras]
        after += ["password: set"] if self.password else []
        return before, "\n".join(after) + "\n"


def plan(
    host: HostAccounts, declared: Sequence[DesiredAccount], refused: list[Refusal] | None = None
) -> list[AccountChange]:
    """Plans all accounts, each on the host as the former ones will leave it.

    `refused` takes those that cannot be as declared; without it the first one is an error.
    """
    changes = []
    ids = declared_ids(declared)
    for desired in declared:
        try:
            change = plan_one(host, desired, ids)
        except GpusteadError as error:
            if refused is None:
                raise
            refused.append(Refusal.of(desired.name, error))
            continue
        changes.append(change)
        if change.changed:
            others = (account for account in host.accounts if account.name != desired.name)
            groups = (group for group in host.groups if group.name != desired.group)
            group = replace(host.group(desired.group) or Group(desired.group, desired.gid), gid=desired.gid)
            host = replace(host, accounts=(*others, change.after), groups=(*groups, group))
    return changes


def refuse_name(desired: DesiredAccount) -> None:
    """Packages take the users and groups that they find by name; who has them gets what these may."""
    if not is_name(desired.name):
        raise GpusteadError(f"account {desired.name!r}", f"a name of {FORM}", "Choose another name.")
    if reserved(desired.name) and not desired.system:
        raise GpusteadError(reserved(desired.name), "one that an account may have", "Choose another name.")


def refuse_foreign_ids(host: HostAccounts, desired: DesiredAccount) -> None:
    """The ids must be free, or the account's already."""
    if desired.uid == 0 or desired.gid == 0:
        raise GpusteadError(f"account '{desired.name}' with id 0", "ids above 0", "Root is no account of the cluster.")
    if desired.uid < FIRST_USER_ID and not desired.system:
        remedy = f"Choose uid {FIRST_USER_ID} or above for '{desired.name}', or say system: true."
        what = f"uid {desired.uid} of '{desired.name}' is a system id"
        raise GpusteadError(what, f"{FIRST_USER_ID} or above", remedy)
    holders = host.holders(desired.uid, desired.name)
    if holders:
        remedy = f"Choose another uid for '{desired.name}', or renumber '{holders[0]}' first."
        if any(one.name in holders for one in host.remote_accounts):
            remedy = f"Declare it by that name, or choose another uid for '{desired.name}': the directory is not ours."
        what = f"uid {desired.uid} belongs to '{', '.join(holders)}'"
        raise GpusteadError(what, f"'{desired.name}' or nobody", remedy)
    holders = host.group_holders(desired.gid, desired.group)
    if holders:
        remedy = f"Choose another gid for '{desired.name}', or set its group to '{holders[0]}'."
        what = f"gid {desired.gid} belongs to '{', '.join(holders)}'"
        raise GpusteadError(what, f"'{desired.group}' or nobody", remedy)


def refuse_twins(host: HostAccounts, before: Account | None) -> None:
    """Which of them is meant cannot be told: files of both may lie anywhere."""
    for twin in host.twins:
        if before and twin.name == before.name and twin.uid != before.uid:
            ids = f"{before.uid}:{before.gid} in /etc/passwd and {twin.uid}:{twin.gid} in the directory service"
            remedy = f"Remove one of them (userdel {before.name}, its files stay), or give them the same ids."
            raise GpusteadError(f"account '{before.name}' is there twice, with {ids}", "one, or one uid", remedy)


def refuse_held(host: HostAccounts, before: Account, desired: DesiredAccount) -> None:
    """Files elsewhere would be another's; or it is the administrator's, who must get in with half of it done."""
    if desired.hold:
        what = f"account '{desired.name}' has {before.uid}:{before.gid}, and {desired.hold}"
        expected = f"{desired.uid}:{desired.gid}, there and on the host"
        raise GpusteadError(what, expected, "Put that right, then run again.")
    if before.uid == host.login:
        what = f"account '{desired.name}', as which Ansible logs in, has {before.uid}:{before.gid}"
        remedy = "Declare these ids, take it out of cluster_users, or let Ansible log in as another (ansible_user)."
        raise GpusteadError(what, f"{desired.uid}:{desired.gid}", remedy)


def refuse_closed(host: HostAccounts, renumbering: Renumbering) -> None:
    """Half of the files would be given away, or none."""
    for root in renumbering.roots:
        if root in host.closed_roots:
            ids = f"{renumbering.uid}:{renumbering.gid}"
            what = f"files of '{renumbering.name}' below {root} cannot be given to {ids} on {host.closed_roots[root]}"
            remedy = (
                "Declare the ids that it has, or give them away on the server and leave that out of accounts_roots."
            )
            raise GpusteadError(what, "a place where root may give files away", remedy)


def refuse_lockout(host: HostAccounts, before: Account, after: Account) -> None:
    """Keys lie in the home, and nobody gets in without a shell."""
    if before.uid != host.login:
        return
    whose = f"of '{after.name}', as which Ansible logs in"
    if after.home != before.home:
        what = f"home {after.home} {whose}, is another than {before.home}, where its keys are"
        raise GpusteadError(what, "the home that it has", "Leave home out, or let Ansible log in as another.")
    if after.shell != before.shell and (
        posixpath.basename(after.shell) in NO_SHELL or after.shell in host.missing_shells
    ):
        remedy = "Install it, declare another, or let Ansible log in as another."
        raise GpusteadError(f"shell {after.shell} {whose}, lets nobody in", "one that is there", remedy)


@dataclass(frozen=True)
class DeclaredIds:
    """The names and ids of all accounts that are declared."""

    names: frozenset[str] = frozenset()
    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()


def declared_ids(declared: Sequence[DesiredAccount]) -> DeclaredIds:
    names = frozenset(one.name for one in declared)
    return DeclaredIds(names, frozenset(one.uid for one in declared), frozenset(one.gid for one in declared))


def plan_one(host: HostAccounts, desired: DesiredAccount, declared: DeclaredIds) -> AccountChange:
    """Plans one account, or says why not."""
    if desired.name in host.unanswered:
        account = f"account '{desired.name}' (uid {desired.uid}, gid {desired.gid})"
        what = f"the directory service does not answer for {account}"
        remedy = "See nsswitch.conf and what it names (SSSD, LDAP); in the journal `Backend is offline` is of sssd."
        raise GpusteadError(what, "an answer to getent", remedy)
    remote = next((account for account in host.remote_accounts if account.name == desired.name), None)
    before = host.account(desired.name)
    if remote and not before:
        if (remote.uid, remote.gid) == (desired.uid, desired.gid):
            return AccountChange(desired, remote, remote)
        raise GpusteadError(
            f"account '{desired.name}' of the directory service has {remote.uid}:{remote.gid}",
            f"{desired.uid}:{desired.gid}",
            "Declare these ids, or change them in the directory: it is not ours to change.",
        )
    refuse_twins(host, before)
    refuse_foreign_ids(host, desired)
    group_steps, former_gid = plan_group(host, desired)
    group_steps += plan_subordinate(host, desired, declared)
    renumbering = plan_renumbering(host, desired, before, former_gid)
    refuse_name(desired)
    if renumbering and before and (before.uid, before.gid) != (desired.uid, desired.gid):
        refuse_held(host, before, desired)
        refuse_busy(host, before)
    if renumbering:
        refuse_closed(host, renumbering)
    locked = host.locked.get(desired.name)
    if before:
        home = desired.home or (renumbering.home if renumbering and before.home == NOWHERE else before.home)
        after = Account(
            desired.name,
            desired.uid,
            desired.gid,
            before.comment if desired.comment is None else desired.comment,
            home,
            desired.shell or before.shell,
        )
        refuse_lockout(host, before, after)
        steps = [*group_steps, *modifying_commands(before, after)]
        if locked:
            after = replace(after, shell=desired.shell or locked.shell)
            steps += [(*step, desired.name) for step in unlock(locked, desired.shell)]
    else:
        after = Account(
            desired.name,
            desired.uid,
            desired.gid,
            desired.comment or "",
            desired.home or f"/home/{desired.name}",
            desired.shell or ("/usr/sbin/nologin" if desired.system else "/bin/bash"),
        )
        if desired.name in host.insecure_homes:
            raise host.insecure_homes[desired.name]
        steps = [*group_steps, creating_command(after, desired.system, subordinate(host, declared))]
    password = desired.password_hash is not None and host.hashes.get(desired.name) != desired.password_hash
    extras = tuple(plan_extras(host, desired))
    left = tuple(
        group for group in host.groups if any(argv[0] == "gpasswd" and argv[-1] == group.name for argv in extras)
    )
    ranges = host.subuids.get(desired.name, ())
    unlocked = locked is not None
    return AccountChange(desired, before, after, renumbering, tuple(steps), extras, password, unlocked, left, ranges)


def plan_group(host: HostAccounts, desired: DesiredAccount) -> tuple[list[tuple[str, ...]], int | None]:
    """Steps for the primary group, and its former gid when it is renumbered."""
    remote = next((group for group in host.remote_groups if group.name == desired.group), None)
    local = host.group(desired.group)
    if local and local.gid == desired.gid:
        return [], None
    if local:
        if stays(local.gid, desired.system):
            remedy = f"Set group of '{desired.name}' to a name that is free."
            raise GpusteadError(f"group '{desired.group}' is a system group, gid {local.gid}", f"{desired.gid}", remedy)
        return [("groupmod", "-g", str(desired.gid), desired.group)], local.gid
    if remote and remote.gid != desired.gid:
        remedy = "Declare that gid, or another group: the directory is not ours to change."
        what = f"group '{desired.group}' of the directory service has gid {remote.gid}"
        raise GpusteadError(what, f"{desired.gid}", remedy)
    return ([] if remote else [("groupadd", "-g", str(desired.gid), desired.group)]), None


def plan_renumbering(
    host: HostAccounts, desired: DesiredAccount, before: Account | None, former_gid: int | None
) -> Renumbering | None:
    """Which files change, with those of a run that did not come to its end."""
    begun = host.journals.get(desired.name)
    old_uids = {before.uid} if before else set()
    old_gids = {before.gid} if before else set()
    roots = list(desired.roots)
    if begun:
        old_uids |= {*begun.old_uids, begun.uid}
        old_gids |= {*begun.old_gids, begun.gid}
        roots = [*roots, *(root for root in begun.roots if root not in roots)]
    if former_gid is not None:
        old_gids.add(former_gid)
    old_uids.discard(desired.uid)
    old_gids.discard(desired.gid)
    if not begun and not old_uids and not old_gids:
        return None
    whole = former_gid is not None or bool(begun and begun.whole_group)
    if before and before.uid != desired.uid and stays(before.uid, desired.system):
        remedy = "Choose another name, or say system: true."
        raise GpusteadError(f"'{desired.name}' is a system account, uid {before.uid}", f"uid {desired.uid}", remedy)
    for uid in sorted(old_uids):
        holders = host.holders(uid, desired.name)
        if holders:
            what = f"former uid {uid} of '{desired.name}' belongs to '{', '.join(holders)}' too"
            raise GpusteadError(what, f"'{desired.name}' alone", "Whose files these are must be told apart by hand.")
    for gid in sorted(old_gids) if whole else []:
        holders = host.group_holders(gid, desired.group)
        if holders and gid != (before.gid if before else None):
            what = f"former gid {gid} of group '{desired.group}' belongs to '{', '.join(holders)}' too"
            raise GpusteadError(what, f"'{desired.group}' alone", "Whose files these are must be told apart by hand.")
    home = begun.home if begun else (before.home if before else f"/home/{desired.name}")
    former = tuple(sorted(old_uids)), tuple(sorted(old_gids))
    return Renumbering(desired.name, *former, desired.uid, desired.gid, whole, home, tuple(roots))


def modifying_commands(before: Account, after: Account) -> Iterator[tuple[str, ...]]:
    """The ids by themselves, without a home directory for usermod to walk through; then all else."""
    ids = (before.uid, before.gid) != (after.uid, after.gid)
    if ids:
        yield ("usermod", "-d", NOWHERE, "-u", str(after.uid), "-g", str(after.gid), after.name)
    options = {
        "-d": after.home if ids or after.home != before.home else None,
        "-s": after.shell if after.shell != before.shell else None,
        "-c": after.comment if after.comment != before.comment else None,
    }
    words = [word for option, value in options.items() if value is not None for word in (option, value)]
    if words:
        yield ("usermod", *words, after.name)


def subordinate(host: HostAccounts, declared: DeclaredIds) -> bool:
    """Whether useradd may give subordinate ids: it looks at no account's own, and one has an id where they begin."""
    ids = {number for account in (*host.accounts, *host.remote_accounts) for number in (account.uid, account.gid)}
    return max({*ids, *declared.uids, *declared.gids} - NOBODY, default=0) < FIRST_SUBORDINATE_ID


def plan_subordinate(host: HostAccounts, desired: DesiredAccount, declared: DeclaredIds) -> list[tuple[str, ...]]:
    """Steps that take subordinate ids back which are an account's: with them one becomes that account.

    From this account, those that are another's; and from whoever has them, those that are this one's. Raises
    GpusteadError where these are of an account that is not declared: they are not ours to take; or of one that has
    processes with them.
    """
    steps: list[tuple[str, ...]] = []
    for option, ranges, own, others in (
        ("--del-subuids", host.subuids, desired.uid, declared.uids | {one.uid for one in host.accounts}),
        ("--del-subgids", host.subgids, desired.gid, declared.gids | {one.gid for one in host.accounts}),
    ):
        for holder, each in ((holder, one) for holder, several in ranges.items() for one in several):
            mine = holder == desired.name and any(is_within(number, [each]) for number in others)
            if not mine and not is_within(own, [each]):
                continue
            if holder not in declared.names:
                what = f"id {own} of '{desired.name}' is among the subordinate ids of '{holder}' ({each[0]}:{each[1]})"
                remedy = f"Choose another for '{desired.name}', or take them from '{holder}' (usermod {option})."
                raise GpusteadError(what, "one that nobody else can become", remedy)
            refuse_in_use(host, holder, each)
            steps.append(("usermod", option, f"{each[0]}-{each[0] + each[1] - 1}", holder))
    return steps


def refuse_in_use(host: HostAccounts, holder: str, each: Range) -> None:
    """A user namespace that was made keeps its ids, whatever becomes of /etc/subuid."""
    account, inside = host.account(holder), [one for one in host.processes if one.pid in host.in_namespaces]
    found = processes_of(account, inside, host.subuids.get(holder, ())) if account else ""
    if account and found:
        what = f"subordinate ids {each[0]}:{each[1]} of '{holder}' hold an account's, and processes have them ({found})"
        raise GpusteadError(what, "none, to take them back", f"End them ({how_to_end(account)}), then run again.")


def creating_command(account: Account, system: bool, subordinate: bool = True) -> tuple[str, ...]:
    """A new account; a system account gets no home directory."""
    kind = ["-r", "-M"] if system else ["-m"]
    kind += [] if subordinate else ["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"]
    ids = ["-u", str(account.uid), "-g", str(account.gid)]
    return ("useradd", *kind, *ids, "-d", account.home, "-s", account.shell, "-c", account.comment, account.name)


def _refuse_other_gid(host: HostAccounts, name: str, gid: int, there: Group | None) -> None:
    """On the share the number counts, which is one for all hosts."""
    holders = host.group_holders(gid, name)
    if there and there.gid != gid:
        remedy = f"Renumber it (groupmod -g {gid} {name}, and chgrp its files), or declare another group."
        raise GpusteadError(f"group '{name}' has gid {there.gid}", f"{gid}", remedy)
    if holders:
        what = f"gid {gid} of group '{name}' belongs to '{', '.join(holders)}'"
        raise GpusteadError(what, f"'{name}' or nobody", f"Declare another gid for '{name}'.")


def plan_extras(host: HostAccounts, desired: DesiredAccount) -> Iterator[tuple[str, ...]]:
    """Supplementary groups, added to those that the account has but for those that it was given formerly."""
    known = {group.name: group for group in (*host.remote_groups, *host.groups)}
    missing = [name for name in desired.groups if name not in known or desired.name not in known[name].members]
    for name, gid in desired.group_ids.items():
        _refuse_other_gid(host, name, gid, known.get(name))
    for name in missing:
        if name not in known:
            ids = ("-g", str(desired.group_ids[name])) if name in desired.group_ids else ("-r",)
            yield ("groupadd", "-f", *ids, name)  # -f: another account of this run may have made it
        elif not host.group(name):
            remedy = f"Add '{desired.name}' there: the directory is not ours to change."
            raise GpusteadError(f"group '{name}' is of the directory service", f"'{desired.name}' in it", remedy)
    if missing:
        yield ("usermod", "-a", "-G", ",".join(missing), desired.name)
    before = host.account(desired.name)
    for group in map(host.group, desired.former_groups):
        if not group or group.name in desired.groups or desired.name not in group.members:
            continue
        if before and before.uid == host.login:  # it may be by this group that it becomes root
            what = f"group '{group.name}' of '{desired.name}', as which Ansible logs in, is not declared any more"
            remedy = f"Declare it, or take it away by hand (gpasswd --delete {desired.name} {group.name})."
            raise GpusteadError(what, "the groups that it has", remedy)
        yield ("gpasswd", "--delete", desired.name, group.name)
