"""What role nas wants of a host: mounts, what it serves, what it takes back."""

from __future__ import annotations

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
OPTIONS, OTHER_OPTIONS = VARIABLES["__nas_options"], VARIABLES["__nas_other_options"]
CLIENT_FILES = ["/etc/systemd/system/docker.service.d/nas.conf", "/etc/systemd/system/binds.service.d/nas.conf"]
EXPORTS = "/etc/exports.d/nas.exports"
SHARE = {"path": "/mnt/nas", "source": "10.0.0.5:/nas", "fstype": "glusterfs", "options": OPTIONS["glusterfs"]}
DATASET = {"path": "/dataset", "source": "x:/d", "options": "ro,nosuid"}
COLD = {"path": "/cold/", "source": "//c/d", "fstype": "cifs"}
CLIENT = Settings(
    is_client=True,
    backend="",
    mounts=[SHARE, DATASET, COLD],
    options=OPTIONS,
    other_options=OTHER_OPTIONS,
    packages=["glusterfs-client", "cifs-utils"],
    client_files=CLIENT_FILES,
    exports=EXPORTS,
    export="/export/brick",
    volume="nas",
    address="10.0.0.5",
    networks=["10.0.0.0/24", "fd00::/8"],
    root_squash=True,
    service_account={"name": "gpustead", "uid": 941, "gid": "942"},
    users=[{"name": "ada", "uid": 1500}, {"name": "bob", "uid": "1501"}, {"name": "eve"}],
    nodes=["gpu01", "gpu02"],
)
SERVER = replace(CLIENT, is_client=False, backend="glusterfs")
NFS_SERVER = replace(CLIENT, is_client=False, backend="nfs4")
NOTHING = replace(CLIENT, is_client=False)


def subjects(*words: str) -> list[Sequence[Any]]:
    return [[kind, {"name": name}] for kind, name in map(str.split, words)]


PREVIOUS = subjects(
    "mount /mnt/nas",
    "mount /dataset/",
    "mount /scratch",
    f"file {CLIENT_FILES[0]}",
    f"file {EXPORTS}",
    "file /export/brick",
    "gluster nas",
    "package nfs-common",
)


def test_a_mount_has_the_kind_of_the_share_and_the_options_of_its_kind() -> None:
    assert plan(CLIENT).mounts == [
        DeclaredMount("/mnt/nas", "10.0.0.5:/nas", "glusterfs", OPTIONS["glusterfs"]),
        DeclaredMount("/dataset", "x:/d", "glusterfs", "ro,nosuid,nodev"),
        DeclaredMount("/cold/", "//c/d", "cifs", OTHER_OPTIONS),
    ]
    assert plan(CLIENT).packages == ["e2fsprogs", "glusterfs-client", "cifs-utils"]


def test_a_mount_without_a_source_is_refused() -> None:
    mounts = [{**SHARE, "source": ""}, {**DATASET, "source": None}, COLD]
    with pytest.raises(GpusteadError, match=r"/mnt/nas \(nas_source\), /dataset \(nas_extra_mounts\) is empty"):
        plan(replace(CLIENT, mounts=mounts))
    assert plan(replace(SERVER, mounts=mounts)).mounts == []  # who mounts nothing needs none


ALONE = replace(CLIENT, mounts=[{**SHARE, "source": " "}, DATASET], nodes=["gpu01"])
PLACE = {"name": "/mnt/nas", "keep": True, "expect": {"covered": True}, "place": True}


def test_one_node_without_a_share_has_its_places_on_its_own_disk() -> None:
    found = plan(replace(ALONE, mounts=ALONE.mounts[:1]))
    assert (found.place, found.mounts, found.packages) == ("/mnt/nas", [], [])
    assert found.cover == [{"name": "share", "root": "/", "path": "mnt/nas", "cover": True, "own": True}]
    # Nothing is mounted, so nothing waits for a mount.
    assert found.receipt == {kind: [] for kind in KINDS} | {"file": ["/mnt/nas"], "cover": [PLACE]}
    further = plan(ALONE)
    assert (further.place, [one.path for one in further.mounts]) == ("/mnt/nas", ["/dataset"])
    assert further.receipt["file"] == [*CLIENT_FILES, "/mnt/nas"]


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
    directories = {".cluster": "0755", ".cluster/nodes": "0755", ".cluster/mesh": "1775", "users": "1775"}
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


# mounts, files and volumes that are taken back
MOUNTS = ["/dataset", "/mnt/nas", "/scratch"]
FORMER: dict[str, tuple[Settings, list[str], list[str], list[str]]] = {
    "a client": (CLIENT, ["/scratch"], [EXPORTS], ["nas"]),
    "a client of fewer mounts": (replace(CLIENT, mounts=[SHARE]), ["/dataset", "/scratch"], [EXPORTS], ["nas"]),
    "a client that serves too": (replace(CLIENT, backend="glusterfs"), ["/scratch"], [EXPORTS], []),
    "an NFS server": (NFS_SERVER, MOUNTS, [CLIENT_FILES[0]], ["nas"]),
    "nothing any more": (NOTHING, MOUNTS, [CLIENT_FILES[0], EXPORTS], ["nas"]),
    "another volume": (replace(SERVER, volume="new"), MOUNTS, [CLIENT_FILES[0], EXPORTS], ["nas"]),
}


@pytest.mark.parametrize("case", FORMER)
def test_what_is_no_longer_declared_is_taken_back_and_no_directory(case: str) -> None:
    declared, mounts, files, volumes = FORMER[case]
    found = plan(declared, previous=PREVIOUS).former
    assert (found.mounts, found.files, found.volumes) == (mounts, files, volumes)
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
    "file": ["/export/brick", EXPORTS],
    "unit": ["nfs-kernel-server.service"],
    "export": ["/export/brick"],
}
KINDS = ("package", "mount", "mountpoint", "file", "unit", "gluster", "export", "cover")


@pytest.mark.parametrize(
    ("declared", "expected"),
    [(CLIENT, OF_CLIENT), (SERVER, OF_SERVER), (NFS_SERVER, OF_NFS_SERVER), (NOTHING, {})],
    ids=["client", "server", "nfs server", "nothing"],
)
def test_receipts(declared: Settings, expected: dict[str, list[Any]]) -> None:
    assert plan(declared).receipt == {kind: expected.get(kind, []) for kind in KINDS}


def test_the_receipt_of_a_client_that_serves_too() -> None:
    found = plan(replace(CLIENT, backend="glusterfs")).receipt
    both = {kind: [*OF_CLIENT.get(kind, []), *OF_SERVER.get(kind, [])] for kind in KINDS}
    assert found == {**both, "cover": [{"name": "/export/brick", "keep": True, "expect": {"covered": True}}]}


@pytest.mark.parametrize("backend", ["glusterfs", "nfs4"])
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
    )
    expected: Plan = plan(declared, previous=PREVIOUS, volume=["auth.allow: x"], bound="/mnt/nas/x", released=[])
    assert found == asdict(expected)
