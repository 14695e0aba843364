"""Mistakes in inventories: each is refused on the controller, with the value, its place and the remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
FILE = "group_vars/all.yml"
VAULT = "$ANSIBLE_VAULT;1.1;AES256\n6162\n"


def site(groups: Any = None, files: Any = None, arguments: Any = None, **settings: Any) -> dict[str, Any]:
    ours = {**GROUPS, **(groups or {})}
    return {"groups": ours, "settings": {**GOOD, **settings}, "files": files or {}, "arguments": arguments or {}}


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
        ["nvidia_slot (hosts.yml:5)", "Did you mean nvidia_slots?"],
    ),
    "a group in the plural": (
        site({"nas_servers": {"nas": None}}),
        ["nas_servers (hosts.yml:", "with nas", "Did you mean nas_server?"],
    ),
    "a group with another letter": (site({"registry-caches": {"gpu02": None}}), ["Did you mean registry_caches?"]),
    "the group of the nodes": (
        {**site(), "groups": {"gpu_node": {"gpu01": None}, "registry": {"gpu01": None}}},
        ["gpu_node (hosts.yml:1)", "Did you mean gpu_nodes?"],
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
    "a tag": (site(arguments={"tags": ["firewal"]}), ["--tags: no role has the tag 'firewal'", "mean firewall?"]),
    "a tag to skip": (site(arguments={"skip_tags": ["imags"]}), ["--skip-tags: ", "Did you mean images?"]),
    "a tag like nothing": (site(arguments={"tags": ["zzz"]}), ["'zzz'", "There are accounts, base,"]),
    "a host in the limit": (site(arguments={"subset": "gpu01,gpu1"}), ["--limit: 'gpu1' is no host", "mean gpu01?"]),
    "a limit without a host of ours": (
        site({"others": {"pc": None}}, arguments={"subset": "pc", "play_hosts": ["pc"]}),
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
        ["cluster_ca_passphrase (group_vars/gpu_nodes.yml:1)", "in a vault", "--ask-vault-pass"],
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
        ["inventory: one -i takes the hosts of . and lab as one cluster", "such as -i lab"],
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
    "tags of Molecule": site(arguments={"skip_tags": ["molecule-notest", "notest"]}),
    "a tag of their own playbook": site(arguments={"tags": ["web"], "args": ["/srv/their.yml"]}),
    "patterns": site(arguments={"subset": "gpu*:!nas,~gpu0."}),
    "a file with nothing": site(files={"notes.yml": "# nothing\n"}),
    "own layers": site(images_stack=[{"name": "base"}, {"name": "ours", "context": "/srv/ours"}]),
}


@pytest.fixture(scope="module")
def answers() -> dict[str, list[str]]:
    """The problems of all inventories, found by one process."""
    sites = {name: case for name, (case, _words) in BAD.items()} | {
        f"fine: {name}": case for name, case in FINE.items()
    }
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"), "PYTHONPATH": str(ROOT / ".dev")}
    done = subprocess.run(
        [sys.executable, HERE / "inventory_problems.py"],
        input=json.dumps(list(sites.values())),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return dict(zip(sites, (answer["problems"] for answer in json.loads(done.stdout))))


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_told_once_with_its_place(answers: dict[str, list[str]], case: str) -> None:
    lines = answers[case]
    assert len(lines) == 1, lines
    assert [words for words in BAD[case][1] if words not in lines[0]] == [], lines
    assert "\n" not in lines[0]
    assert "hunter2" not in lines[0]


@pytest.mark.parametrize("case", FINE)
def test_what_is_right_is_not_refused(answers: dict[str, list[str]], case: str) -> None:
    assert answers[f"fine: {case}"] == []


def test_there_are_enough_of_them() -> None:
    assert len(BAD) >= 60


def test_the_cluster_has_a_spec_for_each_of_its_settings() -> None:
    text = (ROOT / "group_vars" / "all" / "cluster.yml").read_text()
    declared = yaml.safe_load("".join(line[2:] for line in text.splitlines(keepends=True) if line.startswith("# ")))
    assert set(declared) <= set(load()[""])


def test_the_keys_of_accounts_are_those_of_uid_match() -> None:
    specs = load()
    of_module = {*USER, "ssh_keys", "exclusive_keys"} - {"former_groups", "hold"}
    assert set(specs[""]["cluster_users"]["options"]) == of_module
    assert specs["accounts"]["accounts_users"]["options"] == specs[""]["cluster_users"]["options"]


def test_many_hosts_cost_little() -> None:
    """CPU for each host beyond those that it has everything in common with; the limit is 15 ms."""

    def many(count: int) -> dict[str, Any]:
        nodes = {
            f"gpu{n:04}": {
                "ansible_host": f"10.1.{n // 250}.{n % 250 + 1}",
                "rack": n,
                "nvidia_power_limit_w": {"a": n},
            }
            for n in range(count)
        }
        return site({"gpu_nodes": nodes, "registry": {"gpu0000": None}}, cluster_network=["10.1.0.0/16"])

    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".dev"), "PYTHONPATH": str(ROOT / ".dev")}
    done = subprocess.run(
        [sys.executable, HERE / "inventory_problems.py"],
        input=json.dumps([many(10), many(200)]),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    few, all_of_them = json.loads(done.stdout)
    assert few["problems"] == all_of_them["problems"] == []
    assert (all_of_them["seconds"] - few["seconds"]) / 190 < 0.015


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
