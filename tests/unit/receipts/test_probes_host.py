# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Probes of the system: what real tools printed, and real tools where they are at hand."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import normal, parse_kept
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.tests.unit import docker_engine

FIXTURES = Path(__file__).parents[1] / "fixtures" / "probes"
SALT = b"salt of the host"
DAY = 86400


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text()


class Lab:
    """A host made of files and of what its commands print."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said: dict[str, tuple[int, str, str]] = {}
        self.asked: list[list[str]] = []

    def has(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def says(self, command: str, out: str, code: int = 0, err: str = "") -> None:
        self.said[command] = code, out, err

    def run(self, argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
        self.asked.append(list(argv))
        return self.said.get(" ".join(argv), self.said.get(argv[0], (127, "", f"{argv[0]}: not found")))

    def ask(self, kind: str, *names: str, **options: object) -> Any:
        host = Host(str(self.root), SALT, self.run, str(self.root / "docker.sock"))
        values = observe([(kind, {"name": name, **options}) for name in names], host)
        found = [values[f"{kind} {name}"] for name in names]
        return found if len(names) > 1 else found[0]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_packages(lab: Lab) -> None:
    more = [
        "Package: half\nStatus: install ok half-configured\nArchitecture: amd64\n",
        "Package: held\nEssential: yes\nStatus: hold ok installed\nArchitecture: amd64\n",
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\n",
        "Package: libfoo\nStatus: install ok installed\nArchitecture: i386\n",
    ]
    lab.has({"/var/lib/dpkg/status": fixture("dpkg-status") + "\n" + "\n".join(more)})
    yes, no = {"installed": True}, {"installed": False}
    names = ["docker.io", "tzdata", "docker", "half", "held", "gone", "libfoo", "libfoo:i386", "libc6:amd64"]
    assert lab.ask("package", *names) == [yes, yes, None, no, yes, None, None, yes, yes]


def test_no_dpkg_is_no_answer(lab: Lab) -> None:
    assert "status" in lab.ask("package", "bash")["error"]


def test_units(lab: Lab) -> None:
    lab.says("systemctl", fixture("systemctl-show.txt"))
    about = {"load": "loaded", "enabled": "enabled", "active": "active", "stale": False}
    docker: dict[str, Any] = {**about, "instead": [], "drop_ins": []}  # one of another role's, which vouches for it
    found, none, ssh = lab.ask("unit", "docker.service", "nope.service", "ssh.service")
    assert (found, none) == (docker, None)
    assert [name.split(" ")[0] for name in ssh["drop_ins"]] == ["/etc/systemd/system/ssh.service.d/keys.conf"]
    assert len(lab.asked) == 1
    lab.says("systemctl", fixture("systemctl-show.txt").split("\n\n")[0])
    del docker["active"]
    assert lab.ask("unit", "docker.service", running=False) == docker


def test_a_unit_that_systemctl_refuses_leaves_the_others(lab: Lab) -> None:
    shown, missing, _ = fixture("systemctl-show.txt").split("\n\n")
    said = "systemctl show -p LoadState,UnitFileState,ActiveState,FragmentPath,DropInPaths,NeedDaemonReload -- "
    lab.says("systemctl", "", 1, "Unit name a@.service is neither a valid invocation ID nor unit name.")
    lab.says(f"{said}docker.service", shown.replace("DropInPaths=", "DropInPaths=/usr/lib/b.conf /run/a.conf "))
    lab.says(f"{said}gone.service", missing.replace("inactive", "active"))
    docker, refused, gone = lab.ask("unit", "docker.service", "a@.service", "gone.service")
    assert [name.split(" ")[0] for name in docker["drop_ins"]] == ["/run/a.conf"]
    assert "neither" in refused["error"]
    assert gone["load"] == "not-found", "it still runs"


def test_what_an_administrator_put_in_the_place_of_a_unit(lab: Lab) -> None:
    """`systemctl edit --full`, and another edit of the same: both start the daemon with other options."""
    shown = fixture("systemctl-show.txt").split("\n\n")[0]
    path = "/etc/systemd/system/docker.service"

    def instead(path: str, text: str = "") -> list[str]:
        lab.says("systemctl", shown.replace("/usr/lib/systemd/system/docker.service", path))
        lab.has({path: text})
        value: list[str] = lab.ask("unit", "docker.service")["instead"]
        return value

    edited = instead(path, "ExecStart=dockerd -H tcp://0.0.0.0:2375\n")
    assert [name.split(" ")[0] for name in edited] == [path]
    assert instead(path, "ExecStart=dockerd\n") != edited
    for brought in ("/lib/systemd/system/docker.service", "/run/systemd/generator.late/docker.service"):
        assert instead(brought) == []
    assert instead("/etc/systemd/system/gpustead-gpus.service") == [], "the role vouches for it as a file"
    conffile = f"Package: docker.io\nConffiles:\n {path} d8e8fca2dc0f896fd7cb4cb0031ba249\nDescription: x\n"
    lab.has({"/var/lib/dpkg/status": conffile})
    assert instead(path, "test\n") == [], "a package has it there"
    assert instead(path, "ExecStart=dockerd\n") != []


def test_a_setting_of_the_kernels_as_it_is_read_from_proc() -> None:
    """Of more than 4 MiB at once it says that there is no memory."""
    assert observe([("sysctl", {"name": "kernel.ostype"})], Host()) == {"sysctl kernel.ostype": {"value": "Linux"}}


def test_kernel(lab: Lab) -> None:
    lab.has({"/proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n", "/proc/sys/net/ipv4/conf/eth0.1/mtu": "1\n"})
    lab.has({"/etc/modules-load.d/x.conf": "# br_netfilter\nip-tables\n", "/sys/module/overlay/refcnt": "1"})
    assert lab.ask("sysctl", "net.ipv4.tcp_rmem", "net.ipv4.conf.eth0/1.mtu", "net.no") == [
        {"value": "4096 131072 6291456"},
        {"value": "1"},
        None,
    ]
    assert lab.ask("kernel_module", "overlay", "ip_tables", "br_netfilter") == [
        {"loaded": True, "configured": False},
        {"loaded": False, "configured": True},
        None,
    ]


def accounts(lab: Lab) -> None:
    people = [("ada", 1500), ("bob", 1501), ("eve", 1502), ("nil", 1503), ("sys", 90)]
    lab.has(
        {
            "/etc/passwd": "".join(f"{n}:x:{u}:{u}:{n.title()},,,:/home/{n}:/bin/bash\n" for n, u in people) + "bad\n",
            "/etc/group": "ada:x:1500:\ndocker:x:103:eve,ada\nsudo:x:27:bob\nempty:x:28:\n",
            "/etc/shadow": "ada:$y$secret:1::::::\nbob:!$y$secret:1::::::\neve:*:1::::::\nnil::1::::::\n",
        }
    )


def test_accounts(lab: Lab) -> None:
    accounts(lab)
    ada, bob, eve, nil, sys = lab.ask("user", "ada", "bob", "eve", "nil", "sys", groups=["sudo", "docker", "ada"])
    about = {"uid": 1500, "gid": 1500, "home": "/home/ada", "shell": "/bin/bash", "gecos": "Ada,,,"}
    digest = ada.pop("password")
    assert ada == {**about, "groups": ["ada", "docker"]}
    assert len(digest) == 64 and "secret" not in digest
    assert [user["password"] for user in (bob, eve, nil, sys)] == ["locked", "locked", "none", "locked"]
    assert lab.ask("group", "docker") == {"gid": 103}
    pairs = ["ada:docker", "ada:ada", "bob:docker", "ada:empty"]
    assert lab.ask("member", *pairs) == [{"member": True}, {"member": True}, None, None]
    assert not lab.asked


def test_accounts_of_a_directory(lab: Lab) -> None:
    accounts(lab)
    assert "getent" in lab.ask("user", "ada", "zoe")[1]["error"], "who cannot be asked has not said no"
    lab.says("getent -- passwd no zoe", "zoe:*:9000:9000::/home/zoe:/bin/sh\n", 2)
    lab.says("getent -- passwd zoe", "zoe:*:9000:9000::/home/zoe:/bin/sh\n")
    lab.says("getent -- group all", "all:*:9001:zoe,ada\n")
    assert lab.ask("user", "no") is not None
    no, zoe = lab.ask("user", "no", "zoe", groups=["all"])
    assert (no, zoe["uid"], zoe["password"], zoe["groups"]) == (None, 9000, "not local", ["all"])
    assert lab.ask("member", "zoe:all") == {"member": True}


def test_getent_is_what_we_take_it_for() -> None:
    values = observe([("user", {"name": "no-such-user"}), ("user", {"name": "0"}), ("user", {"name": "root"})], Host())
    assert (values["user no-such-user"], values["user 0"]) == (None, None)
    assert observe([("group", {"name": "root"})], Host()) == {"group root": {"gid": 0}}


def test_mounts(lab: Lab) -> None:
    stacked = [  # as propagation leaves them: the last of the list is not the one on top
        "10 1 0:10 / /data\\040dir rw - ext4 /dev/below rw",
        "30 20 0:30 / /data\\040dir rw - nfs4 nas:/top rw",
        "20 10 0:20 / /data\\040dir rw - tmpfs middle rw",
    ]
    lab.has({"/proc/self/mountinfo": fixture("mountinfo") + "\n".join(stacked) + "\n"})
    options = "_netdev,nofail,noatime"
    lab.has({"/etc/fstab": f"# /mnt/old x\n10.214.10.5:/nas /mnt/nas/ glusterfs {options} 0 0\nUUID=1 /boot ext4\n"})
    assert lab.ask("mount", "/mnt/nas", "/boot", "/data dir", "/mnt/old", "/sys/fs/cgroup") == [
        {
            "source": "10.214.10.5:/nas",
            "fstype": "fuse.glusterfs",
            "read_only": False,
            "nosuid": False,
            "nodev": False,
            "fstab_source": "10.214.10.5:/nas",
            "fstab_fstype": "glusterfs",
            "fstab_options": options,
        },
        {
            "source": None,
            "fstype": None,
            "read_only": None,
            "nosuid": None,
            "nodev": None,
            "fstab_source": "UUID=1",
            "fstab_fstype": "ext4",
            "fstab_options": None,
        },
        {
            "source": "nas:/top",
            "fstype": "nfs4",
            "read_only": False,
            "nosuid": False,
            "nodev": False,
            "fstab_source": None,
            "fstab_fstype": None,
            "fstab_options": None,
        },
        None,
        {
            "source": "tmpfs",
            "fstype": "tmpfs",
            "read_only": True,
            "nosuid": False,
            "nodev": False,
            "fstab_source": None,
            "fstab_fstype": None,
            "fstab_options": None,
        },
    ]


@pytest.mark.parametrize("monitors", ["10.0.0.1:6789,10.0.0.2:6789", "10.0.0.2:6789,10.0.0.1:6789"])
def test_monitors_of_ceph_are_listed_in_any_order(monitors: str, lab: Lab) -> None:
    lab.has({"/proc/self/mountinfo": f"10 1 0:10 / /mnt/nas rw - ceph {monitors}:/ml rw\n"})
    found = lab.ask("mount", "/mnt/nas")
    assert found["source"] == "10.0.0.1:6789,10.0.0.2:6789:/ml"


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_an_accounts_mount_hides_no_other(end: str, lab: Lab) -> None:
    """Whoever has fusermount chooses the name; of the ends of line that Python knows the kernel escapes one."""
    own = f"50 1 0:50 / /home/ada/a{end}b rw,nosuid,nodev - fuse.sshfs ada{end}@x rw\n"
    lab.has({"/proc/self/mountinfo": own + "10 1 0:10 / /mnt/nas rw - nfs4 nas:/ rw\n"})
    assert lab.ask("mount", "/mnt/nas")["source"] == "nas:/"
    assert lab.ask("bind", "/mnt/nas")["source"] == "nas:/"
    assert lab.ask("mount", f"/home/ada/a{end}b")["fstype"] == "fuse.sshfs"


@pytest.mark.parametrize(
    ("here", "everywhere", "read_only"),
    [("rw,noatime", "rw,vers=4.2", False), ("ro,noatime", "rw", True), ("rw", "ro,vers=4.2", True), ("rw", "", False)],
)
def test_a_mount_that_nobody_can_write_to(here: str, everywhere: str, read_only: bool, lab: Lab) -> None:
    lab.has({"/proc/self/mountinfo": f"10 1 0:10 / /mnt/nas {here} - nfs4 nas:/ {everywhere}\n"})
    assert lab.ask("mount", "/mnt/nas")["read_only"] is read_only


@pytest.mark.parametrize(
    ("options", "fstype", "nosuid", "nodev"),
    [
        ("rw,nosuid,nodev", "nfs4", True, True),
        ("rw,nosuid", "nfs4", True, False),
        ("rw,nodev", "fuse.glusterfs", False, True),
        ("rw", "autofs", True, True),
    ],
)
def test_what_a_mount_lets_setuid_programs_and_devices_do(
    options: str, fstype: str, nosuid: bool, nodev: bool, lab: Lab
) -> None:
    lab.has({"/proc/self/mountinfo": f"10 1 0:10 / /mnt/nas {options} - {fstype} nas:/ rw,nosuid,nodev\n"})
    value = lab.ask("mount", "/mnt/nas")
    assert (value["nosuid"], value["nodev"]) == (nosuid, nodev)


QUOTAS = "#1500,ok,ok,20,1048576,1048576,,2,0,0,\n#1501,ok,ok,20,0,0,,2,0,0,\n"


def test_limits_of_accounts(lab: Lab) -> None:
    (lab.root / "srv").mkdir()
    lab.says("quotaon", "user quota on /srv (/dev/vdb1) is on (enforced)\n", 1)
    lab.says("repquota", QUOTAS)
    both = {"state": "enforced", "1500": 1048576, "1501": 0}
    assert lab.ask("quota", "/srv", limits=["1500", "1501"]) == both
    assert lab.ask("quota", "/srv", limits=["1501", "1502"]) is None  # nothing is left of them
    assert lab.ask("quota", "/none", limits=["1500"]) is None
    lab.says("quotaon", "user quota on /srv (/dev/vdb1) is off\n")
    assert lab.ask("quota", "/srv", limits=["1500"])["state"] == "off"
    lab.says("repquota", "", 1, "repquota: Not all specified mountpoints are using quota.")
    assert "Not all specified mountpoints" in lab.ask("quota", "/srv", limits=["1500"])["error"]


AUTOMOUNT = "9 1 0:9 / /mnt/nas rw - autofs systemd-1 rw,fd=50,timeout=600,direct\n"


@pytest.mark.parametrize(
    ("kind", "version", "seen"),
    [("nfs4", "vers=4.2", "nfs4"), ("nfs", "nfsvers=4.1", "nfs4"), ("nfs", "nfsvers=3", "nfs")],
)
def test_an_automount_that_let_go_is_no_drift(kind: str, version: str, seen: str, lab: Lab) -> None:
    options = f"hard,{version},nosuid,nodev,x-systemd.automount,x-systemd.idle-timeout=600"
    lab.has({"/etc/fstab": f"nas:/x /mnt/nas {kind} {options} 0 0\n"})
    lab.has({"/proc/self/mountinfo": f"{AUTOMOUNT}10 9 0:10 / /mnt/nas rw,nosuid,nodev - {seen} nas:/x rw,{version}\n"})
    used = lab.ask("mount", "/mnt/nas")
    lab.has({"/proc/self/mountinfo": AUTOMOUNT})
    assert lab.ask("mount", "/mnt/nas") == used
    # One that never lets go has never mounted.
    lab.has({"/etc/fstab": f"nas:/x /mnt/nas {kind} {options.replace('idle', 'mount')} 0 0\n"})
    assert lab.ask("mount", "/mnt/nas")["fstype"] == "autofs"


def test_a_bind_of_a_share_that_was_let_go_of_is_of_the_share(lab: Lab) -> None:
    bind = "11 1 0:10 /users/ada /run/x rw,nosuid,nodev - nfs4 nas:/x rw\n"
    for mounted, current in (("10 9 0:10 / /mnt/nas rw - nfs4 nas:/x rw\n", True), ("", True), (None, False)):
        automount = "" if mounted is None else f"{AUTOMOUNT}{mounted}"
        lab.has({"/proc/self/mountinfo": f"{automount}{bind}"})
        assert lab.ask("bind", "/run/x", root="/mnt/nas")["current"] is current
    lab.has({"/proc/self/mountinfo": f"{bind}10 9 0:12 / /mnt/nas rw - nfs4 nas:/x rw\n"})
    assert lab.ask("bind", "/run/x", root="/mnt/nas")["current"] is False


@pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0,
    reason="needs root and mount namespaces",
)
def test_beneath_a_mount(tmp_path: Path) -> None:
    def ask(name: str) -> Any:
        return observe([("mountpoint", {"name": f"{tmp_path}/{name}"})], Host())[f"mountpoint {tmp_path}/{name}"]

    (tmp_path / "m").mkdir()
    assert [ask(name) for name in ("m", "none", "none/deeper")] == [{"protected": False}, None, None]
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path / "m")], check=True)
    try:
        assert ask("m") == {"protected": False}
    finally:
        subprocess.run(["umount", str(tmp_path / "m")], check=True)
    (tmp_path / "m").chmod(0)
    assert ask("m") == {"protected": True}


def test_what_cannot_be_seen_beneath_is_an_error(lab: Lab) -> None:
    (lab.root / "mnt").mkdir()
    lab.says("unshare", "", 1, "unshare: unshare failed: Operation not permitted")
    assert "not permitted" in lab.ask("mountpoint", "/mnt/nas")["error"]


def test_what_is_served(lab: Lab) -> None:
    bricks = "/run/gluster/vols/nas"
    lab.has({"/var/lib/glusterd/vols/nas/info": fixture("gluster-info")})
    lab.has({f"{bricks}/a.pid": "10\n", f"{bricks}/b.pid": "11\n", f"{bricks}/c.pid": "12\n", f"{bricks}/x.socket": ""})
    lab.has({"/proc/10/comm": "glusterfsd\n", "/proc/11/comm": "bash\n"})
    options = {"auth.allow": "127.0.0.1,10.214.10.5,10.214.10.0/24", "nfs.disable": None}
    value = {"started": True, "bricks": {"a": True, "b": False, "c": False}, "options": options}
    assert lab.ask("gluster", "nas", options=list(options)) == value
    assert lab.ask("gluster", "other") is None
    lab.has({"/var/lib/nfs/etab": "/srv/nas\t10.0.0.9(rw)\n/srv/nas\t10.0.0.1(ro)\n/srv/nas2\t*(rw)\n"})
    served = {"clients": ["10.0.0.1(ro)", "10.0.0.9(rw)"], "nfs3": False}
    assert lab.ask("export", "/srv/nas", "/srv") == [served, None]
    for versions, nfs3 in (("-3 +4 +4.1 +4.2\n", False), ("+3 +4 +4.1 +4.2\n", True)):
        lab.has({"/proc/fs/nfsd/versions": versions})
        assert lab.ask("export", "/srv/nas") == {**served, "nfs3": nfs3}


# --- the firewall

BOTH = {"/proc/net/if_inet6": "", "/etc/ufw/ufw.conf": "# x\nENABLED=yes\nLOGLEVEL=low\n"}
DEFAULT = 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\n'
RULES = [
    "allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in # gpustead: ssh",
    "allow tcp 2222,29500:29510,32768:60999 0.0.0.0/0 any 10.214.10.0/24 in # gpustead: mesh",
    "allow tcp 10022,16006,17860,18888 0.0.0.0/0 any 10.214.10.0/24 in # gpustead: published",
    "allow tcp 10022,16006,17860,18888 0.0.0.0/0 any 10.214.20.20 in # gpustead: published",
]


def firewall(lab: Lab) -> None:
    lab.has({**BOTH, "/etc/default/ufw": DEFAULT})
    lab.has({f"/etc/ufw/{name}": fixture(name) for name in ("user.rules", "user6.rules")})
    for command in ("iptables-save", "ip6tables-save"):
        lab.says(command, fixture(f"{command}.txt"))


def test_ufw(lab: Lab) -> None:
    assert lab.ask("ufw", "status") is None
    firewall(lab)
    value = lab.ask("ufw", "status")
    kernel = value.pop("kernel")
    assert value == {
        "enabled": True,
        "default_incoming": "deny",
        "default_outgoing": "allow",
        "logging": "low",
        "accepts": [],
    }
    assert [line for line in kernel if line.startswith("v4 INPUT ")] == [
        "v4 INPUT DROP",
        *(
            f"v4 INPUT -j ufw-{stage}-input"
            for stage in ("before-logging", "before", "after", "after-logging", "reject", "track")
        ),
    ]
    assert not [line for line in kernel if "-user-input -" in line or "DOCKER" in line or "not ufw's" in line]
    assert len([line for line in kernel if line.startswith("v6 ufw6-before-input ")]) > 10
    real = fixture("ip6tables-save.txt")
    lab.says("ip6tables-save", real.replace("-A INPUT", "-A INPUT -s ::1/128 -j ACCEPT\n-A INPUT", 1))
    assert lab.ask("ufw", "status")["accepts"] == ["v6 -s ::1/128 -j ACCEPT"]
    lab.says("ip6tables-save", "", 3, "no table")
    assert "no table" in lab.ask("ufw", "status")["error"]
    (lab.root / "proc/net/if_inet6").unlink()
    without = lab.ask("ufw", "status")["kernel"]
    assert without == [line for line in kernel if line.startswith("v4")], "without IPv6 there is nothing to filter"


BEFORE = "-A ufw-before-input -i lo -j ACCEPT\n"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (":OUTPUT ACCEPT", ":OUTPUT DROP", "OUTPUT DROP"),
        (":INPUT DROP", ":INPUT ACCEPT", "INPUT ACCEPT"),
        ("-A INPUT -j ufw-before-input\n", "", ""),
        ("-A OUTPUT -j ufw-before-output\n", "", ""),
        ("-A FORWARD -j ufw-before-forward\n", "", ""),
        ("-A ufw-before-input -j ufw-user-input\n", "", ""),
        (BEFORE, f"-A ufw-before-input -p tcp -m tcp --dport 9 -j ACCEPT\n{BEFORE}", "-p tcp -m tcp --dport 9 -j ACC"),
        (BEFORE, f"-A ufw-user-output -d 9.9.9.9/32 -j DROP\n{BEFORE}", "not ufw's: -d 9.9.9.9/32 -j DROP"),
        (BEFORE, f"-A ufw-user-forward -m comment --comment x -j DROP\n{BEFORE}", "+1 other rules"),
        (BEFORE, f"-A ufw-user-input -p tcp -m tcp --dport 9 -j ACCEPT\n{BEFORE}", None),  # that of the rules
        # A first `ufw enable` leaves these empty, the next reload fills them; a rule with `log` has two more in one.
        ("-A ufw-user-limit-accept -j ACCEPT\n", "", None),
        (BEFORE, f"-A ufw-user-logging-output -p udp -m udp --dport 33 -j RETURN\n{BEFORE}", None),
        # Docker's and other people's, and what only the counters tell.
        (":FORWARD DROP [0:0]", ":FORWARD ACCEPT [9:9]", None),
        ("-A FORWARD -j DOCKER-USER", "-A FORWARD -j f2b\n-A FORWARD -j DOCKER-USER", None),
        ("-A INPUT", "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n-A INPUT", None),
        (":ufw-before-input - [0:0]", ":ufw-before-input - [7:8]", None),
    ],
)
def test_what_the_kernel_has_of_ufw(old: str, new: str, said: str | None, lab: Lab) -> None:
    firewall(lab)
    before = lab.ask("ufw", "status")["kernel"]
    saved = fixture("iptables-save.txt")
    assert old in saved
    lab.says("iptables-save", saved.replace(old, new, 1))
    after = lab.ask("ufw", "status")["kernel"]
    assert (after != before) is (said is not None)
    assert said in (None, "") or [line for line in after if line not in before and (said or "") in line]


def test_rules_that_go_out_are_their_users_in_the_order_of_ufw(lab: Lab) -> None:
    """What `ufw deny out 25` and `ufw route allow 80` leave; the kernel in another order is somebody's hand."""
    firewall(lab)
    before = lab.ask("ufw", "status")["kernel"]
    kept = ["-p tcp --dport 25 -j DROP", "-s 10.9.9.9 -p udp --dport 53 -j ACCEPT"]
    live = ["-p tcp -m tcp --dport 25 -j DROP", "-s 10.9.9.9/32 -p udp -m udp --dport 53 -j ACCEPT"]
    for chain in ("ufw-user-output", "ufw-user-forward"):
        tuples = [f"### tuple ### any any any\n-A {chain} {rule}\n" for rule in kept]
        lab.has({"/etc/ufw/user.rules": "".join(tuples)})
        for rules, differences in ((live, 0), (live[::-1], 1), (live[:1], 1), ([*live, *live], 1)):
            saved = fixture("iptables-save.txt") + "".join(f"-A {chain} {rule}\n" for rule in rules)
            lab.says("iptables-save", saved)
            assert len(lab.ask("ufw", "status")["kernel"]) == len(before) + differences, rules


def test_ufw_rules(lab: Lab) -> None:
    firewall(lab)
    value = lab.ask("ufw_rules", "gpustead: ")
    assert value["v4"] == RULES
    assert value["live_v4"] == [
        "--dport 22 -p tcp -j ACCEPT",
        "--dports 2222,29500:29510,32768:60999 -p tcp -s 10.214.10.0/24 -j ACCEPT",
        "--dports 10022,16006,17860,18888 -p tcp -s 10.214.10.0/24 -j ACCEPT",
        "--dports 10022,16006,17860,18888 -p tcp -s 10.214.20.20/32 -j ACCEPT",
    ]
    assert len(value["v6"]) == len(value["live_v6"]) == 4
    assert lab.ask("ufw_rules", "nobody: ") is None


FIRST = "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n"


@pytest.mark.parametrize(
    ("kept", "live", "drift"),
    [
        # Of a foreign admin, in both: `ufw allow 443`, `ufw limit 2022/tcp`, `ufw deny 8080` behind ours.
        (("allow any 443 0.0.0.0/0 any 0.0.0.0/0 in", "-p tcp --dport 443 -j ACCEPT"), "=", ""),
        (("limit tcp 2022 0.0.0.0/0 any 0.0.0.0/0 in", "-p tcp --dport 2022 -j ufw-user-limit-accept"), "=", ""),
        (("deny tcp 22 0.0.0.0/0 any 10.9.9.9 in", "-p tcp --dport 22 -s 10.9.9.9 -j DROP"), "=", "both"),
        (("deny_log tcp 22 0.0.0.0/0 any 10.9.9.9 in", "-p tcp --dport 22 -s 10.9.9.9 -j DROP"), "=", "both"),
        (("deny tcp 8080 0.0.0.0/0 any 0.0.0.0/0 in", "-p tcp --dport 8080 -j DROP"), "=last", ""),
        # By hand, in the kernel alone.
        (None, "-A ufw-user-input -s 10.9.9.9/32 -j DROP\n" + FIRST, "live"),
        (None, "-A ufw-user-input -j ACCEPT\n" + FIRST, "live"),
        (None, "-A ufw-user-input -m comment --comment x -j LOG\n" + FIRST, ""),
        (None, "", "live"),
    ],
)
def test_drift_of_rules(kept: tuple[str, str] | None, live: str, drift: str, lab: Lab) -> None:
    firewall(lab)
    before = lab.ask("ufw_rules", "gpustead: ")
    rules, saved = fixture("user.rules"), fixture("iptables-save.txt")
    if kept:
        line = f"-A ufw-user-input {kept[1]}\n"
        shown = line.replace("-p tcp ", "-p tcp -m tcp ").replace("10.9.9.9 ", "10.9.9.9/32 ")
        mark = "### END RULES" if live == "=last" else "### tuple ### allow tcp 22 "
        rules = rules.replace(mark, f"### tuple ### {kept[0]}\n{line}\n{mark}")
        at = "-A ufw-user-limit -m" if live == "=last" else FIRST
        live = shown + at
        saved = saved.replace(at, live)
    else:
        saved = saved.replace(FIRST, live)
    lab.has({"/etc/ufw/user.rules": rules})
    lab.says("iptables-save", saved)
    after = lab.ask("ufw_rules", "gpustead: ")
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"both": {"v4", "live_v4"}, "live": {"live_v4"}, "": set()}[drift]


@pytest.mark.parametrize(
    ("kept", "rule", "drift"),
    [
        # fail2ban's: in front of all.
        ("reject any any 0.0.0.0/0 any 203.0.113.7 in", "-s 203.0.113.7 -j REJECT", False),
        ("deny tcp 22 0.0.0.0/0 any 203.0.113.0/24 in", "-p tcp --dport 22 -s 203.0.113.0/24 -j DROP", False),
        ("reject any any 0.0.0.0/0 any 10.214.10.12 in", "-s 10.214.10.12 -j REJECT", True),
        ("reject any any 0.0.0.0/0 any 10.0.0.0/8 in", "-s 10.0.0.0/8 -j REJECT", True),
        ("deny tcp 2222 0.0.0.0/0 any 0.0.0.0/0 in", "-p tcp --dport 2222 -j DROP", True),
        # In the kernel alone.
        (None, "-s 203.0.113.7 -j DROP", False),
        (None, "-s 10.214.10.12 -j DROP", True),
        (None, "! -s 203.0.113.7 -j DROP", True),
    ],
)
def test_bans_of_who_is_not_the_clusters_are_no_drift(kept: str | None, rule: str, drift: bool, lab: Lab) -> None:
    firewall(lab)
    protected = ["10.214.10.0/24", "10.214.20.20"]
    before = lab.ask("ufw_rules", "gpustead: ", protected=protected)
    if kept:
        line = f"### tuple ### {kept}\n-A ufw-user-input {rule}\n\n"
        lab.has({"/etc/ufw/user.rules": fixture("user.rules").replace("### tuple ", f"{line}### tuple ", 1)})
    shown = re.sub(r"(-s [0-9.]+)(?= )", r"\1/32", rule)
    lab.says("iptables-save", fixture("iptables-save.txt").replace(FIRST, f"-A ufw-user-input {shown}\n{FIRST}"))
    assert (lab.ask("ufw_rules", "gpustead: ", protected=protected) != before) is drift


def test_order_is_part_of_the_rules(lab: Lab) -> None:
    firewall(lab)
    before = lab.ask("ufw_rules", "gpustead: ")
    saved = fixture("iptables-save.txt").replace(FIRST, "")
    lab.says("iptables-save", saved.replace("-A ufw-user-limit -m", FIRST + "-A ufw-user-limit -m"))
    assert sorted(lab.ask("ufw_rules", "gpustead: ")["live_v4"]) == sorted(before["live_v4"])
    assert lab.ask("ufw_rules", "gpustead: ") != before


@pytest.mark.parametrize(
    ("ours", "kernels"),
    [
        ("-p tcp --dport 22 -j ACCEPT", "-p tcp -m tcp --dport 22 -j ACCEPT"),
        ("-i eth0 -p udp --dport 53 -s 10.0.0.1 -j DROP", "-s 10.0.0.1/32 -i eth0 -p udp -m udp --dport 53 -j DROP"),
        ("-p tcp --dport 1 -s fd00::1 -j REJECT", "-s fd00::1/128 -p tcp -m tcp --dport 1 -j REJECT"),
        ("-d 10.0.0.0/8 -j REJECT", "-d 10.0.0.0/8 -j REJECT --reject-with icmp-port-unreachable"),
        ("-s ::/0 -j REJECT", "-j REJECT --reject-with icmp6-port-unreachable"),
        (
            "-p tcp --dport 22 -m conntrack --ctstate NEW -m recent --set",
            "-p tcp -m tcp --dport 22 -m conntrack --ctstate NEW "
            "-m recent --set --name DEFAULT --mask 255.255.255.255 --rsource",
        ),
    ],
)
def test_spelling_of_rules(ours: str, kernels: str) -> None:
    assert normal(ours) == normal(kernels)


def test_damaged_comment() -> None:
    text = "### tuple ### allow tcp 1 0.0.0.0/0 any 0.0.0.0/0 in comment=zz\n"
    assert parse_kept(text) == [("allow tcp 1 0.0.0.0/0 any 0.0.0.0/0 in", "zz", [])]


def test_chains(lab: Lab) -> None:
    firewall(lab)
    user = ["-j gpustead-forward", "-j RETURN"]
    docker, ours, none = lab.ask("chain", "DOCKER-USER", "gpustead-forward", "none")
    assert docker == {"v4": user, "v6": user}
    assert ours["v4"][0] == "-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN"
    assert none is None
    assert lab.ask("chain", "DOCKER-ISOLATION-STAGE-1")["v6"] is None
    (lab.root / "proc/net/if_inet6").unlink()
    lab.says("ip6tables-save", "", 3, "Address family not supported by protocol")
    without = lab.ask("chain", "DOCKER-USER", forwarded=True)
    assert (without["v6"], without["bypassed"]) == (without["v4"], []), "nothing comes by IPv6"


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (["-j DOCKER-USER", "-j DOCKER-FORWARD"], []),
        (["-j ufw-before-forward", "-j DOCKER-USER", "-j DOCKER-FORWARD"], []),
        (["-j DOCKER-FORWARD"], ["v4"]),
        (["-j DOCKER-FORWARD", "-j DOCKER-USER"], ["v4"]),
        (["-o docker0 -j ACCEPT", "-j DOCKER-USER"], ["v4"]),
        (["-j DOCKER-ISOLATION-STAGE-1", "-j DOCKER-USER"], []),
        ([], ["v4"]),
    ],
)
def test_what_does_not_pass_docker_user_first(lab: Lab, forward: list[str], expected: list[str]) -> None:
    firewall(lab)
    rules = "".join(f"-A FORWARD {rule}\n" for rule in forward)
    lab.says("iptables-save", f"*filter\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n{rules}COMMIT\n")
    assert lab.ask("chain", "DOCKER-USER", forwarded=True)["bypassed"] == expected


# --- Docker

DOCKERD = "Name:\tdockerd\nUmask:\t0022\nUid:\t0\t0\t0\t0\n"


@pytest.fixture
def engine(lab: Lab) -> Iterator[dict[str, Any]]:
    """Answers as Docker did: {path: document}, to be changed by the test."""
    answers: dict[str, Any] = json.loads(fixture("docker.json"))
    lab.has({"/run/docker.pid": "77", "/proc/77/status": DOCKERD})
    with docker_engine.engine(lab.root / "docker.sock", answers):
        yield answers


def test_docker_daemon(lab: Lab, engine: dict[str, Any]) -> None:
    value = {"answers": True, "logging_driver": "json-file", "live_restore": True, "mirrors": [], "insecure": []}
    assert lab.ask("docker", "daemon") == value
    assert lab.ask("docker", "daemon", keys=["DefaultRuntime"])["DefaultRuntime"] == "runc"
    registries = engine["/info"]["RegistryConfig"]
    registries["Mirrors"] = ["https://b/", "https://a/"]
    registries["InsecureRegistryCIDRs"] += ["::1/128", "10.0.0.0/8"]
    registries["IndexConfigs"]["nas:5000"] = {"Name": "nas:5000", "Mirrors": [], "Secure": False, "Official": False}
    changed = lab.ask("docker", "daemon")
    assert (changed["mirrors"], changed["insecure"]) == (["https://a/", "https://b/"], ["10.0.0.0/8", "nas:5000"])


def test_images(lab: Lab, engine: dict[str, Any]) -> None:
    engine["/images/nas:5000/a/b@sha256:1/json"] = {"Id": "sha256:abc", "Size": 1}
    assert lab.ask("image", "nas:5000/a/b@sha256:1", "none") == [{"id": "sha256:abc"}, None]
    assert "name of an image" in lab.ask("image", "a/../../info?x")["error"]


def test_containers(lab: Lab, engine: dict[str, Any]) -> None:
    mesh, none = lab.ask("container", "gpustead-mesh/mesh", "gpustead-mesh/none")
    assert none is None
    settings = mesh.pop("settings")
    assert len(settings) == 64
    (path,) = (
        path
        for path, answer in engine.items()
        if "Config" in answer and answer["Config"]["Labels"]["com.docker.compose.service"] == "mesh"
    )
    assert mesh == {
        "image": engine[path]["Image"],
        "image_name": engine[path]["Config"]["Image"],
        "config_hash": engine[path]["Config"]["Labels"]["com.docker.compose.config-hash"],
        "state": "running",
        "health": "ok",
        "count": 1,
    }
    real = copy.deepcopy(engine[path])

    def after(change: Callable[[Any], object]) -> Any:
        engine[path] = copy.deepcopy(real)
        change(engine[path])
        return lab.ask("container", "gpustead-mesh/mesh")

    def created_again(inspected: Any) -> None:
        inspected["Id"] = "f" * 64
        random.Random(3).shuffle(inspected["Config"]["Env"])
        inspected["HostConfig"]["Mounts"].reverse()
        inspected["HostConfig"]["ConsoleSize"] = [40, 120]
        inspected["HostConfig"]["NewInDocker99"] = None
        inspected["HostConfig"]["MaskedPaths"].append("/proc/interrupts")
        inspected["Config"]["AttachStdout"] = not inspected["Config"]["AttachStdout"]
        labels = {"version": "9.9", "image": "sha256:9", "replace": "abc", "container-number": "2"}
        inspected["Config"]["Labels"].update({f"com.docker.compose.{key}": text for key, text in labels.items()})
        inspected["State"]["Health"]["Status"] = "starting"

    assert after(created_again) == {**mesh, "settings": settings}
    assert after(lambda new: new["HostConfig"].update(Memory=1 << 30))["settings"] != settings
    assert after(lambda new: new["HostConfig"]["RestartPolicy"].update(Name="no"))["settings"] != settings
    assert after(lambda new: new["Config"]["Env"].append("A=b"))["settings"] != settings
    assert after(lambda new: new["Config"]["Cmd"].append("x"))["settings"] != settings
    assert after(lambda new: new["HostConfig"].update(MaskedPaths=[]))["settings"] != settings
    assert after(lambda new: new["State"]["Health"].update(Status="unhealthy"))["health"] == "unhealthy"
    assert after(lambda new: new["State"].update(Status="exited"))["state"] == "exited"

    short = after(lambda new: new["Config"].update(Hostname=new["Id"][:12]))
    other = after(lambda new: (new.update(Id="e" * 64), new["Config"].update(Hostname="e" * 12)))
    assert short == other != {**mesh, "settings": settings}


def test_two_containers_of_one_service_and_those_beside_it(lab: Lab, engine: dict[str, Any]) -> None:
    listed = engine["/containers/json?all=1"]
    entry = next(entry for entry in listed if entry["Labels"]["com.docker.compose.service"] == "mesh")
    beside = copy.deepcopy(entry)
    beside["Labels"]["com.docker.compose.oneoff"] = "True"
    listed.append(beside)
    assert lab.ask("container", "gpustead-mesh/mesh")["count"] == 1
    second = copy.deepcopy(entry)
    second["Labels"]["com.docker.compose.container-number"] = "2"
    listed.append(second)
    assert lab.ask("container", "gpustead-mesh/mesh")["count"] == 2


def test_docker_is_not_started_by_the_question(lab: Lab, engine: dict[str, Any]) -> None:
    lab.has({"/proc/77/status": DOCKERD.replace("dockerd", "bash")})
    assert lab.ask("docker", "daemon") == {"answers": False}
    assert lab.ask("image", "a") == {"error": "Docker does not run"}
    assert lab.ask("container", "a/b") == {"error": "Docker does not run"}
    (lab.root / "run/docker.pid").unlink()
    assert lab.ask("docker", "daemon") == {"answers": False}
    lab.has({"/proc/78/status": DOCKERD.replace("Uid:\t0\t0", "Uid:\t1500\t1500")})
    assert lab.ask("docker", "daemon") == {"answers": False}, "an account's own, or what it calls so"
    lab.has({"/proc/79/status": DOCKERD})
    assert lab.ask("docker", "daemon")["answers"], "a daemon with its pid file elsewhere"


@pytest.mark.skipif(not os.access("/run/docker.sock", os.W_OK), reason="needs Docker")
def test_real_docker() -> None:
    values = observe(
        [("docker", {"name": "daemon"}), ("image", {"name": "no/such"}), ("container", {"name": "a/b"})], Host()
    )
    if values["docker daemon"] == {"answers": False}:
        pytest.skip("Docker does not run")
    assert values["docker daemon"]["logging_driver"]
    assert (values["image no/such"], values["container a/b"]) == (None, None)


# --- certificates


def command(*argv: str, cwd: Path) -> None:
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
def test_x509(tmp_path: Path) -> None:
    names = "subjectAltName=DNS:nas.example,IP:10.0.0.5,IP:fd00::5,email:a@example"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command(
        *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "3650", "-subj", "/O=gpustead/CN=Authority", cwd=tmp_path
    )
    signed = [
        *new,
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-keyout",
        "k",
        "-subj",
        "/CN=n\u00e4s",
        "-utf8",
        "-addext",
        names,
    ]
    try:
        command(*signed, "-out", "c.crt", "-days", "40", cwd=tmp_path)
    except subprocess.CalledProcessError:
        pytest.skip("needs openssl 3")
    command("openssl", "x509", "-in", "c.crt", "-outform", "DER", "-out", "c.der", cwd=tmp_path)
    identifier = subprocess.run(
        ["openssl", "x509", "-in", "ca.crt", "-noout", "-ext", "subjectKeyIdentifier"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()[-1]

    def ask(name: str, days: int, now: float) -> Any:
        host = Host(str(tmp_path), now=now)
        return observe([("certificate", {"name": name, "days": days})], host)[f"certificate {name}"]

    now = time.time()
    value = {
        "issuer": "10=gpustead, 3=Authority",
        "issuer_key": identifier.replace(":", "").lower(),
        "subject": "3=n\u00e4s",
        "names": ["DNS:nas.example", "IP:10.0.0.5", "IP:fd00::5", "email:a@example"],
        "renewed": True,
    }
    assert ask("/c.crt", 30, now + 5) == ask("/c.der", 30, now + 5) == value
    assert [ask("/c.crt", days, now + 5)["renewed"] for days in (39, 40)] == [True, False]
    assert ask("/c.crt", 30, now - DAY)["renewed"] is False, "not valid yet"
    assert ask("/ca.crt", 3000, now + 5)["renewed"] is True
    der = (tmp_path / "c.der").read_bytes()
    for damage in (b"", b"x", der[:-9], der + b"\0", der[:40], b"-----BEGIN CERTIFICATE-----\nAAA\n", b"\x30\x84\xff"):
        (tmp_path / "bad").write_bytes(damage)
        assert ask("/bad", 30, now) == {"readable": False}, damage
    assert ask("/none", 30, now) is None


@pytest.mark.parametrize(
    ("host_certificate", "expected"),
    [(True, {"type": "host", "key_id": "gpu01", "principals": ["10.0.0.1", "gpu01"]}), (False, {"type": "user"})],
)
def test_ssh(host_certificate: bool, expected: dict[str, Any], tmp_path: Path) -> None:
    for name in ("ca", "key"):
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name, cwd=tmp_path)
    sort = ["-h"] if host_certificate else []
    sign = ["ssh-keygen", "-q", "-s", "ca", *sort, "-I", "gpu01", "-n", "gpu01,10.0.0.1"]
    command(*sign, "-V", "-1h:+40d", "key.pub", cwd=tmp_path)
    name = "/key-cert.pub"

    def ask(days: int = 30) -> Any:
        subject = {"name": name, "kind": "ssh", "days": days}
        return observe([("certificate", subject)], Host(str(tmp_path)))[f"certificate {name}"]

    printed = subprocess.run(["ssh-keygen", "-lf", "ca.pub"], cwd=tmp_path, check=True, capture_output=True, text=True)
    value = ask()
    assert value.items() >= {"issuer": printed.stdout.split()[1], "renewed": True, "for_key": True, **expected}.items()
    assert ask(41)["renewed"] is False
    shutil.copy(tmp_path / "ca.pub", tmp_path / "key.pub")
    assert ask()["for_key"] is False
    (tmp_path / "key-cert.pub").write_text("ssh-ed25519 AAAA")
    assert ask() == {"readable": False}
