# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The floor of the benchmark: read what the receipts of a host vouch for, with nothing around it.

    ssh HOST python3 -I -S - </this/file              the state, files as digests
    ssh HOST python3 -I -S - contents </this/file     the same with the contents of files, for the pyinfra contestant

It judges nothing and needs nothing but Python: what takes longer than this does something besides reading. Prints one
JSON object {"<kind> <name>": value}.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import stat
import subprocess
import sys
from fnmatch import fnmatch

CONTENTS = "contents" in sys.argv[1:]
RECEIPTS = "/var/lib/gpustead/receipts"
FAMILIES = ("iptables", "ip6tables")
FIREWALL_KINDS = {"chain", "openings", "ufw", "ufw_rules"}

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs more than reading a file
    from collections.abc import Callable
    from typing import Any

    Subject = dict[str, Any]
    Value = dict[str, Any]
    Firewall = dict[str, list[str]]


def specs(folder: str) -> list[tuple[str, Subject]]:
    """What the receipts of this host look at, each thing once; what roles only read is nobody's desired state."""
    found: dict[str, tuple[str, Subject]] = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".json"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                receipt = json.load(file)
            for kind, subject in receipt["outputs"] if CONTENTS else [*receipt["reads"], *receipt["outputs"]]:
                found[f"{kind} {subject['name']}"] = (kind, subject)
    return list(found.values())


# Files


class As:
    """Reads as the owner of a squashed share, where root is nobody."""

    def __init__(self, who: object) -> None:
        uid, _, gid = str(who or 0).partition(":")
        self.uid, self.gid = int(uid), int(gid or uid)

    def __enter__(self) -> None:
        if self.uid:
            os.setegid(self.gid)
            os.seteuid(self.uid)

    def __exit__(self, *_: object) -> None:
        if self.uid:
            os.seteuid(0)
            os.setegid(0)


def content(path: str) -> Value:
    with open(path, "rb") as file:
        data = file.read()
    if CONTENTS:
        return {"content": base64.b64encode(data).decode()}
    return {"sha256": hashlib.sha256(data).hexdigest()}


def entry(path: str, with_content: bool = True) -> Value | None:
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    value: Value = {"mode": f"{stat.S_IMODE(status.st_mode):04o}", "owner": f"{status.st_uid}:{status.st_gid}"}
    if CONTENTS:
        value.update(named(status))
    if stat.S_ISLNK(status.st_mode):
        return {**value, "type": "link", "target": os.readlink(path)}
    if stat.S_ISDIR(status.st_mode):
        return {**value, "type": "directory"}
    return {**value, "type": "file", **(content(path) if with_content else {})}


def named(status: os.stat_result) -> Value:
    # Only for the pyinfra contestant: the floor itself must not pay for these.
    import grp  # noqa: PLC0415
    import pwd  # noqa: PLC0415

    return {"user": pwd.getpwuid(status.st_uid).pw_name, "group": grp.getgrgid(status.st_gid).gr_name}


def read_file(subject: Subject) -> Value | None:
    return entry(subject["name"], subject.get("content", True))


def read_tree(subject: Subject) -> Value | None:
    top = entry(subject["name"])
    if top is None:
        return None
    found = {}
    for folder, folders, files in os.walk(subject["name"]):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            if fnmatch(name, subject.get("pattern", "*")):
                found[os.path.relpath(path, subject["name"])] = entry(path)
    return {**top, "entries": found}


def read_settings(subject: Subject) -> Value:
    """Files and directories of an account, which its workspace has copies of."""
    return {path: read_tree({"name": os.path.join(subject["name"], path)}) for path in subject["paths"]}


def read_text(subject: Subject) -> Value | None:
    """Kinds that are parts of a file: what they cost is reading it."""
    return entry(subject.get("path") or subject["name"])


def read_contains(subject: Subject) -> Value:
    return {path: entry(path) for path in [subject["name"], *subject["files"]]}


def read_mountpoint(subject: Subject) -> Value:
    """The bare directory under a mount, seen in a mount namespace of its own."""
    parent, name = os.path.split(subject["name"])
    script = 'mount --bind -- "$1" /run && stat -c %a -- "/run/$2" && lsattr -d -- "/run/$2"'
    return {"beneath": run("unshare", "--mount", "sh", "-c", script, "sh", parent, name).split()[:2]}


# The system


def run(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


def lines(path: str) -> list[str]:
    with open(path, encoding="utf-8") as file:
        return file.read().splitlines()


def installed() -> set[str]:
    with open("/var/lib/dpkg/status", encoding="utf-8") as file:
        text = file.read()
    return {
        paragraph[9 : paragraph.index("\n")]
        for paragraph in text.split("\n\n")
        if paragraph.startswith("Package: ") and " ok installed\n" in paragraph
    }


def units(names: list[str]) -> dict[str, Value]:
    properties = "Id,Names,LoadState,UnitFileState,ActiveState,FragmentPath,DropInPaths,NeedDaemonReload"
    shown = run("systemctl", "show", "--property", properties, "--", *names).split("\n\n")
    return {
        name: dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for name, block in zip(names, shown)
    }


def accounts(path: str) -> dict[str, list[str]]:
    return {line.split(":", 1)[0]: line.split(":") for line in lines(path) if ":" in line}


def read_user(subject: Subject) -> Value | None:
    name = subject["name"]
    user = accounts("/etc/passwd").get(name)
    if user is None:
        return None
    password = accounts("/etc/shadow").get(name, ["", ""])[1]
    groups = [group[0] for group in accounts("/etc/group").values() if name in group[3].split(",")]
    value = dict(zip(("uid", "gid", "gecos", "home", "shell"), user[2:7]))
    return {**value, "groups": groups, "password": hashlib.sha256(password.encode()).hexdigest()}


def read_group(subject: Subject) -> Value | None:
    group = accounts("/etc/group").get(subject["name"])
    return {"gid": group[2]} if group else None


def read_member(subject: Subject) -> Value:
    user, group = subject["name"].split(":")
    return {"member": user in accounts("/etc/group").get(group, [""] * 4)[3].split(",")}


def read_mount(subject: Subject) -> Value:
    live = [fields for fields in map(str.split, lines("/proc/self/mountinfo")) if fields[4] == subject["name"]]
    fstab = [fields for fields in map(str.split, lines("/etc/fstab")) if fields[1:2] == [subject["name"]]]
    value: Value = {"fstab": fstab[0][:4] if fstab else None, "fstype": None, "source": None}
    if CONTENTS:
        value["fstab_lines"] = lines("/etc/fstab")
    if live:
        after = live[-1].index("-")
        value["fstype"], value["source"] = live[-1][after + 1 : after + 3]
        value["options"] = [live[-1][5], *live[-1][after + 3 :]]
    return value


def read_bind(subject: Subject) -> Value:
    """What is mounted there, and on the root of its share: whether it is still the same."""
    seen = {fields[4]: fields for fields in map(str.split, lines("/proc/self/mountinfo"))}
    return {"mount": seen.get(subject["name"]), "share": seen.get(subject.get("root", ""), [""] * 3)[2]}


def read_sysctl(subject: Subject) -> Value:
    return {"value": lines("/proc/sys/" + subject["name"].replace(".", "/"))}


def read_kernel_module(subject: Subject) -> Value:
    return {"loaded": os.path.isdir(f"/sys/module/{subject['name'].replace('-', '_')}")}


def read_gluster(subject: Subject) -> Value:
    return {"info": lines(f"/var/lib/glusterd/vols/{subject['name']}/info")}


def read_export(subject: Subject) -> Value:
    return {"lines": [line for line in lines("/var/lib/nfs/etab") if line.startswith(subject["name"])]}


def read_gpus(_: Subject) -> Value:
    """The display devices of NVIDIA: that there are none, in a lab."""
    devices = "/sys/bus/pci/devices"
    ids = {name: lines(f"{devices}/{name}/vendor") + lines(f"{devices}/{name}/class") for name in os.listdir(devices)}
    return {"bus": sorted(name for name, (vendor, kind) in ids.items() if vendor == "0x10de" and kind[:4] == "0x03")}


# The firewall


def rules(family: str) -> list[str]:
    """Chains and rules without the counters and the date."""
    saved = run(f"{family}-save", "-t", "filter").splitlines()
    return [line.split(" [")[0] for line in saved if not line.startswith("#")]


def chains(firewall: Firewall, *names: str) -> Value:
    """The rules of a chain in each family."""
    return {
        family: [rule for rule in firewall[family] if rule.startswith(f"-A {name} ")]
        for family, name in zip(FAMILIES, names)
    }


def read_ufw(firewall: Firewall) -> Value:
    own = ("-A ufw", "-A INPUT -j ufw", "-A OUTPUT -j ufw", "-A FORWARD -j ufw")
    return {
        "own": {family: [rule for rule in firewall[family] if rule.startswith(own)] for family in FAMILIES},
        "policies": {family: [rule for rule in firewall[family] if rule.startswith(":")] for family in FAMILIES},
        "/etc/ufw/ufw.conf": [line for line in lines("/etc/ufw/ufw.conf") if "=" in line],
        "/etc/default/ufw": [line for line in lines("/etc/default/ufw") if line.startswith("DEFAULT_")],
    }


def read_ufw_rules(firewall: Firewall) -> Value:
    files = ("/etc/ufw/user.rules", "/etc/ufw/user6.rules")
    return {
        **{path: [line for line in lines(path) if line.startswith("### tuple")] for path in files},
        "live": chains(firewall, "ufw-user-input", "ufw6-user-input"),
    }


def read_openings(firewall: Firewall) -> Value:
    """Where rules of others stand; who would read more of them would also have to know what they let in."""
    return {name: chains(firewall, name, name) for name in ("INPUT", "FORWARD")}


# Docker


def docker(path: str) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("/run/docker.sock")
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return json.loads(answer.split(b"\r\n\r\n", 1)[1])


def read_docker(_: Subject) -> Value:
    info = docker("/info")
    return {
        "LoggingDriver": info["LoggingDriver"],
        "LiveRestoreEnabled": info["LiveRestoreEnabled"],
        "RegistryConfig": info["RegistryConfig"],
    }


def read_image(subject: Subject) -> Value:
    image = docker(f"/images/{subject['name']}/json")
    return {"id": image.get("Id")}


def services() -> dict[str, list[str]]:
    """Ids of the containers of each compose service."""
    found: dict[str, list[str]] = {}
    containers = docker("/containers/json?all=1")
    for container in containers:
        labels = container["Labels"]
        service = f"{labels.get('com.docker.compose.project')}/{labels.get('com.docker.compose.service')}"
        found.setdefault(service, []).append(container["Id"])
    return found


def read_container(found: list[str]) -> Value | None:
    if len(found) != 1:
        return None
    shown = docker(f"/containers/{found[0]}/json")
    state = shown["State"]
    settings = {"Config": shown["Config"], "HostConfig": shown["HostConfig"], "Image": shown["Image"]}
    return {
        "name": shown["Name"].lstrip("/"),
        "compose_file": shown["Config"]["Labels"].get("com.docker.compose.project.config_files"),
        "running": state["Running"],
        "well": state.get("Health", {}).get("Status") != "unhealthy",
        "config_hash": shown["Config"]["Labels"].get("com.docker.compose.config-hash"),
        "image": shown["Config"]["Image"],
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
    }


def readers(names: dict[str, list[str]]) -> dict[str, Callable[[Subject], Value | None]]:
    """A reader for each kind. What many outputs are found in is read once."""
    packages = installed() if "package" in names else set()
    shown = units(names["unit"]) if "unit" in names else {}
    firewall = {family: rules(family) for family in FAMILIES} if FIREWALL_KINDS & set(names) else {}
    running = services() if "container" in names else {}
    return {
        "file": read_file,
        "apt_source": read_file,
        "tree": read_tree,
        "settings": read_settings,
        "block": read_text,
        "json_keys": read_text,
        "lines": read_text,
        "certificate": read_text,
        "contains": read_contains,
        "mountpoint": read_mountpoint,
        "package": lambda subject: {"installed": subject["name"] in packages},
        "unit": lambda subject: shown[subject["name"]],
        "user": read_user,
        "group": read_group,
        "member": read_member,
        "mount": read_mount,
        "bind": read_bind,
        "sysctl": read_sysctl,
        "kernel_module": read_kernel_module,
        "gluster": read_gluster,
        "export": read_export,
        "gpus": read_gpus,
        "chain": lambda subject: chains(firewall, subject["name"], subject["name"]),
        "ufw": lambda _: read_ufw(firewall),
        "ufw_rules": lambda _: read_ufw_rules(firewall),
        "openings": lambda _: read_openings(firewall),
        "docker": read_docker,
        "image": read_image,
        "container": lambda subject: read_container(running.get(subject["name"], [])),
    }


def main() -> None:
    wanted = specs(RECEIPTS)
    names: dict[str, list[str]] = {}
    for kind, subject in wanted:
        names.setdefault(kind, []).append(subject["name"])
    of_kind = readers(names)
    unknown = sorted(set(names) - set(of_kind))
    if unknown:
        sys.exit(f"the floor does not read {', '.join(unknown)}: the comparison would be unfair")
    state: list[dict[str, Any]] = []
    for kind, subject in wanted:
        try:
            with As(subject.get("as")):
                value = of_kind[kind](subject)
        except (OSError, KeyError, ValueError) as error:
            value = {"error": f"{type(error).__name__}: {error}"}
        state.append({"kind": kind, "subject": subject, "value": value})
    print(json.dumps(state if CONTENTS else {f"{e['kind']} {e['subject']['name']}": e["value"] for e in state}))


main()
