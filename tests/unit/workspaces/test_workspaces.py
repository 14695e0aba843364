# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which workspaces a node has: whose, where, with which ports; and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import ports, ports_of
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import workspaces
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import (
    Defaults,
    Workspace,
    plan,
    survey,
)

ROOT = Path(__file__).parents[3]
USUAL = ports()
USERS: list[dict[str, Any]] = [
    {"name": "ada", "uid": 1500, "gid": 1600, "ssh_keys": ["ssh-ed25519 AAAA ada"]},
    {"name": "bob", "uid": 1501},
    {"name": "carol", "uid": "1752"},
    {"name": "dan", "uid": 1751},
]
DEFAULTS = Defaults(USERS, "ada", USUAL, "19000:19999")


def made(*declared: Any, **defaults: Any) -> list[Workspace]:
    return plan(declared, Defaults(**{**vars(DEFAULTS), **defaults}))


def test_none_declared_is_that_of_the_owner() -> None:
    (only,) = made()
    assert (only.project, only.directory, only.ports) == ("gpustead-workspace", "/etc/gpustead/workspace", USUAL)
    assert (only.profile, only.gpus, only.cpus, only.memory) == ("server", None, "", "")
    assert only.accounts == (workspaces.WorkspaceAccount("ada", 1500, 1600, ("ssh-ed25519 AAAA ada",)),)
    assert made({"owner": "ada"}) == [only]


def test_nobody_has_sudo_unless_it_is_given() -> None:
    assert [one.sudo for one in made({"owner": "ada"}, {"owner": "bob", "sudo": True})] == [False, True]
    assert [one.sudo for one in made({"owner": "ada"}, {"owner": "bob", "sudo": False}, sudo=True)] == [True, False]
    with pytest.raises(GpusteadError, match="sudo of bob is 'no': expected true or false"):
        made({"owner": "bob", "sudo": "no"})


NAMES = {
    "bob": ("bob", "bob"),
    "b_o-b": ("b_o-b", "b_o-b"),
    "ada.lovelace": ("ada-lovelace-MARK", "ada.lovelace"),
    "ada-lovelace": ("ada-lovelace", "ada-lovelace"),
    "Ada": ("ada-MARK", "ada-MARK"),
    "ADA": ("ada-MARK", "ada-MARK"),
    "2ada.": ("2ada-MARK", "2ada-MARK"),
    "_bob": ("_bob", "bob-MARK"),
    "_.-": ("MARK", "MARK"),
}


@pytest.mark.parametrize("name", NAMES)
def test_docker_gets_a_name_that_it_takes(name: str) -> None:
    (one,) = made({"owner": name}, users=[*USERS, {"name": name, "uid": 1600}])
    project, image = (re.sub(r"\b[0-9a-f]{8}$", "MARK", word) for word in (one.project, one.own_image))
    assert (project, image) == (f"gpustead-workspace-{NAMES[name][0]}", f"gpustead-local/{NAMES[name][1]}")
    assert re.fullmatch("[a-z0-9][a-z0-9_-]*", one.project)  # compose's own rule, and Docker's for a repository
    assert re.fullmatch("gpustead-local/[a-z0-9]+((_|__|[.]|-+)[a-z0-9]+)*", one.own_image)
    assert one.directory == f"/etc/gpustead/workspace/users/{name}"


def test_each_account_has_a_name_of_its_own_for_docker() -> None:
    accounts = [{"name": name, "uid": number} for number, name in enumerate(NAMES, 1600)]
    found = made(*({"owner": name} for name in NAMES), users=[*USERS, *accounts])
    assert len({one.project for one in found}) == len({one.own_image for one in found}) == len(NAMES)


def test_others_have_a_project_a_directory_and_ports_of_their_own() -> None:
    one = {
        "owner": "bob",
        "accounts": ["dan"],
        "profile": "local",
        "gpus": [0, "GPU-7"],
        "cpus": "0-7",
        "memory": "64gb",
    }
    ada, bob = made({"owner": "ada"}, one)
    assert ada == made()[0]
    assert (bob.project, bob.directory) == ("gpustead-workspace-bob", "/etc/gpustead/workspace/users/bob")
    assert bob.ports == ports_of(1501, "19000:19999")
    assert [account.name for account in bob.accounts] == ["bob", "dan"]
    assert (bob.profile, bob.gpus, bob.cpus, bob.memory) == ("local", (0, "GPU-7"), "0-7", "64gb")


def test_limits_are_those_of_one_slice() -> None:
    limits = {"memory": "1.5gb", "cpus": 7.5, "pids": 4096}
    (bob,) = made({"owner": "bob", "limits": limits})
    assert bob.slice == "gpustead_1501.slice" and f"/etc/systemd/system/{bob.slice}" in bob.files
    lines = ["MemoryMax=1610612736", "CPUQuota=750%", "TasksMax=4096"]
    assert bob.slice_unit.splitlines()[2:] == ["Description=Workspace of bob", "", "[Slice]", *lines]
    (less,) = made({"owner": "bob", "limits": {"cpus": "0.25"}})
    assert less.slice_unit.splitlines()[5:] == ["CPUQuota=25%"]
    (none,) = made({"owner": "bob"})
    assert none.slice == "" and not any(path.endswith(".slice") for path in none.files)


def test_further_ports_are_published_as_they_are() -> None:
    ada, bob = made({"owner": "ada", "publish": "19900:19902"}, {"owner": "bob"})
    assert (ada.published, bob.published) == ((19900, 19901, 19902), ())
    with pytest.raises(GpusteadError, match="port 19902 is published twice, by publish of ada and publish of bob"):
        made({"owner": "ada", "publish": "19900:19902"}, {"owner": "bob", "publish": "19902:19903"})


def test_a_workspace_that_goes_moves_no_other() -> None:
    every = {one.owner: one for one in made({"owner": "bob"}, {"owner": "carol"})}
    assert made({"owner": "carol"}) == [every["carol"]]
    other_order = Defaults(list(reversed(USERS)), "ada", USUAL, "19000:19999")
    assert plan([{"owner": "carol"}], other_order) == [every["carol"]]


def test_ports_can_be_declared() -> None:
    declared = {name: number for number, name in enumerate(USUAL, 1)}
    (bob,) = made({"owner": "bob", "ports": {**declared, "jupyter": "1"}})
    assert bob.ports == {**declared, "jupyter": 1}


def test_a_service_without_a_declared_port_has_its_usual_one() -> None:
    ada, bob = made({"owner": "ada"}, {"owner": "bob", "ports": {"ssh": 2022}}, ports={"jupyter": 28888})
    assert ada.ports == {**USUAL, "jupyter": 28888}
    assert bob.ports == {**ports_of(1501, "19000:19999"), "ssh": 2022}


REFUSED: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "an owner without an account": ([{"owner": "eve"}], {}, "'eve' is no account: .*ada, bob, carol, dan"),
    "no owner": ([{"profile": "local"}], {}, "'' is no account"),
    "a name alone": (["bob"], {}, "an entry has 'bob'"),
    "an unknown key": ([{"owner": "bob", "gpu": 1}], {}, "an entry has gpu: expected a dictionary of owner"),
    "one owner twice": ([{"owner": "bob"}, {"owner": "bob"}], {}, "bob owns two"),
    "an unknown profile": ([{"owner": "bob", "profile": "root"}], {}, "profile of bob is 'root': .*server, local"),
    "an unknown default profile": ([], {"profile": "x"}, "profile of ada is 'x'"),
    "CPUs that are none": ([{"owner": "bob", "cpus": "7-0"}], {}, "cpus of bob are '7-0': expected near, or"),
    "a memory that is none": ([{"owner": "bob", "memory": "much"}], {}, "memory of bob is 'much'"),
    "a limit of nothing": ([{"owner": "bob", "limits": {"disk": "1g"}}], {}, "limits of bob are .'disk': '1g'"),
    "no CPU at all": ([{"owner": "bob", "limits": {"cpus": 0}}], {}, "limits of bob are .'cpus': 0"),
    "a limit that is none": (
        [{"owner": "bob", "limits": "64gb"}],
        {},
        "limits of bob are '64gb': expected memory such",
    ),
    "a volume without a path": ([{"owner": "bob", "volumes": [{"name": "x"}]}], {}, "volumes of bob are"),
    "a volume twice": ([{"owner": "bob", "volumes": [{"name": "x", "path": "/x"}] * 2}], {}, "volumes of bob are"),
    "ports outside of the range": ([{"owner": "bob", "publish": "8000:8010"}], {}, "publish of bob is '8000:8010'"),
    "more ports than Docker bears": ([{"owner": "bob", "publish": "19000:19999"}], {}, "at most 100 ports"),
    "one port more": ([{"owner": "bob", "publish": 19900}], {}, "publish of bob is '19900': expected first:last"),
    "GPUs as a number": ([{"owner": "bob", "gpus": 2}], {}, "gpus of bob is 2: expected a list"),
    "a guest without an account": ([{"owner": "bob", "accounts": ["eve"]}], {}, "'eve' is no account"),
    "the owner as a guest": ([{"owner": "bob", "accounts": ["bob"]}], {}, "accounts of bob are bob"),
    "a port of no service": ([{"owner": "bob", "ports": {"git": 22}}], {}, "ports of bob are .'git': 22"),
    "a port that is none": ([{"owner": "bob", "ports": {**USUAL, "ssh": 70000}}], {}, "ports from 1 to 65535"),
    "ports as a list": ([{"owner": "bob", "ports": [1, 2, 3, 4]}], {}, "ports of bob are"),
    "no range": ([{"owner": "bob"}], {"port_range": "19000-19999"}, "workspace_port_range is '19000-19999'"),
    "a range of three": ([{"owner": "bob"}], {"port_range": "19000:19002"}, "workspace_port_range"),
    "two uids at one place": (
        [{"owner": "bob"}, {"owner": "dan"}],
        {},
        "port 19004 is published twice, by jupyter of bob and jupyter of dan: .*wider workspace_port_range",
    ),
    "the owner's port": ([{"owner": "ada"}, {"owner": "bob", "ports": USUAL}], {}, "port 18888 is published twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    declared, defaults, words = REFUSED[case]
    with pytest.raises(GpusteadError, match=words):
        made(*declared, **defaults)


def test_all_errors_are_found_at_once() -> None:
    found = survey([{"owner": "eve"}, {"owner": "bob", "memory": "x", "cpus": "y"}, {"owner": "ada"}], DEFAULTS)
    assert len(found.errors) == 3
    assert [workspace.owner for workspace in found.workspaces] == ["ada"]


def test_a_hosts_variables_with_the_defaults_of_the_role() -> None:
    defaults = yaml.safe_load((ROOT / "roles/workspace/defaults/main.yml").read_text())
    usual = workspaces.defaults_of({"cluster_users": USERS})
    assert usual == DEFAULTS
    assert f"cluster_workspace_port_range | default('{usual.port_range}')" in defaults["workspace_port_range"]
    assert defaults["workspace_profile"] == usual.profile
    assert "default('/etc/gpustead') }}/workspace" in defaults["workspace_config_dir"]

    more = {"cluster_owner": "bob", "cluster_config_dir": "/srv", "cluster_workspace_port_range": "20000:20999"}
    changed = workspaces.defaults_of({"cluster_users": USERS, **more})
    assert (changed.owner, changed.directory, changed.port_range) == ("bob", "/srv/workspace", "20000:20999")
    own = {
        "workspace_owner": "dan",
        "workspace_port_range": "30000:30999",
        "workspace_ports": {},
        "workspace_profile": "local",
    }
    changed = workspaces.defaults_of({"cluster_users": USERS, **more, **own})
    assert (changed.owner, changed.port_range, changed.ports, changed.profile) == ("dan", "30000:30999", USUAL, "local")


def test_the_workspaces_of_a_user() -> None:
    variables = {
        "cluster_users": USERS,
        "workspace_instances": [{"owner": "ada", "accounts": ["bob"]}, {"owner": "bob"}, {"owner": "carol"}],
    }
    assert [one.owner for one in workspaces.of_host(variables)] == ["ada", "bob", "carol"]
    assert [one.owner for one in workspaces.of_host(variables, "bob")] == ["bob", "ada"]
    assert workspaces.of_host(variables, "dan") == []
