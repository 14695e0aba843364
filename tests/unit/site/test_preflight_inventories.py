"""Mistakes in inventories: site.yml refuses each, with value, place and remedy, and connects to no host."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.modules.uid_match import USER
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_specs import load

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K ada@laptop"
ADA = {"name": "ada", "uid": 1500, "ssh_keys": [KEY], "groups": ["ml"]}
GOOD: dict[str, Any] = {
    "cluster_network": ["10.1.0.0/24", "fd20::/64"],
    "cluster_users": [ADA, {"name": "bob", "uid": 1501}],
    "cluster_ca_passphrase": "a long enough passphrase",
    "nas_source": "nas.example.org:/export",
}
GROUPS: dict[str, Any] = {"gpu_nodes": {"gpu01": {"ansible_host": "10.1.0.11"}}, "registry": {"gpu01": None}}
TWO = {"gpu_nodes": {f"gpu0{n}": {"ansible_host": f"10.1.0.1{n}"} for n in (1, 2)}}
FILE = "mine/group_vars/all.yml"
EXAMPLE = {"gpu_nodes": {"hosts": {"gpu0[1:4]": None}}, "registry": {"hosts": {"gpu01": None}}}
INI = "[gpu_nodes]\ngpu01 ansible_host=10.1.0.11\n[registry]\ngpu01\n"
THEIRS = "- ansible.builtin.import_playbook: gpustead.cluster.preflight\n"
VAULT = "$ANSIBLE_VAULT;1.1;AES256\n6162\n"


def site(groups: Any = None, files: Any = None, args: Sequence[str] = (), **settings: Any) -> dict[str, Any]:
    """An inventory, with these groups, files and settings besides a good one's, and what a run of it is given."""
    ours = {name: {"hosts": members} for name, members in {**GROUPS, **(groups or {})}.items() if members}
    texts = {"hosts.yml": ours, "group_vars/all.yml": {**GOOD, **settings}}
    written = {name: yaml.safe_dump(values, sort_keys=False) for name, values in texts.items()}
    written = {f"mine/{name}": text for name, text in {**written, **(files or {})}.items() if text is not None}
    return {"files": written, "arguments": ["-i", "mine", *args]}


def node(**variables: Any) -> dict[str, Any]:
    return site({"gpu_nodes": {"gpu01": {"ansible_host": "10.1.0.11", **variables}}})


def hosts(text: str, **more: str) -> dict[str, Any]:
    """An inventory whose file of hosts is this."""
    return site(files={"hosts.yml": text, **more})


def users(**more: Any) -> dict[str, Any]:
    return site(cluster_users=[{**ADA, **more}])


# What is wrong, and what the only problem must say: of which variable, where, and what was meant.
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    # H3: names that nothing reads.
    "a letter of a variable": (
        site(firewall_ssh_source=["10.9.0.0/16"]),
        [f"firewall_ssh_source ({FILE}:", "nothing reads", "Did you mean firewall_ssh_sources?"],
    ),
    "another letter": (site(workspace_profil="local"), ["Did you mean workspace_profile?"]),
    "a variable of the cluster": (site(cluster_user=[]), ["cluster_user (", "Did you mean cluster_users?"]),
    "a prefix": (site(worksapce_profile="local"), ["Did you mean workspace_profile?"]),
    "a variable like nothing": (site(nvidia_frobnicate=1), ["nvidia_frobnicate", "group_vars/all"]),
    "a variable of Docker's": (site(docker_live_restor=True), ["Did you mean docker_live_restore?"]),
    "a variable of the share's": (site(nas_extra_mount=[]), ["Did you mean nas_extra_mounts?"]),
    "a switch of the run": (site(site_forse=True), ["Did you mean site_force?"]),
    "a variable of one host": (
        site({"gpu_nodes": {"gpu01": {"ansible_host": "10.1.0.11", "nvidia_slot": "gpus"}}}),
        ["nvidia_slot (mine/hosts.yml:5)", "Did you mean nvidia_slots?"],
    ),
    "a group in the plural": (
        site({"nas_servers": {"nas": None}}),
        ["nas_servers (mine/hosts.yml:", "with nas", "Did you mean nas_server?"],
    ),
    "a group with another letter": (site({"registry-caches": {"gpu02": None}}), ["Did you mean registry_caches?"]),
    "the group of the nodes": (
        site({"gpu_nodes": None, "gpu_node": {"gpu01": None}}),
        ["gpu_node (mine/hosts.yml:4)", "Did you mean gpu_nodes?"],
    ),
    "a file of group_vars": (
        site(files={"group_vars/gpu_node.yml": "nvidia_required: false\n"}),
        ["group_vars/gpu_node.yml: there is no group gpu_node", "Did you mean gpu_nodes?"],
    ),
    "a key of an account": (
        site(cluster_users=[{"name": "ada", "uid": 1500, "sshkeys": [KEY]}]),
        [f"cluster_users ({FILE}:", "ada has the key 'sshkeys'", "Did you mean ssh_keys?"],
    ),
    "a key of an account of one role": (
        site(accounts_users=[{**ADA, "shel": "/bin/zsh"}]),
        ["accounts_users (", "ada has the key 'shel'", "Did you mean shell?"],
    ),
    "a key of the layout's account": (
        site(cluster_service_account={"user": "keeper", "uid": 950, "gid": 950}),
        ["cluster_service_account (", "has the key 'user', known are name, uid, gid"],
    ),
    "a key of a workspace": (
        site(workspace_instances=[{"owner": "ada", "gpu": [0]}]),
        ["workspace_instances (", "ada has the key 'gpu'", "Did you mean gpus?"],
    ),
    "a key of a mount": (
        site(workspace_mounts=[{"host": "/data", "path": "/data", "readonly": True}]),
        ["/data has the key 'readonly'", "Did you mean read_only?"],
    ),
    "a key of a layer": (
        site(images_stack=[{"name": "base", "argz": {}}]),
        ["images_stack (", "base has the key 'argz'", "Did you mean args?"],
    ),
    "a node that was removed": (
        site(files={".secrets/ssh_mesh_ca.removed": "gpu09 long ago\ngpu01 2026-11-30T12:00:00Z by ops@here\n"}),
        ["gpu01 (mine/hosts.yml:", "remove.yml took it out of the cluster (2026-11-30T12:00:00Z by ops@here)"],
    ),
    "a tag": (site(args=["--tags", "firewal"]), ["--tags: no role has the tag 'firewal'", "mean firewall?"]),
    "a tag to skip": (site(args=["--skip-tags", "imags"]), ["--skip-tags: ", "Did you mean images?"]),
    "a tag like nothing": (site(args=["--tags", "zzz"]), ["'zzz'", "There are accounts, base,"]),
    "a host in the limit": (site(args=["--limit", "gpu01,gpu1"]), ["--limit: 'gpu1' is no host", "mean gpu01?"]),
    "a limit without a host of ours": (
        site({"others": {"pc": None}}, args=["--limit", "pc"]),
        ["--limit: 'pc' leaves no host of gpu_nodes, registry"],
    ),
    # H4: values.
    "a choice": (
        site(workspace_profile="locall"),
        [f"workspace_profile ({FILE}:", "is 'locall', none of server, local. Did you mean local?"],
    ),
    "a choice of a list": (site(images_tools=["zsh", "nodde"]), ["entry 2 is 'nodde', none of", "mean node?"]),
    "a choice that YAML made a truth": (site(firewall_logging=False), ["is false, not a text. Write it", "in quotes"]),
    "a list of texts for dictionaries": (
        site(images_stack=["torch"]),
        ["images_stack (", "entry 1 is 'torch', not a dictionary"],
    ),
    "a layer": (site(images_stack=[{"name": "tourch"}]), ["images_stack (", "layer 'tourch'", "Did you mean torch?"]),
    "a layer without a name": (site(images_stack=[{"args": {}}]), ["entry 1 has no name"]),
    "a layer on nothing": (
        site(images_stack=[{"name": "base"}, {"name": "uv", "parent": "bse"}]),
        ["layer 'uv' stands on 'bse'"],
    ),
    "a source without a server": (site(nas_source="/export"), [f"nas_source ({FILE}:", "'/export'", "nas.example.org"]),
    "a secret that names nothing": (
        site(workspace_jupyter_token="{{ vault_token }}"),
        [f"workspace_jupyter_token ({FILE}:", "'vault_token' is undefined"],
    ),
    "an undefined variable": (site(cluster_owner="{{ who }}"), ["cluster_owner (", "'who' is undefined"]),
    "an undefined variable by way of another": (
        site(cluster_network="{{ our_nets }}", our_nets=["{{ net }}"]),
        ["cluster_network (", "'net' is undefined"],
    ),
    "a template that is broken": (site(cluster_owner="{{ 'a' "), ["cluster_owner (", "cannot be rendered"]),
    "a filter that is not there": (site(cluster_owner="{{ 'a' | uper }}"), ["cluster_owner (", "uper"]),
    "on one host alone": (
        site(TWO, workspace_shm_size="{{ {'gpu01': '8gb'}[inventory_hostname] }}"),
        ["workspace_shm_size on gpu02 (", "cannot be rendered"],
    ),
    "accounts as text": (site(cluster_users="ada"), ["cluster_users (", "is 'ada', not a list"]),
    "an account as text": (site(cluster_users=["ada", ADA]), ["entry 1 is 'ada', not a dictionary"]),
    "groups as text": (users(groups="ml"), ["groups of ada is 'ml', not a list"]),
    "a uid that is none": (users(uid="x"), ["uid of ada is 'x', not a whole number"]),
    "a network as text": (site(cluster_network="10.1.0.0/24"), ["cluster_network (", "not a list"]),
    "workspaces as text": (site(workspace_instances="ada"), ["workspace_instances (", "is 'ada', not a list"]),
    "registries as texts": (
        site(cluster_cached_registries=["docker.io"]),
        ["entry 1 is 'docker.io', not a dictionary"],
    ),
    "a truth": (site(workspace_sudo="maybe"), ["workspace_sudo (", "is 'maybe', not true or false"]),
    "a number": (site(images_keep="three"), ["images_keep (", "is 'three', not a whole number"]),
    "a list for a number": (site(ssh_mesh_port=[2222]), ["ssh_mesh_port (", "is a list, not a whole number"]),
    "a version that YAML made a number": (site(images_uv_version=0.10), ["is 0.1, not a text", "in quotes"]),
    "nothing": (site(docker_log_driver=None), ["docker_log_driver (", "is empty", "take the line away"]),
    "a list for a text": (site(workspace_shm_size=["8gb"]), ["workspace_shm_size (", "is a list, not a text"]),
    "a dictionary for a list": (site(docker_users={"ada": True}), ["docker_users (", "is a dictionary, not a list"]),
    "a text for a dictionary": (site(nvidia_mig="1g.5gb"), ["nvidia_mig (", "not a dictionary"]),
    "a proxy's name": (site(cluster_proxy_env={"http_prxy": "http://proxy"}), ["cluster_proxy_env (", "'http_prxy'"]),
    "a password of the mesh": (site(cluster_ca_passphrase=["hunter2"]), ["is a list (not shown), not a text"]),
    "options of another log driver": (
        site(docker_log_driver="journald", docker_log_opts={"max-size": "50m"}),
        ["log-opts has max-size, and log-driver is journald", "docker_log_opts"],
    ),
    "a setting of Docker's with which no cluster runs": (
        site(docker_daemon_settings={"userns-remap": "default"}),
        ["userns-remap: default", "the mesh may not use the host's network"],
    ),
    "two accounts with one uid": (site(cluster_users=[ADA, {"name": "bob", "uid": 1500}]), ["1500 belongs to ada and"]),
    "two tokens": (
        site(workspace_jupyter_token="hunter2hunter2hunter2", workspace_jupyter_password_hash="argon2:$x"),
        ["workspace_jupyter_token and workspace_jupyter_password_hash (not shown)"],
    ),
    # H7: what was not read.
    "a tab": (hosts("gpu_nodes:\n  hosts:\n\tgpu01:\n"), ["hosts.yml:3: it was not read", "no tabs"]),
    "hosts as a list": (
        hosts("gpu_nodes:\n  hosts: [gpu01, gpu02]\n"),
        ["hosts.yml:2: hosts of group gpu_nodes is no dictionary", "without a dash"],
    ),
    "children as a list": (hosts("all:\n  children: [gpu_nodes]\n"), ["hosts.yml:2: children of group all"]),
    "a key of a group": (
        hosts("gpu_nodes:\n  host:\n    gpu01:\n"),
        ["hosts.yml:2: group gpu_nodes has the key 'host'", "Did you mean hosts?"],
    ),
    "variables without vars": (
        hosts("gpu_nodes:\n  hosts: {gpu01: }\n  cluster_name: a\n"),
        ["hosts.yml:3: group gpu_nodes has the key 'cluster_name'", "below vars"],
    ),
    "a file of INI": (
        site(files={"more.ini": "[gpu_nodes]\ngpu02 nvidia_required\n"}),
        ["more.ini: it was not read", "nvidia_required"],
    ),
    "no groups": (hosts("- gpu01\n"), ["hosts.yml: it holds no groups"]),
    "variables that were not read": (
        site(files={"group_vars/gpu_nodes.yml": "cluster_network: [10.1.0.0/24\nx: 1\n"}),
        ["group_vars/gpu_nodes.yml:2: it was not read"],
    ),
    "variables as a list": (
        site(files={"host_vars/gpu01.yml": "- nvidia_required: false\n"}),
        ["host_vars/gpu01.yml: it holds no variables"],
    ),
    "a vault without its password": (
        site(files={"group_vars/gpu_nodes/vault.yml": VAULT}),
        ["group_vars/gpu_nodes/vault.yml: it is encrypted", "--ask-vault-pass"],
    ),
    "a value in a vault without its password": (
        site(files={"group_vars/gpu_nodes.yml": "cluster_ca_passphrase: !vault |\n  " + VAULT.replace("\n", "\n  ")}),
        ["cluster_ca_passphrase (mine/group_vars/gpu_nodes.yml:1)", "in a vault", "--ask-vault-pass"],
    ),
    "an address in brackets": (
        site({"gpu_nodes": {"gpu01": {"ansible_host": "[fd20::11]"}}}),
        ["ansible_host", "hosts.yml:", "'[fd20::11]'", "Write fd20::11"],
    ),
    "an address with a port": (
        site({"gpu_nodes": {"gpu01": {"ansible_host": "10.1.0.11:2222"}}}),
        ["ansible_host", "'10.1.0.11:2222'", "ansible_port"],
    ),
    "an address with a login": (
        site({"gpu_nodes": {"gpu01": {"ansible_host": "ops@10.1.0.11"}}}),
        ["ansible_host", "'ops@10.1.0.11'", "ansible_user"],
    ),
    # H1: several clusters at once.
    "several clusters": (
        site(files={"lab/hosts.yml": "gpu_nodes:\n  hosts:\n    gpu09:\n"}),
        ["inventory: one -i takes the hosts of mine and mine/lab as one cluster", "such as -i mine/lab"],
    ),
    "a copy of a cluster": (
        site(files={"hosts.yml": None, "a/hosts.yml": yaml.safe_dump(EXAMPLE), "b/hosts.yml": yaml.safe_dump(EXAMPLE)}),
        ["inventory: one -i takes the hosts of mine/a and mine/b as one cluster", "such as -i mine/b"],
    ),
    "a copy of a cluster in INI, with fewer hosts": (
        site(files={"hosts.yml": None, "a/hosts.yml": yaml.safe_dump(EXAMPLE), "b/hosts": INI}),
        ["inventory: one -i takes the hosts of mine/a and mine/b as one cluster", "such as -i mine/b"],
    ),
    "variables below what is named": (
        site(
            files={
                "hosts.yml": None,
                "a/hosts.yml": yaml.safe_dump(EXAMPLE),
                "a/group_vars/all.yml": "rack: 9\n",
            }
        ),
        ["inventory: Ansible reads no group_vars in mine/a, as -i names a directory above it", "-i mine/a"],
    ),
    # H5: the way to the hosts.
    "an address out of range": (
        node(ansible_host="10.1.0.300"),
        ["ansible_host (mine/hosts.yml:4)", "is '10.1.0.300', which is no address", "Write one such as 10.20.0.11"],
    ),
    "half an address": (node(ansible_host="10.1.0"), ["ansible_host (mine/hosts.yml:4)", "'10.1.0'", "Write one such"]),
    "an address with a comma": (node(ansible_host="10.1.0,11"), ["ansible_host (", "'10.1.0,11'", "Write one such"]),
    "an IPv6 address with a letter": (
        node(ansible_host="fd20::g1"),
        ["ansible_host (", "'fd20::g1'", "Write one such"],
    ),
    "an address with a prefix": (
        node(cluster_address="10.1.0.11/24"),
        ["cluster_address (mine/hosts.yml:5)", "is '10.1.0.11/24', which is no address", "Write one such"],
    ),
    "an address of a network": (
        node(ansible_host="10.1.0.0"),
        ["ansible_host (mine/hosts.yml:4)", "10.1.0.0, that of the network itself 10.1.0.0/24", "Correct it"],
    ),
    "an address of broadcasts": (
        node(cluster_address="10.1.0.255"),
        ["cluster_address (", "10.1.0.255, that of the broadcasts of the network", "Correct it"],
    ),
    "an address elsewhere": (
        node(ansible_host="10.2.0.11"),
        ["cluster_network (", "gpu01 has the address 10.2.0.11, outside of 10.1.0.0/24", "Add its network, or set"],
    ),
    "two hosts with one address": (
        site({"gpu_nodes": {"gpu01": {"ansible_host": "10.1.0.11"}, "gpu02": {"ansible_host": "10.1.0.11"}}}),
        ["gpu_nodes (mine/hosts.yml:6)", "gpu01 and gpu02 have one address, 10.1.0.11", "Correct cluster_address"],
    ),
    "a port out of range": (
        node(ansible_port=70000),
        ["ansible_port (mine/hosts.yml:5)", "70000, the port of the host's own SSH, is no port", "from 1 to 65535"],
    ),
    "a port in words": (node(ansible_port="ssh"), ["ansible_port (mine/hosts.yml:5)", "'ssh'", "from 1 to 65535"]),
    "a login as a list": (
        node(ansible_user=["ops"]),
        ["ansible_user (mine/hosts.yml:", "is ['ops'], the name of no account", "Write one account"],
    ),
    "a kind of connection": (
        node(ansible_connection="shh"),
        ["ansible_connection (mine/hosts.yml:5)", "no connection plugin 'shh'", "Take the line away"],
    ),
    "a way to be root": (
        node(ansible_become_method="sduo"),
        ["ansible_become_method (mine/hosts.yml:5)", "no become plugin 'sduo'", "Take the line away"],
    ),
    "a key that is not there": (
        node(ansible_ssh_private_key_file="/nowhere/key"),
        ["ansible_ssh_private_key_file (mine/hosts.yml:5)", "'/nowhere/key' cannot be read (No such file", "Name the"],
    ),
    "a key that is a public one": (
        site(files={"../key.pub": KEY, "ssh.yml": "all: {vars: {ansible_private_key_file: key.pub}}\n"}),
        [
            "ansible_private_key_file (mine/ssh.yml:1)",
            "'key.pub' is a public key",
            "Name the private one: key.",
        ],
    ),
    "a variable of Ansible's": (
        site({"gpu_nodes": {"gpu01": {"ansible_hosts": "10.1.0.11"}}}),
        ["ansible_hosts (mine/hosts.yml:4)", "Ansible reads no variable of this name", "Did you mean ansible_host?"],
    ),
    "a variable that Ansible never had": (
        node(ansible_ssh_key="~/.ssh/id"),
        ["ansible_ssh_key (mine/hosts.yml:5)", "Ansible reads no", "Did you mean ansible_ssh_private_key_file?"],
    ),
    "a variable of Ansible's past": (
        site({"gpu_nodes": {"gpu01": {"ansible_ssh_host": "10.1.0.11"}}}),
        ["ansible_ssh_host (mine/hosts.yml:4)", "ssh alone reads a variable of this name", "Write it as ansible_host."],
    ),
    # Networks and the firewall.
    "a network without its prefix": (
        site(cluster_network=["10.1.0.11"]),
        [f"cluster_network ({FILE}:2)", "'10.1.0.11' is not a network with its prefix", "Write networks as CIDR"],
    ),
    "a prefix out of range": (
        site(cluster_network=["10.1.0.0/33"]),
        [f"cluster_network ({FILE}", "10.1.0.0/33", "CIDR"],
    ),
    "a netmask": (
        site(cluster_clients=["10.9.0.0/255.255.0.0"]),
        [f"cluster_clients ({FILE}:", "'10.9.0.0/255.255.0.0' is not a network with its prefix", "CIDR"],
    ),
    "host bits": (
        site(cluster_clients=["10.9.0.1/16"]),
        [f"cluster_clients ({FILE}:", "10.9.0.1/16 has host bits", "CIDR"],
    ),
    "every address": (
        site(cluster_network=["0.0.0.0/0"]),
        [f"cluster_network ({FILE}:2)", "'0.0.0.0/0' holds every address there is", "Write networks as CIDR"],
    ),
    "sources of SSH": (
        site(firewall_ssh_sources=["any", "10.9.0.0/33"]),
        [f"firewall_ssh_sources ({FILE}:", "entry 2, '10.9.0.0/33' is no source", "Write networks as CIDR"],
    ),
    "ports of the mesh": (
        site(firewall_mesh_ports=["2222", "29500-29510"]),
        [f"firewall_mesh_ports ({FILE}:", "'29500-29510' is no port", "or two as 29500:29510"],
    ),
    "a port of the mesh": (site(ssh_mesh_port=0), [f"ssh_mesh_port ({FILE}:", "0 is no port", "from 1 to 65535"]),
    "a port twice": (
        site(workspace_ports={"jupyter": 18888, "tensorboard": 18888, "gradio": 17860, "ssh": 10022}),
        [f"workspace_ports ({FILE}:", "port 18888 is published twice, by jupyter and tensorboard", "Give each its own"],
    ),
    "a range with a dash": (
        site(cluster_workspace_port_range="19000-19999"),
        [f"cluster_workspace_port_range ({FILE}:", "'19000-19999' is no range of ports", "as 19000:19999"],
    ),
    "a range from behind": (
        site(cluster_workspace_port_range="19999:19000"),
        [f"cluster_workspace_port_range ({FILE}:", "'19999:19000' is no range of ports", "the first and the last"],
    ),
    "a text for a truth": (
        site(firewall_enabled="false"),
        [f"firewall_enabled ({FILE}:16)", "is 'false', not true or false", "without quotes"],
    ),
    "a truth of INI": (
        site(files={"hosts.yml": None, "hosts": f"{INI}[all:vars]\nfirewall_enabled=false\n"}),
        ["firewall_enabled (mine/hosts:6)", "is 'false', not true or false", "in an INI file with a capital letter"],
    ),
    "a truth of the command line": (
        site(args=["-e", "firewall_enabled=false"]),
        ["firewall_enabled (<CLI option '-e'>)", "is 'false', not true or false", "with -e as JSON"],
    ),
    # Accounts.
    "root's uid": (users(uid=0), [f"cluster_users ({FILE}:", "uid of ada is 0", "Give it a uid, as 1500"]),
    "a system's uid": (users(uid=832), [f"cluster_users ({FILE}:", "uid 832, below 1000", "or set system: true"]),
    "a uid below zero": (users(uid=-5), [f"cluster_users ({FILE}:", "uid of ada is -5", "Give it a uid"]),
    "a name with a blank": (
        users(name="Ada Lovelace"),
        [f"cluster_users ({FILE}:", "'Ada Lovelace' cannot be the name of an account", "Use up to 32 of letters"],
    ),
    "a name that YAML made a truth": (users(name=False), ["cluster_users (", "name of entry 1 is false", "in quotes"]),
    "an account of a package's": (
        users(name="docker"),
        [f"cluster_users ({FILE}:", "docker is a name that the system", "Choose another one"],
    ),
    "half a key of an account": (
        users(ssh_keys=[KEY[:50]]),
        [f"cluster_users ({FILE}:", "number 1 of ssh_keys of ada (not shown)", "Paste the one line of a .pub file"],
    ),
    "a file for a key": (
        users(ssh_keys=["~/.ssh/id_ed25519.pub"]),
        [f"cluster_users ({FILE}:", "is not a whole public SSH key", "Paste the one line of a .pub file"],
    ),
    "a key for keys": (
        users(ssh_keys=KEY),
        [f"cluster_users ({FILE}:", "ssh_keys of ada is 'ssh-ed25519", "a list: [...]"],
    ),
    "a password in clear": (
        users(password_hash="hunter2hunter2"),
        [f"cluster_users ({FILE}:", "password_hash of ada is not a crypt(3) string", "Make one with mkpasswd"],
    ),
    "a password's wrong key": (
        users(password="hunter2"),
        ["cluster_users (", "ada has the key 'password'", "password_hash?"],
    ),
    "a shell by its name": (
        users(shell="zsh"),
        [f"cluster_users ({FILE}:", "shell of ada is 'zsh', no absolute path", "Write it as /bin/bash"],
    ),
    "a home that is nowhere": (
        users(home="home/ada"),
        [f"cluster_users ({FILE}:", "home of ada is 'home/ada', no absolute path", "Write it as /home/ada"],
    ),
    "a home that is the system's": (
        users(home="/opt"),
        [f"cluster_users ({FILE}:", "home of ada is '/opt', which is a directory of the system", "as /home/ada"],
    ),
    "one home for two": (
        site(cluster_users=[{**ADA, "home": "/home/lab"}, {"name": "bob", "uid": 1501, "home": "/home/lab/"}]),
        [f"cluster_users ({FILE}:", "ada and bob have one home, /home/lab", "Give each account a home of its own"],
    ),
    "one name twice": (
        site(cluster_users=[ADA, {"name": "ada", "uid": 1501}]),
        [f"cluster_users ({FILE}:", "ada is declared 2 times, with uid 1500 and 1501", "Keep one of them"],
    ),
    "an owner that is none": (
        site(cluster_owner="adda"),
        [
            f"cluster_owner ({FILE}:16)",
            "'adda' is no account of cluster_users (ada, bob)",
            "Add it there, or name another",
        ],
    ),
    # The share.
    "a URL of the share": (
        site(nas_source="nfs://nas/export"),
        [f"nas_source ({FILE}:", "'nfs://nas/export', which names no server of nfs4", "Write server and path"],
    ),
    "a source and its target": (
        site(nas_source="nas:/export /mnt"),
        [f"nas_source ({FILE}:", "'nas:/export /mnt'", "without blanks"],
    ),
    "a kind of share": (
        site(nas_fstype="NFS"),
        [f"nas_fstype ({FILE}:", "'NFS' is no kind of file system", "mean nfs?"],
    ),
    "another kind of share": (
        site(nas_fstype="nfs5"),
        [f"nas_fstype ({FILE}:", "'nfs5' is no kind of file system", "Did you mean nfs"],
    ),
    "options with a blank": (
        site(nas_options="rw, hard"),
        [f"nas_options ({FILE}:", "'rw, hard' is no list of mount options", "with commas and without blanks"],
    ),
    "a mount point that is the system's": (
        site(cluster_nas_path="/home"),
        [f"cluster_nas_path ({FILE}:", "'/home' is a directory of the system", "Write it as /mnt/nas"],
    ),
    # GPUs.
    "a layout of MIG as text": (
        site(nvidia_mig={"A100": "3g.20gb"}),
        [f"nvidia_mig ({FILE}:", "A100 has '3g.20gb', which is no list of profiles", "such as [3g.40gb, 1g.10gb]"],
    ),
    "a profile of MIG": (
        site(nvidia_mig={"A100": ["1g5gb"]}),
        [f"nvidia_mig ({FILE}:", "A100 has the profile '1g5gb'", "as nvidia-smi mig -lgip names them"],
    ),
    "more than a GPU": (
        site(nvidia_mig={"A100": ["4g.20gb", "4g.20gb"]}),
        [f"nvidia_mig ({FILE}:", "A100 has 8 compute slices, and no GPU has more than 7", "Write a list of profiles"],
    ),
    "a layout for no GPU": (
        site(nvidia_mig={"gpu:one": []}),
        [f"nvidia_mig ({FILE}:", "the key 'gpu:one' is none", "Correct the key"],
    ),
    "a power limit in words": (
        site(nvidia_power_limit_w={"A100": "250 W"}),
        [f"nvidia_power_limit_w ({FILE}:", "A100 has '250 W', which is no number of watts", "Write a number of watts"],
    ),
    "a power limit below zero": (
        site(nvidia_power_limit_w={"A100": -5}),
        [f"nvidia_power_limit_w ({FILE}:", "A100 has -5 watts", "Write a number of watts above 0"],
    ),
    "a GPU by its bare number": (
        site(nvidia_exclude=["1"]),
        [f"nvidia_exclude ({FILE}:", "'1' is none", "Correct it"],
    ),
    # Images, workspaces and the rest.
    "a size": (
        site(workspace_shm_size="8 gigs"),
        [f"workspace_shm_size ({FILE}:", "'8 gigs' is no size", "Write it as 8gb"],
    ),
    "a version": (
        site(images_torch_version="2.x"),
        [f"images_torch_version ({FILE}:", "'2.x' is no version", "Write the whole one, such as 2.13.0"],
    ),
    "a Python as YAML reads it": (
        site(images_python=3.1),
        [f"images_python ({FILE}:", "is 3.1, not a text", "in quotes"],
    ),
    "two Python packages in one": (
        site(images_packages=["torch vision"]),
        [f"images_packages ({FILE}:", "entry 1, 'torch vision' is no package", "Write one in each entry"],
    ),
    "a version of Python": (
        site(images_python="python3.12"),
        [f"images_python ({FILE}:", "'python3.12' is no version of Python 3", 'as "3.12"'],
    ),
    "a tag of images": (
        site(images_tag="latest"),
        [f"images_tag ({FILE}:", "'latest' is no key of an image", "digits"],
    ),
    "a base with a blank": (
        site(images_base="ubuntu 24.04"),
        ["images_base (", "'ubuntu 24.04' is no name", "docker pull"],
    ),
    "no images kept": (site(images_keep=0), [f"images_keep ({FILE}:", "0 is less than 1", "Choose one from 1 up"]),
    "a builder": (
        site(images_builder="gpu1"),
        [f"images_builder ({FILE}:", "'gpu1', no host of gpu_nodes", "mean gpu01?"],
    ),
    "a umask without quotes": (
        site(base_umask=18),
        [f"base_umask ({FILE}:", "18 is no umask in quotes", '"0002"'],
    ),
    "a time zone": (
        site(images_timezone="Berlin time"),
        [f"images_timezone ({FILE}:", "'Berlin time'", "Europe/Berlin"],
    ),
    "a variable of the environment": (
        site(workspace_environment={"MY-VAR": "1"}),
        [f"workspace_environment ({FILE}:", "the key 'MY-VAR' is no name of an environment variable", "Use letters"],
    ),
    "an interface": (
        site(ssh_mesh_interface="eth 0"),
        [f"ssh_mesh_interface ({FILE}:", "'eth 0' is no network interface", "such as eth0"],
    ),
    "a directory": (
        site(cluster_config_dir="etc/gpustead"),
        [f"cluster_config_dir ({FILE}:", "'etc/gpustead' is no absolute path", "Begin it with /"],
    ),
    "a name of the cluster": (
        site(cluster_name="My Cluster"),
        [f"cluster_name ({FILE}:", "'My Cluster' is no such name", "Use letters, digits"],
    ),
    "two packages in one": (
        site(base_packages=["vim htop"]),
        [f"base_packages ({FILE}:", "entry 1, 'vim htop' is no package", "one package in each entry"],
    ),
    "a URL without its scheme": (
        site(docker_repository_url="mirror.example.org/docker"),
        [f"docker_repository_url ({FILE}:", "'mirror.example.org/docker' is no URL", "Write it whole"],
    ),
    "half a checksum": (
        site(docker_repository_key_checksum="sha256:1500c1f5"),
        [f"docker_repository_key_checksum ({FILE}:", "'sha256:1500c1f5' is no checksum", "64 digits"],
    ),
    "a registry with its scheme": (
        site(cluster_registry="https://reg.example.org:5000"),
        [f"cluster_registry ({FILE}:", "'https://reg.example.org:5000' is not host:port", "Write it as"],
    ),
    "a registry's user": (
        site(registry_username="push:pull"),
        [f"registry_username ({FILE}:", "'push:pull' is no such name", "without blanks and colons"],
    ),
    "a renewal after the end": (
        site(ssh_mesh_certificate_days=20),
        [
            f"ssh_mesh_certificate_days ({FILE}:",
            "valid for 20 days (ssh_mesh_certificate_days), and renewed 30",
            "Choose more",
        ],
    ),
    "a proxy without its scheme": (
        site(cluster_proxy_env={"http_proxy": "proxy.example.org:3128"}),
        [f"cluster_proxy_env ({FILE}:", "http_proxy (its value is not shown)", "http://proxy.example.org:3128"],
    ),
    "a mirror without its scheme": (
        site(docker_registry_mirrors=["mirror.example.org"]),
        [f"({FILE}:", "'mirror.example.org'", "Write the whole URL"],
    ),
    "a size of logs": (
        site(docker_log_opts={"max-size": "50 megs"}),
        [f"({FILE}:", "max-size: 50 megs", "docker_log_opts"],
    ),
    "a short passphrase": (
        site(cluster_ca_passphrase="hunter2"),
        [f"cluster_ca_passphrase ({FILE}:", "is missing or shorter than 12 characters", "a long random text"],
    ),
    # H7: files.
    "a range of hosts with a dash": (
        site({"gpu_nodes": {"gpu[01-08]": None}}),
        ["mine/hosts.yml:3: gpu[01-08] is no name of a host and no range of names", "as gpu[01:08]"],
    ),
    "an address for a name": (
        site({"gpu_nodes": {"[fd20::11]": None}}),
        ["mine/hosts.yml:3: [fd20::11] is no name of a host", "write the address, without brackets, as ansible_host"],
    ),
    "an address behind a name": (
        hosts("gpu_nodes:\n  hosts:\n    gpu01: 10.1.0.11\n"),
        ["mine/hosts.yml:3: what stands behind host gpu01 is no dictionary", "as name: value"],
    ),
    "a setting twice": (
        site(files={"group_vars/gpu_nodes.yml": "nvidia_required: true\nnvidia_required: false\n"}),
        ["mine/group_vars/gpu_nodes.yml:2: nvidia_required stands here again, after line 1", "take one away"],
    ),
    "a group twice": (
        hosts("gpu_nodes:\n  hosts:\n    gpu01:\ngpu_nodes:\n  hosts:\n    gpu02:\n"),
        ["mine/hosts.yml:4: gpu_nodes stands here again, after line 1", "Make one of them"],
    ),
    "a file of no host": (
        site(files={"host_vars/gpu1.yml": "nvidia_required: false\n"}),
        ["mine/host_vars/gpu1.yml: there is no host gpu1, and nothing reads this file", "Did you mean gpu01?"],
    ),
    "a file of a host with its domain": (
        site(files={"host_vars/gpu01.example.org.yml": "nvidia_required: false\n"}),
        ["mine/host_vars/gpu01.example.org.yml: there is no host gpu01.example.org", "Did you mean gpu01?"],
    ),
    "a file of no group": (
        site(files={"group_vars/gpus.yml": "nvidia_required: false\n"}),
        ["mine/group_vars/gpus.yml: there is no group gpus", "such as nvidia_required", "name the file as theirs"],
    ),
    "a directory of variables": (
        site(files={"groups_vars/all.yml": "nvidia_required: false\n"}),
        ["mine/groups_vars: Ansible reads no variables from a directory of this name", "Did you mean group_vars?"],
    ),
    "a suffix": (
        site(files={"group_vars/all.yml.txt": "nvidia_required: false\n"}),
        ["mine/group_vars/all.yml.txt: nothing reads a file of this name", "Name it all.yml"],
    ),
    "another suffix": (
        site(files={"group_vars/gpu_nodes/gpus.ymal": "nvidia_required: false\n"}),
        ["mine/group_vars/gpu_nodes/gpus.ymal: nothing reads a file of this name", "Let its name end in .yml"],
    ),
    "a template without quotes": (
        site(files={"group_vars/gpu_nodes.yml": "cluster_owner: {{ owner }}\n"}),
        ["mine/group_vars/gpu_nodes.yml:1: it was not read", "missing quotes around a template", "Correct it there"],
    ),
    "a colon without a blank": (
        site(files={"group_vars/gpu_nodes.yml": "cluster_owner:ada\n"}),
        ["mine/group_vars/gpu_nodes.yml: it holds no variables", "Write each as name: value"],
    ),
    "two documents": (
        site(files={"group_vars/gpu_nodes.yml": "nvidia_required: true\n---\ncluster_owner: ada\n"}),
        ["mine/group_vars/gpu_nodes.yml:2: it was not read", "expected a single document", "Correct it there"],
    ),
    "another encoding": (
        site(files={"group_vars/gpu_nodes.yml": "cluster_owner: caf\udce9\n"}),
        ["mine/group_vars/gpu_nodes.yml: it is no text in UTF-8", "Save it as UTF-8"],
    ),
    "INI in a file of YAML": (hosts(INI), ["mine/hosts.yml:2: it was not read", "Correct it there"]),
    "a group with a blank": (
        site(files={"hosts.yml": None, "hosts": "[gpu nodes]\ngpu01\n"}),
        ["mine/hosts: it was not read", "Invalid section entry: '[gpu nodes]'", "Correct it there"],
    ),
    "no hosts": (hosts("gpu_nodes:\n"), ["inventory: there is no host in it", "such as -i inventory/mycluster"]),
    "a file that is looked up": (
        site(cluster_ca_passphrase="{{ lookup('file', 'nowhere') }}"),
        [f"cluster_ca_passphrase ({FILE}:", "Unable to access the file 'nowhere'", "Correct it, or set what it names"],
    ),
    # H1, H2: which inventory.
    "an inventory that is not there": (
        {**site(), "arguments": ["-i", "mine/nowhere"]},
        ["mine/nowhere: there is no such inventory", "Give the directory of a cluster with -i"],
    ),
    "no inventory": (
        {**site(), "arguments": []},
        ["inventory: there is no host in it", "such as -i inventory/mycluster"],
    ),
    "two inventories in one": (
        {**site(), "arguments": ["-i", "mine,other"]},
        ["inventory: 'mine,other' has a comma", "Give each directory or file an -i of its own"],
    ),
    "hosts without groups": (
        {**site(), "arguments": ["-i", "gpu01,"]},
        ["gpu_nodes: the inventory has no host in this group", "Put the GPU servers into it"],
    ),
    "a variable of the command line": (
        site(args=["-e", "site_forced=true"]),
        ["site_forced (<CLI option '-e'>)", "nothing of ours reads", "Did you mean site_force?"],
    ),
    "a value of the command line": (
        site(args=["-e", "images_keep=three"]),
        ["images_keep (<CLI option '-e'>)", "is 'three', not a whole number", "Write it as a whole number"],
    ),
}
FINE: dict[str, dict[str, Any]] = {
    "as it is": site(),
    "variables of other collections": site(docker_edition="ce", nas_flavour="x", base_url="y", site_name="z", lab="w"),
    "of which we were told": site(
        firewall_allowed_tcp_ports=[22], cluster_foreign_variables=["firewall_allowed_tcp_ports"]
    ),
    "that others read": site(cluster_nets=["10.1.0.0/24"], cluster_network="{{ cluster_nets }}"),
    "numbers as text": site(ssh_mesh_port="2222", images_keep="4"),
    "what a host says of itself": site(
        docker_log_driver="{{ 'local' if ansible_facts['os_family'] else 'json-file' }}"
    ),
    "a group that has only hosts of ours": site({"gpu_nodes_a": {"gpu01": None}}),
    "tags of Molecule": site(args=["--skip-tags", "molecule-notest,notest"]),
    "a tag of their own playbook": site(files={"../their.yml": THEIRS}, args=["--tags", "web"]),
    "patterns": site(args=["--limit", "gpu*:!nas,~gpu0."]),
    "a file with nothing": site(files={"notes.yml": "# nothing\n"}),
    "names of DNS beside an address": site({"gpu_nodes": {**GROUPS["gpu_nodes"], "gpu02": None, "gpu03": None}}),
    "a name of DNS beside addresses": site(
        {
            "gpu_nodes": {"gpu01": None, **{f"gpu0{n}": {"ansible_host": f"10.1.0.1{n}"} for n in (2, 3)}},
            "nas_server": {"nas": {"cluster_address": "10.1.0.5", "ansible_port": 2222}, "nas2": None},
        }
    ),
    "a directory above one with hosts alone": site(files={"hosts.yml": None, "a/hosts.yml": yaml.safe_dump(EXAMPLE)}),
    "parts of one cluster": {
        **site(files={"more/hosts.yml": yaml.safe_dump(EXAMPLE)}),
        "arguments": ["-i", "mine/hosts.yml", "-i", "mine/more"],
    },
    "own layers": site(images_stack=[{"name": "base"}, {"name": "ours", "context": "/srv/ours"}]),
}


def runs(cases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What ansible-playbook says of them, from one process."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"},
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"),
        "ANSIBLE_INVENTORY": "/nowhere/hosts",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_STDOUT_CALLBACK": "gpustead.cluster.progress",
    }
    done = subprocess.run(
        [sys.executable, HERE / "playbook_runs.py"],
        input=json.dumps(cases),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def with_playbook(case: dict[str, Any], playbook: str) -> dict[str, Any]:
    return {**case, "arguments": [*case["arguments"], playbook]}


PC = {"others": {"pc": None}}
# H2: runs that are for no host: the playbook, the run, and what is said.
NOBODY: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a limit": (
        "train.yml",
        site(PC, args=["--limit", "pc"]),
        ["--limit: 'pc' leaves no host of gpu_nodes. Name one of their hosts"],
    ),
    "a limit with a slip": (
        "summary.yml",
        site(args=["--limit", "gpu01,gpu1"]),
        ["--limit: 'gpu1' is no host and no group of this inventory. Did you mean gpu01?"],
    ),
    "no inventory": (
        "verify.yml",
        {**site(), "arguments": []},
        ["inventory: there is no host in it. Give the directory"],
    ),
    "several clusters": (
        "verify.yml",
        site(files={"hosts.yml": None, "a/hosts.yml": yaml.safe_dump(EXAMPLE), "b/hosts": INI}),
        ["inventory: one -i takes the hosts of mine/a and mine/b as one cluster"],
    ),
    "no group": (
        "images.yml",
        {**site(), "arguments": ["-i", "pc,"]},
        ["gpu_nodes: the inventory has no host in this group. Put the GPU servers into it."],
    ),
    "no registry": (
        "collect.yml",
        site({"registry": None}),
        ["registry: the inventory has no host in this group. Put one into it"],
    ),
    "a file that was not read": (
        "commit.yml",
        site(files={"group_vars/gpu_nodes.yml": "a: [1\n"}),
        ["mine/group_vars/gpu_nodes.yml:2: it was not read"],
    ),
    "a limit that is nobody": ("train.yml", site(args=["--limit", "gpu02"]), ["ignoring: gpu02", "no hosts to target"]),
}


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, Any]]:
    """What the first play of site.yml says. All its plays take longer to read than all that this one does."""
    preflight = str(ROOT / "playbooks/preflight.yml")
    whole = str(ROOT / "site.yml")
    sites = {
        name: with_playbook(case, whole if name in WHOLE or os.environ.get("FULL") else preflight)
        for name, (case, _words) in BAD.items()
    }
    for name, case in FINE.items():
        sites[f"fine: {name}"] = with_playbook(case, "their.yml" if "mine/../their.yml" in case["files"] else preflight)
    for name, (playbook, case, _words) in NOBODY.items():
        sites[f"nobody: {name}"] = with_playbook(case, str(ROOT / "playbooks" / playbook))
    sites["drift"] = with_playbook(site(TWO), str(ROOT / "playbooks/drift.yml"))
    return dict(zip(sites, runs(list(sites.values()))))


# These are refused by the whole of site.yml, unless all are.
WHOLE = ("a tab", "a tag", "a port out of range", "a truth of the command line")


def problems(answer: dict[str, Any]) -> list[str]:
    return [line.strip()[2:] for line in answer["said"].splitlines() if line.strip().startswith("- ")]


# Where it is: a file, with its line where a line has it, or what stands on the command line.
PLACE = re.compile(r"mine/[\w./]+(:\d+)?|--[a-z-]+:|<CLI option|inventory:|gpu_nodes:")


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_told_once_with_its_place_before_a_host_is_asked(answers: dict[str, Any], case: str) -> None:
    answer = answers[case]
    assert answer["status"] != 0
    assert not answer["asked"], answer["said"]
    assert "Traceback" not in answer["said"]
    assert "1 to correct, nothing changed:" in answer["said"], answer["said"]
    lines = problems(answer)
    assert len(lines) == 1, lines
    assert [words for words in BAD[case][1] if words not in lines[0]] == [], lines
    assert PLACE.search(lines[0]), lines
    # What is wrong, and behind it what to do.
    assert re.search(r"[^.]\. [A-Z].*[.?]$", lines[0]), lines
    assert "hunter2" not in answer["said"]


@pytest.mark.parametrize("case", NOBODY)
def test_a_run_that_is_for_no_host_fails_and_says_why(answers: dict[str, Any], case: str) -> None:
    answer = answers[f"nobody: {case}"]
    assert answer["status"] != 0, answer["said"]
    assert not answer["asked"], answer["said"]
    assert [words for words in NOBODY[case][2] if words not in answer["said"]] == [], answer["said"]


def test_hosts_that_cannot_be_reached_are_not_said_to_differ(answers: dict[str, dict[str, Any]]) -> None:
    answer = answers["drift"]
    said = " ".join(answer["said"].split())
    assert (answer["status"] != 0, answer["asked"]) == (True, True), said
    assert "2 of 2 hosts could not be looked at (gpu01, gpu02): whether they differ is not known." in said
    assert "hosts differ" not in said
    assert "heal" not in said


PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_playbook_asks_first_whom_it_is_for(playbook: Path) -> None:
    while (first := yaml.safe_load(playbook.read_text())[0]).get("ansible.builtin.import_playbook"):
        playbook = playbook.with_name(first["ansible.builtin.import_playbook"])
    assert playbook.name == "preflight.yml" or "gpustead.cluster.cluster_hosts" in first["hosts"]


def test_what_makes_runs_slow_is_told_once(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_STDOUT_CALLBACK", raising=False)
    done = cluster.preflight()
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said
    assert said.count("This run takes longer than it has to. Set in ansible.cfg (read was none") == 1
    assert "pipelining = True; stdout_callback = gpustead.cluster.progress." in said
    assert "forks" not in said  # one host needs no more
    assert f"{ROOT}/docs/ansible.cfg" in said.replace("/.dev/ansible_collections/gpustead/cluster", "")
    (cluster.folder / "ansible.cfg").write_text((ROOT / "docs/ansible.cfg").read_text())
    done = cluster.preflight()
    assert "longer than it has to" not in done.stdout + done.stderr
    assert "1 host done" in done.stdout


def test_that_hosts_wait_for_each_other_is_told_where_they_do(cluster: Cluster) -> None:
    nodes = {f"gpu0{n}": {"ansible_host": f"10.1.0.1{n}"} for n in range(1, 7)}
    groups = {"gpu_nodes": {"hosts": nodes}, "registry": {"hosts": {"gpu01": None}}}
    cluster.write(hosts_yml=yaml.safe_dump(groups))
    done = cluster.preflight()
    assert "forks = 50; pipelining = True" in " ".join((done.stdout + done.stderr).split())


def test_what_users_copy_is_what_a_checkout_has() -> None:
    ours, theirs = configparser.ConfigParser(), configparser.ConfigParser()
    ours.read(ROOT / "ansible.cfg")
    theirs.read(ROOT / "docs/ansible.cfg")
    own = {"collections_path": "a checkout's", "host_key_checking": "Ansible's default"}
    assert {**ours["defaults"]}.keys() - theirs["defaults"].keys() == own.keys()
    for section in ("defaults", "ssh_connection"):
        assert {name: ours[section][name] for name in theirs[section]} == {**theirs[section]}
    assert "inventory" not in ours["defaults"]


@pytest.mark.parametrize("case", FINE)
def test_what_is_right_is_not_refused(answers: dict[str, Any], case: str) -> None:
    answer = answers[f"fine: {case}"]
    assert problems(answer) == []
    assert answer["status"] == 0, answer["said"]


def test_there_are_enough_of_them() -> None:
    assert len(BAD) >= 60


def test_the_cluster_has_a_spec_for_each_of_its_settings() -> None:
    text = (ROOT / "group_vars" / "all" / "cluster.yml").read_text()
    declared = yaml.safe_load("".join(line[2:] for line in text.splitlines(keepends=True) if line.startswith("# ")))
    assert set(declared) <= set(load()[""])


def test_the_keys_of_accounts_are_those_of_uid_match() -> None:
    specs = load()
    of_others = {"ssh_keys", "exclusive_keys", "mesh", "quota"}
    of_module = {*USER, *of_others} - {"former_groups", "group_ids", "hold"}
    assert set(specs[""]["cluster_users"]["options"]) == of_module
    assert specs["accounts"]["accounts_users"]["options"] == specs[""]["cluster_users"]["options"]


def test_many_hosts_cost_little() -> None:
    """CPU for each host beyond those that it has everything in common with, beside that of the run over few."""

    def many(count: int) -> dict[str, Any]:
        nodes = {
            f"gpu{n:04}": {
                "ansible_host": f"10.1.{n // 250}.{n % 250 + 1}",
                "rack": n,
                "nvidia_power_limit_w": {"a": n + 1},
            }
            for n in range(count)
        }
        good = site({"gpu_nodes": nodes, "registry": {"gpu0000": None}}, cluster_network=["10.1.0.0/16"])
        return with_playbook(good, str(ROOT / "playbooks/preflight.yml"))

    few, all_of_them = runs([many(10), many(210)])
    assert few["status"] == all_of_them["status"] == 0, all_of_them["said"]
    assert (all_of_them["seconds"] - few["seconds"]) / 200 < few["seconds"] / 20


class Cluster:
    """An inventory on which the playbook itself is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / "mine" / name.replace("__", "/").replace("_yml", ".yml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, *args: str, program: str = "ansible-playbook") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"), "ANSIBLE_NOCOLOR": "1"}
        executable = Path(sys.executable).with_name(program)
        command = [str(executable), *args]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)

    def preflight(self, *args: str) -> subprocess.CompletedProcess[str]:
        return self.run("-i", "mine", *args, str(ROOT / "playbooks" / "preflight.yml"))


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    made = Cluster(tmp_path)
    groups = {name: {"hosts": members} for name, members in GROUPS.items()}
    made.write(hosts_yml=yaml.safe_dump(groups), group_vars__all_yml=yaml.safe_dump(GOOD))
    return made


def test_what_comes_out_of_a_vault_is_never_shown(cluster: Cluster) -> None:
    (cluster.folder / "password").write_text("a password\n")
    files = {"group_vars__gpu_nodes__file_yml": "nas_source: /hunter2hunter2\nour_choice: hunter2choice\n"}
    cluster.write(**files, group_vars__registry_yml="workspace_profile: '{{ our_choice }}'\n")
    vault = ["--vault-password-file", "password"]
    cluster.run("encrypt", *vault, "mine/group_vars/gpu_nodes/file.yml", program="ansible-vault")
    inline = cluster.run("encrypt_string", *vault, "hunter2owner", "--name", "cluster_owner", program="ansible-vault")
    cluster.write(group_vars__gpu_nodes__inline_yml=inline.stdout)
    done = cluster.preflight(*vault)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    for words in (
        "3 to correct, nothing changed:",
        "nas_source (mine/group_vars/gpu_nodes/file.yml:1): ",
        "workspace_profile (mine/group_vars/gpu_nodes/file.yml:2): is a text (not shown), none of server, local.",
        "cluster_owner (mine/group_vars/gpu_nodes/inline.yml:1): ",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gpu_nodes:\n  hosts:\n\tgpu01:\n", "mine/hosts.yml:3: it was not read"),
        ("gpu_nodes:\n", "inventory: there is no host in it. Give the directory of your cluster"),
    ],
)
def test_a_limit_hides_no_inventory_that_was_not_read(cluster: Cluster, text: str, words: str) -> None:
    cluster.write(hosts_yml=text)
    done = cluster.preflight("--limit", "gpu09")
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


def test_what_a_play_gives_is_looked_at_as_well(cluster: Cluster) -> None:
    """Roles of site.yml leave their specs to the preflight, whoever gives them their settings."""
    play = {
        "ansible.builtin.import_playbook": "gpustead.cluster.preflight",
        "vars": {"docker_source": "distributon", "cluster_ca_passphrase": "one from the play"},
    }
    (cluster.folder / "mine.yml").write_text(yaml.safe_dump([play], sort_keys=False))
    cluster.write(group_vars__all_yml=yaml.safe_dump({**GOOD, "cluster_ca_passphrase": ""}))
    done = cluster.run("-i", "mine", "mine.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "1 to correct, nothing changed:" in done.stdout
    assert "docker_source (mine.yml:3): is 'distributon', none of docker, distribution." in done.stdout
