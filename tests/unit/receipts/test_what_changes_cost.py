"""What a change of the inventory makes stale, over the lab's inventory: the roles whose inputs it changes, by host."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[3]
LAB = ROOT / "roles/lab"
Site = dict[str, Any]  # groups: {group: {host: variables}}, settings of all hosts, files: {path: text}
Inputs = dict[str, dict[str, dict[str, str]]]  # of each host and role


def lab() -> Site:
    """The inventory that role lab writes for Molecule, from its own templates."""
    variables = yaml.safe_load((LAB / "defaults/main.yml").read_text())
    variables.update(yaml.safe_load((ROOT / "molecule/default/vars/lab.yml").read_text()))
    variables.update(
        lab_ca_certificates=[],
        __lab_key={"public_key": "ssh-ed25519 AAAA"},
        __lab_prefix="gpustead-test",
        __lab_wheels="",
        __lab_gpu_hosts=[{"name": f"gpu0{number}", "octet": 10 + number} for number in (1, 2, 3)],
    )
    templar = Templar(loader=DataLoader(), variables=variables)

    def written(name: str) -> Any:
        return yaml.safe_load(templar.template(trust_as_template((LAB / "templates" / name).read_text())))

    hosts = written("hosts.yml.j2")
    groups = {name: group["hosts"] for name, group in hosts.items() if "hosts" in group}
    files = {".secrets/ca_passphrase": "correct horse battery"}
    return {"groups": groups, "settings": written("cluster.yml.j2"), "files": files}


def inputs(*sites: Site) -> list[Inputs]:
    program = [sys.executable, str(Path(__file__).with_name("inventory_inputs.py"))]
    done = subprocess.run(program, input=json.dumps(sites), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    found: list[Inputs] = json.loads(done.stdout)
    return found


def stale(before: Inputs, after: Inputs) -> dict[str, dict[str, list[str]]]:
    """{host: {role: the parts that are not the same}} of hosts that were there before."""
    found: dict[str, dict[str, list[str]]] = {}
    for host in before.keys() & after.keys():
        for role in before[host].keys() & after[host].keys():
            was, now = before[host][role], after[host][role]
            differ = [part for part in {**was, **now} if part != "current" and was.get(part) != now.get(part)]
            if differ:
                found.setdefault(host, {})[role] = sorted(differ)
    return found


NODES = ["gpu01", "gpu02", "gpu03"]
ALICE = {"name": "alice", "uid": 1502, "ssh_keys": ["ssh-ed25519 BBBB"]}


def add_account(site: Site) -> None:
    site["settings"]["cluster_users"].append(ALICE)


def change_key(number: int) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        site["settings"]["cluster_users"][number]["ssh_keys"] = ["ssh-ed25519 CCCC"]

    return change


def setting(**values: Any) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        site["settings"].update(values)

    return change


def of_host(name: str, **values: Any) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        site["groups"]["gpu_nodes"][name].update(values)

    return change


def several(*changes: Callable[[Site], None]) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        for one in changes:
            one(site)

    return change


def join(site: Site) -> None:
    site["groups"]["gpu_nodes"]["gpu04"] = {"ansible_host": "10.214.10.14"}


def leave(site: Site) -> None:
    del site["groups"]["gpu_nodes"]["gpu03"]


def caches(*hosts: str) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        site["groups"]["registry_caches"] = {host: site["groups"]["gpu_nodes"].get(host) or {} for host in hosts}

    return change


def on_nodes(*roles: str) -> dict[str, list[str]]:
    return dict.fromkeys(NODES, sorted(roles))


def workspaces(site: Site) -> None:
    """On gpu01 grace is a guest, on gpu02 she has a workspace of her own."""
    of_host("gpu01", workspace_instances=[{"owner": "ada", "accounts": ["grace"]}])(site)
    of_host("gpu02", workspace_instances=[{"owner": "ada"}, {"owner": "grace"}])(site)


def as_it_is(_site: Site) -> None:
    pass


BAKED = setting(images_bake_users="{{ cluster_users }}")
TWO_CACHES = caches("gpu01", "gpu02")
REST = {"nas": ["firewall"]}
# What the site is before, what is changed, and the roles that this makes stale on the hosts that were there before.
CASES: dict[str, tuple[Callable[[Site], None], Callable[[Site], None], dict[str, list[str]]]] = {
    "nothing": (as_it_is, as_it_is, {}),
    "an account": (as_it_is, add_account, on_nodes("accounts")),
    # The mesh reads who may be in it from the share.
    "an account that may not be in the mesh": (
        as_it_is,
        lambda site: site["settings"]["cluster_users"][1].update(mesh=False),
        on_nodes("accounts"),
    ),
    "an account, and accounts are baked": (BAKED, add_account, on_nodes("accounts", "images")),
    "an account with a workspace": (
        add_account,
        of_host("gpu02", workspace_instances=[{"owner": "ada"}, {"owner": "alice"}]),
        {"gpu02": ["workspace"]},
    ),
    "an account that is a guest": (
        as_it_is,
        several(add_account, of_host("gpu03", workspace_instances=[{"owner": "ada", "accounts": ["alice"]}])),
        {**on_nodes("accounts"), "gpu03": ["accounts", "workspace"]},
    ),
    "a key of the owner's": (as_it_is, change_key(0), on_nodes("accounts", "workspace")),
    "a key": (as_it_is, change_key(1), on_nodes("accounts")),
    "a key, and accounts are baked": (BAKED, change_key(1), on_nodes("accounts")),
    "a key where it logs in": (
        workspaces,
        change_key(1),
        {**on_nodes("accounts", "workspace"), "gpu03": ["accounts"]},
    ),
    "another owner": (as_it_is, setting(cluster_owner="grace"), on_nodes("accounts", "ssh_mesh", "workspace")),
    "a new node": (as_it_is, join, {}),
    "a new node, and caches in turn": (TWO_CACHES, join, {}),
    "a node less": (as_it_is, leave, {}),
    "a cache": (
        as_it_is,
        caches("nas"),
        {**on_nodes("docker", "images", "registry"), "nas": ["firewall", "registry"]},
    ),
    "another cache for one node": (
        caches("gpu01", "gpu02"),
        caches("gpu01", "gpu03"),
        {
            "gpu02": ["docker", "firewall", "images", "registry"],
            "gpu03": ["firewall", "images", "registry"],
            "gpu01": ["images"],
        },
    ),
    "a firewall rule": (
        as_it_is,
        setting(firewall_extra_rules=[{"to_port": "8080", "from_ip": "any"}]),
        {**on_nodes("firewall"), **REST},
    ),
    "another version of NFS": (
        setting(nas_fstype="nfs"),
        setting(cluster_nfs_version="3"),
        {**on_nodes("firewall", "nas"), "nas": ["firewall", "nas"]},
    ),
    "a quota": (as_it_is, setting(nas_quota="500G"), {**on_nodes("nas"), "nas": ["nas"]}),
    "an account, and there are quotas": (
        several(setting(nas_fstype="nfs4"), setting(nas_quota="500G")),
        add_account,
        {**on_nodes("accounts"), "nas": ["nas"]},
    ),
    "the shared memory": (as_it_is, setting(workspace_shm_size="16gb"), on_nodes("workspace")),
    "the address of a node": (
        as_it_is,
        of_host("gpu02", cluster_address="10.214.10.99"),
        {"gpu01": ["ssh_mesh"], "gpu02": ["nas", "registry", "ssh_mesh"]},
    ),
    "the address of the registry": (
        as_it_is,
        lambda site: site["groups"]["nas_server"]["nas"].update(cluster_address="10.214.10.99"),
        {**on_nodes("images", "registry"), "nas": ["nas", "registry"]},
    ),
    "a secret, although its variable stays": (
        as_it_is,
        lambda site: site["files"].update({".secrets/ca_passphrase": "another one of them"}),
        {**on_nodes("registry", "ssh_mesh"), "nas": ["registry"]},
    ),
    "the network": (
        as_it_is,
        setting(cluster_network=["10.0.0.0/8"]),
        {**on_nodes("firewall", "nas", "ssh_mesh"), "nas": ["firewall", "nas"]},
    ),
}


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, dict[str, list[str]]]]:
    """What each case makes stale, and why."""
    sites = []
    for before, change, _ in CASES.values():
        was = lab()
        before(was)
        now = copy.deepcopy(was)
        change(now)
        sites += [was, now]
    of_sites = inputs(*sites)
    return {name: stale(was, now) for name, was, now in zip(CASES, of_sites[::2], of_sites[1::2])}


@pytest.mark.parametrize("case", CASES)
def test_a_change_costs_what_it_changes(found: dict[str, dict[str, dict[str, list[str]]]], case: str) -> None:
    assert {host: sorted(roles) for host, roles in found[case].items()} == CASES[case][2], found[case]


def test_the_first_node_looks_whether_one_has_gone() -> None:
    smaller = lab()
    leave(smaller)
    (found,) = inputs(smaller)
    (kind, subject) = json.loads(found["gpu01"]["ssh_mesh"]["current"])[0]
    assert (kind, subject["hosts"], subject["as"]) == ("known_hosts", ["gpu01", "gpu02"], "941:941")
    assert "current" not in found["gpu02"]["ssh_mesh"]


def test_reasons_name_the_part_that_has_changed(found: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    assert found["a key where it logs in"]["gpu02"] == {
        "accounts": ["variable cluster_users"],
        "workspace": ["variable __workspace_all (grace)"],
    }


def test_a_host_that_leaves_a_group_runs_the_firewall_with_something_else() -> None:
    """A group that is none of the cluster's is none of its business."""
    without, both, racks = lab(), lab(), lab()
    both["groups"]["registry"]["gpu02"] = {}
    racks["groups"].update(rack7={"gpu02": {}}, site_stale={"gpu02": {}})
    of_site, of_both, of_racks = inputs(without, both, racks)
    assert stale(of_both, of_site)["gpu02"]["firewall"] == ["the host's groups"]
    assert stale(of_racks, of_site) == {}
