# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Probes: what stands on a host, as values that compare with `==`. One probe for each kind of thing."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS, REMOTE
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import (
    accounts,
    certificates,
    docker,
    files,
    gpu,
    mounts,
    network,
    system,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Probe,
    Subject,
    Unreadable,
    Value,
    lines_of,
    mountpoints,
    path_of,
    reason,
)

__all__ = ["PROBES", "Host", "Subject", "Value", "observe"]

PROBES: dict[str, Probe] = {
    "file": files.file,
    "apt_source": files.file,
    "apt_key": files.file,
    "tree": files.tree,
    "block": files.block,
    "json_keys": files.json_keys,
    "lines": files.lines,
    "contains": files.contains,
    "known_hosts": files.known_hosts,
    "package": system.packages,
    "unit": system.units,
    "sysctl": system.sysctl,
    "kernel_module": system.kernel_module,
    "user": accounts.users,
    "group": accounts.groups,
    "member": accounts.members,
    "settings": accounts.settings,
    "mount": mounts.mount,
    "bind": mounts.bind,
    "cover": mounts.cover,
    "mountpoint": mounts.mountpoint,
    "gluster": mounts.gluster,
    "export": mounts.export,
    "quota": mounts.quota,
    "ufw": network.ufw,
    "ufw_rules": network.ufw_rules,
    "chain": network.chain,
    "bridges": network.bridges,
    "openings": network.openings,
    "listener": network.listener,
    "docker": docker.daemon,
    "image": docker.image,
    "container": docker.container,
    "certificate": certificates.certificate,
    "gpus": gpu.gpus,
    "gpu_settings": gpu.settings,
}
_AT_A_PATH = frozenset(
    {"file", "apt_source", "apt_key", "tree", "block", "json_keys", "lines", "contains", "certificate", "known_hosts"}
)
_REMOTE = (*REMOTE, AUTOFS)
_SIZE = 32 << 20  # bytes of an answer
_MEMORY = 256 << 20  # bytes that a look as somebody may take: they decide what it finds
_LINKS = 40  # as many as the kernel follows

Spec = tuple[str, Subject]
_Group = tuple[str, str]  # as whom, and the network file system that would be touched
_Values = dict[str, Any]


def observe(specs: Iterable[Spec], host: Host, timeout: float = 20) -> dict[str, Any]:
    """{"<kind> <name>": value} for all of them, whatever fails: then the value is {"error": …}.

    What lies on a network file system, or is to be seen as somebody else, is looked at in children that are
    left behind when they do not answer: one for each file system and user, all at once.
    """
    host = host.afresh()
    groups: dict[_Group, list[Spec]] = {}
    values: _Values = {}
    for kind, subject in specs:
        try:
            group = str(subject.get("as", "")), _remote(kind, subject, host)
            groups.setdefault(group, []).append((kind, {**subject, "name": str(subject["name"])}))
        except Exception as error:
            values[f"{kind} {subject.get('name')}"] = reason(error)
    ours = groups.pop(("", ""), [])
    children = []
    for (user, _mount), group_specs in groups.items():
        try:
            children.append(_Child(user, group_specs, host, timeout))
        except OSError as error:
            values.update(_all(group_specs, reason(error)))
    values.update(_probe(ours, host))
    for child in _finish(children, timeout):
        values.update(child.values())
    return values


def _probe(specs: Sequence[Spec], host: Host) -> _Values:
    kinds: dict[str, list[Subject]] = {}
    for kind, subject in specs:
        kinds.setdefault(kind, []).append(subject)
    values = _all(specs, {"error": "its probe did not answer"})
    for kind, subjects in kinds.items():
        try:
            found = PROBES[kind](subjects, host) if kind in PROBES else {}
            default: Value = {"error": f"there is no probe of the kind {kind!r}"}
        except Exception as error:
            found, default = {}, reason(error, any(subject.get("secret") for subject in subjects))
        values.update({f"{kind} {subject['name']}": found.get(subject["name"], default) for subject in subjects})
    return values


def _all(specs: Iterable[Spec], value: Value) -> _Values:
    return {f"{kind} {subject['name']}": value for kind, subject in specs}


def _remote(kind: str, subject: Subject, host: Host) -> str:
    """The network file system that a look at the subject would touch, if any."""
    if kind == "mountpoint":  # not itself, but the directory that it lies in
        paths = [path_of(subject).rpartition("/")[0] or "/"]
    elif kind in _AT_A_PATH:
        paths = [path_of(subject), *subject.get("files", [])]
    else:
        return ""
    mounted = host.once("mountpoints", mountpoints)
    remote = {path for path, mount in mounted.items() if mount.fstype.startswith(_REMOTE)}
    return next((found for found in (_touched(path, remote, host) for path in paths) if found), "") if remote else ""


def _touched(path: str, remote: set[str], host: Host) -> str:
    """Walk as the kernel does, links included, and stop in front of the first network file system."""
    if "/" in remote:
        return "/"
    at, ahead, links = "", path.split("/")[::-1], 0
    while ahead and links <= _LINKS:
        part = ahead.pop()
        if part in ("", "."):
            continue
        step = at.rpartition("/")[0] if part == ".." else f"{at}/{part}"
        if step in remote:
            return step
        try:
            target = os.readlink(host.path(step)) if part != ".." else ""
        except OSError:  # no link, or not there
            target = ""
        if target:
            links += 1
            at = "" if target.startswith("/") else at
            ahead += target.split("/")[::-1]
        else:
            at = step
    return ""


class _Child:
    """A forked process that probes and answers through a pipe. It can be left behind, whatever it hangs in."""

    def __init__(self, user: str, specs: list[Spec], host: Host, timeout: float) -> None:
        self.specs, self.timeout = specs, timeout
        self.answer: list[bytes] = []
        self.answered = False
        self.room = _SIZE  # bytes that it may still answer
        self.fd, write = os.pipe()
        asker = os.getpid()
        try:
            self.pid = os.fork()
        except OSError:
            os.close(self.fd)
            os.close(write)
            raise
        if self.pid == 0:
            try:
                self._work(user, host, write, asker)
            finally:
                os._exit(1)
        os.close(write)

    def _work(self, user: str, host: Host, write: int, asker: int) -> None:
        signal.alarm(int(self.timeout) + 60)  # should the parent be gone
        try:
            if user:
                as_account.become(_identity(user, host), self.timeout, _MEMORY, asker)
            else:
                _apart()
            values = _probe(self.specs, host)
        except Exception as error:
            values = _all(self.specs, reason(error))
        with open(write, "wb") as pipe:
            pipe.write(json.dumps(values).encode())
        os._exit(0)

    def values(self) -> _Values:
        try:
            values: _Values = json.loads(b"".join(self.answer)) if self.answered else {}
        except ValueError:
            return _all(self.specs, {"error": "the process that looked at it ended without an answer"})
        silent = f"did not answer within {self.timeout:g} s" if self.room >= 0 else "answers with more than it may"
        return {**_all(self.specs, {"error": silent}), **values}


def _apart() -> None:
    """A process group of its own, so that what it starts is killed with it."""
    os.setpgid(0, 0)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):  # an SSH session lasts as long as somebody holds these
        os.dup2(null, fd)


def _identity(user: str, host: Host) -> as_account.Identity:
    """`uid` or `uid:gid`; without a gid that of the account, or the same number."""
    uid, _separator, gid = user.partition(":")
    if not uid.isdecimal() or not (gid or "0").isdecimal():
        raise Unreadable(f"{user!r} is not uid or uid:gid")
    accounts = [line.split(":") for line in lines_of(host.text("/etc/passwd"))]
    primary = next((fields[3] for fields in accounts if len(fields) == 7 and fields[2] == uid), uid)
    return as_account.Identity(int(uid), int(gid or primary))


def _finish(children: list[_Child], timeout: float) -> list[_Child]:
    """Take the answers until the time is up, then kill who has not answered, without waiting for the end."""
    deadline = time.monotonic() + timeout
    waiting = {child.fd: child for child in children}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLIN)
    while waiting:
        left = deadline - time.monotonic()
        ready = poll.poll(max(0, left) * 1000)
        if not ready and left <= 0:
            break
        for fd, _event in ready:
            data = os.read(fd, 1 << 16)
            waiting[fd].room -= len(data)
            if waiting[fd].room < 0:
                poll.unregister(fd)
                _kill(waiting.pop(fd))
            elif data:
                waiting[fd].answer.append(data)
            else:
                poll.unregister(fd)
                waiting.pop(fd).answered = True
    for child in waiting.values():
        _kill(child)
    for child in children:
        os.close(child.fd)
    _reap(children)
    return children


def _kill(child: _Child) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(child.pid, signal.SIGKILL)


def _reap(children: Iterable[_Child]) -> None:
    """Who hangs in the kernel is left to init."""
    left = [child.pid for child in children]
    for _attempt in range(20):
        left = [pid for pid in left if not _ended(pid)]
        if not left:
            return
        time.sleep(0.005)


def _ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG) != (0, 0)
    except ChildProcessError:  # somebody reaps them for us
        return True
