"""Three workspaces and a guest on one node: each user by own ports, own key and own ids, in every profile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import support
from conftest import PROJECT, Host, Lab
from support import stale

ADA, GRACE, LINUS, JOAN = "ada", "grace", "linus", "joan"
OWNERS = (ADA, GRACE, LINUS)
UIDS = {ADA: 1500, GRACE: 1501, LINUS: 1502, JOAN: 1503}
RANGE = "19000:19999"
PORTS = {ADA: support.PORTS, **{name: support.ports_of(UIDS[name]) for name in (GRACE, LINUS)}}
COMPOSE = {ADA: "gpustead-workspace", GRACE: "gpustead-workspace-grace", LINUS: "gpustead-workspace-linus"}
CONFIG = "/etc/gpustead/workspace"
DIRECTORY = {ADA: CONFIG, GRACE: f"{CONFIG}/users/grace", LINUS: f"{CONFIG}/users/linus"}
LOCAL = "/var/lib/gpustead/workspace"
GET = (
    'python3 -c "import sys, urllib.request, urllib.error\n'
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=20).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)\n"
    'except OSError as error: print(type(error).__name__)" '
)
KERNEL = (PROJECT / "tests/integration/kernel_client.py").read_text()
GITCONFIG = "[user]\n\tname = Grace\n"


class Bench:
    """One node with the workspaces, the settings that declare them, and a client with everybody's key."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.node, self.client, self.folder = lab, lab.nodes[0], lab["client"], folder
        self.settings: dict[str, Any] = {
            "cluster_users": [
                *(
                    {"name": name, "uid": uid, "groups": ["ml"], "ssh_keys": [self.key(name)]}
                    for name, uid in UIDS.items()
                )
            ],
            "cluster_workspace_port_range": RANGE,
            "workspace_instances": [
                {"owner": ADA},
                {"owner": GRACE, "profile": "local", "cpus": "0", "memory": "2gb", "accounts": [JOAN]},
                {"owner": LINUS, "volumes": [{"name": "scratch", "path": "/scratch"}], "publish": "19990:19991"},
            ],
            "workspace_local_state": [".claude"],
            "workspace_local_settings": [".gitconfig", ".nothing"],
        }

    def key(self, name: str) -> str:
        """The public key of a user; the private one goes to the client."""
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
        self.client.check_output(f"install -m 600 /dev/stdin /root/{name}-key <<'EOF'\n{path.read_text()}EOF")
        return path.with_suffix(".pub").read_text().strip()

    def site(self, **settings: Any) -> str:
        done = self.lab.playbook("site.yml", "--limit", self.node.name, "-e", json.dumps({**self.settings, **settings}))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def make(self, *arguments: str) -> str:
        return self.node.check_output(f"make --no-print-directory -C {CONFIG} {' '.join(arguments)} 2>&1")

    def inside(self, owner: str, service: str, command: str, user: str | None = None) -> str:
        done = self.node.compose(COMPOSE[owner], service, command, user=user or owner)
        assert done.rc == 0, f"{command}: {done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def ssh(self, owner: str, user: str, key: str, command: str) -> Any:
        """Log in to a workspace from the client, whose host key is known from the node itself."""
        port, address = PORTS[owner]["ssh"], self.node.address
        public = self.node.check_output(f"cut -d ' ' -f 1,2 {DIRECTORY[owner]}/ssh/ssh_host_ed25519_key.pub")
        self.client.check_output(f"echo '[{address}]:{port} {public}' > /root/known-{owner}")
        return self.client.run(
            f"ssh -i /root/{key}-key -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes "
            f"-o UserKnownHostsFile=/root/known-{owner} -p {port} {user}@{address} {command}"
        )

    def containers(self, *owners: str) -> set[str]:
        """The ids of the containers that run."""
        ids = "docker ps --quiet --filter label=com.docker.compose.project={}"
        return {found for owner in owners for found in self.node.check_output(ids.format(COMPOSE[owner])).split()}

    def token(self, owner: str) -> str:
        return self.node.check_output(
            f"runuser -u {owner} -- cat /mnt/nas/users/{owner}/.config/gpustead/jupyter_token"
        )

    def on_the_nas(self, path: str) -> str:
        """uid:gid of a file as the NAS server has it."""
        return self.lab["nas"].check_output(f"find /export -path '*/{path}' -exec stat -c %u:%g {{}} +")


@pytest.fixture(scope="module")
def bench(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(lab, tmp_path_factory.mktemp("workspaces"))
    made.node.check_output(f"install -o {GRACE} -m 600 /dev/stdin /home/{GRACE}/.gitconfig <<'EOF'\n{GITCONFIG}EOF")
    try:
        made.site()
        yield made
    finally:
        made.client.run("rm -f /root/*-key /root/known-*")
        links = " ".join(f"/mnt/nas/users/{GRACE}/{name}" for name in (".claude", ".gitconfig", ".vscode-server"))
        made.node.run(f"docker volume rm {COMPOSE[LINUS]}_scratch")
        made.node.run(f"rm -f /home/{GRACE}/.gitconfig; runuser -u {GRACE} -- rm -f {links}")
        # An account goes only when none of its processes runs.
        lab.playbook(
            "site.yml", "--limit", made.node.name, "-e", json.dumps({**made.settings, "workspace_instances": []})
        )
        done = lab.playbook("site.yml", "--limit", made.node.name)
    assert done.returncode == 0, done.stdout + done.stderr


def projects(host: Host) -> set[str]:
    """The compose projects of workspaces that have containers."""
    listed = host.check_output("docker ps -a --format '{{.Label \"com.docker.compose.project\"}}'")
    return {name for name in listed.split() if name.startswith("gpustead-workspace")}


def test_they_run_beside_one_another(bench: Bench) -> None:
    assert projects(bench.node) == set(COMPOSE.values())
    for owner in OWNERS:
        for service, port in PORTS[owner].items():
            shown = bench.node.check_output(
                f"docker inspect -f '{{{{.State.Health.Status}}}} {{{{json .HostConfig.PortBindings}}}}'"
                f" {COMPOSE[owner]}-{service}-1"
            )
            assert shown.startswith("healthy ") and f'"{port}"' in shown


def test_a_second_run_has_nothing_to_do(bench: Bench) -> None:
    assert stale(bench.site()) == {}


def test_verify_finds_them_sound(bench: Bench) -> None:
    done = bench.lab.playbook(
        "playbooks/verify.yml", "--limit", bench.node.name, "-e", json.dumps(bench.settings),
        "-e", f"verify_report={bench.folder}/verify.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_jupyter_of_each_wants_the_token_of_its_owner(bench: Bench) -> None:
    tokens = {owner: bench.token(owner) for owner in OWNERS}
    assert len(set(tokens.values())) == len(OWNERS)
    for owner in OWNERS:
        api = f"http://{bench.node.address}:{PORTS[owner]['jupyter']}/api/contents"
        for whose, token in tokens.items():
            expected = "200" if whose == owner else "403"
            assert bench.client.check_output(f"{GET} '{api}?token={token}'") == expected, (owner, whose)


def test_files_of_three_users_at_once_belong_to_them(bench: Bench) -> None:
    def write(owner: str) -> None:
        path = f"/home/{owner}/made-in-jupyter"
        done = bench.node.run(
            f"docker compose -p {COMPOSE[owner]} exec -T jupyter /opt/venv/bin/python - "
            f"http://localhost:8888 {bench.token(owner)} "
            f"{json.dumps(f'open({path!r}, {chr(39)}w{chr(39)}).write({chr(39)}x{chr(39)})')} <<'EOF'\n{KERNEL}\nEOF"
        )
        assert done.rc == 0, done.stderr
        done = bench.ssh(owner, owner, owner, "touch made-by-ssh")
        assert done.rc == 0, done.stderr

    with ThreadPoolExecutor(len(OWNERS)) as pool:
        list(pool.map(write, OWNERS))
    for owner in OWNERS:
        for name in ("made-in-jupyter", "made-by-ssh"):
            assert bench.on_the_nas(f"users/{owner}/{name}") == f"{UIDS[owner]}:{UIDS[owner]}"
        bench.inside(owner, "ssh", f"rm /home/{owner}/made-in-jupyter /home/{owner}/made-by-ssh")


@pytest.mark.parametrize(("owner", "user"), [(ADA, ADA), (GRACE, GRACE), (GRACE, JOAN), (LINUS, LINUS)])
def test_each_logs_in_by_own_key_alone(bench: Bench, owner: str, user: str) -> None:
    for key in UIDS:
        done = bench.ssh(owner, user, key, "'id -un; id -u; pwd'")
        if key == user:
            assert done.stdout.split() == [user, str(UIDS[user]), f"/home/{user}"], done.stderr
        else:
            assert done.rc != 0 and "Permission denied" in done.stderr, (owner, user, key)


def test_who_has_no_account_in_a_workspace_does_not_get_in(bench: Bench) -> None:
    for owner, user in ((ADA, GRACE), (LINUS, JOAN), (GRACE, LINUS)):
        assert "Permission denied" in bench.ssh(owner, user, user, "true").stderr


def test_a_guest_works_in_the_own_home(bench: Bench) -> None:
    assert bench.ssh(GRACE, JOAN, JOAN, "touch made-by-a-guest").rc == 0
    assert bench.on_the_nas(f"users/{JOAN}/made-by-a-guest") == f"{UIDS[JOAN]}:{UIDS[JOAN]}"
    assert bench.ssh(GRACE, JOAN, JOAN, f"ls /home/{GRACE}").rc != 0
    assert bench.ssh(GRACE, JOAN, JOAN, "sudo -n true").rc != 0
    bench.ssh(GRACE, JOAN, JOAN, "rm made-by-a-guest")


def test_a_key_that_is_changed_counts_at_the_next_login(bench: Bench) -> None:
    users = [{**user, "ssh_keys": []} if user["name"] == JOAN else user for user in bench.settings["cluster_users"]]
    before = bench.containers(*OWNERS)
    bench.site(cluster_users=users)
    assert "Permission denied" in bench.ssh(GRACE, JOAN, JOAN, "true").stderr
    bench.site()
    assert bench.ssh(GRACE, JOAN, JOAN, "true").rc == 0
    assert bench.containers(*OWNERS) == before


def test_cpus_and_memory(bench: Bench) -> None:
    for service in PORTS[GRACE]:
        shown = bench.node.check_output(
            "docker inspect -f '{{.HostConfig.CpusetCpus}} {{.HostConfig.Memory}}' " + f"{COMPOSE[GRACE]}-{service}-1"
        )
        assert shown == f"0 {2 * 1024**3}"
    assert bench.inside(GRACE, "ssh", "nproc") == "1"


def test_a_volume_is_its_owners_and_stays(bench: Bench) -> None:
    bench.inside(LINUS, "ssh", "touch /scratch/kept")
    assert bench.inside(LINUS, "jupyter", "stat -c %u /scratch/kept") == str(UIDS[LINUS])
    bench.make("down", f"OWNER={LINUS}")
    bench.make("up", f"OWNER={LINUS}")
    assert bench.inside(LINUS, "ssh", "ls /scratch") == "kept"
    assert bench.node.compose(COMPOSE[ADA], "ssh", "ls /scratch", user=ADA).rc != 0


def test_further_ports_are_reached_from_where_the_others_are(bench: Bench) -> None:
    serve = "sh -c 'cd /scratch && (setsid python3 -m http.server 19991 >/dev/null 2>&1 </dev/null &) ; sleep 3'"
    bench.inside(LINUS, "ssh", serve)
    assert bench.client.check_output(f"{GET} http://{bench.node.address}:19991/") == "200"


# Profile local


def test_what_coding_tools_write_lies_on_the_node(bench: Bench) -> None:
    bench.inside(GRACE, "ssh", "sh -c 'echo kept > ~/.claude/state'")
    assert bench.inside(GRACE, "jupyter", "sh -c 'cat ~/.claude/state'") == "kept"
    assert bench.node.check_output(f"stat -c %u {LOCAL}/{GRACE}/state-claude/state") == str(UIDS[GRACE])


def test_history_and_caches_lie_on_the_node_and_survive(bench: Bench) -> None:
    bench.inside(GRACE, "jupyter", "sh -c 'echo kept > $XDG_CACHE_HOME/kept; echo kept > ~/.vscode-server/kept'")
    done = bench.node.run(
        f"docker compose -p {COMPOSE[GRACE]} exec -T --user {GRACE} ssh bash -i <<'EOF'\necho a-line-of-history\nEOF"
    )
    assert done.rc == 0, done.stderr
    before = bench.containers(GRACE)

    bench.make("down", f"OWNER={GRACE}")
    assert projects(bench.node) == {COMPOSE[ADA], COMPOSE[LINUS]}
    for path in ("cache/kept", "vscode-server/kept", "shell_history"):
        assert bench.node.check_output(f"stat -c %u {LOCAL}/{GRACE}/{path}") == str(UIDS[GRACE])
    bench.make("up", f"OWNER={GRACE}")
    after = bench.containers(GRACE)
    assert len(after) == 4 and not before & after

    assert (
        bench.inside(GRACE, "tensorboard", "sh -c 'cat $XDG_CACHE_HOME/kept ~/.vscode-server/kept'").split()
        == ["kept"] * 2
    )
    assert "a-line-of-history" in bench.inside(GRACE, "ssh", "sh -c 'cat $HISTFILE'")
    # Of the NAS there is but the link.
    assert bench.lab["nas"].check_output(f"find /export -path '*/users/{GRACE}/.vscode-server' -type l")
    assert bench.lab["nas"].check_output("find /export -name kept") == ""


def test_what_was_brought_up_by_hand_as_declared_is_no_drift(bench: Bench) -> None:
    assert stale(bench.site()) == {}


def test_a_login_finds_the_same_caches_and_history(bench: Bench) -> None:
    done = bench.ssh(GRACE, GRACE, GRACE, "'echo $XDG_CACHE_HOME $HISTFILE'")
    assert done.stdout.split() == ["/local/cache", "/local/shell_history"]


def test_settings_of_the_host_are_seen_and_not_written(bench: Bench) -> None:
    assert bench.inside(GRACE, "ssh", "sh -c 'cat ~/.gitconfig'").split() == GITCONFIG.split()
    assert bench.node.compose(COMPOSE[GRACE], "ssh", "sh -c 'echo x >> ~/.gitconfig'", user=GRACE).rc != 0
    assert bench.node.check_output(f"cat /home/{GRACE}/.gitconfig").split() == GITCONFIG.split()


def test_the_other_profile_has_none_of_it(bench: Bench) -> None:
    assert bench.node.compose(COMPOSE[LINUS], "ssh", "ls /local", user=LINUS).rc != 0
    assert bench.node.compose(COMPOSE[ADA], "ssh", f"ls /home/{GRACE}", user=ADA).rc != 0


# The verbs, in the other profiles


def test_make_alone_lists_the_verbs(bench: Bench) -> None:
    assert "make rebuild" in bench.make()


def test_server_comes_up_by_hand_and_goes_back_to_what_is_declared(bench: Bench) -> None:
    bench.make("up", f"OWNER={GRACE}", "PROFILE=server")
    assert bench.node.compose(COMPOSE[GRACE], "ssh", "ls /local", user=GRACE).rc != 0
    assert list(stale(bench.site())) == [bench.node.name]
    assert bench.inside(GRACE, "ssh", "ls /local/cache/kept") == "/local/cache/kept"


def test_local_comes_up_by_hand(bench: Bench) -> None:
    bench.make("up", f"OWNER={LINUS}", "PROFILE=local")
    assert bench.inside(LINUS, "ssh", "stat -c %u /local/cache") == str(UIDS[LINUS])
    bench.site()
    assert bench.node.compose(COMPOSE[LINUS], "ssh", "ls /local", user=LINUS).rc != 0


def test_root_comes_up_beside_the_services(bench: Bench) -> None:
    bench.make("up", f"OWNER={LINUS}", "PROFILE=root")
    assert bench.inside(LINUS, "root", "id -u", user="root") == "0"
    assert bench.inside(LINUS, "root", "ls -d /shared", user="root") == "/shared"
    name = f"{COMPOSE[LINUS]}-root-1"
    assert bench.node.check_output(f"docker inspect -f '{{{{json .HostConfig.PortBindings}}}}' {name}") in (
        "{}",
        "null",
    )
    # site.yml leaves it alone.
    assert stale(bench.site()) == {}
    bench.node.check_output(f"docker inspect {name}")
    assert bench.make("run", f"OWNER={LINUS}", "PROFILE=root", "CMD='id -un'").splitlines()[-1] == "root"
    # The services go on.
    bench.make("down", f"OWNER={LINUS}", "PROFILE=root")
    assert bench.node.run(f"docker inspect {name}").rc != 0
    assert bench.inside(LINUS, "ssh", "id -un") == LINUS


def test_multinode_is_the_mesh(bench: Bench) -> None:
    bench.make("up", "PROFILE=multinode")
    said = bench.make("run", "PROFILE=multinode", f"CMD='ssh -o BatchMode=yes {bench.lab.nodes[1].name} hostname'")
    assert said.splitlines()[-1] == bench.lab.nodes[1].check_output("hostname")
    assert bench.make("run", "PROFILE=multinode", "CMD='id -un'").splitlines()[-1] == ADA


def test_run_takes_a_container_of_its_own(bench: Bench) -> None:
    said = bench.make("run", f"OWNER={LINUS}", "CMD='id -un; python -c \"print(6 * 7)\"'").splitlines()
    assert said[-2:] == [LINUS, "42"]
    assert "oneoff" not in bench.node.check_output(
        "docker ps -a --filter label=com.docker.compose.oneoff=True --format '{{.Names}} oneoff'"
    )


def test_stop_start_and_prune(bench: Bench) -> None:
    bench.make("stop", f"OWNER={LINUS}")
    running = bench.node.check_output("docker ps --format '{{.Names}}'").split()
    assert not [name for name in running if name.startswith(COMPOSE[LINUS])]
    assert f"{COMPOSE[ADA]}-ssh-1" in running
    bench.make("start", f"OWNER={LINUS}")
    assert bench.inside(LINUS, "ssh", "id -un") == LINUS
    everything = bench.node.check_output("docker ps -aq | sort")
    bench.make("prune", f"OWNER={LINUS}")
    assert bench.node.check_output("docker ps -aq | sort") == everything


def test_rebuild_puts_an_image_of_ones_own_on_top(bench: Bench) -> None:
    bench.node.check_output(
        "mkdir -p /tmp/own && printf 'FROM parent\\nRUN echo built > /built\\n' > /tmp/own/Dockerfile"
    )
    bench.make("rebuild", f"OWNER={LINUS}", "DIR=/tmp/own")
    assert bench.inside(LINUS, "ssh", "cat /built") == "built"
    assert list(stale(bench.site())) == [bench.node.name]
    assert bench.node.compose(COMPOSE[LINUS], "ssh", "cat /built", user=LINUS).rc != 0
    bench.node.check_output("docker rmi gpustead-local/linus && rm -r /tmp/own")


# What is refused, and what goes


def test_a_port_of_two_is_refused_before_anything_is_changed(bench: Bench) -> None:
    twice = [{"owner": ADA}, {"owner": LINUS, "ports": {**PORTS[LINUS], "ssh": PORTS[ADA]["ssh"]}}]
    settings = json.dumps({**bench.settings, "workspace_instances": twice})
    done = bench.lab.playbook("site.yml", "--limit", bench.node.name, "-e", settings)
    assert done.returncode != 0
    assert "port 10022 is published twice, by ssh of ada and ssh of linus" in " ".join(done.stdout.split())
    assert projects(bench.node) == set(COMPOSE.values())


def test_a_container_that_is_changed_is_healed_and_no_other_is_touched(bench: Bench) -> None:
    before = bench.containers(ADA, GRACE)
    bench.node.check_output(f"docker rm -f {COMPOSE[LINUS]}-gradio-1")
    (lines,) = stale(bench.site()).values()
    assert [line for line in lines if not line.startswith("workspace: container gpustead-workspace-linus/gradio")] == []
    assert bench.node.check_output(f"docker inspect -f '{{{{.State.Status}}}}' {COMPOSE[LINUS]}-gradio-1") == "running"
    assert bench.containers(ADA, GRACE) == before


def test_one_that_is_not_declared_any_more_is_taken_down_and_moves_no_other(bench: Bench) -> None:
    kept = [one for one in bench.settings["workspace_instances"] if one["owner"] != GRACE]
    token = bench.token(GRACE)
    bench.site(workspace_instances=kept)
    assert projects(bench.node) == {COMPOSE[ADA], COMPOSE[LINUS]}
    assert bench.node.run(f"ls {DIRECTORY[GRACE]}").rc != 0
    assert bench.client.check_output(f"{GET} http://{bench.node.address}:{PORTS[GRACE]['jupyter']}/api") != "200"
    # What is hers stays.
    assert bench.node.check_output(f"cat {LOCAL}/{GRACE}/cache/kept") == "kept"
    assert bench.token(GRACE) == token
    bench.site()
    assert bench.inside(GRACE, "ssh", "cat /local/cache/kept") == "kept"


def test_without_a_list_there_is_one_again(bench: Bench) -> None:
    bench.site(workspace_instances=[])
    assert projects(bench.node) == {COMPOSE[ADA]}
    assert bench.node.run(f"ls {CONFIG}/users").rc != 0
    assert bench.node.check_output(f"ls {CONFIG}/ssh/authorized_keys.d") == ADA
