# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An empty host joins: ours, and a shell script that makes the same by hand over one ssh; and what it costs the others.

The script is written from the state in which our roles left the host: it finds out, renders and
judges nothing.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import counts
from contestants import Contestant, detected, nothing_changed, pyinfra, site, something_changed
from lab import HERE, Host, Lab, call, files_of, step
from report import Block
from timing import Failed

sys.path.append(str(HERE / "with_pyinfra"))
from ufw import command as ufw_command

Entry = Mapping[str, Any]
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive\napt-get update -qq\n"
    "apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold"
)


@dataclass
class Result:
    """Runs of both, and for each round the tasks of each other host in the first full run after ours."""

    block: Block
    after: list[float] = field(default_factory=list)


# By hand


def of_kind(entries: Sequence[Entry], *kinds: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Subject and value of what is there; what lies on the share is there before a host joins."""
    for entry in on_host(entries):
        if entry["kind"] in kinds and entry["value"]:
            yield entry["subject"], entry["value"]


def on_host(entries: Sequence[Entry]) -> list[Entry]:
    mounts = [f"{entry['subject']['name']}/" for entry in entries if entry["kind"] == "mount"]
    return [entry for entry in entries if not entry["subject"]["name"].startswith(tuple(mounts))]


def archive(entries: Sequence[Entry], files: Path) -> bytes:
    """All files of the host with their owners and modes, packed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for entry in on_host(entries):
            for path, value in files_of(entry):
                local = files / path.lstrip("/")
                # Of a directory that is a tree's top only the mode is known.
                if "owner" not in value or (value["type"] == "file" and not local.is_file()):
                    continue
                info = tarfile.TarInfo(path.lstrip("/"))
                info.mode = int(value["mode"], 8)
                info.uid, info.gid = map(int, value["owner"].split(":"))
                info.type = {"directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}.get(value["type"], tarfile.REGTYPE)
                info.linkname = value.get("target", "")
                content = local.read_bytes() if value["type"] == "file" else b""
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def by_hand(entries: Sequence[Entry], files: Path) -> str:
    """A script for sh that makes an empty host so."""
    packages = [subject["name"] for subject, _ in of_kind(entries, "package")]
    units = [s["name"] for s, value in of_kind(entries, "unit") if value.get("UnitFileState") == "enabled"]
    started = [s["name"] for s, value in of_kind(entries, "unit") if value.get("ActiveState") == "active"]
    lines = ["set -eu"]
    lines += [shlex.join(["groupadd", "--gid", value["gid"], s["name"]]) for s, value in of_kind(entries, "group")]
    lines += [user(s, value) for s, value in of_kind(entries, "user")]
    lines.append("base64 -d <<'END' | tar -xzp --numeric-owner -C /")
    lines += [base64.encodebytes(archive(entries, files)).decode().rstrip("\n"), "END"]
    lines.append(f"{INSTALL} {shlex.join(packages)}")
    for subject, _ in of_kind(entries, "member"):
        lines.append(shlex.join(["usermod", "--append", "--groups", *reversed(subject["name"].split(":"))]))
    for subject, value in of_kind(entries, "mount"):
        path, fields = subject["name"], value["fstab"]
        line = next((line for line in value["fstab_lines"] if fields and line.split()[:2] == fields[:2]), "")
        quoted = shlex.quote(path)
        lines.append(f"mkdir -p {quoted}\nchattr +i {quoted}\necho {shlex.quote(line)} >>/etc/fstab\nmount {quoted}")
    lines += ["update-ca-certificates >/dev/null", "systemctl daemon-reload"]
    lines += [shlex.join(["systemctl", "enable", "--quiet", *units])] if units else []
    for _, value in of_kind(entries, "ufw_rules"):
        rules = [line for path, found in value.items() if path != "live" for line in found]
        lines += list(dict.fromkeys(ufw_command(line) for line in rules))
    lines += ["ufw --force enable" for _ in of_kind(entries, "ufw")]
    lines += [shlex.join(["systemctl", "restart", *started])] if started else []
    lines += [shlex.join(["docker", "pull", "--quiet", subject["name"]]) for subject, _ in of_kind(entries, "image")]
    projects: dict[tuple[str, str], list[str]] = {}
    for subject, value in of_kind(entries, "container"):
        project, _, service = subject["name"].partition("/")
        projects.setdefault((project, value["compose_file"]), []).append(service)
    for (project, compose_files), services in projects.items():
        chosen = [word for file in compose_files.split(",") for word in ("--file", file)]
        up = ["--project-name", project, "up", "--detach", "--wait", *services]
        lines.append(shlex.join(["docker", "compose", *chosen, *up]))
    return "\n".join(lines) + "\n"


def user(subject: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    """An account with its groups; of one for people with a home, in which the directory of its keys is."""
    name, gid, home = subject["name"], value["gid"], value["home"]
    groups = [group for group in subject.get("groups", ()) if group in value["groups"]]
    lines = [f"getent group {gid} >/dev/null || {shlex.join(['groupadd', '--gid', gid, name])}"]
    for group in map(shlex.quote, groups):
        lines.append(f"getent group {group} >/dev/null || groupadd --system {group}")
    add = ["useradd", "--uid", value["uid"], "--gid", gid, "--home-dir", home, "--shell", value["shell"]]
    add += ["--groups", ",".join(groups)] if groups else []
    lines.append(shlex.join([*add, *([] if subject.get("service") else ["--create-home"]), name]))
    if not subject.get("service"):
        lines.append(shlex.join(["install", "-d", "-m", "700", "-o", name, "-g", gid, f"{home}/.ssh"]))
    return "\n".join(lines)


# The runs


class Joining:
    """One host more than the lab has, made empty again for each run."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.grown = lab, Lab(lab.work, lab.nodes + 1)
        self.newcomer = self.grown.hosts[-1]
        self.script = lab.work / "join.sh"
        self.counts = lab.work / "counts.json"

    def empty(self) -> None:
        """The host as it comes, with the others as they are."""
        call("docker", "rm", "--force", "--volumes", self.newcomer.container)
        self.grown.up()

    def ours(self) -> Contestant:
        return replace(site("join", [self.newcomer], self.lab.inventory), check=something_changed)

    def by_hand(self) -> Contestant:
        config = self.lab.work / "join.ssh_config"
        config.write_text(self.grown.ssh_config([self.newcomer]))
        argv = ["sh", "-c", f"exec ssh -F {config} {self.newcomer.name} sh -s <{self.script}"]
        return Contestant("script", argv, self.lab.work, lambda _: None)

    def write_script(self) -> None:
        self.grown.capture([self.newcomer])
        folder = self.lab.state / self.newcomer.name
        self.script.write_text(by_hand(json.loads((folder / "state.json").read_text()), folder / "files"))

    def reached(self) -> None:
        """Raises Failed where pyinfra would still change something of what our roles had made of the host."""
        seen = detected(pyinfra(self.grown, [self.newcomer], "--dry").start().output)
        # Containers and the bridges of networks have names of their own on each host.
        missed = {operation for operation in seen if not operation.startswith(("container ", "openings "))}
        if missed:
            raise Failed(f"{self.newcomer.name}: the script left undone: {', '.join(sorted(missed))}")

    def after(self) -> float:
        """Tasks of each other host in a full run, beyond those that a run with nothing to do has."""
        hosts: list[Host] = self.lab.hosts
        full = site("after_join", self.grown.hosts, self.lab.inventory)
        contestant = counts.counting(replace(full, check=nothing_changed), self.counts)
        found = []
        for _ in range(2):
            contestant.run()
            found.append(counts.executed(counts.read(self.counts), [host.name for host in hosts]))
        return (found[0] - found[1]) / len(hosts)


def measure(lab: Lab, rounds: int) -> Result:
    step(f"an empty host joins {len(lab.hosts)}, {rounds} rounds")
    joining = Joining(lab)
    result = Result(Block("join", "an empty host joins", 1))
    joining.grown.up()
    try:
        for _ in range(rounds):
            # Ours first: the script is written from what it made.
            result.block.add("join", joining.ours().run())
            result.after.append(joining.after())
            joining.write_script()
            joining.empty()
            result.block.add("script", joining.by_hand().run())
            joining.reached()
            joining.empty()
            ours, script = (result.block.runs[name][-1].seconds for name in ("join", "script"))
            print(f"    ours {ours:.1f} s, the script {script:.1f} s; {result.after[-1]:.1f} tasks after", flush=True)
    finally:
        call("docker", "rm", "--force", "--volumes", joining.newcomer.container)
        lab.up()
    return result


def figures(result: Result) -> dict[str, float]:
    return {
        "join_seconds": result.block.seconds("join"),
        "join_script_seconds": result.block.seconds("script"),
        "join_vs_script": result.block.ratio("join", "script"),
        "after_join_tasks_per_host": median(result.after),
    }


HEAD = ("an empty host joins", "seconds")


def table(result: Result) -> list[list[str]]:
    return [
        ["`site.yml --limit`", f"{result.block.seconds('join'):.1f}"],
        ["the script over one ssh", f"{result.block.seconds('script'):.1f}"],
        ["the one to the other", f"{result.block.ratio('join', 'script'):.2f}"],
    ]
