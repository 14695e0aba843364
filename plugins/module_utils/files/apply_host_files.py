# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes directories and files of root's on a host, where nobody else can exchange what lies on the way to them.

All is planned, and what has a checker is checked, before anything is changed.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import stat
import struct
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import directory_services
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import FIRST_USER_ID
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.names import FIXED_GROUPS
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files import leftovers
from ansible_collections.gpustead.cluster.plugins.module_utils.files.host_files import HostEntry, Observed, Plan, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
_HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP = _HELD | os.O_DIRECTORY
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_Identity = tuple[int, int]  # device and inode
_LINKS = 40  # on the way of one path, as the kernel has it
_ACL_USER, _ACL_OWNING_GROUP, _ACL_GROUP = 0x02, 0x04, 0x08  # linux/posix_acl.h
_SHOWN = 1000  # characters of what a checker says
_ANSWERING = 20.0  # seconds for all sources of accounts to say who is in a group


def plan_all(entries: Iterable[HostEntry], *, close: bool = True) -> list[Plan]:
    """What is to be done about entries, each as those before it will have left the host; changes nothing.

    Args:
        entries: in the order in which they are made.
        close: whether what lies in a directory of root's that others can change, and that an entry before closes, is
            looked at all the same. Nothing that is there may be believed then.

    Raises:
        GpusteadError: one cannot be done, or somebody else than root may change what lies on the way to it and no entry
            before it closes that.
    """
    plans: dict[str, Plan] = {}
    result = []
    closing: set[_Identity] = set()
    for entry in entries:
        uid, gid = _ids(entry)
        one = plan(entry, uid, gid, _before(entry, plans, closing))
        if close and _closes(one):
            closing.add(_identity(entry, closing))
        plans[entry.path] = one
        result.append(one)
    return result


def validate_all(plans: Iterable[Plan], run: Run) -> None:
    """Have the new content of each file accepted by its checker.

    Raises:
        GpusteadError: it is refused; with what the checker says, but for secrets.
    """
    plans = list(plans)
    for one in plans:
        if one.written and one.entry.validate:
            place = os.path.dirname(one.entry.path)
            beside = {
                os.path.basename(other.entry.path): other.after.content
                for other in plans
                if os.path.dirname(other.entry.path) == place and other.after.content is not None
            }
            _validate(one.entry, beside, run)


def apply_all(plans: Iterable[Plan]) -> None:
    """Carry the plans out, in their order. Raises GpusteadError, or OSError."""
    was_open = ""
    for one in plans:
        if was_open:
            _refuse_exchanged(one, was_open)
        if not one.changed:
            continue
        try:
            with _parent(one.entry) as (directory, name):
                _apply(one, directory, name)
        except FileNotFoundError as error:
            remedy = "Make it by an entry before this one."
            raise GpusteadError(f"the directory of {one.entry.path} is not there", "it to be", remedy) from error
        was_open = was_open or (one.entry.path if _closes(one) else "")


def _closes(one: Plan) -> bool:
    """Whether a directory of root's that others can change is root's alone after it. What is theirs stays theirs."""
    before, after = one.before, one.after
    ours = before.kind == after.kind == "directory" and before.uid in _trusted() and after.uid in _trusted()
    return ours and bool(before.mode & _FOR_OTHERS) and not after.mode & _FOR_OTHERS


def _identity(entry: HostEntry, closing: Collection[_Identity]) -> _Identity:
    with _parent(entry, closing) as (directory, name):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return status.st_dev, status.st_ino


def _refuse_exchanged(one: Plan, was_open: str) -> None:
    """Raise where something is not as it was when it was planned, which others could change until now."""
    if _observe(one.entry, {}) != one.before:
        what = f"{one.entry.path} is another one now: until now others could change what lies in {was_open}"
        raise GpusteadError(what, "what was there a moment ago", "See who did that, put it right, and run again.")


def _before(entry: HostEntry, plans: dict[str, Plan], closing: Collection[_Identity]) -> Observed:
    """What this entry comes upon: what is there, or what those before it will have made of that."""
    found = plans[entry.path].after if entry.path in plans else _observe(entry, plans, closing)
    # Their plan had no use for a content that they leave.
    is_unread = found.kind == "file" and found.content is None and entry.path in plans
    return replace(found, content=_observe(entry, plans, closing).content) if is_unread else found


def _observe(entry: HostEntry, planned: dict[str, Plan], closing: Collection[_Identity] = ()) -> Observed:
    """What is there, without what is planned to go."""
    if entry.state == "absent" and not os.path.lexists(entry.path):
        return Observed()  # nothing is touched: who can change the way to it is no matter
    try:
        with _parent(entry, closing) as (directory, name):
            held = os.open(name, _HELD, dir_fd=directory)
            try:
                found = _look(held, entry, directory, name)
            finally:
                os.close(held)
    except FileNotFoundError:
        return Observed()
    gone = {path for path, one in planned.items() if not one.after.kind}
    names = tuple(name for name in found.names if os.path.join(entry.path, name) not in gone)
    return Observed(found.kind, found.uid, found.gid, found.mode, found.content, found.target, names)


def _look(held: int, entry: HostEntry, directory: int, name: str) -> Observed:
    status = os.fstat(held)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "special file")
    content, target = None, ""
    names: tuple[str, ...] = ()
    if kind == "file" and not entry.once and (entry.state == "block" or entry.content is not None):
        with open(_through(held), "rb") as file:
            content = file.read()
    elif kind == "link":
        target = os.readlink(name, dir_fd=directory)
    elif kind == "directory" and entry.state == "absent":
        names = tuple(sorted(os.listdir(_through(held))))
    return Observed(kind, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), content, target, names)


def _through(held: int) -> str:
    """The path by which the kernel reaches what such a descriptor holds, and nothing else."""
    return f"/proc/self/fd/{held}"


def _apply(one: Plan, directory: int, name: str) -> None:
    before, after = one.before, one.after
    if not after.kind:
        os.rmdir(name, dir_fd=directory) if before.kind == "directory" else os.unlink(name, dir_fd=directory)
    elif one.written:
        if one.entry.backup and before.content is not None:
            _keep(before, directory, name)
        owner = (after.uid, after.gid)
        as_account.put(directory, name, after.content or b"", after.mode, owner=owner)
        _sweep(directory, name, leftovers.KEEP if one.entry.backup else None)
    else:
        if not before.kind:
            os.mkdir(name, 0o700, dir_fd=directory)
        held = os.open(name, _HELD, dir_fd=directory)
        try:
            os.chown(_through(held), after.uid, after.gid)
            os.chmod(_through(held), after.mode)
        finally:
            os.close(held)


def _keep(found: Observed, directory: int, name: str) -> None:
    """Keep a copy of what is replaced."""
    copy = f"{name}.{time.strftime('%Y-%m-%d@%H:%M:%S')}.bak"
    as_account.put(directory, copy, found.content or b"", found.mode, owner=(found.uid, found.gid))


def _sweep(directory: int, name: str, keep: int | None) -> None:
    """Remove what killed runs have left beside a file, and its copies but for the last."""
    with contextlib.suppress(OSError):
        leftovers.remove(leftovers.find([f"{_through(directory)}/{name}"], keep, time.time()))


def _validate(entry: HostEntry, contents: Mapping[str, bytes], run: Run) -> None:
    """Have a file checked among those that will lie beside it, `contents` by name."""
    with tempfile.TemporaryDirectory(prefix="gpustead-") as folder:
        for name, content in contents.items():
            path = os.path.join(folder, name)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(content)
        # Some checkers go by the name.
        file = os.path.join(folder, os.path.basename(entry.path))
        argv = [word.replace("%s", file).replace("%d", folder) for word in entry.validate]
        code, out_text, err = run(argv)
    if code:
        said = "not shown, as the file has a secret" if entry.secret else (err or out_text).strip()[:_SHOWN]
        remedy = "Correct what is written there; the file was left as it is."
        raise GpusteadError(f"{argv[0]} does not accept {entry.path}: {said}", "that it does", remedy)


def _ids(entry: HostEntry) -> tuple[int, int]:
    def number(name: str, find: Callable[[str], Any]) -> int:
        if name.isdigit():
            return int(name)
        try:
            return int(find(name)[2])
        except KeyError:
            remedy = "Make the account first, or name another."
            raise GpusteadError(f"{name!r}, whose {entry.path} is to be", "an account of this host", remedy) from None

    return number(entry.owner, pwd.getpwnam), number(entry.group, grp.getgrnam)


@contextlib.contextmanager
def _parent(entry: HostEntry, closing: Collection[_Identity] = ()) -> Iterator[tuple[int, str]]:
    """The open directory in which an entry lies, and its name there.

    `closing`: directories that may be open to others still.

    A link is followed where only root can have made it, as /var/run and /lib are; in the place of the entry itself only
    where the entry says so.

    Raises:
        GpusteadError: somebody else can change a directory on the way.
        FileNotFoundError: a directory on the way is not there.
    """
    ahead = entry.path.strip("/").split("/")[::-1]
    at = os.open("/", _STEP)
    links = 0
    try:
        while True:
            name, last = ahead.pop(), not ahead
            status = os.fstat(at)
            if (status.st_dev, status.st_ino) not in closing:
                _refuse_others(at, status, entry.path, last)
            target = "" if last and not entry.follows else _link(at, name, entry.path)
            if target:
                links += 1
                ahead += [step for step in target.split("/") if step not in ("", ".")][::-1]
                if links > _LINKS or not ahead:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), entry.path)
                at = _enter(at, "/" if target.startswith("/") else ".")
            elif last:
                yield at, name
                return
            else:
                at = _enter(at, name)
    finally:
        os.close(at)


def _enter(at: int, name: str) -> int:
    """The directory of that name in an open one, which is closed."""
    inner = os.open(name, _STEP, dir_fd=at)
    os.close(at)
    return inner


def _link(at: int, name: str, path: str) -> str:
    """Where a link of that name leads; empty where there is none."""
    try:
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return ""
    if not stat.S_ISLNK(status.st_mode):
        return ""
    if status.st_uid not in _trusted():
        place = os.path.join(os.readlink(_through(at)), name)
        what = f"{place}, on the way to {path}, is a link of uid {status.st_uid}"
        raise GpusteadError(what, "no link, or one of root's", "Move it out of the way.")
    return os.readlink(name, dir_fd=at)


def _trusted() -> tuple[int, ...]:
    """Who may change what lies on the way: root, and who we are."""
    return 0, os.geteuid()


def _refuse_others(at: int, status: os.stat_result, path: str, last: bool) -> None:
    """Refuse a directory in which others can exchange what is there, or, where it is the last, make something."""
    for_all = bool(status.st_mode & stat.S_IWOTH)
    by_acl = _writers_of_acl(at, status.st_gid)
    others = () if not status.st_mode & stat.S_IWGRP else _others(status.st_gid) if by_acl is None else by_acl
    # In a sticky one nobody exchanges what is root's; who owns what is entered next is looked at there.
    is_sticky = status.st_mode & stat.S_ISVTX and not last
    is_ours = status.st_uid in _trusted()
    if is_ours and (is_sticky or not (for_all or others)):
        return
    place = os.readlink(_through(at))
    what = f"{place}, where {path} lies, can be changed by others (owner {status.st_uid}, group {status.st_gid}, mode"
    letters = "g" * bool(others) + "o" * for_all
    commands = [f"chown root {place}"] * (not is_ours) + [f"chmod {letters}-w {place}"] * bool(letters)
    named = ", ".join(filter(None, others)) if is_ours and not for_all and by_acl is None else ""
    leave = f"; or take {named} out of the group (gpasswd -d)" if named else ""
    raise GpusteadError(
        f"{what} {stat.S_IMODE(status.st_mode):04o})",
        "a directory that only root can change",
        f"See who needs that, then: {' && '.join(commands)}{leave}.",
    )


def _writers_of_acl(at: int, gid: int) -> tuple[str, ...] | None:
    """Who besides root may write by the ACL of a directory, as `_others`; None where it has none. With one, the group's
    permissions are the most that anybody in it has, and need not be the group's."""
    try:
        acl = os.getxattr(_through(at), "system.posix_acl_access")
    except OSError:  # or the file system knows none
        return None
    found: list[str] = []
    for tag, permissions, number in struct.iter_unpack("<HHI", acl[4:]):
        if permissions & os.W_OK and tag == _ACL_USER:
            found += [] if number in _trusted() else [f"uid {number}"]
        elif permissions & os.W_OK and tag in (_ACL_GROUP, _ACL_OWNING_GROUP):
            found += _others(gid if tag == _ACL_OWNING_GROUP else number)
    return tuple(found)


@cache  # all accounts are looked at, of a directory service too, and many files lie in one place
def _others(gid: int) -> tuple[str, ...]:
    """Who is in a group besides root, by names; an empty one where that is not known.

    Debian's staff, which may write below /usr/local, has nobody in it.
    """
    if gid == 0:
        return ()
    us = as_account.Identity(os.geteuid(), os.getegid())
    try:
        return tuple(as_account.run(partial(_members, gid), us, timeout=_ANSWERING, place=f"group {gid}"))
    except GpusteadError:  # a directory service that hangs would keep us for minutes
        return ("",)


def _members(gid: int) -> list[str]:
    """Work of a child."""
    try:
        members = grp.getgrgid(gid).gr_mem
    except KeyError:  # it has no name: who could come into it is not known
        members = [""]
    primary = {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid and user.pw_uid not in _trusted()}
    unlisted = {""} if _may_be_of_a_directory(gid) else set()
    return sorted({name for name in members if not _is_trusted(name)} | primary | unlisted)


def _may_be_of_a_directory(gid: int) -> bool:
    """Whether accounts of a directory service may be in a group and stand in no list: sssd lists no accounts unless it
    is told to (`enumerate`), and no members of groups where it is told not to (`ignore_group_members`)."""
    has_people = gid >= FIRST_USER_ID or gid in FIXED_GROUPS.values()
    return has_people and bool(directory_services.services(Path("/")))


def _is_trusted(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid in _trusted()
    except KeyError:  # nor who could become one that is not there
        return False


def with_directories_above(entries: Iterable[HostEntry]) -> Iterator[HostEntry]:
    """Entries, and before a directory those above it that are missing: anybody can enter them."""
    known = set()
    for entry in entries:
        above = [os.path.dirname(entry.path)] if entry.state == "directory" else []
        while above and above[-1] not in known and not os.path.lexists(above[-1]):
            above.append(os.path.dirname(above[-1]))
        for path in above[:-1][::-1]:
            yield HostEntry(path, "directory", str(os.geteuid()), str(os.getegid()), 0o755, once=True)
        known |= {entry.path, *above}
        yield entry


def with_strays(entries: Iterable[HostEntry], named: Collection[str]) -> Iterator[HostEntry]:
    """Entries, and after them what else lies in exclusive directories: it goes.

    Args:
        named: paths that stay, of entries that do not count as well.
    """
    exclusive = []
    for entry in entries:
        yield entry
        exclusive += [entry.path] * entry.exclusive
    for directory in exclusive:
        with contextlib.suppress(FileNotFoundError):
            paths = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]
            yield from (HostEntry(path, "absent") for path in paths if path not in named)
