"""What the containers of workspaces bind, and what of the host they never see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.filter.compose_value import compose_value
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY, parse
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import (
    Available,
    Binds,
    HostLayout,
    available,
    plan,
    receipt,
    refusal,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Workspace, WorkspaceAccount

SITE = HostLayout(nas="/mnt/nas")
CLOSED = [
    *("/", "//", "/etc", "//etc/", "/data/../etc", "/etc/ssl", "/proc", "/sys/kernel", "/dev", "/dev/shm", "/run"),
    *("/run/docker.sock", "/var/run/docker.sock", "/var/lib", "/var/lib/docker", "/var/lib/docker/volumes/x"),
    *("/var/lib/containerd", "/var/lib/gpustead/workspace/bob", "/etc/gpustead", "/root", "/root/.ssh", "/boot"),
    *("/home", "/home/bob", "/home/bob/data", "/mnt", "/mnt/nas", "/mnt/nas/", "/mnt/./nas", "/mnt/nas/users"),
    *("/mnt/nas/users/bob", "/mnt/nas/.cluster", "/mnt/nas/shared/../.cluster/mesh", "/var"),
]
SYSTEM = ["/usr", "/usr/local/bin", "/bin", "/lib64", "/opt", "/tmp", "/tmp/x", "/var/log", "/sbin"]
DATA = ["/data", "/data/set", "/srv", "/srv/x", "/mnt/nas/shared/x", "/mnt/nas/projects", "/mnt/scratch", "/opt/models"]


@pytest.mark.parametrize("path", CLOSED)
@pytest.mark.parametrize("read_only", [True, False])
def test_what_is_roots_or_somebodys_is_never_bound(path: str, read_only: bool) -> None:
    what, remedy = refusal(path, read_only, SITE)
    assert path in what
    assert remedy.endswith(".")


@pytest.mark.parametrize("path", SYSTEM)
def test_the_system_is_only_read(path: str) -> None:
    assert "to be written" in refusal(path, False, SITE)[0]
    assert refusal(path, True, SITE) == ("", "")


@pytest.mark.parametrize("path", DATA)
def test_data_is_bound(path: str) -> None:
    assert refusal(path, False, SITE) == ("", "")


ADA = WorkspaceAccount("ada", 1500, 1500)
BOB = WorkspaceAccount("bob", 1501, 1501)
WORKSPACES = {
    "ada": Workspace("ada", (ADA,), "gpustead-workspace", "/etc/gpustead/workspace", "server", {}),
    "bob": Workspace("bob", (BOB, ADA), "gpustead-workspace-bob", "/etc/gpustead/workspace/users/bob", "local", {}),
}


def planned(mounts: Sequence[Mapping[str, Any]] = (), display: bool = False) -> Binds:
    return plan(WORKSPACES.values(), mounts, HostLayout(owner_uid=1500, display=display))


def test_every_place_is_one_that_the_library_takes_and_is_named_once() -> None:
    found = planned([{"host": "/data", "path": "/d"}, {"host": "/data", "path": "/r", "read_only": True}], display=True)
    places = [parse(one) for one in found.places]
    assert len({one.name for one in places}) == len(places) == 8
    by_name = {one.name: one for one in places}
    assert by_name["home-ada"].owner == 1500
    assert by_name["shared"].only_account == 1500
    written = [one for one in places if one.source == "/data" and not one.read_only]
    assert [(one.cover, "/etc" in one.never) for one in written] == [(True, True)]
    assert {one.host for one in found.common["bob"]} <= {f"{DIRECTORY}/workspace/{name}" for name in by_name}


def test_a_receipt_vouches_for_the_cover_of_what_is_written() -> None:
    found = planned([{"host": "/data", "path": "/d"}, {"host": "/data", "path": "/r", "read_only": True}])
    subjects = receipt(WORKSPACES.values(), found, HostLayout())["bind"]
    written, read = (one for one in subjects if "/mount-data-" in one["name"])
    assert (written["cover"], written["expect"]) == ("/data", {"covered": True})
    assert ("cover" in read, read["expect"]) == (False, {"read_only": True})


def refused(name: str) -> dict[str, str]:
    return {"name": name, "what": f"{name} is a link", "expected": "a directory", "remedy": "Move it."}


def left(owner: str, mounted: Mapping[str, Any], *places: str) -> Available:
    return available(WORKSPACES[owner], planned(), mounted, [refused(name) for name in places])


def test_one_that_is_refused_stops_nobody_elses_workspace() -> None:
    mounted = {"refused": [refused("home-ada")], "missing": ["home-ada"]}
    assert left("ada", mounted).refused == "home-ada is a link: expected a directory. Move it."
    of_bob = left("bob", mounted)
    assert (of_bob.refused, of_bob.missing_guests) == ("", ("ada",))
    assert [one.path for one in of_bob.binds] == ["/home/bob", "/shared"]


def test_one_that_is_still_mounted_is_said_and_goes_on() -> None:
    mounted = {"refused": [refused("home-ada")], "missing": []}
    assert (left("ada", mounted).refused, left("bob", mounted).missing_guests) == ("", ())


def test_a_place_on_the_node_is_needed_by_profile_local_alone() -> None:
    assert left("ada", {}, "ada", "bob").refused == ""
    assert left("bob", {}, "ada", "bob").refused == "bob is a link: expected a directory. Move it."


def test_compose_replaces_nothing_in_a_value() -> None:
    assert compose_value({"A$B": "5$ ${HOME}", "n": [1, True, None, "$x"]}) == (
        '{"A$B": "5$$ $${HOME}", "n": [1, true, null, "$$x"]}'
    )
