"""NFS 3 with its locks, automounts that let go, shares that cannot be mounted, and quotas of accounts.

The main share stays what it is, NFS 4; the others are mounted beside it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, Host, Lab
from machines import ask, flat, playbook, site, tell, until
from support import stale

BRICK, THREE, LIMITED = "/export/brick", "/mnt/three", "/export/limited"
IDLE = 10  # seconds
V3 = "hard,nosuid,nodev,_netdev,nofail,nfsvers=3,proto=tcp,mountproto=tcp"
V4 = {"fstype": "nfs4", "options": "hard,nosuid,nodev,_netdev,nofail"}
AUTOMOUNT = f"x-systemd.automount,x-systemd.mount-timeout=60,x-systemd.idle-timeout={IDLE}"
TCP = [111, 2049, 20048, 32765, 32766]
ADA, GRACE = 1500, 1501
UNEXPORT = "rm -f /etc/exports.d/lab.exports; exportfs -ra; exportfs -f"


def reached(source: Host, address: str) -> list[int]:
    """The ports of NFS 3 that a host gets at."""
    tries = [f"timeout 5 bash -c '</dev/tcp/{address}/{port}' 2>/dev/null && echo {port}" for port in TCP]
    return [int(line) for line in ask(source, f"{'; '.join(tries)}; true").stdout.split()]


def is_mounted(node: Host, path: str) -> bool:
    """Whether more than an automount is there; nothing is asked of it."""
    return bool(re.search(rf" {path} .* - nfs4? ", tell(node, "cat /proc/self/mountinfo")))


def as_account(name: str, command: str) -> str:
    return f"runuser -u {name} -- sh -c '{command}'"


def mount(node: Host, share: Mapping[str, str], timeout: int = 60) -> str:
    """What the module that mounts says of a share that cannot be mounted."""
    given = {"path": "/mnt/kinds", "fstype": "nfs", "options": V3, **share}
    ask(node, "mkdir -p /mnt/kinds")  # which ends with an error on one that is stale
    before = tell(node, "cat /etc/fstab")
    began = time.monotonic()
    done: dict[str, Any] = node.module("gpustead.cluster.nas_mounts", {"mounts": [given], "timeout": timeout})
    assert time.monotonic() - began < 3 * timeout
    assert "msg" not in done or tell(node, "cat /etc/fstab") == before
    return str(done.get("msg", ""))


# What cannot be mounted of an NFS 3 server, and what is to be done.
FAILED = {
    "a path that is not there": ({"source": "{nas}:/export/none"}, "exportfs -s"),
    "a path that is not exported": ({"source": "{nas}:/etc"}, "exportfs -s"),
    "a version that nobody has": ({"source": "{nas}:/export/brick", "options": "nfsvers=4.9"}, "cluster_nfs_version"),
    "a name that nobody knows": ({"source": "nosuch.invalid:/export"}, "Correct the name"),
    "a host that is not there": ({"source": "{nobody}:/export"}, "whether the server runs|rpcinfo -p"),
}


@pytest.fixture(scope="class")
def options(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The site with an NFS 3 server, and the share once more by NFS 3 on each node; what site.yml was run with."""
    more = {"path": THREE, "source": f"{lab['nas'].address}:{BRICK}", "fstype": "nfs", "options": f"{V3},{AUTOMOUNT}"}
    file = tmp_path_factory.mktemp("settings") / "three.json"
    # The main share is mounted as before.
    settings = {"cluster_nfs_version": "3", "nas_nfs_version": "", "nas_server_backend": "nfs3"}
    file.write_text(json.dumps({**settings, "nas_extra_mounts": [more]}))
    given = ["-e", f"@{file}"]
    site(lab, *given)
    yield given
    site(lab)


@pytest.mark.usefixtures("options")
class TestVersion3:
    def test_a_second_run_changes_nothing(self, lab: Lab, options: list[str]) -> None:
        assert stale(site(lab, *options)) == {}

    def test_the_share_is_nfs_3_on_fixed_ports(self, lab: Lab) -> None:
        for node in lab.nodes:
            found = tell(node, f"ls {THREE}/. >/dev/null && findmnt --noheadings --type nfs --output OPTIONS {THREE}")
            assert {"vers=3", "hard", "nosuid", "nodev", "mountport=20048"} <= set(found.split(","))
        served = {line.split()[3] for line in tell(lab["nas"], "rpcinfo -p").splitlines()[1:]}
        assert served == set(map(str, TCP))

    def test_only_the_cluster_reaches_what_nfs_3_needs(self, lab: Lab) -> None:
        nas, node = lab["nas"], lab.nodes[0]
        assert [reached(one, nas.address) for one in (node, lab["outsider"])] == [TCP, []]
        # With lockd and statd, as long as somebody uses it.
        tell(node, f"systemd-run --collect --unit lab-uses --working-directory {THREE}/. sleep 120")
        assert reached(nas, node.address) == [111, 32765, 32766]
        assert reached(lab["outsider"], node.address) == []
        tell(node, "systemctl stop lab-uses")

    def test_who_waits_for_a_lock_on_another_node_has_it_once_it_is_free(self, lab: Lab) -> None:
        """After 30 s at the latest, when it asks again: some kernels of servers send no call back before that, Debian
        13's among them (torvalds/linux 2dd10de8e6bc, mended by 7e64c5bc497c)."""
        holder, waiter = lab.nodes[:2]
        lock = f"{THREE}/users/ada/lab-lock"
        tell(holder, as_account("ada", f"touch {lock}"))
        tell(holder, f"systemd-run --collect --unit lab-lock --uid {ADA} flock {lock} sleep 8")
        until("it is locked", lambda: ask(waiter, as_account("ada", f"flock --nonblock {lock} true")).returncode, 8)
        began = time.monotonic()
        tell(waiter, as_account("ada", f"flock {lock} true"))
        waited = time.monotonic() - began
        assert 2 < waited < 40, waited
        tell(holder, as_account("ada", f"rm {lock}"))

    def test_an_automount_lets_go_and_that_is_no_drift(self, lab: Lab, options: list[str]) -> None:
        node = lab.nodes[0]
        tell(node, f"ls {THREE}/.")
        assert is_mounted(node, THREE)
        until("nobody uses it", lambda: not is_mounted(node, THREE), 6 * IDLE)
        assert stale(site(lab, *options)) == {}
        assert not is_mounted(node, THREE), "the look has mounted it"
        assert is_mounted(node, "/mnt/nas") and tell(node, "systemctl is-active docker") == "active"
        tell(node, f"ls {THREE}/users")
        assert is_mounted(node, THREE)

    @pytest.mark.parametrize("case", FAILED)
    def test_why_a_share_cannot_be_mounted_is_said_with_what_to_do(self, lab: Lab, case: str) -> None:
        share, words = FAILED[case]
        nobody = lab["nas"].address.rpartition(".")[0] + ".250"
        given = {key: value.format(nas=lab["nas"].address, nobody=nobody) for key, value in share.items()}
        said = mount(lab.nodes[0], given)
        assert given["source"] in said and re.search(words, said), said


def test_an_nfs_4_server_has_nothing_of_nfs_3(lab: Lab) -> None:
    nas, node = lab["nas"], lab.nodes[0]
    assert "-3" in tell(nas, "cat /proc/fs/nfsd/versions").split()
    assert tell(nas, "systemctl is-enabled rpcbind.socket rpcbind.service || true").split() == ["masked", "masked"]
    listening = {line.rsplit(":", 1)[-1] for line in tell(nas, "ss -lntuH | awk '{print $5}'").splitlines()}
    assert listening & set(map(str, TCP)) == {"2049"}
    assert reached(node, nas.address) == [2049]
    assert not ask(node, f"grep {THREE} /proc/self/mountinfo /etc/fstab").stdout
    said = mount(node, {"source": f"{nas.address}:{BRICK}"}, timeout=40)
    assert "rpcinfo -p" in said or "whether the server runs" in said, said


def test_nfs_3_of_somebody_elses_is_not_taken_away(lab: Lab) -> None:
    nas, theirs, conf = lab["nas"], "/srv/theirs", "/etc/nfs.conf.d/zz-lab.conf"
    tell(nas, f"mkdir -p {theirs} && printf '[nfsd]\\nvers3=y\\n' > {conf}")
    tell(nas, f"echo '{theirs} *(ro,no_subtree_check)' > /etc/exports.d/lab.exports")
    tell(nas, "systemctl unmask rpcbind.socket rpcbind.service && systemctl start rpcbind.socket")
    tell(nas, "systemctl restart nfs-kernel-server", 180)
    try:
        done = playbook(lab, "site.yml", "--tags", "nas", "--limit", "nas", seconds=1800)
        assert done.returncode != 0
        assert f"nas has NFS 3 for others ({theirs})" in flat(done) and "nas_server_backend: nfs3" in flat(done)
        assert "+3" in tell(nas, "cat /proc/fs/nfsd/versions").split()
        assert "masked" not in tell(nas, "systemctl is-enabled rpcbind.socket || true")
    finally:
        tell(nas, f"rm -r {conf} {theirs}; {UNEXPORT}")
        # With nobody else's there it is the role's to put right.
        site(lab, "--limit", "nas")
    assert "-3" in tell(nas, "cat /proc/fs/nfsd/versions").split()


@pytest.fixture(scope="module")
def limited(lab: Lab) -> Iterator[str]:
    """A file system of its own on the server, with user quotas, and exported; its address."""
    nas = lab["nas"]
    apt = "DEBIAN_FRONTEND=noninteractive apt-get --option DPkg::Lock::Timeout=300 --yes"
    tell(nas, f"apt-get update && {apt} --no-install-recommends install quota && systemctl disable --now quotarpc", 900)
    make(nas)
    yield f"{nas.address}:{LIMITED}"
    for node in lab.nodes:
        ask(node, "umount --force --lazy /mnt/kinds; sed -i '\\,/mnt/kinds,d' /etc/fstab; systemctl daemon-reload")
    ask(nas, UNEXPORT)
    ask(nas, f"umount {LIMITED}; rm -rf /var/lib/lab.img {LIMITED}; {apt} purge quota", 300)


def make(nas: Host, features: str = "quota", options: str = "loop,usrquota") -> None:
    """It, anew. The other exports stay, and what nodes have of this one goes stale."""
    ask(nas, UNEXPORT)
    tell(nas, f"mkdir -p {LIMITED}; umount {LIMITED} 2>/dev/null; rm -f /var/lib/lab.img; modprobe loop; true")
    tell(nas, f"truncate -s 64M /var/lib/lab.img && mkfs.ext4 -q -O {features} /var/lib/lab.img", 120)
    tell(nas, f"mount -o {options} /var/lib/lab.img {LIMITED} && mkdir {LIMITED}/ada {LIMITED}/.cluster")
    tell(nas, f"chown {ADA}:{ADA} {LIMITED}/ada && chown 941:941 {LIMITED}/.cluster")
    tell(nas, f"echo '{LIMITED} *(rw,no_subtree_check)' > /etc/exports.d/lab.exports && exportfs -ra")


def limit(nas: Host, check: bool = False, **limits: int) -> dict[str, Any]:
    given = {"path": LIMITED, "limits": {uid.lstrip("u"): kib for uid, kib in limits.items()}}
    return nas.module("gpustead.cluster.nas_quotas", given, check)


def test_an_account_writes_up_to_its_limit_and_no_further(lab: Lab, limited: str) -> None:
    nas, node = lab["nas"], lab.nodes[0]
    assert limit(nas, check=True, u1500=4096)["changed"]
    assert limit(nas, u1500=4096)["changes"] == ["uid 1500: no limit, now 4 MiB"]
    assert not limit(nas, u1500=4096)["changed"] and not limit(nas, check=True, u1500=4096)["changed"]
    assert mount(node, {"source": limited, **V4}) == ""
    write = "dd if=/dev/zero of=/mnt/kinds/ada/{} bs=1M count={} conv=fsync"
    tell(node, as_account("ada", write.format("small", 2)))
    done = ask(node, as_account("ada", write.format("large", 8)))
    assert done.returncode != 0 and "quota exceeded" in done.stderr
    assert limit(nas, u1500=0)["changes"] == ["uid 1500: 4 MiB, now no limit"]
    tell(node, as_account("ada", write.format("large", 8)))
    assert limit(nas, u1500=16384)["changed"]


def test_each_reads_on_a_node_what_it_has_and_nobody_elses(lab: Lab, limited: str) -> None:
    nas, node = lab["nas"], lab.nodes[0]
    limit(nas, u1500=16384, u1501=1024)
    program = Path(PROJECT / "plugins/module_utils/nas/quota_report.py").read_text()
    tell(nas, f"python3 -IB - {LIMITED} <<'END'\n{program}\nEND")
    note = f"/mnt/kinds/.cluster/quotas/{ADA}"
    said = tell(node, as_account("ada", f"cat {note}"))
    assert re.match(r"You have [\d.]+ MiB of 16 MiB on the share, \d+ % ", said), said
    assert ask(node, as_account("grace", f"cat {note}")).returncode != 0
    said = tell(node, as_account("grace", f"cat /mnt/kinds/.cluster/quotas/{GRACE}"))
    assert re.match(r"You have \d+ KiB of 1 MiB on the share", said), said


def test_a_stale_share_is_said_to_be(lab: Lab, limited: str) -> None:
    nas, node = lab["nas"], lab.nodes[0]
    make(nas)
    until("it is stale", lambda: "Stale" in ask(node, "stat /mnt/kinds/.", 30).stderr, 60)
    said = mount(node, {"source": limited, **V4})
    assert "is stale" in said and "umount -f" in said, said


@pytest.mark.usefixtures("limited")
def test_a_file_system_without_quotas_is_refused_and_left_as_it_is(lab: Lab) -> None:
    nas = lab["nas"]
    make(nas, features="^quota", options="loop")
    look = f"findmnt --noheadings --output OPTIONS {LIMITED}; dumpe2fs -h /var/lib/lab.img 2>/dev/null | grep features"
    before = tell(nas, look)
    said = limit(nas, u1500=4096)["msg"]
    assert f"{LIMITED} (ext4, /dev/loop" in said and "tune2fs -O quota" in said
    assert tell(nas, look) == before
    # The role's own export lies on the root file system of the lab, which has none.
    done = lab.playbook("site.yml", "--tags", "nas", "--limit", "nas", "-e", "nas_quota=1G")
    assert done.returncode != 0 and "has no user quotas" in done.stdout, done.stdout
    site(lab)
