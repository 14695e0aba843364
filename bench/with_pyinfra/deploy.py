# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The state of the cluster's hosts in pyinfra's words.

What there is to manage is the list in the hosts' receipts; the desired values and the contents of the files were
taken from the converged hosts (see lab.py), so that pyinfra has nothing to render. Where pyinfra has an operation, it
is used. Docker's settings in force, compose and ufw it does not know: there a command is run if a fact says so, and
many outputs share one fact. Each operation bears the name of the output it manages.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from facts import Beneath, FilterTable, UfwFiles
from pyinfra import host
from pyinfra.facts.docker import DockerContainers, DockerSystemInfo
from pyinfra.facts.files import FindInFile
from pyinfra.operations import apt, docker, files, server, systemd
from ufw import command as ufw_command

Subject = dict[str, Any]
Value = dict[str, Any]
Entry = tuple[str, Subject, Value]

LOCAL = Path(host.data.files)
DESIRED: list[Entry] = [(entry["kind"], entry["subject"], entry["value"]) for entry in host.data.desired]


def of_kind(*kinds: str) -> Iterator[tuple[str, Subject, Value]]:
    """The outputs of these kinds, each with the name of its operation."""
    # pyinfra tells the operations of a loop apart by their number in it.
    for kind, subject, value in host.loop([entry for entry in DESIRED if entry[0] in kinds]):
        yield f"{kind} {subject['name']}", subject, value


def whose(subject: Subject, value: Value) -> dict[str, Any]:
    """Root is nobody on the squashed share: there the owner acts, who may have no shell to log in with."""
    return {"_su_user": value["user"], "_su_shell": "/bin/sh"} if subject.get("as") and value else {}


def local(path: str) -> str:
    return str(LOCAL / path.lstrip("/"))


DONE: set[str] = set()


def manage_file(name: str, subject: Subject, value: Value | None) -> None:
    path = subject["name"]
    if path in DONE:
        return  # some outputs are parts of one file
    DONE.add(path)
    if value is None:
        files.file(name=name, path=path, present=False)
        return
    owned = {"user": value["user"], "group": value["group"], **whose(subject, value)}
    if value["type"] == "directory":
        files.directory(name=name, path=path, mode=value["mode"], **owned)
    elif value["type"] == "link":
        files.link(name=name, path=path, target=value["target"], **owned)
    elif subject.get("content", True):
        # The directories are outputs themselves, or there: asking for them again would be wasted.
        files.put(name=name, src=local(path), dest=path, mode=value["mode"], create_remote_dir=False, **owned)
    else:
        files.file(name=name, path=path, mode=value["mode"], **owned)


def manage_files() -> None:
    # Where an output is a key of a file, pyinfra has the file; so it comes before the file without its contents.
    for kind in host.loop(["json_keys", "certificate", "apt_source", "file"]):
        for name, subject, value in of_kind(kind):
            manage_file(name, subject, value)
    for name, subject, value in of_kind("tree"):
        if subject.get("pattern"):
            for path in host.loop(sorted(value["entries"])):
                manage_file(name, {"name": posixpath.join(subject["name"], path)}, value["entries"][path])
        else:
            owned = {"user": value["user"], "group": value["group"], **whose(subject, value)}
            files.sync(name=name, src=local(subject["name"]), dest=subject["name"], delete=True, **owned)
    for name, subject, value in of_kind("block"):
        marker = f"# {{mark}} {subject['marker']}"
        path = subject["name"]
        lines = Path(local(path)).read_text().splitlines() if value else []
        begin, end = marker.format(mark="BEGIN"), marker.format(mark="END")
        if begin not in lines:
            files.block(name=name, path=path, marker=marker, present=False)
            continue
        content = lines[lines.index(begin) + 1 : lines.index(end)]
        files.block(name=name, path=path, marker=marker, content=content)
        files.file(name=name, path=path, mode=value["mode"], user=value["user"], group=value["group"])
    for name, subject, _ in of_kind("contains"):
        for path in host.loop(subject["files"]):
            # A bundle is its certificates one after the other: a line of each says that it is in.
            line = Path(local(path)).read_text().splitlines()[2]
            if not host.get_fact(FindInFile, path=subject["name"], pattern=f"^{re.escape(line)}$"):
                server.shell(name=name, commands=["update-ca-certificates"])


def manage_accounts() -> None:
    for name, subject, value in of_kind("group"):
        server.group(name=name, group=subject["name"], gid=int(value["gid"]))
    keys = {subject["name"]: subject for _, subject, _ in of_kind("lines")}
    for name, subject, value in of_kind("user"):
        # The keys of an account belong to its operation.
        authorized = keys.pop(posixpath.join(value["home"], ".ssh/authorized_keys"), {})
        server.user(
            name=name,
            user=subject["name"],
            uid=int(value["uid"]),
            home=value["home"],
            shell=value["shell"],
            groups=[group for group in subject.get("groups", []) if group in value["groups"]],
            append=True,
            ensure_home=False,
            public_keys=authorized.get("lines"),
            delete_keys=bool(authorized.get("exclusive")),
        )
    for name, subject, _ in of_kind("member"):
        user, group = subject["name"].split(":")
        server.user(name=name, user=user, groups=[group], append=True, ensure_home=False)
    for path, line in host.loop([(path, line) for path, subject in keys.items() for line in subject["lines"]]):
        files.line(name=f"lines {path}", path=path, line=f"^{re.escape(line)}$")


def manage_mounts() -> None:
    for name, subject, value in of_kind("mount"):
        fields = value["fstab"]
        if fields:
            start = f"^{re.escape(fields[0])}[[:space:]][[:space:]]*{re.escape(fields[1])}[[:space:]].*$"
            whole = next(line for line in value["fstab_lines"] if line.split()[:2] == fields[:2])
            files.line(name=name, path="/etc/fstab", line=start, replace=whole)
        way = value["options"][0].split(",")[:1] if "options" in value else None  # ro or rw
        server.mount(name=name, path=subject["name"], device=value["source"], fs_type=value["fstype"], options=way)
    for name, subject, value in of_kind("bind"):
        # Another than it must be is not told: pyinfra does not look what of a file system is mounted.
        server.mount(name=name, path=subject["name"], options=value["mount"][5].split(","))
    for name, subject, value in of_kind("mountpoint"):
        if host.get_fact(Beneath, path=subject["name"]) != value["beneath"]:
            parent, base = posixpath.split(subject["name"])
            script = f"mount --bind {parent} /run && chattr +i /run/{base}"
            server.shell(name=name, commands=[f"unshare --mount sh -c '{script}'"])


def rules_of(table: dict[str, list[str]], chains: dict[str, str]) -> dict[str, list[str]]:
    return {family: [rule for rule in table[family] if rule.startswith(f"-A {chains[family]} ")] for family in chains}


def manage_firewall() -> None:
    wanted = list(of_kind("chain", "openings", "ufw", "ufw_rules"))
    if not wanted:
        return
    table, ufw = host.get_fact(FilterTable), host.get_fact(UfwFiles)
    for name, subject, value in wanted:
        found: Value
        missing: list[str] = []
        if name.startswith("chain "):
            found = rules_of(table, {"iptables": subject["name"], "ip6tables": subject["name"]})
        elif name.startswith("openings "):
            found = {way: rules_of(table, dict.fromkeys(table, way)) for way in ("INPUT", "FORWARD")}
        elif name.startswith("ufw_rules "):
            tuples = {
                path: [line for line in ufw[path] if line.startswith("### tuple")] for path in value if path != "live"
            }
            found = {**tuples, "live": rules_of(table, {"iptables": "ufw-user-input", "ip6tables": "ufw6-user-input"})}
            missing = [ufw_command(line) for path in tuples for line in value[path] if line not in tuples[path]]
        else:
            own = ("-A ufw", "-A INPUT -j ufw", "-A OUTPUT -j ufw", "-A FORWARD -j ufw")
            found = {
                "own": {family: [rule for rule in table[family] if rule.startswith(own)] for family in table},
                "policies": {family: [rule for rule in table[family] if rule.startswith(":")] for family in table},
                "/etc/ufw/ufw.conf": [line for line in ufw["/etc/ufw/ufw.conf"] if "=" in line],
                "/etc/default/ufw": [line for line in ufw["/etc/default/ufw"] if line.startswith("DEFAULT_")],
            }
        if found != value:
            server.shell(name=name, commands=missing or ["ufw --force enable", "ufw reload"])


def settings_of(container: Value) -> str:
    settings = {name: container[name] for name in ("Config", "HostConfig", "Image")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def well(containers: list[Value], value: Value) -> bool:
    """Whether the one container of a service runs as it should."""
    return (
        len(containers) == 1
        and containers[0]["State"]["Running"]
        and containers[0]["State"].get("Health", {}).get("Status") != "unhealthy"
        and settings_of(containers[0]) == value["settings"]
    )


def manage_docker() -> None:
    for name, _, value in of_kind("docker"):
        info = host.get_fact(DockerSystemInfo)
        if any(info[setting] != value[setting] for setting in value):
            server.shell(name=name, commands=["systemctl reload-or-restart docker"])
    for name, subject, _ in of_kind("image"):
        docker.image(name=name, image=subject["name"])
    services: dict[str, list[Value]] = {}
    wanted = list(of_kind("container"))
    for container in host.get_fact(DockerContainers) if wanted else []:
        labels = container["Config"]["Labels"]
        service = f"{labels.get('com.docker.compose.project')}/{labels.get('com.docker.compose.service')}"
        services.setdefault(service, []).append(container)
    for name, subject, value in host.loop(wanted):
        if not well(services.get(subject["name"], []), value):
            project, service = subject["name"].split("/")
            command = f"docker compose --file {value['compose_file']} --project-name {project} up --detach {service}"
            server.shell(name=name, commands=[command])


def manage_system() -> None:
    packages = [subject["name"] for _, subject, _ in of_kind("package")]
    if packages:
        apt.packages(name="package all", packages=packages, no_recommends=True)
    for name, subject, _ in of_kind("kernel_module"):
        server.modprobe(name=name, module=subject["name"])
    for name, subject, value in of_kind("sysctl"):
        server.sysctl(name=name, key=subject["name"], value=" ".join(value["value"]))


def manage_units() -> None:
    for name, subject, value in of_kind("unit"):
        systemd.service(
            name=name,
            service=subject["name"],
            running=value["ActiveState"] == "active",
            enabled={"enabled": True, "disabled": False}.get(value["UnitFileState"]),
        )


PARTS: dict[tuple[str, ...], Callable[[], None]] = {
    ("package", "sysctl", "kernel_module"): manage_system,
    ("group", "user", "member", "lines"): manage_accounts,
    ("mount", "bind", "mountpoint"): manage_mounts,
    ("file", "apt_source", "certificate", "json_keys", "tree", "block", "contains"): manage_files,
    ("unit",): manage_units,
    ("chain", "openings", "ufw", "ufw_rules"): manage_firewall,
    ("docker", "image", "container"): manage_docker,
}
unknown = {kind for kind, _, _ in DESIRED} - {kind for kinds in PARTS for kind in kinds}
if unknown:
    raise SystemExit(f"the deploy knows no operation for {', '.join(sorted(unknown))}: the comparison would be unfair")
for part in PARTS.values():
    part()
