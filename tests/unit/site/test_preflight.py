# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Problems of an inventory, each as one line that names the place, the value and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import is_one
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import ports
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.answers import check_answer
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.check import check
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    Broken,
    KnownProblems,
    Made,
    Problem,
    Site,
)

PORTS = ports()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K"
HASH = "$6$salt$IxDD3jeSOb5eB1CX5LBsqZFVkJdido3OUILO5Ifz5iwMuTS4XMS130MTSuDDl3aCI6WouIL9AjRbLCelDCy.g."
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
GOOD: dict[str, Any] = {
    "ansible_host": "10.1.0.11",
    "cluster_network": ["10.1.0.0/24", "fd00:1::/64"],
    "cluster_clients": ["10.9.0.0/16"],
    "cluster_users": [
        {"name": "ada", "uid": 1500, "ssh_keys": [f"{KEY} ada@laptop"], "groups": ["ml"], "password_hash": HASH},
        {"name": "svc", "uid": "990", "gid": "991", "system": True},
    ],
    "cluster_ca_passphrase": "a long enough passphrase",
    "nas_source": "nas:/export",
}


def users(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"cluster_users": list(entries)}


def ada(**more: Any) -> dict[str, Any]:
    return users({"name": "ada", "uid": 1500, **more})


RANGE = {"cluster_workspace_port_range": "19000:19999"}
# What is changed in a good inventory, and what the one problem must say.
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "two users with one uid": (
        users({"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1500}),
        ["uid 1500 belongs to ada and bob", "cluster_users"],
    ),
    "one uid, two gids": (users({"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1500, "gid": 7}), ["uid 1500"]),
    "one uid, as text": (users({"name": "ada", "uid": 1500}, {"name": "bob", "uid": "1500"}), ["uid 1500"]),
    "one name twice": (users({"name": "ada", "uid": 1500}, {"name": "ada", "uid": 1501}), ["ada is declared 2 times"]),
    "one gid for two primary groups": (
        users({"name": "ada", "uid": 1500, "gid": 2000}, {"name": "bob", "uid": 1501, "gid": 2000}),
        ["gid 2000", "ada and bob"],
    ),
    "one gid for two groups that are named": (
        users(
            {"name": "ada", "uid": 1500, "gid": 2000, "group": "ml"},
            {"name": "bob", "uid": 1501, "gid": 2000, "group": "cv"},
        ),
        ["the gid 2000 would have several names, ml and cv", "as getent does (group: staff)"],
    ),
    "one group with two gids": (
        users(
            {"name": "ada", "uid": 1500, "gid": 2000, "group": "ml"},
            {"name": "bob", "uid": 1501, "gid": 2001, "group": "ml"},
        ),
        ["the group ml would have several gids, 2000 and 2001"],
    ),
    "a gid that has a name on each host": (
        users({"name": "ada", "uid": 1500, "gid": 100}),
        ["the gid 100 would have several names, ada and users"],
    ),
    "a group that has a gid on each host": (
        ada(group="users"),
        ["the group users would have several gids, 1500 and 100"],
    ),
    "Docker's group as the primary one": (
        ada(group="docker"),
        ["the primary group of ada, docker, is one that the system or a package has, and the gid is 1500"],
    ),
    **{
        f"an account {name}": (
            users({"name": "ada", "uid": 1500}, {"name": name, "uid": 1505}),
            [f"cluster_users: {name} is a name that the system, or a package of the cluster's, has", "Choose another"],
        )
        for name in ("docker", "root", "nobody", "sshd", "www-data", "sudo", "_rpc", "ceph", "gluster", "render")
    },
    "an account of a package's with a system id": (
        users({"name": "ada", "uid": 1500}, {"name": "docker", "uid": 990, "system": True}),
        ["docker is a name that the system"],
    ),
    **{
        f"an account {name!r}": (
            users({"name": "ada", "uid": 1500}, {"name": name, "uid": 1505}),
            [f"{name!r} cannot be the name of an account", "letters, digits, '_', '.' and '-'", "not digits alone"],
        )
        for name in ("1505", ".ada", "..", "-ada", "ada@ex.org", "EX\\ada", "host$", "a" * 33, "ada\n", "é", "a:b", "")
    },
    "a system uid": (users({"name": "ada", "uid": 999}), ["uid 999, below 1000", "system: true"]),
    "root's uid": (users({"name": "ada", "uid": 0, "system": True}), ["uid of ada is 0"]),
    "nobody's uid": (users({"name": "ada", "uid": 65534}), ["uid of ada is 65534"]),
    "a uid that is none": (users({"name": "ada", "uid": "x"}), ["uid of ada is 'x'"]),
    "a uid that is true": (users({"name": "ada", "uid": True}), ["uid of ada is True"]),
    "a user without uid": (users({"name": "ada"}), ["ada has no uid"]),
    "a user without name": (users({"uid": 1500}, {"name": "ada", "uid": 1500}), ["None cannot be the name"]),
    "a bad primary group": (ada(group="ml:x"), ["'ml:x', the primary group of ada, cannot be the name of a group"]),
    "a primary group with a dash": (ada(group="-ml"), ["'-ml', the primary group of ada"]),
    "a bad name": (users({"name": "Ada L", "uid": 1500}), ["'Ada L' cannot be the name"]),
    "a bad group": (ada(groups=["no way"]), ["'no way', a group of ada"]),
    "a password in clear": (ada(password_hash="hunter2 in clear"), ["password_hash of ada", "crypt(3)"]),
    "no key for the controller": (
        {**ada(exclusive_keys=True), "ansible_user": "ada"},
        ["Ansible logs in as ada", "there is none in its ssh_keys"],
    ),
    "a key that is none": (ada(ssh_keys=["hello"]), ["number 1 of ssh_keys of ada (not shown)", "public SSH key"]),
    "half a key": (ada(ssh_keys=[KEY[:60]]), ["is not a whole public SSH key"]),
    "a private key": (ada(ssh_keys=["-----BEGIN OPENSSH PRIVATE KEY-----\nx"]), ["public SSH key"]),
    "two keys in one": (ada(ssh_keys=[f"{KEY}\n{KEY}"]), ["public SSH key"]),
    "no users": ({"cluster_users": []}, ["cluster_users: is empty"]),
    "an unknown owner": ({"cluster_owner": "eve"}, ["cluster_owner: 'eve'", "ada, svc"]),
    "no network": ({"cluster_network": []}, ["cluster_network: is missing"]),
    "a network that is none": ({"cluster_network": ["10.1.0.0/33"]}, ["10.1.0.0/33", "CIDR"]),
    "an address as network": ({"cluster_network": ["10.1.0.11"]}, ["'10.1.0.11'", "CIDR"]),
    "host bits": ({"cluster_clients": ["10.9.0.1/16"]}, ["cluster_clients: 10.9.0.1/16 has host bits set"]),
    "an address elsewhere": ({"ansible_host": "10.2.0.1"}, ["gpu01 has the address 10.2.0.1", "10.1.0.0/24"]),
    "cluster_address counts": ({"cluster_address": "10.3.0.1"}, ["gpu01 has the address 10.3.0.1"]),
    "a GPU by its bare number": ({"nvidia_exclude": [1]}, ["nvidia_exclude: '1' is none", "gpu:<number>"]),
    "an address that YAML reads as a number": (
        {"nvidia_exclude": [60.0]},
        ["nvidia_exclude: '60.0'", "quotation marks"],
    ),
    "no GPU's number": ({"nvidia_exclude": ["gpu:one"]}, ["nvidia_exclude: the key 'gpu:one'", "Correct"]),
    "a NAS without a server": ({"nas_source": "/export"}, ["nas_source: the source is '/export'", "server of nfs4"]),
    "a quota on a NAS of somebody else's": (
        {"nas_quota": "500G"},
        ["nas_quota: is '500G', and no host is in nas_server", "Set quotas on your NAS itself"],
    ),
    "a quota on the disk of a single node": (
        {"nas_quota": "500G", "nas_source": ""},
        ["nas_quota: is '500G', and no host is in nas_server", "Set quotas on the disk of the node"],
    ),
    "a quota without its unit": ({"nas_quota": 500}, ["nas_quota: 500 is no size with its unit", "Write it as 500G"]),
    "an extra mount without a server": (
        {"nas_extra_mounts": [{"path": "/data", "source": "data", "fstype": "glusterfs"}]},
        ["nas_extra_mounts: the source of /data is 'data'", "server of glusterfs"],
    ),
    "a NAS path": ({"cluster_nas_path": "nas"}, ["cluster_nas_path: 'nas'"]),
    "a NAS path with a blank": ({"cluster_nas_path": "/mnt/my nas"}, ["cluster_nas_path: '/mnt/my nas' has a blank"]),
    "a NAS path of two lines": ({"cluster_nas_path": "/mnt/nas\nx"}, ["cluster_nas_path: '/mnt/nas\\nx'"]),
    "a NAS path that Docker splits": ({"cluster_nas_path": "/mnt/nas:ro"}, ["cluster_nas_path: '/mnt/nas:ro'"]),
    "a NAS path that goes back": ({"cluster_nas_path": "/mnt/../etc"}, ["cluster_nas_path: '/mnt/../etc'", "'..'"]),
    "a NAS path with a dot": ({"cluster_nas_path": "/./mnt"}, ["cluster_nas_path: '/./mnt'"]),
    "the root": ({"cluster_nas_path": "/"}, ["cluster_nas_path: '/' is not an absolute path below /"]),
    "the root thrice": ({"cluster_nas_path": "///"}, ["cluster_nas_path: '///'"]),
    **{
        f"the NAS on {path}": ({"cluster_nas_path": path}, [f"cluster_nas_path: '{path}' is a directory of the system"])
        for path in (
            "/etc",
            "/usr",
            "/home",
            "/var",
            "/home/",
            "/usr/local/nas",
            "/tmp/nas",
            "/run/nas",
            "/var/lib/docker",
        )
    },
    "the account of the layout by name": (
        users({"name": "ada", "uid": 1500}, {"name": "gpustead", "uid": 1501}),
        ["cluster_users: gpustead has its name of the account gpustead (941:941)"],
    ),
    "the account of the layout by id": (
        users({"name": "ada", "uid": 1500}, {"name": "eve", "uid": 941, "system": True}),
        ["eve has its uid and its gid"],
    ),
    "the account of the layout by primary group": (
        users({"name": "ada", "uid": 1500, "gid": 941}),
        ["ada has its gid"],
    ),
    "the account of the layout by group": (ada(groups=["ml", "gpustead"]), ["ada has its group"]),
    "another account of the layout": (
        {**ada(groups=["keeper"]), "cluster_service_account": {"name": "keeper", "uid": 950, "gid": 950}},
        ["ada has its group of the account keeper (950:950)"],
    ),
    "an account of the layout that people have": (
        {"cluster_service_account": {"uid": 1941, "gid": 941}},
        ["cluster_service_account: uid is 1941"],
    ),
    "a port twice": (
        {"workspace_ports": {**PORTS, "gradio": "18888"}},
        ["port 18888 is published twice, by jupyter and gradio"],
    ),
    "the mesh's port": ({"workspace_ports": {**PORTS, "ssh": 2222}}, ["by ssh and the mesh"]),
    "another port of the mesh": ({"ssh_mesh_port": 10022}, ["port 10022", "by ssh and the mesh"]),
    "the host's SSH": (
        {"workspace_ports": {**PORTS, "ssh": 22}},
        ["by ssh and the host's own SSH"],
    ),
    "the host's other SSH": ({"ansible_port": 10022}, ["by ssh and the host's own SSH"]),
    "the rendezvous": ({"workspace_ports": {**PORTS, "ssh": 29501}}, ["port 29501", "rendezvous"]),
    "the registry": ({"workspace_ports": {**PORTS, "ssh": 5000}}, ["by ssh and the registry"]),
    "a port that the firewall closes": (
        {"workspace_ports": {**PORTS, "jupyter": 28888}},
        ["firewall_published_ports", "lacks 28888, the port of jupyter"],
    ),
    "the mesh's port closed": ({"ssh_mesh_port": 2223}, ["firewall_mesh_ports", "lacks 2223, the port of the mesh"]),
    "the registry's port closed": (
        {"cluster_registry": "reg:5001"},
        ["firewall_registry_port", "is 5000, and cluster_registry has 5001"],
    ),
    "a workspace of nobody": (
        {"workspace_instances": [{"owner": "eve"}], **RANGE},
        ["workspace_instances: 'eve' is no account", "ada, svc"],
    ),
    "a range that is none": (
        {"workspace_instances": [{"owner": "svc"}], "workspace_port_range": "many"},
        ["workspace_port_range: 'many' is no range of ports", "19000:19999"],
    ),
    "a port of two workspaces": (
        {
            "workspace_instances": [
                {"owner": "ada"},
                {"owner": "svc", "ports": {**dict(zip(PORTS, range(1, 22))), "jupyter": 18888}},
            ]
        },
        ["by jupyter of ada and jupyter of svc"],
    ),
    "a workspace at the registry's port": (
        {"workspace_instances": [{"owner": "svc"}], "cluster_workspace_port_range": "5000:5003"},
        ["port 5000 is published twice, by jupyter of svc and the registry"],
    ),
    "a workspace that the firewall closes": (
        {"workspace_instances": [{"owner": "svc", "ports": {**PORTS, "ssh": 19000}}]},
        ["lacks 19000, the port of ssh of svc", "cluster_workspace_port_range"],
    ),
    "no port": ({"workspace_ports": {**PORTS, "ssh": 70000}}, ["70000, the port of ssh"]),
    "a port of no service": ({"workspace_ports": {"jupter": 18888}}, ["names 'jupter'", "Did you mean jupyter?"]),
    "a port at that of a service left out": ({"workspace_ports": {"ssh": 18888}}, ["by jupyter and ssh"]),
    "a bind that is no address": (
        {"workspace_service_bind": {"jupyter": ["127.0.0.1", "[::1]"]}},
        ["workspace_service_bind: jupyter, '[::1]' is no address", "without brackets"],
    ),
    "a short passphrase": ({"cluster_ca_passphrase": "short"}, ["cluster_ca_passphrase: is missing or shorter"]),
    "an authority that is not there": ({"cluster_ca_certificates": ["/nowhere.pem"]}, ["/nowhere.pem cannot be read"]),
    "an authority by a relative path": ({"cluster_ca_certificates": ["ca.pem"]}, ["'ca.pem'", "absolute"]),
    "a relative mount": ({"workspace_mounts": [{"host": "data", "path": "/data"}]}, ["host is 'data'"]),
    "a mount of what is root's": (
        {"workspace_mounts": [{"host": "//etc/", "path": "/x", "read_only": True}, {"host": "/srv/x", "path": "/y"}]},
        ["//etc/ (/etc) is the system's own (/etc)"],
    ),
    "a mount of the share's root": (
        {"cluster_nas_path": "/nas", "workspace_mounts": [{"host": "/nas/a/..", "path": "/x"}]},
        ["/nas/a/.. (/nas) is the root of the share"],
    ),
    "a mount of all": ({"workspace_mounts": [{"host": "/", "path": "/x"}]}, ["/ holds /boot"]),
    "a mount to nowhere": ({"workspace_mounts": [{"host": "/data"}]}, ["path is None"]),
    "a share on the homes": (
        {"nas_extra_mounts": [{"path": "/home/", "source": "x:/home"}]},
        ["nas_extra_mounts: a share on '/home' would hide the homes", "/mnt/home", "root_squash", "/etc/fstab"],
    ),
    "a relative extra mount": ({"nas_extra_mounts": [{"path": "data", "source": "x:/y"}]}, ["path is 'data'"]),
    "an extra mount of nothing": (
        {"nas_extra_mounts": [{"path": "/data", "source": ""}]},
        ["source of /data is empty"],
    ),
    **{
        f"a toolkit with a way out of containers, {version}": (
            {"nvidia_toolkit_version": version},
            ["becomes root of the host (CVE-2025-23266)", "from 1.17.8-1 up"],
        )
        for version in ("1.17.7-1", "1.16.2-1", "1.9.0", "0.99.1-1", "latest")
    },
    "a registry without port": (
        {"cluster_registry": "registry.example.org"},
        ["'registry.example.org' is not host:port"],
    ),
}


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def problems(change: dict[str, Any], groups: dict[str, list[str]] | None = None) -> list[str]:
    values = {**GOOD, **change}
    site = Site(groups or {"gpu_nodes": ["gpu01"], "registry": ["gpu01"]}, {"gpu01": values}, read)
    return [str(problem) for problem in check(site)]


@pytest.mark.parametrize(
    "entries",
    [
        [{"name": name, "uid": 1500} for name in ("ada.lovelace",)],
        [{"name": "Ada", "uid": 1500}, {"name": "ADA-L_2", "uid": 1501, "groups": ["GPU.Users"]}],
        [{"name": name, "uid": 1500} for name in ("a" * 32,)],
        [{"name": "2ada", "uid": 1500}, {"name": "_ada", "uid": 1501}, {"name": "ada.", "uid": 1502}],
        # One gid under one name: local accounts, and those of a directory.
        [{"name": name, "uid": uid, "group": "users", "gid": 100} for name, uid in (("ada", 1500), ("bob", 1501))],
        [{"name": name, "uid": uid, "group": "staff-ml", "gid": 5000} for name, uid in (("ada", 5001), ("bob", 5002))],
        [
            {"name": name, "uid": uid, "group": "domain users", "gid": 513}
            for name, uid in (("Ada", 5001), ("b.b", 5002))
        ],
        [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501, "group": "ada", "gid": 1500}],
        [{"name": "ada", "uid": 1500, "groups": ["docker", "video"]}],
    ],
)
def test_names_and_groups_as_hosts_and_directories_have_them(entries: list[dict[str, Any]]) -> None:
    assert problems(users(*entries)) == []


def test_a_good_inventory_has_no_problem() -> None:
    assert problems({}) == []


@pytest.mark.parametrize("version", ["1.17.8-1", "1.17.*", "1.20.1-1", "1.18.0~rc.1-1", "2.0.0"])
def test_versions_of_the_toolkit_without_a_way_out(version: str) -> None:
    assert problems({"nvidia_toolkit_version": version}) == []


@pytest.mark.parametrize(
    "line",
    [
        KEY,
        f'from="10.0.0.0/8",no-pty {KEY} comment here',
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHTAHc4ZP6TG5fiaKXFJnBC9Qms8yWxyHZfa0"
        "C/H2k/rVCYaF0zDnEHVLMfIUiFOCkhaZyFCG1JG4UrwJMTRAVM=",
    ],
)
def test_public_keys(line: str) -> None:
    assert is_one(line)


OTHER_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.mark.parametrize(
    ("own", "change", "refused"),
    [
        (OTHER_KEY, {}, True),
        (OTHER_KEY, {"ansible_user": "root"}, False),
        (KEY.split()[1], {}, False),
        ("", {}, False),  # it cannot be told here; a new login will
    ],
)
def test_keys_that_keep_the_controller_out(tmp_path: Path, own: str, change: dict[str, Any], refused: bool) -> None:
    if own:
        (tmp_path / "id.pub").write_text(f"ssh-ed25519 {own} ops@controller\n")
    login = {"ansible_user": "ada", "ansible_ssh_private_key_file": f"{tmp_path}/id", **change}
    found = problems({**ada(ssh_keys=[f"no-pty {KEY}"], exclusive_keys=True), **login})
    assert (f"that of {tmp_path}/id.pub is not among its ssh_keys" in "".join(found)) is refused
    assert bool(found) is refused


@pytest.mark.parametrize(
    "hashed", [HASH, "!", "*", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7"]
)
def test_password_hashes(hashed: str) -> None:
    assert problems(ada(password_hash=hashed)) == []


@pytest.mark.parametrize("case", BAD)
def test_each_problem_is_one_line(case: str) -> None:
    change, words = BAD[case]
    lines = problems(change)
    assert len(lines) == 1, lines
    assert "\n" not in lines[0]
    assert [word for word in words if word not in lines[0]] == [], lines


@pytest.mark.parametrize(
    "change",
    [
        {"cluster_ca_passphrase": "hunter2"},
        ada(password_hash="hunter2"),
        ada(ssh_keys=["hunter2"]),
        ada(ssh_keys=["-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2"]),
        {"cluster_registry": "ada:hunter2@reg:5000"},
        {"cluster_registry": "https://ada:hunter2@reg:5000"},
        {"ssh_mesh_env": {"WANDB_API_KEY": "hunter2"}},
    ],
)
def test_secrets_are_not_shown(change: dict[str, Any]) -> None:
    lines = problems(change)
    assert lines
    assert "hunter2" not in "".join(lines)


@pytest.mark.parametrize("groups", [{}, {"gpu_nodes": []}, {"ungrouped": ["a"]}])
def test_gpu_nodes_is_required(groups: dict[str, list[str]]) -> None:
    (problem,) = check(Site(groups, {}, read))
    assert problem.where == "gpu_nodes"


SEVERAL = {"gpu_nodes": ["gpu01", "gpu02"]}


def of_several(change: dict[str, Any], groups: dict[str, list[str]]) -> list[str]:
    hosts = {
        "gpu01": {**GOOD, **change},
        "gpu02": {**GOOD, **change, "ansible_host": "10.1.0.12"},
        "nas": {**GOOD, "ansible_host": "10.1.0.5"},
    }
    return [str(problem) for problem in check(Site(groups, hosts, read))]


def test_several_nodes_need_a_registry() -> None:
    (line,) = of_several({}, SEVERAL)
    assert line.startswith("registry: the inventory has no host in this group. Put one into it")
    assert of_several({"cluster_registry": "r:5000"}, SEVERAL) == []


@pytest.mark.parametrize("source", [" ", "", None])
def test_several_nodes_need_a_share(source: str | None) -> None:
    (line,) = of_several({"nas_source": source}, {**SEVERAL, "registry": ["gpu01"]})
    assert line.startswith("nas_source: is empty, and 2 nodes have no other place in common. Say what to mount")
    assert "put it into group nas_server" in line


def test_a_share_that_the_cluster_serves_has_a_source() -> None:
    (line,) = of_several({"nas_source": ""}, {"gpu_nodes": ["gpu01"], "nas_server": ["nas"]})
    assert line.startswith("nas_source: is empty, and nas serves the share")


def test_several_nodes_are_not_all_this_machine() -> None:
    local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    (line,) = of_several(local, {**SEVERAL, "registry": ["nas"]})
    assert line.startswith("ansible_connection: gpu01 and gpu02 have the connection local")


def test_a_local_connection_has_the_python_of_the_host() -> None:
    (line,) = problems({"ansible_connection": "local"}, {"gpu_nodes": ["gpu01"], "registry": ["gpu01"]})
    assert line.startswith("ansible_python_interpreter: is not set, and with connection local")
    assert "/usr/bin/python3" in line


def test_a_single_node_needs_neither_a_share_nor_a_registry() -> None:
    assert problems({"nas_source": ""}, {"gpu_nodes": ["gpu01"]}) == []
    alone = {name: value for name, value in GOOD.items() if name not in ("nas_source", "ansible_host")}
    local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    own = {**alone, **local, "cluster_network": ["127.0.0.0/8"]}
    assert [*check(Site({"gpu_nodes": ["localhost"]}, {"localhost": own}, read))] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CERTIFICATE, ""),
        (CERTIFICATE * 2, "2 PEM"),
        ("not one", "0 PEM"),
        (CERTIFICATE.replace("AAAA", "A"), "damaged"),
    ],
)
def test_authorities(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(f"# its name\n{text}")
    lines = problems({"cluster_ca_certificates": [str(path)]})
    assert bool(lines) == bool(words)
    assert words in "".join(lines)


def test_what_all_hosts_share_is_told_once_and_the_rest_with_its_hosts() -> None:
    bad = {**GOOD, "nas_source": ""}
    hosts = {
        "gpu01": bad,
        "gpu02": {**bad, "ansible_host": "10.1.0.12", "cluster_clients": ["all"]},
        "nas": {**GOOD, "ansible_host": "10.99.0.1"},
    }
    lines = [
        str(problem) for problem in check(Site({"gpu_nodes": ["gpu01", "gpu02"], "registry": ["nas"]}, hosts, read))
    ]
    assert [line.split(":")[0] for line in lines] == ["nas_source", "cluster_clients on gpu02"], lines


def test_what_is_broken_is_told_once() -> None:
    wrong = Problem("cluster_users", "is 'ada', not a list", "Write it as a list.", "hosts.yml:7")
    follows = Problem("role accounts", "cluster_users has nobody: expected one", "")
    other = Problem("role nas", "nas_source is odd: expected another", "")
    found = KnownProblems([wrong], [Made(follows, ["cluster_users"], []), Made(other, ["nas_source"], ["nas_source"])])
    values = {**GOOD, "cluster_users": Broken(), "workspace_instances": Broken()}
    groups = {"gpu_nodes": ["gpu01"], "registry": ["gpu01"]}
    assert check(Site(groups, {"gpu01": values}, read, {"gpu01": found})) == [wrong, other]


def test_the_place_of_a_variable_is_told() -> None:
    groups = {"gpu_nodes": ["a"], "registry": ["a"]}
    site = Site(groups, {"a": {**GOOD, "nas_source": "x"}}, read, place=lambda host, name: f"{host}/{name}.yml:3")
    assert [str(one).split(": ")[0] for one in check(site)] == ["nas_source (a/nas_source.yml:3)"]


def test_users_are_one_list_even_if_hosts_declare_them_apart() -> None:
    hosts = {
        "a": {**GOOD, "ansible_host": "10.1.0.1", **users({"name": "ada", "uid": 1500})},
        "b": {**GOOD, "ansible_host": "10.1.0.2", **users({"name": "bob", "uid": 1500})},
    }
    (line,) = [str(problem) for problem in check(Site({"gpu_nodes": ["a", "b"], "registry": ["a"]}, hosts, read))]
    assert "uid 1500 belongs to ada and bob" in line


def test_two_nodes_with_one_address() -> None:
    site = Site({"gpu_nodes": ["a", "b"], "registry": ["a"]}, {"a": GOOD, "b": GOOD}, read)
    (line,) = [str(problem) for problem in check(site)]
    assert "a and b have one address, 10.1.0.11" in line


def test_nodes_that_only_capital_letters_tell_apart_are_refused() -> None:
    def said(**addresses: str) -> list[str]:
        hosts = {name: {**GOOD, "ansible_host": address} for name, address in addresses.items()}
        return [str(one) for one in check(Site({"gpu_nodes": [*hosts], "registry": [*hosts][:1]}, hosts, read))]

    refused = ["gpu_nodes: GPU01 and gpu01 are one name to ssh and DNS. Rename one of them."]
    assert said(GPU01="10.1.0.1", gpu01="10.1.0.2") == refused
    assert said(GPU01="n1.example.org", gpu01="N1.example.org") == refused
    assert said(GPU01="10.1.0.1") == []
    assert said(n1="Nas.example.org", n2="nas.example.org") == [
        "gpu_nodes: n1 and n2 have one address, nas.example.org. Correct cluster_address."
    ]


HUB = {"name": "docker.io", "url": "https://registry-1.docker.io", "port": 5001}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, ""),
        ({"cluster_cached_registries": []}, ""),
        ({"cluster_cached_registries": [HUB, {**HUB, "name": "nvcr.io", "port": "5002"}]}, ""),
        ({"cluster_cached_registries": [{**HUB, "url": "http://10.1.0.9:5000"}]}, ""),
        ({"cluster_cached_registries": [{**HUB, "url": "registry-1.docker.io"}]}, "'registry-1.docker.io', not http"),
        ({"cluster_cached_registries": [{**HUB, "url": "https://nvcr.io/v2"}]}, "'https://nvcr.io/v2', not http"),
        (
            {"cluster_cached_registries": [{**HUB, "url": "https://10.1.0.9"}]},
            "an address, which nginx does not compare",
        ),
        ({"cluster_cached_registries": [{**HUB, "name": "https://x"}]}, "'https://x' cannot be the name of a registry"),
        (
            {"cluster_cached_registries": [HUB, {**HUB, "name": "nvcr.io"}]},
            "port 5001 is given twice, to the cache of docker",
        ),
        ({"cluster_cached_registries": [HUB, {**HUB, "port": 5002}]}, "docker.io is declared 2 times"),
        ({"cluster_cached_registries": [{**HUB, "port": 5000}]}, "5000 is given twice, to the registry and the cache"),
        ({"cluster_cached_registries": [{"name": "nvcr.io", "url": "https://nvcr.io"}]}, "None, the port of the cache"),
        ({"cluster_registry_cache_port": 5001}, "to the cache of docker.io and the cache of the registry"),
        (
            {"cluster_proxy_env": {"https_proxy": "http://u:p@proxy"}},
            "through no proxy, but cluster_proxy_env has https_proxy",
        ),
        ({"cluster_proxy_env": {"no_proxy": "localhost"}}, ""),
        ({"cluster_proxy_env": {"http_proxy": "http://proxy"}, "cluster_cached_registries": []}, ""),
    ],
)
def test_caches_of_registries(change: dict[str, Any], line: str) -> None:
    hosts = {"gpu01": GOOD, "nas": {**GOOD, **change}}
    groups = {"gpu_nodes": ["gpu01"], "registry": ["nas"], "registry_caches": ["nas"]}
    found = [str(problem) for problem in check(Site(groups, hosts, read))]
    assert len(found) == (1 if line else 0)
    assert line in "".join(found)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"cluster_proxy_env": {"http_proxy": "proxy.example/hunter2"}}, "cluster_proxy_env: http_proxy (its value"),
        ({"cluster_proxy_env": {"http_prxy": "http://u:hunter2@proxy"}}, "'http_prxy'"),
        ({"cluster_proxy_env": {"http_proxy": "http://u:hunter%402@proxy:3128"}}, ""),
        ({"docker_registry_mirrors": ["https://u:hunter2@mirror"]}, "docker_registry_mirrors: 'https://***@mirror'"),
        ({"docker_repository_url": "https://u:hunter2@mirror"}, "/etc/apt/auth.conf.d"),
        ({"images_torch_index": "https://u:hunter2@index"}, "images_build_secrets"),
        ({"images_stack": [{"name": "a", "args": {"index": "https://u:hunter2@index"}}]}, "images_stack"),
        ({"images_projects": [{"name": "a", "source": "https://hunter2@github.com/a.git"}]}, "images_projects"),
        ({"images_projects": [{"name": "a", "source": "ssh://git@github.com/a.git"}]}, ""),
        ({"workspace_repositories": [{"url": "https://hunter2@github.com/a.git", "path": "a"}]}, "netrc"),
        ({"workspace_torch_index": "https://u:hunter2@index"}, "workspace_torch_index"),
        ({"images_torch_index": "https://m/simple?token=hunter2"}, "images_torch_index: 'https://m/simple?token=***'"),
        (
            {"ssh_mesh_env": {"NCCL_DEBUG": "INFO", "WANDB_API_KEY": "hunter2"}},
            "ssh_mesh_env: WANDB_API_KEY (not shown)",
        ),
        (
            {"ssh_mesh_node_env": {"https_proxy": "http://u:hunter2@proxy"}},
            "ssh_mesh_node_env: https_proxy (not shown)",
        ),
        ({"ssh_mesh_env": {"TOKENIZERS_PARALLELISM": "false", "MAX_TOKENS": 4096, "TOKEN_PATH": "/home/ada/t"}}, ""),
        ({"nas_options": "vers=3.0,username=u,password=hunter2"}, "nas_options: the mount options have a password"),
        ({"nas_options": "vers=3.0,credentials=/root/.smb"}, ""),
        (
            {"nas_extra_mounts": [{"path": "/mnt/a", "source": "//a/b", "options": "pass=hunter2"}]},
            "nas_extra_mounts: the mount options",
        ),
        ({"cluster_cached_registries": [{**HUB, "url": "https://u:hunter2@nvcr.io"}]}, "https://***@nvcr.io"),
        ({"docker_registry_mirrors": "https://u:hunter2@mirror"}, "docker_registry_mirrors"),
    ],
)
def test_passwords_that_others_would_see(change: dict[str, Any], line: str) -> None:
    hosts = {"gpu01": {**GOOD, **change}}
    groups = {"gpu_nodes": ["gpu01"], "registry": ["gpu01"], "registry_caches": ["gpu01"]}
    change.setdefault("cluster_cached_registries", [])
    hosts["gpu01"]["cluster_cached_registries"] = change["cluster_cached_registries"]
    found = [str(problem) for problem in check(Site(groups, hosts, read))]
    assert len(found) == (1 if line else 0), found
    assert line in "".join(found)
    assert "hunter2" not in "".join(found)


def test_a_cache_on_a_port_of_the_node() -> None:
    change = {"cluster_cached_registries": [{**HUB, "port": 18888}]}
    groups = {"gpu_nodes": ["gpu01"], "registry": ["gpu01"], "registry_caches": ["gpu01"]}
    (line,) = problems(change, groups)
    assert "port 18888 is published twice, by jupyter and the cache of docker.io" in line


def test_other_ports_that_the_firewall_opens() -> None:
    ports = {**PORTS, "jupyter": 28888}
    more = {"workspace_ports": ports, "firewall_published_ports": [*ports.values()], "ssh_mesh_port": "29505"}
    more["firewall_mesh_ports"] = ["29500:29510"]
    site = Site({"gpu_nodes": ["n1"], "registry": ["n1"]}, {"n1": {**GOOD, **more}}, lambda path: CERTIFICATE)
    assert [problem for problem in check(site) if "lacks" in problem.what] == []


def test_workspaces_of_others_in_the_range_that_the_firewall_opens() -> None:
    two: dict[str, Any] = {"workspace_instances": [{"owner": "ada"}, {"owner": "svc", "accounts": ["ada"]}]}
    assert problems({**two, **RANGE}) == []
    # The usual ports are taken where their owner has a workspace.
    alone = {"workspace_instances": [{"owner": "svc"}], "ansible_port": 10022}
    assert problems({**alone, **RANGE}) == []


def said(python: str = "3.13", uid: str = "0", release: str = "debian 13") -> str:
    lines = (f"uid={uid}", f"python={python}", f"release={release}", "name=Some Linux")
    return "Welcome\r\n" + "".join(f"gpustead.{line}\r\n" for line in lines)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"rc": 0, "stdout": said()}, []),
        ({"rc": 0, "stdout": said(release="ubuntu 24.04", python="3.12")}, []),
        ({"rc": 0, "stdout": said(python="sh: 1: python3: not found")}, ["n1: no Python", "not found"]),
        ({"rc": 0, "stdout": said(python="3.8")}, ["no Python 3.9 or newer (3.8)"]),
        ({"rc": 0, "stdout": said(release="debian 11")}, ["n1: its release is debian 11", "debian 12, debian 13"]),
        ({"rc": 0, "stdout": said(release="fedora 43")}, ["fedora 43 (Some Linux)"]),
        ({"rc": 0, "stdout": said(release="debian ")}, ["its release is debian (Some"]),
        ({"rc": 0, "stdout": "gpustead.uid=0\ngpustead.python=3.11\n"}, ["release is of an unknown kind"]),
        ({"rc": 0, "stdout": said(uid="1000")}, ["uid 1000, not as root"]),
        (
            {"rc": 0, "stdout": f"gpustead.home=/home/ops\n{said()}"},
            ["write in /home/ops", "ansible_remote_tmp: /tmp/"],
        ),
        ({"failed": True, "msg": "Missing sudo\npassword"}, ["n1: runs no commands as root (Missing sudo password)"]),
        ({}, ["n1: runs no commands as root (no answer)"]),
        ({"rc": 1, "stderr": "sh: /tmp/x: No space left on device"}, ["n1: can write nothing (sh: ", "See df"]),
    ],
)
def test_hosts_are_judged_by_what_they_answer(answer: dict[str, Any], words: list[str]) -> None:
    lines = [str(problem) for problem in check_answer("n1", answer)]
    assert len(lines) == (1 if words else 0), lines
    assert [word for word in words if word not in lines[0]] == [], lines


@pytest.mark.parametrize(
    ("login", "refused"),
    [("ada 1000", True), ("ada 1500", False), ("root 0", False), ("ops 1000", False), ("", False)],
)
def test_the_login_account_is_not_given_another_uid(login: str, refused: bool) -> None:
    said = f"gpustead.uid=0\ngpustead.login={login}\ngpustead.python=3.13\ngpustead.release=debian 13\n"
    found = [str(one) for one in check_answer("n1", {"stdout": said}, GOOD["cluster_users"])]
    assert (
        found
        == [
            "n1: Ansible logs in there as ada, who has the uid 1000, and cluster_users gives 1500. Declare the "
            "uid that it has, or let Ansible log in as another (ansible_user)."
        ]
        * refused
    )


def test_nobody_is_given_the_uid_of_the_login_account() -> None:
    """That of the image of a cloud, say."""
    said = "gpustead.uid=0\ngpustead.login=ubuntu 1500\ngpustead.python=3.13\ngpustead.release=debian 13\n"
    assert [str(one) for one in check_answer("n1", {"stdout": said}, GOOD["cluster_users"])] == [
        "n1: Ansible logs in there as ubuntu, who has the uid 1500, and cluster_users gives it to ada. Give ada another"
        " uid, or let Ansible log in as another (ansible_user)."
    ]
