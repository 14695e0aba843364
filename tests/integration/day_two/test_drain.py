"""A node is taken out of new runs and back: by one of two controllers, killed at any moment, with the node up or down.

About 12 minutes, half of them for the kills.
"""

from __future__ import annotations

import json
import random
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from second_day import (
    SHARED,
    away,
    begin,
    flat,
    hostfile,
    is_whole,
    kill,
    killed,
    mesh_run,
    records,
    runs,
    tidy,
    until,
)
from support import AS_LAYOUT

KILLS = 10
PROGRAM = "sleep 900"


@pytest.fixture(autouse=True)
def all_take_runs(lab: Lab) -> Iterator[None]:
    tidy(lab)
    yield
    tidy(lab)


def drain(lab: Lab, *words: str, playbook: str = "drain", node: int = 1) -> Any:
    return lab.playbook(f"playbooks/{playbook}.yml", "-e", f"node={lab.nodes[node].name}", *words)


def drained(lab: Lab, *words: str) -> str:
    done = drain(lab, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_a_drained_node_takes_no_new_runs_and_undrain_gives_it_back(lab: Lab) -> None:
    first, node = lab.nodes[0], lab.nodes[1].name
    said = drained(lab, "-e", "reason='new driver'")
    assert f"{node} is drained: new driver" in said and "nothing runs there" in said
    assert node not in hostfile(first) and records(first) == [f"{node}.json"]

    done = mesh_run(lab, "--launcher none hostname")
    assert done.rc == 0 and f"{node} is left out: it is drained since" in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == len(lab.nodes) - 1
    refused = mesh_run(lab, f"--nodes {node} --launcher none hostname")
    assert refused.rc == 2 and f"{node} is drained since" in refused.stderr and "new driver" in refused.stderr
    # A person there starts runs on the others.
    assert mesh_run(lab, "--launcher none hostname", at=1).rc == 0

    # What the node writes of itself, and a run of the site, change nothing.
    assert lab.playbook("site.yml", "-e", "site_force=true", "--tags", "ssh_mesh").returncode == 0
    assert node not in hostfile(first) and records(first) == [f"{node}.json"]
    verified = lab.playbook("playbooks/verify.yml")
    assert verified.returncode == 0 and "node is drained since" in flat(verified.stdout), verified.stdout

    again = drained(lab, "-e", "reason='new driver'")
    assert re.search(r"changed=[1-9]", again) is None, again
    back = drain(lab, playbook="undrain")
    assert back.returncode == 0 and hostfile(first) == lab.groups["gpu_nodes"] and records(first) == []
    assert is_whole(lab)
    assert "it was not drained" in flat(drain(lab, playbook="undrain").stdout)


def test_what_cannot_be_meant_changes_nothing(lab: Lab) -> None:
    for words, said in {
        ("-e", "deadline=soon"): "deadline 'soon'",
        ("-e", "stop=true"): "stop without a deadline",
    }.items():
        done = drain(lab, *words)
        assert done.returncode != 0 and said in flat(done.stdout + done.stderr)
    done = lab.playbook("playbooks/drain.yml", "-e", "node=gpu99")
    assert done.returncode != 0 and "'gpu99' is not in gpu_nodes" in flat(done.stdout + done.stderr)
    assert records(lab.nodes[0]) == []
    check = drained(lab, "--check")
    assert "is drained" in check and records(lab.nodes[0]) == []


def test_what_runs_is_waited_for_and_ended_on_request(lab: Lab) -> None:
    node = lab.nodes[1]
    begin(lab, 0, 1, program=PROGRAM)
    assert PROGRAM in drained(lab)  # without a deadline it is said
    late = drain(lab, "-e", "deadline=20s")
    assert late.returncode != 0 and "still runs there after the deadline" in flat(late.stdout)
    assert re.search(rf"run \S+ of {lab.owner} on .*sleep 900", flat(late.stdout))
    assert runs(node, PROGRAM) and records(node) == [f"{node.name}.json"]
    assert PROGRAM in mesh_run(lab, "ps").stdout

    ended = drained(lab, "-e", "deadline=20s", "-e", "stop=true")
    assert "nothing runs there" in flat(ended)
    until(lambda: not any(runs(one, PROGRAM) for one in lab.nodes), 40)

    drain(lab, playbook="undrain")
    begin(lab, 0, 1, program="sleep 75")
    began = time.monotonic()
    assert "nothing runs there" in flat(drained(lab, "-e", "deadline=10m"))
    assert time.monotonic() - began < 300
    begin(lab, 0, program=PROGRAM)  # and no run on another node is one of it
    assert "nothing runs there" in flat(drained(lab))


def test_people_read_it_in_their_terminals(lab: Lab) -> None:
    """At a login on a node, and in a workspace on another."""
    on_host = "script -qfc 'sleep 300' /run/on-host < /dev/null > /dev/null 2>&1 &"
    lab.nodes[1].check_output(f"rm -f /run/on-host; setsid {on_host} sleep 2")
    inside = "script -qfc 'sleep 300' /tmp/inside < /dev/null > /dev/null 2>&1 &"
    first = lab.nodes[0]
    assert first.compose("gpustead-workspace", "ssh", f'bash -c "{inside} sleep 2"', user=lab.owner).rc == 0
    drained(lab, "-e", "reason=disk")
    said = f"[gpustead] {lab.nodes[1].name} takes no new runs: disk."
    assert said in lab.nodes[1].check_output("cat /run/on-host")
    assert said in first.compose("gpustead-workspace", "ssh", "cat /tmp/inside", user=lab.owner).stdout


def test_a_node_that_is_down_is_drained_and_stays_so(lab: Lab) -> None:
    node = lab.nodes[1]
    with away(lab, node) as playbook:
        done = playbook("playbooks/drain.yml", "-e", f"node={node.name}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "it does not answer: what runs there is not known" in flat(done.stdout)
        assert hostfile(lab.nodes[0]) == [name for name in lab.groups["gpu_nodes"] if name != node.name]
        # Whoever waits for its runs does not take that for their end.
        late = playbook("playbooks/drain.yml", "-e", f"node={node.name}", "-e", "deadline=10s")
        assert late.returncode != 0 and "it does not answer" in flat(late.stdout)
    until(lambda: mesh_run(lab, "--launcher none hostname", at=1).rc == 0, 90)
    assert f"{node.name} is left out" in mesh_run(lab, "--launcher none hostname", at=1).stderr


def test_the_second_controller_is_told_who_is_at_work(lab: Lab) -> None:
    begin(lab, 0, 1, program=PROGRAM)
    command = ["ansible-playbook", "-i", str(lab.inventory), "playbooks/drain.yml"]
    words = ["-e", f"node={lab.nodes[1].name}", "-e", "deadline=30m"]
    first = subprocess.Popen(
        [*command, *words], cwd=PROJECT, env=plain_environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        until(lambda: records(lab.nodes[0]), 120)
        second = drain(lab, playbook="undrain")
        assert second.returncode != 0
        assert f"is at work: drain of {lab.nodes[1].name}" in flat(second.stdout + second.stderr)
        assert records(lab.nodes[0])
        # The node beside it is another matter.
        assert drain(lab, node=2).returncode == 0
    finally:
        kill(first)
    # Killed, it keeps nobody waiting here.
    assert drain(lab, playbook="undrain").returncode == 0
    # One of another machine ends at its time.
    lease = {"token": "elsewhere/b/1/2", "by": "ops@elsewhere", "what": "drain of it", "until": time.time() + 3600}
    path = f"/mnt/nas/.cluster/leases/{lab.nodes[1].name}.json"
    lab.nodes[0].check_output(f"cd / && {AS_LAYOUT} tee {path} > /dev/null <<'END'\n{json.dumps(lease)}\nEND")
    assert "ops@elsewhere is at work" in flat(drain(lab).stdout)
    lab.nodes[0].check_output(f"cd / && {AS_LAYOUT} rm {path}")


class Reader(threading.Thread):
    """Reads the shared files all the time; what it could not make sense of is in `torn`."""

    LOOK = f"""
import errno, glob, json, re, time
def read(path):
    for _ in range(20):
        try:
            return open(path).read()
        except OSError as error:
            if error.errno != errno.ESTALE:  # it has just been replaced, and is asked for once more
                raise
        time.sleep(0.05)
for turn in range(40):
    try:
        lines = read("{SHARED}/hostfile").splitlines()
        print(*(line for line in lines if not re.fullmatch("gpu[0-9]+ slots=[0-9]+", line)), sep="", end="")
    except OSError as error:
        print(error)
    for record in glob.glob("{SHARED}/drained/*.json"):
        try:
            json.loads(read(record))
        except FileNotFoundError:
            pass  # the node has just been undrained
        except (OSError, ValueError) as error:
            print(record, error)
    time.sleep(0.05)
"""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.host: Host = lab.nodes[2]
        self.ended, self.torn = threading.Event(), list[str]()

    def run(self) -> None:
        while not self.ended.is_set():
            done = self.host.run(f"python3 -c {shlex.quote(self.LOOK)}")
            self.torn += f"{done.stdout}{done.stderr}".splitlines()


def test_killed_at_any_moment_it_is_drained_or_not(lab: Lab) -> None:
    node, chance = lab.nodes[1].name, random.Random(23)
    reader = Reader(lab)
    reader.start()
    try:
        for turn in range(KILLS):
            playbook = "undrain" if turn % 2 else "drain"
            killed(lab, chance.uniform(1, 15), f"playbooks/{playbook}.yml", "-e", f"node={node}")
            # Never between: without a record it is in the hostfile.
            assert records(lab.nodes[0]) or node in hostfile(lab.nodes[0])
            done = drain(lab, playbook=playbook)
            assert done.returncode == 0, done.stdout + done.stderr
            assert (node in hostfile(lab.nodes[0])) is (playbook == "undrain")
            assert records(lab.nodes[0]) == ([f"{node}.json"] if playbook == "drain" else [])
    finally:
        reader.ended.set()
        reader.join(180)
    assert reader.torn == []
