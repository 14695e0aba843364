"""What role nas wants of a host: mounts, what it serves, what it takes back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import DeclaredMount
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_plan import Plan, Settings, plan
from ansible_collections.gpustead.cluster.tests.unit.role_variables import ROOT, render

VARIABLES = yaml.safe_load((ROOT / "roles/nas/vars/main.yml").read_text())
GLUSTERFS = "_netdev,nofail,noatime,nosuid,nodev,x-systemd.mount-timeout=60"
NFS = "hard,noatime,nosuid,nodev,nconnect=4,_netdev,nofail"
AUTOMOUNT = "x-systemd.automount,x-systemd.mount-timeout=60"
OTHERS = "_netdev,nofail,nosuid,nodev"
NFS_CONF, LOCKD_CONF = "/etc/nfs.conf.d/x.conf", "/etc/sysctl.d/x.conf"
CLIENT_FILES = ["/etc/systemd/system/docker.service.d/nas.conf", "/etc/systemd/system/binds.service.d/nas.conf"]
EXPORTS = "/etc/exports.d/nas.exports"
SHARE: dict[str, Any] = {"path": "/mnt/nas", "source": "10.0.0.5:/nas", "fstype": "glusterfs", "options": ""}
DATASET: dict[str, Any] = {"path": "/dataset", "source": "x:/d", "options": "ro,nosuid"}
COLD = {"path": "/cold/", "source": "//c/d", "fstype": "cifs"}
CLIENT = Settings(
    is_client=True,
    backend="",
    mounts=[SHARE, DATASET, COLD],
    nfs_version="",
    automount=["nfs", "nfs4"],
    automount_idle=0,
    automount_timeout=60,
    packages=["glusterfs-client", "cifs-utils"],
    client_files=CLIENT_FILES,
    exports=EXPORTS,
    nfs_conf=NFS_CONF,
    lockd_conf=LOCKD_CONF,
    export="/export/brick",
    volume="nas",
    address="10.0.0.5",
    networks=["10.0.0.0/24", "fd00::/8"],
    root_squash=True,
    quotas={},
    has_quotas=False,
    quota_files=["/usr/local/lib/x.py", "/etc/systemd/system/x.timer"],
    quota_command="/usr/local/bin/x",
    service_account={"name": "gpustead", "uid": 941, "gid": "942"},
    users=[{"name": "ada", "uid": 1500}, {"name": "bob", "uid": "1501"}, {"name": "eve"}],
    nodes=["gpu01", "gpu02"],
)
SERVER = replace(CLIENT, is_client=False, backend="glusterfs")
NFS_SERVER = replace(CLIENT, is_client=False, backend="nfs4")
NFS3_SERVER = replace(CLIENT, is_client=False, backend="nfs3")
NFS3_CLIENT = replace(CLIENT, mounts=[{**SHARE, "fstype": "nfs"}], nfs_version="3")
NOTHING = replace(CLIENT, is_client=False)


def subjects(*words: str) -> list[Sequence[Any]]:
    return [[kind, {"name": name}] for kind, name in map(str.split, words)]


PREVIOUS = subjects(
    "mount /mnt/nas",
    "mount /dataset/",
    "mount /scratch",
    f"file {CLIENT_FILES[0]}",
    f"file {EXPORTS}",
    f"file {NFS_CONF}",
    f"file {LOCKD_CONF}",
    "unit nfs-kernel-server.service",
    "unit rpcbind.socket",
    "file /export/brick",
    "gluster nas",
    "package nfs-common",
)


def test_a_mount_has_the_kind_of_the_share_and_the_options_of_its_kind() -> None:
    assert plan(CLIENT).mounts == [
        DeclaredMount("/mnt/nas", "10.0.0.5:/nas", "glusterfs", GLUSTERFS),
        DeclaredMount("/dataset", "x:/d", "glusterfs", "ro,nosuid,nodev"),
        DeclaredMount("/cold/", "//c/d", "cifs", OTHERS),
    ]
    assert plan(CLIENT).units == ["mnt-nas.mount", "dataset.mount", "cold.mount"]
    assert plan(CLIENT).packages == ["e2fsprogs", "glusterfs-client", "cifs-utils"]


V3 = "nfsvers=3,proto=tcp,mountproto=tcp"
# Settings, kind, and the options of a mount of that kind.
OPTIONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "NFS": ({}, "nfs4", f"{NFS},{AUTOMOUNT}"),
    "NFS of any version": ({}, "nfs", f"{NFS},{AUTOMOUNT}"),
    "NFS 3": ({"nfs_version": 3}, "nfs", f"{NFS},{V3},{AUTOMOUNT}"),
    "NFS 4.1": ({"nfs_version": 4.1}, "nfs4", f"{NFS},nfsvers=4.1,{AUTOMOUNT}"),
    "no automount": ({"automount": []}, "nfs4", f"{NFS},x-systemd.mount-timeout=60"),
    "that is let go of": ({"automount_idle": 600}, "nfs4", f"{NFS},{AUTOMOUNT},x-systemd.idle-timeout=600"),
    "nothing to let go of": ({"automount_idle": 600}, "glusterfs", GLUSTERFS),
    "another kind": ({"automount": ["cifs"], "automount_timeout": 30}, "cifs", f"{OTHERS},{AUTOMOUNT[:-2]}30"),
    "no version of others": ({"nfs_version": 3}, "glusterfs", GLUSTERFS),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_of_a_kind(case: str) -> None:
    settings, kind, options = OPTIONS[case]
    found = plan(replace(CLIENT, mounts=[{**SHARE, "fstype": kind}], **settings)).mounts
    assert [one.options for one in found] == [options]


def test_nfs_4_beside_nfs_3() -> None:
    beside = {**DATASET, "fstype": "nfs4", "options": ""}
    found = plan(replace(NFS3_CLIENT, mounts=[*NFS3_CLIENT.mounts, beside])).mounts
    assert [one.options for one in found] == [f"{NFS},{V3},{AUTOMOUNT}", f"{NFS},{AUTOMOUNT}"]


def test_nfs_3_is_no_nfs_4() -> None:
    with pytest.raises(GpusteadError, match=r"\(cluster_nfs_version\) is 3, and nas_fstype nfs4.*nas_fstype to nfs"):
        plan(replace(NFS3_CLIENT, mounts=[{**SHARE, "fstype": "nfs4"}]))


GROUPS = "[mountd]\nmanage-gids=n\n"
LOCKS = "[statd]\nport=32765\n[lockd]\nport=32766\nudp-port=32766\n"
MASKED = [{"name": name, "masked": True, "state": "stopped"} for name in ("rpcbind.socket", "rpcbind.service")]
RPCBIND = [
    {"name": "rpcbind.service", "masked": False, "enabled": True},
    {"name": "rpcbind.socket", "masked": False, "enabled": True, "state": "started"},
]
# What is written for nfs-utils, whether lockd has ports, and the units of rpcbind.
SERVED: dict[str, tuple[Settings, str, bool, list[dict[str, Any]]]] = {
    "a server": (NFS_SERVER, f"[nfsd]\nvers3=n\n{GROUPS}", False, MASKED),
    "one of version 3": (NFS3_SERVER, f"[nfsd]\nvers3=y\n{GROUPS}port=20048\n{LOCKS}", True, RPCBIND),
    "a client of version 3": (NFS3_CLIENT, LOCKS, True, RPCBIND),
    "a client of version 3 by its options": (
        replace(CLIENT, mounts=[SHARE, {**DATASET, "fstype": "nfs", "options": "ro,vers=3"}]),
        LOCKS,
        True,
        RPCBIND,
    ),
    "a server that mounts another": (
        replace(NFS3_CLIENT, backend="nfs4"), f"[nfsd]\nvers3=n\n{GROUPS}{LOCKS}", True, RPCBIND,
    ),
    "GlusterFS": (SERVER, "", False, []),
    "a client": (CLIENT, "", False, []),
    "who mounts nothing": (replace(NFS3_CLIENT, is_client=False), "", False, []),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVED)
def test_nfs_3_has_its_services_where_it_is_and_nowhere_else(case: str) -> None:
    settings, conf, locks, units = SERVED[case]
    found = plan(settings)
    assert (found.nfs_conf.removeprefix("# Ansible managed\n"), found.rpc_units) == (conf, units)
    assert found.lockd_ports == (dict.fromkeys(("fs.nfs.nlm_tcpport", "fs.nfs.nlm_udpport"), "32766") if locks else {})
    assert (found.serves_nfs, found.serves_nfs3) == (settings.backend[:3] == "nfs", settings.backend == "nfs3")
    files = [*[NFS_CONF] * bool(conf), *[LOCKD_CONF] * locks]
    assert [path for path in found.receipt["file"] if path in (NFS_CONF, LOCKD_CONF)] == files


def test_a_mount_without_a_source_is_refused() -> None:
    mounts = [{**SHARE, "source": ""}, {**DATASET, "source": None}, COLD]
    with pytest.raises(GpusteadError, match=r"/mnt/nas \(nas_source\), /dataset \(nas_extra_mounts\) is empty"):
        plan(replace(CLIENT, mounts=mounts))
    assert plan(replace(SERVER, mounts=mounts)).mounts == []  # who mounts nothing needs none


ALONE = replace(CLIENT, mounts=[{**SHARE, "source": " "}, DATASET], nodes=["gpu01"])
PLACE = {"name": "/mnt/nas", "keep": True, "expect": {"covered": True}, "place": True}


def test_one_node_without_a_share_has_its_places_on_its_own_disk() -> None:
    found = plan(replace(ALONE, mounts=ALONE.mounts[:1]))
    assert (found.place, found.mounts, found.units, found.packages) == ("/mnt/nas", [], [], [])
    assert found.cover == [{"name": "share", "root": "/", "path": "mnt/nas", "cover": True, "own": True}]
    # Nothing is mounted, so nothing waits for a mount.
    assert found.receipt == {kind: [] for kind in KINDS} | {"file": ["/mnt/nas"], "cover": [PLACE]}
    further = plan(ALONE)
    assert (further.place, [one.path for one in further.mounts]) == ("/mnt/nas", ["/dataset"])
    assert further.receipt["file"] == [*CLIENT_FILES, "/mnt/nas"]


def test_places_on_the_own_disk_have_nothing_of_nfs() -> None:
    alone = replace(NFS3_CLIENT, mounts=[{**SHARE, "source": "", "fstype": "nfs"}], nodes=["gpu01"], has_quotas=True)
    # What was there by former settings is taken back.
    previous = subjects("file /usr/local/bin/x", f"file {NFS_CONF}", "unit rpcbind.socket")
    found = plan(alone, previous=previous)
    assert (found.nfs_conf, found.lockd_ports, found.rpc_units, found.quotas) == ("", {}, [], [])
    assert found.receipt == {kind: [] for kind in KINDS} | {"file": ["/mnt/nas"], "cover": [PLACE]}
    assert (found.former.files, found.former.units) == ([NFS_CONF, "/usr/local/bin/x"], ["rpcbind.socket"])
    # No version is wrong where nothing is mounted, and a further mount has what its kind needs.
    assert plan(replace(alone, mounts=[{**SHARE, "source": "", "fstype": "nfs4"}])).mounts == []
    further = plan(replace(alone, mounts=[*alone.mounts, {**DATASET, "options": ""}]))
    assert [one.options for one in further.mounts] == [f"{NFS},{V3},{AUTOMOUNT}"]
    assert (further.rpc_units, further.receipt["file"][:2]) == (RPCBIND, CLIENT_FILES)


@pytest.mark.parametrize("several", [{"nodes": ["gpu01", "gpu02"]}, {"served": True}])
def test_several_nodes_and_a_server_need_a_source(several: Mapping[str, Any]) -> None:
    with pytest.raises(GpusteadError, match=r"/mnt/nas \(nas_source\) is empty"):
        plan(replace(ALONE, **several))


HERE = [["cover", PLACE], ["file", {"name": "/mnt/nas"}]]
ELSEWHERE = [{**SHARE, "path": "/data"}]
# What is declared, what was left before, and what is said.
HIDDEN: dict[str, tuple[Settings, list[Any], str]] = {
    "a NAS, and the files are still here": (CLIENT, HERE, "own disk.*10.0.0.5:/nas on /mnt/nas.*move_to_nas.yml"),
    "moved to another NAS": (replace(CLIENT, moved_to="10.0.0.6:/nas"), HERE, "move_to_nas.yml"),
    "a NAS elsewhere": (replace(CLIENT, mounts=ELSEWHERE), HERE, "Set cluster_nas_path to /mnt/nas again"),
    "another place": (
        replace(ALONE, mounts=[{**ELSEWHERE[0], "source": ""}]),
        HERE,
        "Set cluster_nas_path to /mnt/nas again",
    ),
    "the NAS is gone from the inventory": (ALONE, PREVIOUS, "nothing is declared.*Set nas_source again"),
}


@pytest.mark.parametrize("case", HIDDEN)
def test_what_would_hide_the_files_of_the_cluster_is_refused(case: str) -> None:
    declared, previous, said = HIDDEN[case]
    with pytest.raises(GpusteadError, match=said):
        plan(declared, previous=previous)


def test_what_was_moved_hides_nothing() -> None:
    moved = plan(replace(CLIENT, moved_to="10.0.0.5:/nas"), previous=HERE)
    assert (moved.place, moved.former.mounts) == ("", [])
    assert plan(ALONE, previous=HERE).place == "/mnt/nas"
    # An export that is covered is no place.
    assert plan(CLIENT, previous=[["cover", {"name": "/export/brick", "keep": True}]]).place == ""


def test_the_layout_is_taken_from_the_accounts() -> None:
    ids = {"owner": 941, "group": 942, "former": [1500, 1501]}
    common = dict.fromkeys((".cluster", ".cluster/nodes", ".cluster/accounts"), "0755")
    directories = {**common, ".cluster/mesh": "1775", "users": "1775"}
    files = [".cluster/images.json", ".cluster/nodes/gpu01.json", ".cluster/nodes/gpu02.json"]
    assert plan(SERVER).layout == [
        *({"path": path, "mode": mode, "state": "existing_directory", **ids} for path, mode in directories.items()),
        *({"path": path, "mode": "0644", "state": "existing", **ids} for path in files),
    ]
    assert asdict(plan(SERVER).layout_owner) == {"uid": 941, "gid": 942}


VOLUME = {
    "auth.allow": "127.0.0.1,10.0.0.5,10.0.0.0/24",
    "server.root-squash": "on",
    "storage.owner-uid": "941",
    "storage.owner-gid": "942",
}
PORTS = {"client.bind-insecure": "off", "server.allow-insecure": "off"}


@pytest.mark.parametrize(
    ("has", "missing"),
    [
        (None, {**VOLUME, **PORTS}),
        ({}, VOLUME),  # others may have it mounted from any port
        ({**VOLUME, "storage.owner-uid": "0"}, {"storage.owner-uid": "941"}),
        ({"client.bind-insecure": "off", **VOLUME}, {"server.allow-insecure": "off"}),
        ({**VOLUME, **PORTS}, {}),
    ],
)
def test_options_that_the_volume_does_not_have(has: Mapping[str, str] | None, missing: Mapping[str, str]) -> None:
    lines = None if has is None else ["Status: Started", *(f"{key}: {value}" for key, value in has.items())]
    found = plan(SERVER, volume=lines).volume_options
    assert {one["key"]: one["value"] for one in found} == missing


def test_a_volume_for_which_root_is_root() -> None:
    options = plan(replace(SERVER, root_squash=False, networks=[])).volume_options
    assert [one["value"] for one in options[:2]] == ["127.0.0.1,10.0.0.5", "off"]


BOTH = [NFS_CONF, LOCKD_CONF]
# mounts, files and volumes that are taken back
MOUNTS = ["/dataset", "/mnt/nas", "/scratch"]
FORMER: dict[str, tuple[Settings, list[str], list[str], list[str]]] = {
    "a client": (CLIENT, ["/scratch"], [EXPORTS, *BOTH], ["nas"]),
    "a client of fewer mounts": (replace(CLIENT, mounts=[SHARE]), ["/dataset", "/scratch"], [EXPORTS, *BOTH], ["nas"]),
    "a client that serves too": (replace(CLIENT, backend="glusterfs"), ["/scratch"], [EXPORTS, *BOTH], []),
    "an NFS server": (NFS_SERVER, MOUNTS, [CLIENT_FILES[0], LOCKD_CONF], ["nas"]),
    "an NFS 3 server": (NFS3_SERVER, MOUNTS, [CLIENT_FILES[0]], ["nas"]),
    "nothing any more": (NOTHING, MOUNTS, [CLIENT_FILES[0], EXPORTS, *BOTH], ["nas"]),
    "another volume": (replace(SERVER, volume="new"), MOUNTS, [CLIENT_FILES[0], EXPORTS, *BOTH], ["nas"]),
}


@pytest.mark.parametrize("case", FORMER)
def test_what_is_no_longer_declared_is_taken_back_and_no_directory(case: str) -> None:
    declared, mounts, files, volumes = FORMER[case]
    found = plan(declared, previous=PREVIOUS).former
    assert (found.mounts, found.files, found.volumes) == (mounts, files, volumes)
    assert found.units == ([] if declared.backend in ("nfs4", "nfs3") else ["rpcbind.socket"])
    assert found.main == ("/mnt/nas" if "/mnt/nas" in mounts else "")
    assert plan(declared).former.mounts == []


def test_what_containers_bind_of_the_main_share() -> None:
    bound = "/mnt/nas/users/ada,/run/gpustead/binds/workspace/x\n/mnt/nas2,volume,/mnt/nas,/mnt/nas\n"
    released = ["/run/gpustead/binds/workspace/x", "/run/gpustead/binds/workspace/y"]
    found = plan(NOTHING, previous=PREVIOUS, bound=bound, released=released).former.bound
    assert found == ["/mnt/nas", "/mnt/nas/users/ada", "/run/gpustead/binds/workspace/x"]
    assert plan(CLIENT, previous=PREVIOUS, bound=bound).former.bound == []


VOLUME_SUBJECT = {
    "name": "nas",
    "keep": True,
    "options": [
        "auth.allow",
        "client.bind-insecure",
        "server.allow-insecure",
        "server.root-squash",
        "storage.owner-gid",
        "storage.owner-uid",
    ],
}
HARMLESS = {"nosuid": True, "nodev": True}
OF_CLIENT: dict[str, list[Any]] = {
    "package": ["e2fsprogs", "glusterfs-client", "cifs-utils"],
    "mount": [
        {"name": "/mnt/nas", "expect": {**HARMLESS, "read_only": False}},
        {"name": "/dataset", "expect": HARMLESS},
        {"name": "/cold/", "expect": {**HARMLESS, "read_only": False}},
    ],
    "mountpoint": ["/mnt/nas", "/dataset", "/cold/"],
    "file": CLIENT_FILES,
}
OF_SERVER: dict[str, list[Any]] = {
    "package": ["glusterfs-server", "glusterfs-client"],
    "file": ["/export", "/export/brick"],
    "unit": ["glusterd.service"],
    "gluster": [VOLUME_SUBJECT],
}
OF_NFS_SERVER: dict[str, list[Any]] = {
    "package": ["nfs-kernel-server"],
    "file": ["/export/brick", EXPORTS, NFS_CONF],
    "unit": [
        "nfs-kernel-server.service",
        *(
            {"name": name, "running": False, "expect": {"enabled": "masked"}}
            for name in ("rpcbind.socket", "rpcbind.service")
        ),
    ],
    "export": [{"name": "/export/brick", "expect": {"nfs3": False}}],
}
OF_NFS3_SERVER: dict[str, list[Any]] = {
    **OF_NFS_SERVER,
    "file": ["/export/brick", EXPORTS, NFS_CONF, LOCKD_CONF],
    "unit": ["nfs-kernel-server.service", {"name": "rpcbind.service", "running": False}, "rpcbind.socket"],
    "sysctl": [
        {"name": f"fs.nfs.nlm_{proto}port", "keep": True, "expect": {"value": "32766"}} for proto in ("tcp", "udp")
    ],
    "export": [{"name": "/export/brick", "expect": {"nfs3": True}}],
}
KINDS = ("package", "mount", "mountpoint", "file", "unit", "sysctl", "quota", "gluster", "export", "cover")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (CLIENT, OF_CLIENT),
        (SERVER, OF_SERVER),
        (NFS_SERVER, OF_NFS_SERVER),
        (NFS3_SERVER, OF_NFS3_SERVER),
        (NOTHING, {}),
    ],
    ids=["client", "server", "nfs server", "nfs 3 server", "nothing"],
)
def test_receipts(declared: Settings, expected: dict[str, list[Any]]) -> None:
    assert plan(declared).receipt == {kind: expected.get(kind, []) for kind in KINDS}


def test_the_receipt_of_a_client_that_serves_too() -> None:
    found = plan(replace(CLIENT, backend="glusterfs")).receipt
    both = {kind: [*OF_CLIENT.get(kind, []), *OF_SERVER.get(kind, [])] for kind in KINDS}
    assert found == {**both, "cover": [{"name": "/export/brick", "keep": True, "expect": {"covered": True}}]}


LIMITED = replace(NFS_SERVER, quotas={"1500": 1 << 20, "1501": 0}, has_quotas=True)
QUOTA = {"name": "/export/brick", "limits": ["1500"], "expect": {"state": "enforced", "1500": 1 << 20}}
OLD_QUOTAS: list[Sequence[Any]] = [
    ["quota", {"name": "/export/brick", "limits": ["1500", "1502"]}],
    ["quota", {"name": "/old", "limits": ["9"]}],
    *subjects("unit gpustead-quotas.timer", "file /usr/local/lib/x.py", "file /usr/local/bin/x"),
]


def test_quotas_are_set_and_taken_back() -> None:
    found = plan(LIMITED, previous=OLD_QUOTAS)
    assert found.quotas == [
        {"path": "/export/brick", "limits": {"1500": 1 << 20, "1501": 0, "1502": 0}},
        {"path": "/old", "limits": {"9": 0}},
    ]
    assert (found.former.timers, found.former.files) == ([], ["/usr/local/bin/x"])  # no command: it is no node
    gone = plan(NFS_SERVER, previous=OLD_QUOTAS)
    assert [one["limits"] for one in gone.quotas] == [{"1500": 0, "1502": 0}, {"9": 0}]
    assert gone.former.timers == ["gpustead-quotas.timer"]
    assert gone.former.files == ["/usr/local/lib/x.py", "/usr/local/bin/x"]
    assert plan(NFS_SERVER).quotas == []


def test_receipts_of_quotas() -> None:
    server, client = plan(LIMITED).receipt, plan(replace(CLIENT, has_quotas=True)).receipt
    assert (server["quota"], client["quota"]) == ([QUOTA], [])
    assert server["package"] == ["nfs-kernel-server", "quota"]
    assert server["file"][-2:] == LIMITED.quota_files
    assert [one if isinstance(one, str) else one["name"] for one in server["unit"]][-2:] == [
        "gpustead-quotas.timer",
        "quotarpc.service",
    ]
    assert client["file"] == [*CLIENT_FILES, CLIENT.quota_command]
    assert plan(replace(LIMITED, quotas={"1501": 0})).receipt["quota"] == []


def test_glusterfs_has_no_quotas_of_users() -> None:
    with pytest.raises(GpusteadError, match="served by GlusterFS, which has no quotas of users"):
        plan(replace(LIMITED, backend="glusterfs"))


@pytest.mark.parametrize("backend", ["glusterfs", "nfs4", "nfs3"])
def test_an_export_that_accounts_reach_is_covered(backend: str) -> None:
    place = {"name": "export", "root": "/", "path": "export/brick", "cover": True, "linked": True}
    assert plan(replace(CLIENT, backend=backend, export="/export/brick/")).cover == [place]
    assert plan(replace(NOTHING, backend=backend)).cover == plan(CLIENT).cover == []


def test_the_role_gives_its_settings_and_what_it_has_found(tmp_path: Path) -> None:
    settings = {
        "__nas_moved_to": "x",
        "cluster_users": CLIENT.users,
        "cluster_service_account": {"gid": "942"},
        "cluster_network": CLIENT.networks,
        "nas_source": "10.0.0.5:/nas",
        "nas_fstype": "glusterfs",
        "nas_extra_mounts": [DATASET, COLD],
        "nas_server_address": "10.0.0.5",
        "__nas_receipt": {"previous": PREVIOUS},
        "__nas_server_volume": {"rc": 0, "stdout_lines": ["auth.allow: x"]},
        "__nas_bound": {"stdout": "/mnt/nas/x"},
        "__nas_places": {"released": []},
    }
    groups = {"gpu_nodes": ["a", "b"], "nas_server": ["a"]}
    found = render(tmp_path, "nas", ["__nas_plan"], groups, settings)["__nas_plan"]
    declared = replace(
        CLIENT,
        backend="glusterfs",
        nodes=["a", "b"],
        served=True,
        moved_to="x",
        client_files=[*VARIABLES["__nas_drop_in_paths"], VARIABLES["__nas_boot_path"]],
        exports=VARIABLES["__nas_exports_path"],
        nfs_conf=VARIABLES["__nas_nfs_path"],
        lockd_conf=VARIABLES["__nas_lockd_path"],
        quota_files=[
            "/usr/local/lib/gpustead-nas",
            "/usr/local/lib/gpustead-nas/quota_report.py",
            *VARIABLES["__nas_quota_units"],
        ],
        quota_command=VARIABLES["__nas_quota_command"],
    )
    expected: Plan = plan(declared, previous=PREVIOUS, volume=["auth.allow: x"], bound="/mnt/nas/x", released=[])
    assert found == asdict(expected)


@pytest.mark.parametrize(
    ("groups", "own"),
    [
        ({"gpu_nodes": ["a"], "nas_server": ["a"]}, ["/mnt/nas", "/cold", "/scratch"]),
        ({"gpu_nodes": ["b"], "nas_server": ["a"]}, ["/scratch"]),
    ],
    ids=["a server that is a node as well", "a server alone"],
)
def test_mounts_of_the_role_are_nobody_elses(tmp_path: Path, groups: dict[str, list[str]], own: Sequence[str]) -> None:
    """A share that was mounted by NFS 3 until now is no reason to refuse NFS 4 alone."""
    settings = {
        "cluster_users": [],
        "nas_source": "10.0.0.5:/nas",
        "nas_path": "/mnt/nas/",
        "nas_extra_mounts": [COLD],
        "nas_server_backend": "nfs4",
        "__nas_receipt": {"previous": subjects("mount /scratch")},
    }
    found = render(tmp_path, "nas", ["__nas_own_mounts"], groups, settings)["__nas_own_mounts"]
    ours = [
        path for path in ("/mnt/nas", "/cold", "/scratch", "/mnt/nas2", "/") if re.match(found, f"x:/y {path} nfs rw")
    ]
    assert ours == own


@pytest.mark.parametrize(("where", "moved"), [("", "10.0.0.5:/nas"), ("local", ""), ("shared", ""), (None, "")])
def test_what_an_earlier_run_has_moved_hides_nothing(tmp_path: Path, where: str | None, moved: str) -> None:
    """The move leaves no receipt, so the last one still has the place; the node says that it is gone."""
    settings = {
        "cluster_users": [],
        "nas_source": " 10.0.0.5:/nas",
        "__nas_receipt": {"previous": [*PREVIOUS, *HERE]},
        "__nas_moved_place": {} if where is None else {"where": where},
    }
    names = ["__nas_former_places", "__nas_moved_before"]
    found = render(tmp_path, "nas", names, {"gpu_nodes": ["a"]}, settings)
    assert found == {"__nas_former_places": ["/mnt/nas"], "__nas_moved_before": moved}
