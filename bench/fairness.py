# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the comparison is fair: tamper with one output of each kind on one host, and pyinfra must see each.

A contestant that looks at less would be quicker for it. Everything is put back afterwards.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from contestants import detected, pyinfra
from lab import Host, Lab, inside
from timing import Failed

Subject = Mapping[str, Any]
# Where copies of tampered files wait.
KEPT = "/run/bench"

# Of each kind: what is done, and what undoes it. The name, quoted, stands at {0}, other words of the output after it.
TAMPERS: Mapping[str, tuple[str, str]] = {
    "package": (
        "dpkg --force-depends --remove {0}",
        "apt-get update -qq && apt-get install -qq -y --no-install-recommends {0}",
    ),
    "user": ("usermod --shell /bin/false {0}", "usermod --shell {shell} {0}"),
    "group": ("groupmod --gid 59999 {0}", "groupmod --gid {gid} {0}"),
    "unit": ("systemctl disable {0}", "systemctl enable {0}"),
    "mountpoint": (
        "unshare --mount sh -c 'mount --bind {parent} /run && chattr -i /run/{base}'",
        "unshare --mount sh -c 'mount --bind {parent} /run && chattr +i /run/{base}'",
    ),
    "bind": ("mount -o remount,bind,suid {0}", "mount -o remount,bind,nosuid {0}"),
    "chain": ("iptables -w -I {0} -j RETURN", "iptables -w -D {0} 1"),
    "ufw": (
        "sed -i s/^ENABLED=.*/ENABLED=no/ /etc/ufw/ufw.conf",
        "sed -i s/^ENABLED=.*/ENABLED=yes/ /etc/ufw/ufw.conf",
    ),
    "ufw_rules": ("iptables -w -I ufw-user-input -j ACCEPT", "iptables -w -D ufw-user-input 1"),
    "openings": ("iptables -w -I INPUT -p tcp --dport 2222 -j ACCEPT", "iptables -w -D INPUT 1"),
    # Asked of the running daemon, which takes this setting over without a restart.
    "docker": (
        "cd /etc/docker && cp -a daemon.json {kept}/"
        ' && sed -i \'s/"live-restore": true/"live-restore": false/\' daemon.json'
        " && systemctl reload docker && sleep 1 && cp -a {kept}/daemon.json .",
        "systemctl reload docker",
    ),
    "image": (
        "docker image tag {0} bench/kept && docker image rm --force {0}",
        "docker pull --quiet {0} && docker image rm bench/kept",
    ),
    "container": ("docker stop --time 1 {container}", "docker start {container}"),
}
# Outputs that are in a file: one more line is another content.
IN_FILES = ("file", "tree", "block", "json_keys", "lines", "contains", "certificate", "apt_source", "mount")


def check(lab: Lab, host: Host) -> list[str]:
    """The kinds of which a tampered output was seen.

    Raises:
        Failed: one was not.
    """
    entries = json.loads((lab.state / host.name / "state.json").read_text())
    chosen = choose(entries)
    undo: list[str] = []
    inside(host, ["mkdir", "-p", KEPT])
    try:
        for number, (kind, entry) in enumerate(chosen.items()):
            there, back = commands(kind, entry, number)
            undo.append(back)
            inside(host, ["sh", "-ec", there])
        contestant = pyinfra(lab, [host], "--dry")
        seen = detected(contestant.start().output)
    finally:
        for back in reversed(undo):
            inside(host, ["sh", "-ec", back])
        inside(host, ["rm", "-rf", KEPT])
    missed = [operation for kind, entry in chosen.items() if (operation := operation_of(kind, entry)) not in seen]
    if missed:
        raise Failed(f"pyinfra did not see that these were tampered with: {', '.join(missed)}")
    return sorted(chosen)


def operation_of(kind: str, entry: Mapping[str, Any]) -> str:
    """Name of the operation that manages an output: packages are one, and keys of an account belong to the account."""
    name = entry["subject"]["name"]
    if kind == "lines" and name.endswith("/.ssh/authorized_keys"):
        return f"user {name.split('/')[-3]}"
    return "package all" if kind == "package" else f"{kind} {name}".strip()


def choose(entries: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """One output of each kind that there is: of files one with contents, on the host and not on the share."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        subject, kind, value = entry["subject"], entry["kind"], entry["value"]
        shared = subject.get("as") or not value
        if kind == "file" and (not subject.get("content", True) or not value or value["type"] != "file"):
            continue
        if kind == "tree" and not (value and value["entries"]):
            continue
        # The last, whose role runs late, so that little depends on it; but of packages the first, which is a small one.
        if not shared and not subject.get("absent") and not (kind == "package" and kind in chosen):
            chosen[kind] = entry
    if "lines" in chosen:
        # Two tampers of one operation could not be told apart.
        owner = operation_of("lines", chosen["lines"])
        other = [e for e in entries if e["kind"] == "user" and f"user {e['subject']['name']}" != owner]
        chosen["user"] = other[0] if other else chosen["user"]
    return chosen


def commands(kind: str, entry: Mapping[str, Any], number: int) -> tuple[str, str]:
    name, value = entry["subject"]["name"], entry["value"]
    if kind in IN_FILES:
        return in_file(kind, name, entry, f"{KEPT}/{number}")
    parent, _, base = name.rpartition("/")
    words = {
        "kept": KEPT,
        "parent": shlex.quote(parent),
        "base": shlex.quote(base),
        "shell": value.get("shell", ""),
        "gid": value.get("gid", ""),
        "container": value.get("name", ""),
    }
    there, back = TAMPERS[kind]
    return there.format(shlex.quote(name), **words), back.format(shlex.quote(name), **words)


def in_file(kind: str, name: str, entry: Mapping[str, Any], kept: str) -> tuple[str, str]:
    path, edit = name, "echo >>{0}"
    if kind == "mount":
        path, edit = "/etc/fstab", r"sed -i 's/^\([^#].*\)_netdev/\1noexec,_netdev/' {0}"
    elif kind == "tree":
        path = f"{name}/{next(path for path, inner in entry['value']['entries'].items() if inner['type'] == 'file')}"
    elif kind == "block":
        edit = f"sed -i '/# BEGIN {entry['subject']['marker']}/a # tampered' {{0}}"
    elif kind in ("lines", "contains"):
        edit = ": >{0}"
    quoted = shlex.quote(path)
    return f"cp -a {quoted} {kept} && {edit.format(quoted)}", f"cp -a {kept} {quoted}"
