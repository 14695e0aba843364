# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Packages, units, kernel settings and modules."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Unreadable,
    Value,
    each,
    reason,
)

_UNIT = ("LoadState", "UnitFileState", "ActiveState", "FragmentPath", "DropInPaths", "NeedDaemonReload")
# What packages bring, also as scripts of System V: they may change it.
_VENDOR = ("/usr/lib/", "/lib/", "/run/systemd/generator")
_OURS = "/gpustead-"  # the role that wrote it vouches for it as a file


def packages(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    """{installed: true} whatever the version; false when dpkg left it half-way."""
    data = host.read("/var/lib/dpkg/status")
    if data is None:
        raise Unreadable("there is no /var/lib/dpkg/status")
    wanted = {subject["name"].partition(":")[0].encode() for subject in subjects} | {b"dpkg"}
    states: dict[tuple[str, str], str] = {}
    for stanza in data.split(b"\n\n"):  # megabytes: only the stanzas that are asked for are taken apart
        first = stanza.lstrip(b"\n").partition(b"\n")[0]
        if first.startswith(b"Package: ") and first[9:] in wanted:
            fields = dict(re.findall(r"^(Status|Architecture): (.*)$", stanza.decode(errors="replace"), re.MULTILINE))
            states[first[9:].decode(), fields.get("Architecture", "")] = fields.get("Status", "").split(" ")[-1]
    native = next((architecture for name, architecture in states if name == "dpkg"), "")
    values: dict[str, Value] = {}
    for subject in subjects:
        name, _separator, architecture = subject["name"].partition(":")
        found = {states.get((name, each_one)) for each_one in ([architecture] if architecture else [native, "all"])}
        found -= {None, "not-installed", "config-files"}
        values[subject["name"]] = {"installed": "installed" in found} if found else None
    return values


def units(subjects: Sequence[Subject], host: Host) -> dict[str, Value]:
    """One `systemctl show` for all. It refuses some names, and then tells nothing of the others: these alone."""
    names = [subject["name"] for subject in subjects]
    try:
        return {subject["name"]: _wanted(subject, value) for subject, value in zip(subjects, _show(names, host))}
    except Unreadable:
        if len(names) == 1:
            raise
    values: dict[str, Value] = {}
    for subject in subjects:
        name = subject["name"]
        try:
            values[name] = _wanted(subject, _show([name], host)[0])
        except Unreadable as error:
            values[name] = reason(error)
            if "not found" in str(error) or "did not end" in str(error):
                raise  # it is systemctl itself, not the name
    return values


def _wanted(subject: Subject, value: Value) -> Value:
    """Without what the subject leaves open: a unit that runs at boot alone may be anything now (`running: false`)."""
    if value is not None and not subject.get("running", True):
        del value["active"]
    return value


def _show(names: Sequence[str], host: Host) -> list[Value]:
    out = host.must(["systemctl", "show", "-p", ",".join(_UNIT), "--", *names])
    blocks = [block for block in out.split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise Unreadable(f"systemctl described {len(blocks)} units of {len(names)}")
    # In the order of the names, under which an alias is not listed.
    return [_unit(dict(line.partition("=")[::2] for line in block.splitlines()), host) for block in blocks]


def _unit(shown: dict[str, str], host: Host) -> Value:
    missing = [key for key in _UNIT if key not in shown]
    if missing:
        raise Unreadable(f"systemctl does not know {', '.join(missing)}")
    if shown["LoadState"] == "not-found" and shown["ActiveState"] in ("inactive", "failed"):
        return None  # else it runs on although its file is gone
    return {
        "load": shown["LoadState"],
        "enabled": shown["UnitFileState"],
        "active": shown["ActiveState"],
        # An administrator's: the file in place of the package's, and what is added to it.
        "instead": _theirs([shown["FragmentPath"]], host),
        "drop_ins": _theirs(shown["DropInPaths"].split(), host),
        "stale": shown["NeedDaemonReload"] == "yes",
    }


def _theirs(paths: Sequence[str], host: Host) -> list[str]:
    """Those that no package and no role brought, with what they hold: an edited one is another."""
    values = []
    for path in sorted(path for path in paths if path and not path.startswith(_VENDOR) and _OURS not in path):
        data = host.read(path) or b""
        if not _is_packaged(path, data, host):
            values.append(f"{path} ({host.digest(data, secret=True)[:12]})")
    return values


def _is_packaged(path: str, data: bytes, host: Host) -> bool:
    """Whether it is as a package brought it: some have their units in /etc, and bring others with an upgrade."""
    known = hashlib.md5(data, usedforsecurity=False).hexdigest()  # what dpkg has of conffiles
    return f"\n {path} {known}\n".encode() in (host.read("/var/lib/dpkg/status") or b"")


def _sysctl(subject: Subject, host: Host) -> Value:
    # As sysctl has it: in net.ipv4.conf.eth0/1.mtu the slash is a dot of the name.
    path = subject["name"].translate(str.maketrans("./", "/."))
    text = host.text(f"/proc/sys/{path}")
    return None if text is None else {"value": " ".join(text.split())}


def _kernel_module(subject: Subject, host: Host) -> Value:
    name = subject["name"].replace("-", "_")
    files = ["/etc/modules"]
    for directory in ("/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d"):
        try:
            files += [f"{directory}/{entry}" for entry in os.listdir(host.path(directory)) if entry.endswith(".conf")]
        except FileNotFoundError:
            continue
    lines = [line.strip().replace("-", "_") for path in files for line in (host.text(path) or "").splitlines()]
    value: dict[str, Any] = {"loaded": os.path.isdir(host.path(f"/sys/module/{name}")), "configured": name in lines}
    return value if any(value.values()) else None


sysctl = each(_sysctl)
kernel_module = each(_kernel_module)
