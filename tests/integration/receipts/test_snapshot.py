"""What the receipts cover: a node beside a bare host of the same image differs in declared outputs alone.

What else differs is excluded here, each with a reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

import pytest
from conftest import Host, Lab
from support import converge, receipts

# Run on a host: one line "<kind> <name>\t<value>" per thing. Contents of others' shares are not entered.
SNAPSHOT = r"""
set -e
find /etc /usr/local /opt /srv /root /home /var/lib/gpustead /var/lib/docker-registry /export /mnt -xdev \
    \( -type f -o -type d -o -type l \) -printf 'file %p\t%y %#m %U:%G %l\n' 2>/dev/null || true
find /etc /usr/local /opt /srv /root /home /var/lib/gpustead -xdev -type f -exec sha256sum {} + 2>/dev/null \
    | sed -E 's/^(\w+)  (.*)$/content \2\t\1/' || true
apt-mark showmanual | sed 's/^/package /; s/$/\tasked for/'
systemctl list-unit-files --no-legend --plain | awk '$2 == "enabled" {print "enabled " $1 "\t" $2}'
systemctl list-units --no-legend --plain --state=active --type=service,socket,timer,mount \
    | awk '{print "active " $1 "\t" $3}'
getent passwd | awk -F: '$3 >= 1000 {print "user " $1 "\t" $0}'
getent group | awk -F: '$3 >= 1000 || $4 {print "group " $1 "\t" $0}'
for t in iptables ip6tables; do command -v $t-save >/dev/null || continue; $t-save -t filter | grep -E '^-A|^:' \
    | awk -v t=$t '{c=$2; if ($1 != "-A") c=substr($1, 2); print "rule " t " " c "\t" $0}' | sed 's/ \[.*//'; done
findmnt -rn -o TARGET,FSTYPE | awk '{print "mount " $1 "\t" $2}'
if docker info >/dev/null 2>&1; then
    docker image ls --no-trunc --format 'image {{.Repository}}\t{{.Tag}} {{.ID}}'
    docker ps -a --format 'container {{.Label "com.docker.compose.project"}}/{{.Label "com.docker.compose.service"}}\t-'
fi
"""

# Pattern of "<kind> <name>" to why no receipt declares it.
EXCLUSIONS: Sequence[tuple[str, str]] = (
    (r"(file|content) /etc/(hostname|hosts|resolv.conf|machine-id|fstab.*~|mtab)$", "the host's own identity"),
    (r"(file|content) /etc/ssh/ssh_host_\S+$", "the host's own identity"),
    (r"(file|content) /root/\.(ssh|ansible|ansible_async)(/\S+)?$", "Ansible's and the lab's access"),
    (r"(file|content) /var/lib/gpustead(/receipts(/\S+)?)?$", "the receipts"),
    (r"(file|content) /etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$", "declared as users and groups"),
    (r"(file|content) /etc/fstab(\.\S+)?$", "declared as mounts; the module keeps copies"),
    (r"(file|content) /etc/ufw(/\S+)?$", "declared as ufw's status, rules and blocks; the rest is the package's"),
    (r"(file|content) /etc/default/ufw$", "declared as ufw's status"),
    (
        r"(file|content) /etc/(ssl|ca-certificates)(/\S+|\.conf\S*)?$",
        "made by update-ca-certificates of declared files",
    ),
    (r"(file|content) /etc/systemd/system/\S+\.wants(/\S+)?$", "declared as enabled units"),
    (r"(file|content) /etc/(alternatives|rc\S\.d|ld.so.cache|ld.so.conf.d)(/\S+)?$", "made by packages' scripts"),
    (r"(file|content) /etc/ld.so.cache$", "made by packages' scripts"),
    (r"(file|content) /home/[^/]+(/\.(bashrc|profile|bash_logout|face|face.icon))?$", "made with the account"),
    (r"(file|content) /home/[^/]+/\.ssh$", "made with the declared lines"),
    (r"(file|content) /usr/local/(lib|share)/\S*(__pycache__|fonts|man)\S*$", "made by packages' scripts"),
    (r"(file|content) /root/\.docker$|file /root$|file /etc$|file /home$|file /mnt$", "a folder of what is declared"),
    (r"(file|content) /var/lib/gpustead/images$", "a folder of what is declared"),
    (
        r"(active|mount) (run-docker|run-user|/run|(var-lib-|/var/lib/)(docker|containerd))\S*$",
        "Docker's and sessions' own",
    ),
    (r"active (user|session|user-runtime-dir|ssh)\S+$", "sessions of whoever looks"),
    (r"active \S+\.(timer|mount)$", "come with packages; shares are declared as mounts"),
    (r"(enabled|active) (containerd.service|docker.socket)$", "docker.io's own; docker.service, declared, needs them"),
    (r"enabled (e2scrub|xfs_scrub|system-xfs_scrub)\S*$", "come with the file systems' packages"),
    (r"(file|content) /etc/systemd/system/(docker|gpustead-binds).service.d$", "a folder of what is declared"),
    (r"(file|content) (/etc/docker/certs.d(/[^/]+)?|/etc/gpustead)$", "a folder of what is declared"),
    (r"(file|content) /root/\.docker/buildx(/\S+)?$", "what buildx notes for itself"),
    (r"(file|content) /var/lib/gpustead/images/base.tar$", "the archive of the base image, needed while it is built"),
    (r"(file|content) /etc/docker/(registry/config.yml|daemon.json)\.\S+\.bak$", "the copy of what was replaced"),
    (r"file /etc/cni(/net.d)?$", "containerd's own"),
    (r"file /var/lib/gpustead/uid_match$", "where a renumbering that was cut short is noted"),
    (r"(file|content) /var/lib/gpustead/uid_match/former.ids$", "the numbers that accounts had, which only grow"),
    (r"mount /sys/fs/cgroup(/\S+)?$", "the machine's, which the lab's hosts get as they are when they start"),
    (r"mount /export$", "a volume of the lab's host"),
    (r"(file|content) /var/lib/docker-registry/\S+$", "the registry's data: it can be made again"),
    (r"(file|content) /export/brick/\S+$", "the share's data; the nodes declare what is ours of it"),
    (r"file /mnt/nas$", "declared as a mount"),
    (r"group \S+$", "declared with its users: their gid and their groups"),
    (r"rule ip6?tables (INPUT|OUTPUT|FORWARD|ufw6?-\S+)$", "declared as ufw's status and rules"),
    (r"rule ip6?tables DOCKER\S*$", "Docker's own"),
    (r"image \S+_(base|ssh|uv|torch|deepspeed|services)$|image gpustead/debian$", "the layers on the builder"),
)


def snapshot(host: Host) -> dict[str, str]:
    """Kind and name of all that is there to what it is like; things of one name are one."""
    found: dict[str, list[str]] = {}
    for line in host.check_output(SNAPSHOT).splitlines():
        name, _, value = line.partition("\t")
        found.setdefault(name, []).append(value)
    return {name: "\n".join(values) for name, values in found.items()}


def declared(host: Host) -> tuple[set[str], set[str]]:
    """The names under which the snapshot has what the receipts declare, and the folders declared with all below."""
    specs = [spec for receipt in receipts(host).values() for spec in receipt["outputs"]]
    known = {name for kind, subject in specs for name in names(kind, subject["name"])}
    return known, {subject["name"] for kind, subject in specs if kind == "tree"}


def names(kind: str, name: str) -> Iterable[str]:
    if kind in ("file", "tree", "lines", "block", "json_keys", "certificate", "contains"):
        return (f"file {name}", f"content {name}")
    if kind == "unit":
        return (f"enabled {name}", f"active {name}")
    if kind == "chain":
        return (f"rule iptables {name}", f"rule ip6tables {name}")
    if kind == "image":
        return (f"image {name.partition('@')[0]}",)
    return (f"{kind} {name}",)


def below(thing: str, trees: set[str]) -> bool:
    kind, _, name = thing.partition(" ")
    return kind in ("file", "content") and any(name.startswith(f"{tree}/") for tree in trees)


def of_packages(host: Host) -> set[str]:
    """The files that came with a package and are as it brought them."""
    owned = set(host.check_output("cat /var/lib/dpkg/info/*.list | sort -u").splitlines())
    # "??5?????? c /etc/fuse.conf"
    edited = {line.split(maxsplit=1)[1].removeprefix("c ") for line in host.run("dpkg --verify").stdout.splitlines()}
    return owned - edited


@pytest.mark.parametrize("name", ["gpu01", "gpu02", "nas"])
def test_what_a_role_leaves_is_declared(lab: Lab, name: str) -> None:
    converge(lab)
    host = lab[name]
    before, after = snapshot(lab["outsider"]), snapshot(host)
    known, trees = declared(host)
    packaged = of_packages(host)
    left = {thing for thing in {*before, *after} if before.get(thing) != after.get(thing)} - known
    left = {thing for thing in left if not below(thing, trees)}
    left = {thing for thing in left if not any(re.fullmatch(pattern, thing) for pattern, _ in EXCLUSIONS)}
    left = {thing for thing in left if thing.split(" ", 1)[1] not in packaged}
    assert sorted(left) == [], json.dumps({thing: after.get(thing, "gone") for thing in sorted(left)}, indent=1)
