# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Probes of files: content is digested, a link stays a link."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import posixpath
import re
import stat
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import is_secret
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    ABSENT,
    OPEN,
    Host,
    Subject,
    Unreadable,
    Value,
    each,
    mountpoints,
    path_of,
)

_READABLE = 200  # characters up to which a value of a JSON file is kept as it is
_OF_ACCOUNTS = 1 << 20  # bytes of a file that an account wrote
_DEEPEST = 100  # levels of a tree that are looked at, each with a descriptor
_TYPES = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFDIR: "directory"}
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def owner(status: os.stat_result) -> dict[str, Any]:
    return {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": f"{status.st_uid}:{status.st_gid}"}


def _open(name: str, within: int | None = None, extra: int = 0) -> int:
    """Open without following a link. Errors name the path, also where it is relative to a directory."""
    return os.open(name, OPEN | os.O_NOFOLLOW | extra, dir_fd=within)


def _read(subject: Subject, host: Host) -> tuple[bytes, dict[str, Any]] | None:
    """Content, mode and owner of the regular file itself, or None.

    With `below`, a directory that an account may change, no step from there on may be a link, and the file must be
    that of who looks (`as`), under one name.
    """
    if subject.get("below"):
        return _read_beneath(subject, host)
    path = host.path(path_of(subject))
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind == stat.S_IFREG:
            _bounded(subject, path)
            with open(_open(path), "rb") as file:
                status = os.fstat(file.fileno())
                kind = stat.S_IFMT(status.st_mode)  # it may have been exchanged meanwhile
                if kind == stat.S_IFREG:
                    return file.read(), owner(status)
    except ABSENT:
        return None
    raise Unreadable(f"{path_of(subject)} is a {_TYPES.get(kind, 'special file')}, not a file")


def _read_beneath(subject: Subject, host: Host) -> tuple[bytes, dict[str, Any]] | None:
    path, top = path_of(subject), str(subject["below"]).rstrip("/")
    if not path.startswith(f"{top}/"):
        raise Unreadable(f"{path} is not below {top}")
    try:
        with open(as_account.open_beneath(host.path(top), path[len(top) + 1 :]), "rb", buffering=0) as file:
            status = as_account.regular(file.fileno(), path, os.geteuid())
            return as_account.contents(file.fileno(), path, _OF_ACCOUNTS), owner(status)
    except FileNotFoundError:
        return None
    except GpusteadError as error:
        raise Unreadable(f"{error.what}, expected {error.expected}") from None


def _describe(
    name: str, host: Host, content: object = True, secret: object = False, within: int | None = None
) -> Value:
    """Type, mode and owner of what lies at `name`, with its digest or target."""
    status = os.lstat(name) if within is None else os.stat(name, dir_fd=within, follow_symlinks=False)
    kind = _TYPES.get(stat.S_IFMT(status.st_mode), "other")
    if kind == "link":
        return {"type": kind, **owner(status), "target": os.readlink(name, dir_fd=within)}
    if kind != "file" or not content:
        return {"type": kind, **owner(status)}
    if secret and not host.salt:
        raise Unreadable("there is no salt for the digest of a secret")
    running = hmac.new(host.salt, digestmod="sha256") if secret else hashlib.sha256()
    with open(_open(name, within), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{name} was exchanged while it was read")
        while True:
            chunk = file.read(1 << 20)
            if not chunk:
                return {"type": kind, **owner(status), "sha256": running.hexdigest()}
            running.update(chunk)


def _bounded(subject: Subject, path: str) -> None:
    """What is looked at as an account was made by it: a sparse file of a terabyte would take the time of all others."""
    if subject.get("as") and os.lstat(path).st_size > _OF_ACCOUNTS:
        raise Unreadable(f"{path_of(subject)} is longer than {_OF_ACCOUNTS} bytes")


def _file(subject: Subject, host: Host) -> Value:
    try:
        if subject.get("content", True):
            _bounded(subject, host.path(path_of(subject)))
        return _describe(host.path(path_of(subject)), host, subject.get("content", True), subject.get("secret"))
    except ABSENT:
        return None


def _tree(subject: Subject, host: Host) -> Value:
    """One digest of all that lies below; of the names alone that match, where there is a pattern."""
    top = path_of(subject)
    try:
        kind = _TYPES.get(stat.S_IFMT(os.lstat(host.path(top)).st_mode), "other")
        if kind != "directory":
            return {"type": kind}
        directory = _open(host.path(top), None, os.O_DIRECTORY)
    except ABSENT:
        return None
    try:
        found = list(_below(host, top, directory, subject.get("pattern") or "", _DEEPEST))
    except ABSENT as error:
        raise Unreadable(f"{top} changed while it was read: {error.filename}") from None
    lines = "".join(json.dumps([name[len(top.rstrip("/")) + 1 :], about]) + "\n" for name, about in sorted(found))
    return {"type": kind, "count": len(found), "sha256": host.digest(lines.encode(), subject.get("secret"))}


def _below(host: Host, path: str, directory: int, pattern: str, levels: int) -> Iterable[tuple[str, list[str]]]:
    """(path, what is there) through descriptors: nobody can exchange a directory on the way for a link."""
    if not levels:
        os.close(directory)
        raise Unreadable(f"there are more than {_DEEPEST} directories in each other")
    device = os.fstat(directory).st_dev
    mounted = host.once("mountpoints", mountpoints)
    try:
        # The entries are read first, as scandir shares the descriptor's position.
        for name in sorted(os.listdir(directory)):
            full = posixpath.join(path, name)
            matches = not pattern or fnmatchcase(name, pattern)
            if full in mounted:  # not even asked for its status: what is mounted there may hang
                yield from [(full, ["mount"])] if matches else []
                continue
            about = _describe(name, host, matches, False, directory) or {}
            if about["type"] != "directory":
                yield from [(full, list(about.values()))] if matches else []
                continue
            inner = _open(name, directory, os.O_DIRECTORY)
            other = os.fstat(inner).st_dev != device
            if not pattern:
                yield full, ["mount"] if other else list(about.values())
            if other:
                os.close(inner)
            else:
                yield from _below(host, full, inner, pattern, levels - 1)
    finally:
        os.close(directory)


def _block(subject: Subject, host: Host) -> Value:
    """The lines between the markers; a second block, or one without end, is another value."""
    read = _read(subject, host)
    if read is None:
        return None
    begin, end = (f"# {word} {subject['marker']}".encode() for word in ("BEGIN", "END"))
    blocks: list[list[bytes]] = []
    inside = False
    for line in read[0].splitlines(keepends=True):
        bare = line.rstrip(b"\r\n")
        if bare == begin:
            blocks.append([])
            inside = True
        elif bare == end and inside:
            inside = False
        elif inside:
            blocks[-1].append(line)
    if not blocks:
        return None
    data = (begin + b"\n").join(b"".join(block) for block in blocks) + (b"no end" if inside else b"")
    return {"sha256": host.digest(data, subject.get("secret")), **read[1]}


def _json_keys(subject: Subject, host: Host) -> Value:
    """The declared keys of a JSON file and nothing else of it, as others own the rest.

    `secret` is true, or a list of those whose values are digested; so is one with a password in a URL, declared or not.
    """
    read = _read(subject, host)
    if read is None:
        return None
    try:
        document = json.loads(read[0])
    except ValueError:
        raise Unreadable(f"{path_of(subject)} is not JSON") from None
    value: dict[str, Any] = {}
    for key in subject["keys"]:
        steps = [key] if isinstance(key, str) else list(key)
        found = document
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        text = json.dumps(found, sort_keys=True, separators=(",", ":"))
        name, secret = ".".join(steps), subject.get("secret")
        hidden = (name in secret if isinstance(secret, list) else secret) or is_secret(name, found)
        keep = found is None or (not hidden and len(text) <= _READABLE)
        value[name] = found if keep else "sha256:" + host.digest(text.encode(), hidden)
    return value


def _lines(subject: Subject, host: Host) -> Value:
    """Which of the declared lines are there; with `exclusive` also how many others, in files `beside` it, too.

    Comments are none. Where no line may be there at all, the file may be missing, and of any permissions.
    """
    exclusive, secret = subject.get("exclusive"), subject.get("secret")
    declared = {str(line).strip() for line in subject.get("lines") or ()}
    files = [_read({**subject, "path": path}, host) for path in [path_of(subject), *subject.get("beside", ())]]
    if files[0] is None and (declared or not exclusive):
        return None
    lines = [_bare_lines(found[0]) if found else [] for found in files]
    value: dict[str, Any] = dict(files[0][1]) if files[0] and (declared or not exclusive) else {}
    if declared:
        present = {host.digest(line.encode(), secret) if secret else line: line in lines[0] for line in declared}
        value["present"] = dict(sorted(present.items()))
    if exclusive:
        others = [line for line in lines[0] if line not in declared] + [line for more in lines[1:] for line in more]
        value["others"] = sum(bool(line) and not line.startswith("#") for line in others)
    return value


def _bare_lines(data: bytes) -> list[str]:
    """Lines without blanks around them. Who wrote them may have put into one what only Python takes for its end."""
    return [line.strip(" \t\r") for line in data.decode(errors="surrogateescape").split("\n")]


def _contains(subject: Subject, host: Host) -> Value:
    """Whether the bundle holds every certificate of the files; null for a file that is not there."""
    bundle = host.read(path_of(subject))
    if bundle is None:
        return None
    held = b"".join(bundle.split())
    trusted: dict[str, Any] = {}
    for name in subject["files"]:
        data = host.read(name)
        blocks = [b"".join(block.split()) for block in _PEM.findall(data or b"")]
        trusted[name] = None if data is None else bool(blocks) and all(block in held for block in blocks)
    return {"trusted": trusted}


def _known_hosts(subject: Subject, host: Host) -> Value:
    """The hosts whose certificates ssh takes, but for those of `hosts`. Ssh tells no letters apart there."""
    read = _read(subject, host)
    if read is None:
        return None
    lines = [line.split() for line in read[0].decode(errors="surrogateescape").lower().splitlines()]
    names = {name for words in lines if words[:1] == ["@cert-authority"] for name in ",".join(words[1:2]).split(",")}
    return {"others": sorted(names.difference(host.lower() for host in subject.get("hosts", ())))}


file = each(_file)
tree = each(_tree)
block = each(_block)
json_keys = each(_json_keys)
lines = each(_lines)
contains = each(_contains)
known_hosts = each(_known_hosts)
