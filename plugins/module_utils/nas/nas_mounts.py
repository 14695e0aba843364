# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The shares that a host mounts: their lines of fstab, and the mounts themselves.

What is mounted is read from the kernel's own list: accounts mount, too (FUSE), and choose names in it that are no
text, or look like another line to others who read it. A NAS that hangs is asked by commands alone, within a time.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Callable

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts as kernel
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import (
    AUTOFS,
    HARMLESS,
    Mounted,
    unescape,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT, Run, must
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_ROOT = as_account.Identity(0, 0)
_MOST = 10  # mounts on top of each other

_BY_HAND = "See what the NAS says, and run it there by hand."
# What mount(8) and mount.nfs(8) say, as captured from nfs-utils 2.8 or in its utils/mount/error.c, and what to do.
_SERVER = "See whether the server runs (systemctl status nfs-server), and whether a firewall keeps this host from it."
_STALE = "The export was exchanged: end what uses it, `umount -f` it here, and run again."
_REMEDIES = (
    (r"helper program|unknown filesystem", "Install the client of this kind (nas_packages)."),
    (
        r"statd is not running",
        "Locks of NFS 3 need it here: `systemctl start rpcbind.socket rpc-statd` says why it does not run.",
    ),
    (
        r"portmap query|mountd port|not registered",
        "NFS 3 needs rpcbind and mountd of the server, as `rpcinfo -p SERVER` lists them: start them there, let this"
        " host reach them, or mount by NFS 4 (nas_fstype: nfs4).",
    ),
    (
        r"No such file",
        "The server has no such path, or not for this host: see `exportfs -s` there, and correct the source.",
    ),
    (r"denied|not permitted", "Have the server export it to this host's address: see `exportfs -s` there."),
    (
        r"not supported|incorrect mount option|bad option",
        "Ask for what the server has, as `cat /proc/fs/nfsd/versions` says there: cluster_nfs_version, or `vers=` in"
        " nas_options.",
    ),
    (r"resolve", "Correct the name of the server, or have this host resolve it."),
    (r"[Ss]tale", _STALE),
    (r"no answer|timed out|refused|No route|unreachable|Host is down", _SERVER),
)
# Sources on other hosts: `admin@<fsid>.<name>=/path`, and `<servers>:/path`, whose slash GlusterFS does not need.
_HELPERS = ("efs", "aznfs")  # of Amazon and Microsoft: they mount NFS, by an address of their own
_CEPH = re.compile(r"(?P<user>[^@=/]+)@(?P<fsid>[^.=/]*)\.(?P<name>[^=/]+)=(?P<path>/.*)")
_SERVERS = re.compile(r"(?P<servers>(?:\[[^\]]*\]|[^\[\]/])+?):(?P<path>/(?!/).*|/?|[^/:,]+(?:/.*)?)")
Look = Callable[[], Mapping[str, Mounted]]


@dataclass(frozen=True)
class DeclaredMount:
    """A mount as it is declared, with its kind and its options."""

    path: str
    source: str
    fstype: str
    options: str

    @property
    def is_read_only(self) -> bool:
        return "ro" in self.options.split(",")

    @property
    def is_automount(self) -> bool:
        return "x-systemd.automount" in self.options.split(",")

    @property
    def place(self) -> str:
        return bare(self.path)


def bare(path: str) -> str:
    return path.rstrip("/") or "/"


def harmless(options: str) -> str:
    """The options, and that setuid programs and devices do nothing: whoever is root elsewhere makes them there."""
    kept = [one for one in options.split(",") if one and one not in ("suid", "dev")]
    return ",".join([*kept, *(one for one in HARMLESS if one not in kept)])


def unit_of(path: str, kind: str) -> str:
    r"""The systemd unit of a mountpoint, as systemd-escape(1) has it: of /mnt/my-nas `mnt-my\x2dnas.mount`."""
    bare_path = os.fsencode(re.sub("/+", "/", path).strip("/"))
    escaped = re.sub(rb"[^\w:./]|\A\.", lambda one: b"\\x%02x" % one[0][0], bare_path)
    return f"{escaped.decode().replace('/', '-') or '-'}.{kind}"


# fstab


def with_lines(text: str, mounts: Iterable[DeclaredMount]) -> str:
    """The text of fstab with exactly one line for each of the mounts; other lines stay as they are."""
    for mount in mounts:
        fields = [_escaped(mount.source), _escaped(mount.path), mount.fstype, mount.options, "0", "0"]
        lines: list[str] = []
        found = False
        for line in _lines(text):
            if _place_of(line) != mount.place:
                lines.append(line)
            elif not found:
                found = True
                lines.append(line if [*line.split(), "0", "0"][:6] == fields else f"{' '.join(fields)}\n")
        text = "".join(lines)
        if not found:
            text = f"{text}\n" if text and not text.endswith("\n") else text
            text += f"{' '.join(fields)}\n"
    return text


def without_lines(text: str, paths: Collection[str]) -> str:
    places = {bare(path) for path in paths}
    return "".join(line for line in _lines(text) if _place_of(line) not in places)


def difference(text: str, other: str) -> str:
    """The lines of a text that another does not have, as they may be shown: passwords of others can stand in fstab."""
    there = _lines(other)
    return "".join(f"{shown(line.rstrip())}\n" for line in _lines(text) if line not in there)


def _lines(text: str) -> list[str]:
    return [line for line in re.split(r"(?<=\n)", text) if line]


def _place_of(line: str) -> str:
    """The mountpoint of a line; empty for what is none.

    As libmount and systemd read it: nothing needs to follow the kind, and what follows the sixth field is passed over.
    """
    fields = line.split()
    return bare(re.sub("/+", "/", unescape(fields[1]))) if len(fields) > 2 and not fields[0].startswith("#") else ""


def _escaped(text: str) -> str:
    return re.sub(r"[ \t\n\\]", lambda one: f"\\{ord(one[0]):03o}", text)


# What is mounted


def mismatch(mount: DeclaredMount, seen: Mapping[str, Mounted]) -> GpusteadError | None:
    """What is wrong where something else is seen on the mountpoint than a mount of this kind and, where the source is
    on another host, of this source."""
    found = _shown(mount, seen)
    if found and is_kind(found.fstype, mount.fstype) and is_source(found.source, mount.source, mount.fstype):
        return None
    there = f"{found.source} ({found.fstype})" if found else "nothing"
    return GpusteadError(
        f"on {mount.path} is {there}",
        f"{mount.source} ({mount.fstype})",
        f"Unmount what is there (umount {mount.path}) and run again.",
    )


def _of_nfs(source: str) -> str:
    return re.sub(r"/$", "", re.sub(r":/?", ":", source))


@dataclass(frozen=True)
class _Remote:
    """A source on other hosts.

    Attributes:
        path: what it is there.
        servers: as they are written; empty in Ceph's newer form, `admin@<fsid>.<name>=/path`.
        user, fsid, name: of that form.
    """

    path: str
    servers: str = ""
    user: str = ""
    fsid: str = ""
    name: str = ""

    @classmethod
    def parse(cls, source: str) -> _Remote | None:
        """None where it is no such source: a URL, `//server/share`, a name alone."""
        found = _CEPH.fullmatch(source) or _SERVERS.fullmatch(source)
        if found is None:
            return None
        parts = found.groupdict()
        return cls(**{**parts, "path": parts["path"].strip("/")})

    @property
    def names(self) -> list[str]:
        """Those of the servers, without ports, and without the network that Lustre has behind an @."""
        words = re.findall(r"(?<=\[)[^\]]+|[^,:\[\]]+", self.servers)
        return [word.partition("@")[0] for word in words if not word.isdigit()]

    def is_same(self, other: _Remote) -> bool:
        if self.path != other.path:
            return False
        if not (self.servers and other.servers):
            pairs = ((self.user, other.user), (self.fsid, other.fsid), (self.name, other.name))
            return all(one == another for one, another in pairs if one and another)
        if self.servers == other.servers:
            return True
        here, there = ([addresses(name) for name in one.names] for one in (self, other))
        # What cannot be resolved may be any of them.
        return not (all(here) and all(there)) or not set().union(*here).isdisjoint(set().union(*there))


def addresses(server: str) -> set[str]:
    """The addresses of a server by its name or address; none where it has no such name."""
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(server, None)}
    except (OSError, UnicodeError):
        return set()


def _shown(mount: DeclaredMount, seen: Mapping[str, Mounted]) -> Mounted | None:
    found = seen.get(mount.place)
    return None if found is None or found.fstype == AUTOFS else found


def is_kind(fstype: str, declared: str) -> bool:
    """Whether it is a file system of this kind, of whatever version."""
    return _kind(fstype) == _kind(declared)


def is_source(source: str, declared: str, fstype: str) -> bool:
    """Whether it is this source; what is on no other host may be any.

    The kernel lists NFS as it was written. Of other kinds it lists what a helper has made of it (mount.ceph: all
    monitors by address and port, or the form without servers; mount.glusterfs: the first server; JuiceFS: a name).
    """
    if ":" not in declared and "=" not in declared:
        return True
    if _kind(fstype) == "nfs" and fstype not in _HELPERS:
        return _of_nfs(source) == _of_nfs(declared)
    meant, found = _Remote.parse(declared), _Remote.parse(source)
    if fstype in _HELPERS and meant and found:
        return meant.path == found.path
    return meant is None or found is None or meant.is_same(found)


def _kind(fstype: str) -> str:
    """`nfs4` is `nfs`, and what FUSE adds says nothing: `fuse.glusterfs`, `fuse.ceph` in fstab for `fuse.ceph-fuse`."""
    if fstype in _HELPERS:
        return "nfs"
    return re.sub(r"^fuse\.|-fuse$|\d$", "", fstype)


def how_to_mount(mount: DeclaredMount, new_line: bool, seen: Mapping[str, Mounted]) -> str:
    """What makes it as its line in fstab says: `mount`, `anew` (what is there is unmounted first) or `remount`; empty
    for nothing. `new_line`: whether that is another line than before."""
    if mount.place not in seen:
        return "mount"
    if not new_line:
        return ""
    return "anew" if _shown(mount, seen) and mismatch(mount, seen) else "remount"


def mount_all(
    mounts: Sequence[DeclaredMount], new_lines: Collection[str], run: Run, check: bool, look: Look = kernel.mounted
) -> list[str]:
    """Mount what is declared, to be written where it is, and without setuid programs and devices.

    Args:
        mounts: all of them, with their lines in fstab.
        new_lines: the paths of those whose line is new.
        run: runs commands, within a time.
        check: whether to only look.
        look: what is mounted.

    Returns:
        What was done, in words.

    Raises:
        GpusteadError: one cannot be mounted, or something else is mounted there.
    """
    done = []
    for mount in mounts:
        how = how_to_mount(mount, mount.path in new_lines, look())
        if check:
            mounted = bool(how)
        else:
            mounted = _mount(mount, how, run, look)
            _ask(mount, run, look)
        done += [f"{mount.path}: mounted"] if mounted else []
        done += _right(mount, run, check, look)
    return done


def _mount(mount: DeclaredMount, how: str, run: Run, look: Look) -> bool:
    """Mount as `how_to_mount` has it, or what an automount could not; whether it was."""
    if how == "remount" and run(["mount", "-o", "remount", mount.place])[0] == 0:
        return True
    if how in ("remount", "anew"):  # not every kind can be remounted
        must(run, ["umount", mount.place], remedy=_BY_HAND)
    if not how:
        if _waits(mount, look):
            run(["stat", "--", f"{mount.place}/."])
        if not _waits(mount, look):
            return False
    # Beside an automount nobody is told why it could not mount, or what it mounts is another.
    stopped = _waits(mount, look) and _stop_automount(mount.place, run)
    try:
        must(run, ["mount", mount.place])
    except GpusteadError as error:
        if stopped:
            run(["systemctl", "start", unit_of(mount.place, "automount")])
        raise GpusteadError(f"{mount.source}: {error.what}", error.expected, _remedy(error.what)) from None
    if mount.is_automount:
        _hand_over(mount, run)
    return True


def _waits(mount: DeclaredMount, look: Look) -> bool:
    """Whether there is nothing but an automount."""
    found = look().get(mount.place)
    return found is not None and found.fstype == AUTOFS


def _hand_over(mount: DeclaredMount, run: Run) -> None:
    """Unmount what could be mounted, and let its automount do it from now on, as after each boot: it cannot begin above
    what is mounted already. Where there is no systemd, or something is in use, the mount stays as it is."""
    if run(["systemctl", "daemon-reload"])[0] or run(["umount", mount.place])[0]:
        return
    if run(["systemctl", "start", unit_of(mount.place, "automount")])[0]:
        must(run, ["mount", mount.place], remedy=_BY_HAND)


def _ask(mount: DeclaredMount, run: Run, look: Look) -> None:
    """Have an automount mount, and see that what is there answers; raises GpusteadError."""
    code, _out, said = run(["stat", "--", f"{mount.place}/."])
    wrong = what_is_wrong(mount.path, code, said) if _shown(mount, look()) else None
    if wrong:
        raise GpusteadError(f"{mount.source}: on {mount.path} it {wrong[0]}", "an answer", wrong[1])


def what_is_wrong(path: str, status: int, said: str) -> tuple[str, str] | None:
    """What is wrong with a share that is mounted, and what to do, by how stat(1) of its root ended.

    That somebody may not look at it is none: root is nobody there.
    """
    if status == TIMED_OUT:
        return f"does not answer ({said})", f"{_SERVER} Programs wait for it, and go on when it is back."
    if "Stale file handle" in said:
        return "is stale: its export was exchanged", _STALE.replace("it here", f"{path} here")
    return None


def _remedy(said: str) -> str:
    """What to do where a share cannot be mounted, by what was said of it."""
    return next((what for sign, what in _REMEDIES if re.search(sign, said)), _BY_HAND)


def _right(mount: DeclaredMount, run: Run, check: bool, look: Look) -> list[str]:
    done = []
    wrong = mismatch(mount, look())
    if wrong and not check:
        raise wrong
    found = _shown(mount, look())
    if found is None or wrong:
        return []
    if found.is_read_only and not mount.is_read_only:
        done.append(f"{mount.path}: mounted to be written")
        # Without the helper: that of GlusterFS knows no remount.
        internal = ["-i"] if "gluster" in found.fstype else []
        if not check:
            must(run, ["mount", "-o", "remount,rw", *internal, mount.place], remedy=_BY_HAND)
            found = look()[mount.place]
    if not found.is_harmless:
        done.append(f"{mount.path}: mounted {','.join(HARMLESS)}")
        if not check:
            as_account.run(partial(kernel.make_harmless, mount.place), _ROOT, timeout=30, place=mount.place)
    return done


def retire(paths: Sequence[str], run: Run, check: bool, look: Look = kernel.mounted) -> list[str]:
    """Unmount what is not declared any more, inner ones first, and stop its automounts; one in use is an error."""
    done = []
    for path in sorted({bare(path) for path in paths}, reverse=True):
        done += [f"{path}: unmounted"] if path in look() else []
        for _again in range(0 if check else _MOST):
            found = look().get(path)
            if found is None:
                break
            if found.fstype == AUTOFS and _stop_automount(path, run):
                continue
            must(run, ["umount", path], remedy=f"End what uses it (fuser -vm {path}), then run again.")
    return done


def _stop_automount(path: str, run: Run) -> bool:
    unit = unit_of(path, "automount")
    if run(["systemctl", "is-active", "--quiet", unit])[0]:
        return False
    must(run, ["systemctl", "stop", unit])
    return True
