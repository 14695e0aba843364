"""The mesh is for every account: two people train at the same time, as themselves, and nothing is left of a run."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from conftest import Host, Lab

ADA, GRACE = "ada", "grace"
UIDS = {ADA: 1500, GRACE: 1501}
COMPOSE = {ADA: "gpustead-workspace", GRACE: "gpustead-workspace-grace"}
INSTANCES = [{"owner": ADA}, {"owner": GRACE}]
EXAMPLE = "/opt/gpustead/examples/train.py"
# Ends by nothing but force, and has started another that has left its session.
HANG = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
print("hangs", os.environ["RANK"], flush=True)
time.sleep(900)
"""
ENDS = 30  # seconds


@dataclass
class People:
    lab: Lab

    def run(self, who: str, command: str, at: int = 0) -> Any:
        """A command in somebody's workspace, as they are logged in there."""
        return self.lab.nodes[at].compose(COMPOSE[who], "ssh", f"bash -lc {shlex.quote(f'cd; {command}')}", user=who)

    def output(self, who: str, command: str, at: int = 0) -> str:
        done = self.run(who, command, at)
        assert done.rc == 0, f"{command}: {done.stdout}{done.stderr}"
        return str(done.stdout).strip()

    def begin(self, who: str, nodes: str, mark: str) -> None:
        """A run that hangs, when it is there on all its nodes."""
        command = f"mesh-run --nodes {nodes} --launcher none python3 hang.py {mark} > {mark}.log 2>&1 < /dev/null"
        # Bash has what it starts in the background ignore Ctrl-C.
        command = f"nohup env --default-signal=INT {command} & echo $! > {mark}.pid"
        self.output(who, f"cat > hang.py <<'END'\n{HANG}END\n{command}")
        for name in nodes.split(","):
            until(partial(self.hangs, name, mark), 60)

    def hangs(self, node: str, mark: str) -> bool:
        return len(ranks(self.lab[node], mark)) >= 2

    def log(self, who: str, mark: str) -> str:
        return self.output(who, f"cat {mark}.log")


def ranks(host: Host, mark: str) -> list[str]:
    """Processes of a run on a node, seen by its root."""
    return str(host.run(f"pgrep -f '^python3 hang.py {mark}'").stdout).split()


def until(done: Callable[[], bool], seconds: float) -> float:
    """The seconds that it took."""
    began = time.monotonic()
    while not done():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(1)
    return time.monotonic() - began


def gone(lab: Lab, mark: str) -> None:
    """Within the time, nothing is left on any node, and the ports are free."""
    ports = "grep -c gpustead-mesh-port- /proc/net/unix"
    until(lambda: not any(ranks(node, mark) for node in lab.nodes), ENDS)
    until(lambda: {node.run(ports).stdout.strip() for node in lab.nodes} == {"0"}, ENDS)


def on_node(who: str, command: str) -> str:
    """A command of somebody's at a login on a node, in the home on the share, which root cannot enter."""
    return f"runuser -u {who} -- sh -c {shlex.quote(f'cd /mnt/nas/users/{who} && {command}')}"


def login(who: str, key: str, host: Host) -> str:
    """The command by which one comes into the mesh of a node with a key that root has."""
    return (
        f"ssh -i {key} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes -p 2222 -F none"
        " -o UserKnownHostsFile=/mnt/nas/.cluster/mesh/known_hosts -o KexAlgorithms=sntrup761x25519-sha512@openssh.com"
        f" -o HostKeyAlias={host.name} {who}@{host.address} true"
    )


COMMON = {
    "cluster_workspace_port_range": "19000:19999",
    "cluster_group": {"name": "cluster", "gid": 1400},
    "cluster_group_dirs": [{"name": "vision", "gid": 1410, "members": [GRACE]}],
    "cluster_datasets": {"name": "datasets", "gid": 1401, "members": [ADA]},
    "cluster_caches": {"huggingface": "common"},
}


def site(lab: Lab, *words: str, **settings: Any) -> str:
    given = {"workspace_instances": INSTANCES, "workspace_sudo": False, **COMMON, **settings}
    done = lab.playbook("site.yml", "-e", json.dumps(given), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def people(lab: Lab) -> Iterator[People]:
    assert len(lab.nodes) >= 3
    site(lab)
    made = People(lab)
    try:
        yield made
    finally:
        for who in UIDS:
            made.run(who, "rm -rf mesh-runs hang.py *.log *.pid secret")
        # The first names what still runs in groups that are taken back, in the containers that it makes anew.
        lab.playbook("site.yml")
        done = lab.playbook("site.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_two_people_train_at_the_same_time(people: People) -> None:
    def train(who: str, nodes: int, at: int) -> Any:
        return people.run(who, f"mesh-run --nodes {nodes} --gpus-per-node 1 {EXAMPLE} --steps 60", at)

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.submit(train, ADA, 2, 0), pool.submit(train, GRACE, 3, 1)
        both = {ADA: first.result(), GRACE: second.result()}
    for (who, done), size in zip(both.items(), (2, 3)):
        assert done.rc == 0, done.stdout + done.stderr
        assert re.search(rf"OK world_size={size} ", done.stdout), done.stdout
        assert f"all {size} ranks have joined" in done.stderr
        assert re.search(r"rendezvous gpu0\d \S+:295\d\d, logs /home/", done.stderr)
        owners = people.output(who, "stat -c '%u:%g %n' mesh-runs/*/rank-*.log")
        assert {line.split()[0] for line in owners.splitlines()} == {f"{UIDS[who]}:{UIDS[who]}"}
    ports = {who: re.findall(r":(295\d\d)", done.stderr)[0] for who, done in both.items()}
    assert ports[ADA] != ports[GRACE]
    # Of the ranks' buffers nothing is left in the nodes' memory.
    for node in people.lab.nodes:
        assert node.check_output("ls /dev/shm | grep -c deepspeed_ || true") == "0"


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_other_launchers(people: People, launcher: str) -> None:
    done = people.run(GRACE, f"mesh-run --launcher {launcher} --nodes 2 --gpus-per-node 1 {EXAMPLE}")
    assert done.rc == 0, done.stdout + done.stderr
    assert "OK world_size=2" in done.stdout
    for node in people.lab.nodes:
        assert (
            node.check_output("docker exec gpustead-mesh sh -c 'ls -d /tmp/torchelastic_* 2> /dev/null | wc -l'") == "0"
        )


def test_a_launcher_takes_nothing_from_where_it_runs(people: People) -> None:
    """The directory may be everybody's; so may what a person has told ssh."""
    hostile = "mkdir -p hostile && cd hostile && echo 'raise SystemExit(9)' | tee deepspeed.py torch.py > accelerate.py"
    try:
        people.output(GRACE, hostile)
        for launcher in ("deepspeed", "torchrun"):
            done = people.run(
                GRACE, f"cd hostile && mesh-run --launcher {launcher} --nodes 1 --gpus-per-node 1 {EXAMPLE}"
            )
            assert done.rc == 0, done.stdout + done.stderr
    finally:
        people.run(GRACE, "rm -rf hostile")


def test_from_a_login_on_a_node(people: People) -> None:
    node = people.lab.nodes[0]
    done = node.run(on_node(GRACE, "mesh-run --launcher none --nodes 2 id -u"))
    assert sorted(done.stdout.split("\n")[:2]) == ["gpu01: 1501", "gpu02: 1501"], done.stderr
    done = node.run(f"cd / && runuser -u {GRACE} -- mesh-run --launcher none id")
    assert (done.rc, "is not on the share" in done.stderr) == (2, True)
    assert "root has no place in the mesh" in node.run("cd /mnt/nas && mesh-run --launcher none id").stderr


def test_neither_is_the_other(people: People) -> None:
    people.output(ADA, "umask 077; echo hers > secret")
    people.begin(ADA, "gpu01,gpu02", "of-ada")
    try:
        looks = {
            f"cat /home/{ADA}/secret": "Permission denied",
            f"cat /home/{ADA}/.config/gpustead/mesh_key": "Permission denied",
            f"ssh -o BatchMode=yes {ADA}@gpu02 true": "Permission denied",
            "sudo -n true": "",
            f"touch /var/lib/gpustead/accounts/{ADA}/x": "Permission denied",
        }
        for command, said in looks.items():
            done = people.run(GRACE, f"mesh-run --launcher none --nodes 1 sh -c {shlex.quote(command)}")
            assert done.rc != 0 and said in done.stdout + done.stderr, command
        sees = shlex.quote("pgrep -fc 'hang.py of-ad[a]'; true")
        assert people.output(GRACE, f"mesh-run --launcher none --nodes 1 sh -c {sees}") == "gpu01: 0"
        assert people.run(GRACE, "mesh-run --launcher none --nodes 1 sh -c 'kill -9 -1'").rc != 0
        assert ranks(people.lab["gpu01"], "of-ada")
        assert "of-ada" not in people.output(GRACE, "mesh-run ps")
        assert people.run(GRACE, "mesh-run stop all").rc == 0
        assert ranks(people.lab["gpu01"], "of-ada")
        # Root sees and ends all.
        mesh = "docker exec gpustead-mesh mesh-run"
        assert "hang.py of-ada" in people.lab["gpu02"].check_output(f"{mesh} ps")
        people.lab["gpu02"].check_output(f"{mesh} stop all")
        gone(people.lab, "of-ada")
        assert "(mesh-run stop)" in people.log(ADA, "of-ada")
    finally:
        people.run(ADA, "mesh-run stop all")


@pytest.mark.parametrize("place", ["login shell", "docker exec", "SSH", "JupyterLab's terminal"])
def test_the_environment_is_the_same_everywhere(people: People, place: str) -> None:
    look = "command -v deepspeed; command -v mesh-run; echo $VIRTUAL_ENV"
    words = {
        "login shell": f"env -i HOME=/home/{GRACE} USER={GRACE} bash -lc {shlex.quote(look)}",
        "docker exec": f"bash -c {shlex.quote(look)}",
        # Which begins a login shell where it has no terminal of its own.
        "JupyterLab's terminal": f"/bin/sh -c 'exec bash -l' <<< {shlex.quote(look)}",
        "SSH": f"mesh-run --launcher none --nodes 1 bash -c {shlex.quote(look)} | sed 's/^[^:]*: //'",
    }[place]
    shown = people.lab.nodes[0].compose(COMPOSE[GRACE], "jupyter", f"bash -c {shlex.quote(f'cd; {words}')}", user=GRACE)
    assert shown.stdout.split() == ["/opt/venv/bin/deepspeed", "/usr/local/bin/mesh-run", "/opt/venv"], shown.stderr


# How runs end


def test_ctrl_c_ends_it_everywhere(people: People) -> None:
    people.begin(GRACE, "gpu01,gpu02,gpu03", "by-ctrl-c")
    people.output(GRACE, "kill -INT $(cat by-ctrl-c.pid)")
    gone(people.lab, "by-ctrl-c")
    assert "SIGINT: stopping the run on all nodes" in people.log(GRACE, "by-ctrl-c")
    assert people.run(GRACE, "mesh-run --launcher none true").rc == 0


def test_a_front_that_is_killed_ends_it_everywhere(people: People) -> None:
    people.begin(GRACE, "gpu01,gpu02", "by-kill")
    people.output(GRACE, "kill -KILL $(cat by-kill.pid)")
    gone(people.lab, "by-kill")


def test_a_killed_agent_ends_it_everywhere(people: People) -> None:
    """Its ranks ignore what it sends when it goes; the head has the node end them."""
    people.begin(GRACE, "gpu01,gpu02", "by-agent")
    people.lab["gpu02"].check_output(f"kill -KILL $(pgrep -u {UIDS[GRACE]} -f 'mesh-run [a]gent')")
    gone(people.lab, "by-agent")
    assert re.search(r"gpu02: .*; stopping the run", people.log(GRACE, "by-agent"))
    assert people.output(GRACE, "mesh-run ps") == ""


def test_a_killed_container_ends_it_everywhere(people: People) -> None:
    people.begin(GRACE, "gpu01,gpu02,gpu03", "by-container")
    people.lab["gpu02"].check_output("docker kill gpustead-mesh")
    try:
        gone(people.lab, "by-container")
        assert re.search(r"gpu02: .*; stopping the run", people.log(GRACE, "by-container"))
    finally:
        people.lab["gpu02"].check_output("docker start gpustead-mesh")
    healthy = "docker inspect -f '{{.State.Health.Status}}' gpustead-mesh"
    until(lambda: people.lab["gpu02"].check_output(healthy) == "healthy", 90)
    assert people.run(GRACE, "mesh-run --launcher none true").rc == 0


def test_a_node_off_the_network_ends_it_everywhere(people: People) -> None:
    people.begin(GRACE, "gpu01,gpu02,gpu03", "by-network")
    lost, others = people.lab["gpu03"], [node for node in people.lab.nodes if node.name != "gpu03"]
    rules = [f"INPUT -s {node.address} -j DROP" for node in others] + [
        f"OUTPUT -d {node.address} -j DROP" for node in others
    ]
    lost.check_output(" && ".join(f"iptables -I {rule}" for rule in rules))
    try:
        gone(people.lab, "by-network")
        assert "gpu03: it has not answered for" in people.log(GRACE, "by-network")
    finally:
        lost.check_output(" && ".join(f"iptables -D {rule}" for rule in rules))
    assert people.run(GRACE, "mesh-run --launcher none true").rc == 0


# Who comes and goes


def test_an_account_that_comes_makes_no_mesh_stale(people: People) -> None:
    users = [*people.lab.nodes[0].variables["cluster_users"], {"name": "hedy", "uid": 1509}]
    ids = {node.name: node.check_output("docker inspect -f '{{.Id}}' gpustead-mesh") for node in people.lab.nodes}
    said = site(people.lab, cluster_users=users)
    assert "included: gpustead.cluster.ssh_mesh" not in said
    for node in people.lab.nodes:
        assert node.check_output("docker inspect -f '{{.Id}}' gpustead-mesh") == ids[node.name]
    node = people.lab.nodes[0]
    done = node.run(on_node("hedy", "mesh-run --launcher none --nodes 2 id -un"))
    assert sorted(done.stdout.splitlines()) == ["gpu01: hedy", "gpu02: hedy"], done.stderr
    # Taken off while one node is down: out at once where the mesh runs, and on the other before it lets anybody in.
    copy = "/root/hedy-key"
    node.check_output(f"umask 077; {on_node('hedy', 'cat .config/gpustead/mesh_key')} > {copy}")
    down = people.lab["gpu03"]
    try:
        assert [node.run(login("hedy", copy, one)).rc for one in people.lab.nodes] == [0, 0, 0]
        down.check_output("docker stop gpustead-mesh")
        site(people.lab, "--limit", "gpu01,gpu02", "--tags", "accounts")
        down.check_output("docker start gpustead-mesh")
        healthy = "docker inspect -f '{{.State.Health.Status}}' gpustead-mesh"
        until(lambda: down.check_output(healthy) == "healthy", 90)
        for one in people.lab.nodes:
            said = node.run(login("hedy", copy, one)).stderr
            assert "Permission denied" in said, f"{one.name}: {said}"
    finally:
        down.run("docker start gpustead-mesh")
        node.run(f"rm -f {copy}")
        site(people.lab)


def test_a_key_that_is_removed_lets_in_nobody_and_the_next_run_makes_another(people: People) -> None:
    node, copy = people.lab.nodes[0], "/root/grace-key"
    people.output(GRACE, "mesh-run --launcher none true")
    node.check_output(f"umask 077; {on_node(GRACE, 'cat .config/gpustead/mesh_key')} > {copy}")
    try:
        assert node.run(login(GRACE, copy, node)).rc == 0
        node.check_output(on_node(GRACE, "rm .config/gpustead/mesh_key*"))
        people.output(GRACE, "mesh-run --launcher none true")
        assert "Permission denied" in node.run(login(GRACE, copy, node)).stderr
    finally:
        node.run(f"rm -f {copy}")


# The common place


def on_host(people: People, who: str, command: str) -> Any:
    """As at a login on a node."""
    return people.lab.nodes[1].run(f"runuser -l {who} -c {shlex.quote(command.replace('/shared', '/mnt/nas/shared'))}")


def in_jupyter(people: People, who: str, command: str) -> Any:
    return people.lab.nodes[0].compose(COMPOSE[who], "jupyter", f"bash -lc {shlex.quote(command)}", user=who)


def in_mesh(people: People, who: str, command: str) -> Any:
    return people.run(who, f"mesh-run --launcher none --nodes 1 sh -c {shlex.quote(command)}")


WHERE: dict[str, Callable[[People, str, str], Any]] = {"host": on_host, "jupyter": in_jupyter, "mesh": in_mesh}


@pytest.mark.parametrize("edits", WHERE)
@pytest.mark.parametrize("makes", WHERE)
def test_what_one_makes_in_the_common_place_the_other_edits(people: People, makes: str, edits: str) -> None:
    for one, other in ((ADA, GRACE), (GRACE, ADA)):
        place = f"/shared/{makes}-{edits}-{one}"
        WHERE[makes](people, one, f"rm -rf {place}")
        done = WHERE[makes](people, one, f"mkdir {place} && echo made > {place}/file && stat -c %g {place}/file")
        assert done.rc == 0 and "1400" in done.stdout, done.stdout + done.stderr
        # Names of a directory that another node has made may take a moment.
        done = WHERE[edits](
            people, other, f"sleep 2; echo edited >> {place}/file && touch {place}/new && cat {place}/file"
        )
        assert done.rc == 0 and "edited" in done.stdout, done.stdout + done.stderr
        assert WHERE[makes](people, one, f"sleep 2; rm -r {place}").rc == 0


def test_data_sets_are_read_by_all_and_written_by_their_group(people: People) -> None:
    people.output(ADA, "echo data > /datasets/set && test $(stat -c %g /datasets/set) = 1401")
    assert people.output(GRACE, "cat /datasets/set") == "data"
    for where in (in_jupyter, in_mesh):
        done = where(people, GRACE, "echo x >> /datasets/set || touch /datasets/mine")
        assert done.rc != 0 and re.search("Read-only file system|Permission denied", done.stdout + done.stderr)
    assert on_host(people, GRACE, "touch /mnt/nas/datasets/mine").rc != 0
    assert people.output(GRACE, "cat /datasets/set") == "data"
    people.output(ADA, "rm /datasets/set")


def test_a_group_has_a_place_of_its_own(people: People) -> None:
    people.output(GRACE, "echo x > /groups/vision/file && test $(stat -c %g /groups/vision/file) = 1410")
    assert people.run(ADA, "ls /groups/vision").rc != 0
    assert in_mesh(people, ADA, "ls /groups/vision").rc != 0
    assert in_mesh(people, GRACE, "cat /groups/vision/file").rc == 0
    people.output(GRACE, "rm /groups/vision/file")


def test_a_cache_in_common_is_found_everywhere(people: People) -> None:
    for where in (in_jupyter, in_mesh):
        done = where(people, GRACE, "mkdir -p $HF_HUB_CACHE && echo $HF_HUB_CACHE")
        assert done.rc == 0 and "/shared/.cache/huggingface/hub" in done.stdout, done.stderr


def test_who_is_in_a_group_costs_no_run_of_the_mesh(people: People) -> None:
    directories = [{"name": "vision", "gid": 1410, "members": [GRACE, ADA]}]
    said = site(people.lab, cluster_group_dirs=directories)
    assert "included: gpustead.cluster.ssh_mesh" not in said
    until(lambda: in_mesh(people, ADA, "ls /groups/vision").rc == 0, 60)
