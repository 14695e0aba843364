"""What the containers of workspaces bind, and what of the host they never see."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.filter.compose_value import compose_value
from ansible_collections.gpustead.cluster.plugins.filter.workspace_binds import workspace_binds
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import binds
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import Site, refusal

SITE = Site(nas="/mnt/nas")
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


ADA = {"name": "ada", "uid": 1500, "gid": 1500}
BOB = {"name": "bob", "uid": 1501, "gid": 1501}
WORKSPACES: list[dict[str, Any]] = [
    {"owner": "ada", "accounts": [ADA], "profile": "server"},
    {"owner": "bob", "accounts": [BOB, ADA], "profile": "local"},
]


def plan(**settings: Any) -> dict[str, Any]:
    return workspace_binds(WORKSPACES, owner_uid=1500, **settings)


def test_every_place_is_one_that_the_library_takes_and_is_named_once() -> None:
    mounts = [{"host": "/data", "path": "/d"}, {"host": "/data", "path": "/r", "read_only": True}]
    found = plan(mounts=mounts, display=True)
    places = [binds.parse(one) for one in found["binds"]]
    assert len({one.name for one in places}) == len(places) == 8
    by_name = {one.name: one for one in places}
    assert by_name["home-ada"].owner == 1500
    assert by_name["shared"].only_account == 1500
    written = [one for one in places if one.source == "/data" and not one.read_only]
    assert [(one.cover, "/etc" in one.never) for one in written] == [(True, True)]
    assert {one["host"] for one in found["of"]["bob"]["binds"]} <= {f"{binds.DIRECTORY}/workspace/{n}" for n in by_name}


def refused(name: str) -> dict[str, str]:
    return {"name": name, "what": f"{name} is a link", "expected": "a directory", "remedy": "Move it."}


def test_one_that_is_refused_stops_nobody_elses_workspace() -> None:
    found = plan(mounted={"refused": [refused("home-ada")], "missing": ["home-ada"]})
    assert found["of"]["ada"]["refused"] == "home-ada is a link: expected a directory. Move it."
    assert found["of"]["bob"]["refused"] == ""
    assert found["of"]["bob"]["guests"] == ["ada"]
    assert [one["path"] for one in found["of"]["bob"]["binds"]] == ["/home/bob", "/shared"]


def test_one_that_is_still_mounted_is_said_and_goes_on() -> None:
    found = plan(mounted={"refused": [refused("home-ada")], "missing": []})
    assert (found["of"]["ada"]["refused"], found["of"]["bob"]["guests"]) == ("", [])


def test_a_place_on_the_node_is_needed_by_profile_local_alone() -> None:
    found = plan(placed={"refused": [refused("ada"), refused("bob")]})
    assert found["of"]["ada"]["refused"] == ""
    assert found["of"]["bob"]["refused"] == "bob is a link: expected a directory. Move it."


def test_compose_replaces_nothing_in_a_value() -> None:
    assert compose_value({"A$B": "5$ ${HOME}", "n": [1, True, None, "$x"]}) == (
        '{"A$B": "5$$ $${HOME}", "n": [1, true, null, "$$x"]}'
    )
