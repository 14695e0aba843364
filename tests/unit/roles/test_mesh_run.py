# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command mesh-run: what it chooses and refuses, how it starts ranks, and that nothing is left of a run.

Nodes are networks of this machine, and SSH to one is a shell in it.
"""

from __future__ import annotations

import base64
import json
import os
import pty
import pwd
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_places
from mesh_run import accounts, agent, cli, front, head, leavings, places, processes, rank, runs, service
from mesh_run.lines import Lines
from mesh_run.request import (
    PORTS,
    RANK,
    Job,
    Node,
    Refused,
    Request,
    activated,
    choose,
    launch,
    own_settings,
    prefix_of,
    read_environment,
    read_hostfile,
)

SCRIPT = Path(__file__).parents[3] / "roles/ssh_mesh/files/mesh-run"
NODES = tuple(Node(name, slots) for name, slots in [("gpu01", 2), ("gpu02", 4), ("gpu03", 2)])
# Answers for two nodes of three. As root each has a network of its own, and with it all of its ports.
SSH = """#!/bin/sh
[ "$1 $2" = "-F $GPUSTEAD_MESH_SSH_CONFIG" ] || { echo "ssh: of whose settings?" >&2; exit 255; }
shift 2
[ "$1" = -G ] && { echo "hostname 10.0.0.${2#gpu0}"; exit; }
while :; do case "$1" in -T) shift;; -o) shift 2;; *) break;; esac; done
[ "$1" = gpu03 ] && { echo "ssh: connect to host gpu03 port 2222: Connection refused" >&2; exit 255; }
shift
exec NETWORK sh -c "$*"
""".replace("NETWORK", "unshare --net" if os.geteuid() == 0 else "")
TRAIN = """
import os, signal, sys, time
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], os.environ["LEVEL"], *sys.argv[1:], flush=True)
if sys.argv[1:] == ["fail"] and os.environ["RANK"] == "1":
    print("boom", flush=True)
    sys.exit(7)
if sys.argv[1:] == ["hang"]:
    if os.fork() == 0:
        os.setsid()  # as a server that it has started
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh of three nodes, seen from gpu02."""
    for name in ("bin", "home/.config/gpustead", "places", "shm"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    (tmp_path / "bin/python").symlink_to(sys.executable)
    (tmp_path / "hostfile").write_text("gpu01 slots=2\ngpu02 slots=4\ngpu03 slots=2\n")
    known = {name: {"address": "10.0.0.1", "port": 2222} for name in ("gpu01", "gpu02", "gpu03")}
    (tmp_path / "nodes.json").write_text(json.dumps({"schema": 1, "nodes": known}))
    (tmp_path / "deepspeed_env").write_text("FROM=cluster\nLEVEL=cluster\n")
    (tmp_path / "mesh.env").write_text("GPUSTEAD_NODE=gpu02\nNCCL_SOCKET_IFNAME==eth7\nGLOO_SOCKET_IFNAME=eth7\n")
    (tmp_path / "home/.deepspeed_env").write_text("# mine\n\nLEVEL=user\n")
    for name in ("mesh_key", "mesh_key.pub"):
        (tmp_path / "home/.config/gpustead" / name).write_text("")
    (tmp_path / "train.py").write_text(TRAIN)
    for name, value in {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "GPUSTEAD_MESH_DIR": str(tmp_path),
        "GPUSTEAD_MESH_ENV": str(tmp_path / "mesh.env"),
        "GPUSTEAD_MESH_PLACES": str(tmp_path / "places"),
        "GPUSTEAD_MESH_SHM": str(tmp_path / "shm"),
        "GPUSTEAD_MESH_SETTINGS": str(tmp_path / "deepspeed_env"),
        "GPUSTEAD_MESH_SSH_CONFIG": str(tmp_path / "ssh_config"),
        "NCCL_SOCKET_IFNAME": "=eth7",
        "GLOO_SOCKET_IFNAME": "eth7",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=60
    )


def everywhere(*words: str) -> list[str]:
    """A command on both nodes that answer, or on one where there are no networks to be had."""
    nodes = "gpu01,gpu02" if os.geteuid() == 0 else "gpu02"
    return ["--nodes", nodes, "--launcher", "none", *words]


@pytest.mark.parametrize(
    ("requested", "per_node", "here", "chosen"),
    [
        (None, None, "gpu01", "gpu01:2 gpu02:4 gpu03:2"),
        (None, None, "gpu02", "gpu02:4 gpu01:2 gpu03:2"),
        (None, None, "elsewhere", "gpu01:2 gpu02:4 gpu03:2"),
        (None, 1, "gpu01", "gpu01:1 gpu02:1 gpu03:1"),
        ("1", None, "gpu03", "gpu03:2"),
        ("2", None, "gpu03", "gpu03:2 gpu01:2"),
        ("gpu03,gpu02", None, "gpu01", "gpu03:2 gpu02:4"),
        ("gpu03, gpu02,gpu03", 2, "gpu02", "gpu02:2 gpu03:2"),
    ],
)
def test_choose(requested: str | None, per_node: int | None, here: str, chosen: str) -> None:
    nodes = choose(NODES, requested, per_node, here)
    assert " ".join(f"{node.name}:{node.slots}" for node in nodes) == chosen


@pytest.mark.parametrize(
    ("requested", "per_node", "said"),
    [
        ("4", None, "the mesh has 3 node"),
        ("0", None, "the mesh has 3 node"),
        ("gpu01,gpu09", None, "not in the mesh: gpu09"),
        (",", None, "not in the mesh"),
        (None, 4, "gpu01 has 2, gpu03 has 2"),
        ("gpu02", 0, "at least 1"),
    ],
)
def test_choose_refuses(requested: str | None, per_node: int | None, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        choose(NODES, requested, per_node, "gpu01")


DRAINED = {"gpu02": "is drained since noon by ops: new driver"}


@pytest.mark.parametrize(
    ("requested", "here", "chosen"),
    [(None, "gpu02", "gpu01 gpu03"), ("2", "gpu03", "gpu03 gpu01"), ("gpu03", "gpu02", "gpu03")],
)
def test_choose_leaves_out_a_drained_node(requested: str | None, here: str, chosen: str) -> None:
    assert " ".join(node.name for node in choose(NODES, requested, None, here, DRAINED)) == chosen


@pytest.mark.parametrize(
    ("nodes", "requested", "said"),
    [
        (NODES, "3", "the mesh has 2 node(s): gpu01, gpu03; without gpu02, which is drained since noon by ops"),
        (NODES, "gpu01,gpu02", "--nodes gpu01,gpu02: gpu02 is drained since noon by ops: new driver"),
        (NODES[1:2], None, "the mesh has no node; without gpu02, which is drained"),
        ((), "gpu02", "the mesh has no node; without gpu02"),
    ],
)
def test_choose_says_who_is_drained(nodes: tuple[Node, ...], requested: str | None, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        choose(nodes, requested, None, "gpu01", DRAINED)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ('{"since": "noon", "by": "ops", "reason": "new\\u001b[31m driver"}', "since noon by ops: new\\x1b[31m driver"),
        ("[]", "; its record cannot be read"),
        ("{}", "; its record cannot be read"),
        ("[" * 100000, "; its record cannot be read"),
    ],
)
def test_a_drained_node_is_left_out_with_a_sentence(place: Path, record: str, said: str) -> None:
    (place / "drained").mkdir()
    (place / "drained/gpu02.json").write_text(record)
    (place / "drained/-oProxyCommand=x.json").write_text(record)
    (place / "drained/.gpu01.json.0123456789ab.tmp").write_text(record)
    (place / "drained/gpu09.json").write_text(record)  # its line is not in the inventory any more
    done = call("--dry-run", "--nodes", "2", "train.py")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "left out" in line]
    assert line.startswith("mesh-run: gpu02 is left out: it is drained") and said in line
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("gpu")] == ["gpu01", "gpu03"]
    refused = call("--dry-run", "--nodes", "gpu02", "train.py")
    assert refused.returncode == 2 and "--nodes gpu02: gpu02 is drained" in refused.stderr


def test_runs_on_a_drained_node_are_still_asked_for(place: Path) -> None:
    """Its hostfile has no line for it."""
    (place / "hostfile").write_text("gpu01 slots=2\n")
    (place / "drained").mkdir()
    for name in ("gpu03", "gpu09"):
        (place / f"drained/{name}.json").write_text("{}")
    ask = "import json; from mesh_run import head; print(json.dumps(head.on_all(['ps-here'])))"
    done = subprocess.run(
        [sys.executable, "-c", ask], cwd=SCRIPT.parent, capture_output=True, text=True, check=True, timeout=60
    )
    answers = json.loads(done.stdout)
    assert [*answers] == ["gpu01", "gpu03"] and "connect to host gpu03" in answers["gpu03"][1]


@pytest.mark.parametrize("text", [None, "[]", "["])
def test_where_the_share_does_not_say_which_nodes_there_are_nothing_begins(place: Path, text: str | None) -> None:
    (place / "drained").mkdir()
    (place / "drained/gpu03.json").write_text("{}")
    (place / "nodes.json").unlink()
    if text is not None:
        (place / "nodes.json").write_text(text)
    done = call("--dry-run", "train.py")
    assert done.returncode == 2 and "which nodes there are cannot be read" in done.stderr


@pytest.mark.parametrize("text", ["gpu01\n", "gpu01 slots=two\n", "-oProxyCommand=id slots=1\n", "gpu01 slots=99999\n"])
def test_bad_hostfile(text: str) -> None:
    with pytest.raises(Refused, match="hostfile"):
        read_hostfile(text)


def test_an_empty_hostfile_is_no_mesh(place: Path) -> None:
    (place / "hostfile").write_text("# none\n")
    done = call("--dry-run", "train.py")
    assert done.returncode == 2 and "hostfile has no node: run the site playbook" in done.stderr


def test_settings_of_a_shell_are_those_that_the_node_does_not_have() -> None:
    assert own_settings({"NCCL_A": "1", "GLOO_B": "2", "X": "3"}, {"NCCL_A": "1", "GLOO_B": "1"}) == {"GLOO_B": "2"}


@pytest.mark.parametrize("text", ["1X=2", "X", "X=\a"])
def test_what_is_no_setting_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="--env: "):
        read_environment(text, "--env")


JOB = Job("a-run", NODES[:2], "10.0.0.1", {}, Request(("train.py", "--lr", "1"), "/home/ada"), "/home/ada/mesh-runs/a")


def job(launcher: str, *slots: int) -> Job:
    nodes = tuple(Node(f"gpu0{at}", count) for at, count in enumerate(slots, 1))
    return replace(JOB, nodes=nodes, request=replace(JOB.request, launcher=launcher))


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_deepspeeds_launcher_of_one_node() -> None:
    words, more = launch(job("deepspeed", 2, 4), 1, 29501, "/opt/venv/bin/python", gpus=True)
    assert words[:5] == ["/opt/venv/bin/python", "-I", "-u", "-m", "deepspeed.launcher.launch"]
    (world,) = [word.partition("=")[2] for word in words if word.startswith("--world_info=")]
    assert json.loads(base64.urlsafe_b64decode(world)) == {"gpu01": [0, 1], "gpu02": [0, 1, 2, 3]}
    assert words[6:] == ["--node_rank=1", "--master_addr=10.0.0.1", "--master_port=29501", RANK]
    assert more == {}


@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_torchrun_and_accelerate_without_gpus(launcher: str) -> None:
    words, more = launch(job(launcher, 2, 4), 1, 29501, "python", gpus=False, scratch="/a/run")
    assert words[:4] == ["python", "-I", "-m", "torch.distributed.run"]
    names = ("--nnodes", "--node_rank", "--nproc_per_node", "--master_port", "--log_dir")
    assert [option(words, name) for name in names] == ["2", "1", "4", "29501", "/a/run"]
    assert words[-1] == RANK
    assert more == ({"ACCELERATE_USE_CPU": "true"} if launcher == "accelerate" else {})


def test_accelerate_on_gpus() -> None:
    words, _more = launch(job("accelerate", 2, 2), 1, 29501, "python", gpus=True, scratch="/a/run")
    found = [option(words, name) for name in ("--num_machines", "--machine_rank", "--num_processes", "--log_dir")]
    assert (found, words[1:4]) == (["2", "1", "4", "/a/run"], ["-I", "-m", "accelerate.commands.launch"])
    with pytest.raises(Refused, match=r"gpu01 2, gpu02 4.*--gpus-per-node"):
        launch(job("accelerate", 2, 4), 0, 29501, "python", gpus=True)


def test_a_command_runs_once_on_each_node() -> None:
    assert job("none", 2, 4).ranks == 2
    _words, more = launch(job("none", 2, 4), 1, 29501, "", gpus=True)
    assert {name: more[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")} == {
        **{"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1"}
    }


def test_the_script_gets_the_words_of_its_launcher_first() -> None:
    raw = {"command": ["train.py", "--lr", "a b"], "launcher": "deepspeed"}
    assert rank.command(raw, "python", ["--local_rank=1"]) == [
        "python",
        "-u",
        "train.py",
        "--local_rank=1",
        "--lr",
        "a b",
    ]
    assert rank.command({**raw, "launcher": "none"}, "python", []) == ["train.py", "--lr", "a b"]


def test_a_job_arrives_as_it_was_sent() -> None:
    assert Job.of(json.loads(json.dumps(JOB.raw()))) == JOB


def test_an_environment_of_python_is_found_by_its_path_or_its_name(tmp_path: Path) -> None:
    for name in ("work/.venv", ".conda/envs/vision"):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin/python").write_text("")
    request = Request(("x",), str(tmp_path / "work"), prefix=".venv")
    assert prefix_of(request, str(tmp_path)) == str(tmp_path / "work/.venv")
    named = replace(request, prefix="vision", conda=True)
    assert prefix_of(named, str(tmp_path)) == str(tmp_path / ".conda/envs/vision")
    assert activated("/e/vision", True, "/bin") == {
        **{"CONDA_PREFIX": "/e/vision", "CONDA_DEFAULT_ENV": "vision", "PATH": "/e/vision/bin:/bin"}
    }
    with pytest.raises(Refused, match="no bin/python in"):
        prefix_of(replace(request, prefix="~/none"), str(tmp_path))


# Runs


def test_a_run_says_what_one_needs_and_its_words_arrive(place: Path) -> None:
    words = everywhere("--env", "X=1", "python3", "train.py", "a b", "$HOME %n", "it's", "")
    done = call(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "gpu02: rank 0 of {} user a b $HOME %n it's ".format(words[1].count(",") + 1) in lines  # gpu02: the head
    run, logs = re.findall(r"run (\S+): \d ranks on gpu02 \(1\)|logs (\S+)", done.stderr)
    assert re.search(r"rendezvous gpu02 10\.0\.0\.2:295\d\d, ", done.stderr)
    assert "rank 0 of" in Path(logs[1], "rank-0.log").read_text()
    assert logs[1].endswith(f"/mesh-runs/{run[0]}")
    assert [*(place / "places").glob("*/runs/*")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="two nodes need two networks")
def test_the_first_rank_that_failed_is_told_with_its_last_lines(place: Path) -> None:
    done = call(*everywhere("python3", "train.py", "fail"))
    assert done.returncode == 7
    said = done.stderr[done.stderr.index("failed first") - 30 :]
    assert "rank 1 on gpu01 failed first, with status 7" in said
    assert said.splitlines()[-1] == "mesh-run:   boom"


@contextmanager
def hanging(*more: str) -> Iterator[subprocess.Popen[str]]:
    """A run that ends by nothing but force, when its ranks are there."""
    words = [sys.executable, str(SCRIPT), *everywhere(*more, "python3", "train.py", "hang")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _node in words[3].split(","):
            assert "rank" in process.stdout.readline()
        yield process
        process.kill()


def left(place: Path) -> list[str]:
    """What is left of runs: their ranks carry a mark, and lie in a session of their own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"GPUSTEAD_MESH_DIR={place}".encode() in path.read_bytes().split(b"\0"):
                found.append((path.parent / "cmdline").read_text())
        except OSError:
            continue
    return [line for line in found if "train.py" in line and "mesh-run" not in line]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    """The same mesh, in which nobody waits for seconds."""
    copy = place / "programs"
    (copy / "mesh_run").mkdir(parents=True)
    for path in (*SCRIPT.parent.glob("mesh_run/*.py"), SCRIPT):
        text = path.read_text().replace("_TERM, _KILL = 5.0, 10.0", "_TERM, _KILL = 0.3, 10.0")
        text = text.replace("BEAT, SILENCE = 3.0, 12.0", "BEAT, SILENCE = 0.3, 1.5")
        text = text.replace("_WAIT = 6.0", "_WAIT = 1.0")
        (copy / path.relative_to(SCRIPT.parent)).write_text(text)
    monkeypatch.setattr(sys.modules[__name__], "SCRIPT", copy / "mesh-run")
    return place


def wait_until_gone(place: Path) -> None:
    until(lambda: left(place) == [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_run_ends_on_all_nodes(impatient: Path, number: signal.Signals) -> None:
    with hanging() as process:
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        wait_until_gone(impatient)


def test_a_run_whose_head_is_killed_ends_on_all_nodes(impatient: Path) -> None:
    with hanging() as process:
        process.kill()
        process.wait()
        wait_until_gone(impatient)


def test_a_run_of_which_a_node_falls_silent_ends_and_says_which(impatient: Path) -> None:
    with hanging() as process:
        agents = [pid for pid in processes.descendants(process.pid) if b"agent" in _words(pid)]
        os.kill(agents[0], signal.SIGSTOP)
        assert process.wait(20) == 1
        assert process.stderr and re.search(r"gpu0\d: it has not answered for", process.stderr.read())
        os.kill(agents[0], signal.SIGCONT)
        wait_until_gone(impatient)


def test_a_run_of_which_an_agent_is_killed_leaves_nothing(impatient: Path) -> None:
    """Its ranks ignore what it sends when it goes, and nobody is left there who would end them."""
    with hanging() as process:
        record = next(impatient.glob("places/*/runs/*/record.json"))
        killed = json.loads(record.read_text())
        rank_pid = min(processes.descendants(killed["pid"]))
        until(lambda: any(str(rank_pid) in path.read_text().split() for path in record.parent.glob("pids")))
        rendezvous = killed["rendezvous"].replace(":", "_")
        names = (f"deepspeed_allreduce_buffer_{os.geteuid()}_{rendezvous}_0", f"torch_{rank_pid}_1_0")
        for name in names:
            (impatient / "shm" / name).write_text("")
        os.kill(killed["pid"], signal.SIGKILL)
        assert process.wait(20) == 1
        wait_until_gone(impatient)
        until(lambda: not [*impatient.glob("places/*/runs/*")])
        assert [*(impatient / "shm").iterdir()] == []


def until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _words(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--launcher", "none", "ls"], "gpu03: ssh: connect to host gpu03 port 2222: Connection refused"),
        (["--nodes", "gpu02", "--master-port", "99999", "train.py"], "a port is from 1024 to 65535"),
        (["--nodes", "gpu02", "missing.py"], "gpu02: missing.py: no such file there"),
        (["--nodes", "gpu02", "--launcher", "none", "no-such"], "gpu02: no-such: no such command there"),
        (["--nodes", "gpu02", "--launcher", "accelerate", "train.py"], "bin/python has no accelerate"),
    ],
)
def test_a_node_that_cannot_take_part_says_why(place: Path, words: list[str], said: str) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_shows_settings_and_commands(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "mine.env").write_text("FROM_FILE=1\nX=file\n")
    done = call("--dry-run", "--env-file", "mine.env", "--env", "X=a b", "--launcher", "torchrun", "train.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {"FROM=cluster", "LEVEL=user", "FROM_FILE=1", "X=a b"} <= set(lines)
    assert not [line for line in lines if line.startswith(("NCCL_SOCKET", "GLOO_SOCKET"))]
    assert lines[-1].startswith("gpu03: python -I -m torch.distributed.run --nnodes 3 --node_rank 2")
    assert lines[-1].endswith(" train.py")


# Ports, and who has joined


def test_a_port_is_held_for_one_run_and_free_after_it() -> None:
    port = next(port for port in PORTS if agent._is_free(port))
    held = agent.hold_port(port)
    assert held is not None
    assert (agent.hold_port(port), agent._is_free(port)) == (None, False)
    held.close()
    assert agent._is_free(port)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", port))
        listening.listen()
        assert not agent._is_free(port)


def test_a_rank_has_joined_when_it_is_connected_to_the_rendezvous() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as joined:
        port = server.getsockname()[1]
        joined.connect(("127.0.0.1", port))
        found = {inode for inode, state in processes.sockets_to(port).items() if state == processes.ESTABLISHED}
        assert processes.with_sockets({os.getpid()}, found) == {os.getpid()}
        assert processes.with_sockets({os.getppid()}, found) == set()
        assert processes.sockets_to(port + 1) == {}


class Watching(agent.Agent):
    """On the first node of a run, one of whose ranks is connected to its rendezvous, with what it has started."""

    def __init__(self, port: int, at: int) -> None:
        self.ours, theirs = socket.socketpair()
        super().__init__(Lines(theirs.fileno(), theirs.detach()))
        self.job, self.port, self.at = JOB, port, at
        program = (
            "import os, socket, time\n"
            f"connection = socket.create_connection(('127.0.0.1', {port}))\n"
            "os.fork()\nprint('there\\n', end='', flush=True)\ntime.sleep(60)"
        )
        rank = f'RANK=0 exec {sys.executable} -c "$0"'
        self.launcher = subprocess.Popen(
            ["sh", "-c", f"({rank}) & wait", program], stdout=subprocess.PIPE, start_new_session=True
        )
        assert self.launcher.stdout
        assert [self.launcher.stdout.readline() for _process in range(2)] == [b"there\n"] * 2

    def said(self) -> list[dict[str, object]]:
        self._tell_joined()
        return [json.loads(line) for line in self.ours.recv(1 << 16).splitlines()]

    def end(self) -> None:
        assert self.launcher
        os.killpg(self.launcher.pid, signal.SIGKILL)
        self.launcher.communicate()
        self.ours.close()


@pytest.fixture
def watching() -> Iterator[Callable[[int], Watching]]:
    made: list[Watching] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def make(at: int) -> Watching:
            made.append(Watching(server.getsockname()[1], at))
            return made[-1]

        yield make
        for one in made:
            one.end()


def test_a_rank_joins_once_whatever_it_has_started(watching: Callable[[int], Watching]) -> None:
    assert watching(0).said() == [{"joined": 1, "why": ""}]


@pytest.mark.parametrize("at", [0, 1])
def test_ranks_do_not_speak_to_somebody_else(
    watching: Callable[[int], Watching], monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Who listens on the first node, where rank 0 should; on the others nobody is spoken to."""
    seen = watching(at)
    assert processes.listeners(seen.port) == {os.geteuid()}
    assert processes.listeners(seen.port + 1) == set()
    monkeypatch.setattr(os, "geteuid", lambda: 64001)
    monkeypatch.setattr(processes, "variable", lambda _pid, _name: "0")
    (said,) = seen.said()
    if at:
        assert said == {"joined": 1, "why": ""}
    else:
        assert f"{pwd.getpwuid(os.getuid()).pw_name} listens on port" in str(said["refused"])
        assert seen.ending == "refused"


def test_the_first_rank_that_failed_is_that_by_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    run = head.Run(JOB, None)
    for name, ago in (("gpu02", 0.1), ("gpu01", 0.7), ("gpu03", 0.3)):
        remote = object.__new__(head.Remote)
        remote.name = name
        run._take(remote, {"failed": {"rank": int(name[-1]), "code": 3, "last": ["boom"], "ago": ago}})
    assert run._verdict() == 3
    assert "rank 1 on gpu01 failed first, with status 3" in capsys.readouterr().err


# What they leave


def test_what_a_run_left_in_shared_memory_is_removed_and_nothing_else(tmp_path: Path) -> None:
    uid, dead = os.geteuid(), subprocess.Popen(["true"])
    dead.wait()
    removed = [f"deepspeed_allreduce_buffer_{uid}_10.0.0.1_29501_{rank}" for rank in (0, 11)]
    removed += [f"torch_{dead.pid}_77_0", f"__KMP_REGISTERED_LIB_{dead.pid}_{uid}"]
    stays = [
        f"deepspeed_allreduce_buffer_{uid}_10.0.0.1_29502_0",  # of another run
        f"deepspeed_allreduce_buffer_{uid + 1}_10.0.0.1_29501_0",
        f"deepspeed_allreduce_buffer_{uid}_10a0.0.1_29501_0",
        f"torch_{os.getpid()}_77_0",  # of what still runs
        f"torch_{dead.pid}0_77_0",
        f"torch_{dead.pid}_77_0.txt",
        "data-of-mine",
    ]
    for name in (*removed, *stays):
        (tmp_path / name).write_text("")
    link, old = f"torch_{dead.pid}_78_0", f"torch_{dead.pid}_79_0"
    (tmp_path / link).symlink_to(tmp_path / "data-of-mine")
    (tmp_path / old).write_text("")
    since = time.time() + 60  # all of them are older
    leavings.remove("10.0.0.1", 29501, [dead.pid, os.getpid()], since, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*removed[2:], *stays, link, old}
    (tmp_path / old).unlink()
    leavings.remove("10.0.0.1", 29501, [dead.pid, os.getpid()], since - 120, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*stays, link}
    leavings.remove("10.0.0.1", 29501, [], 0, tmp_path / "none")


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_what_is_anothers_in_shared_memory_stays(tmp_path: Path) -> None:
    path = tmp_path / f"deepspeed_allreduce_buffer_{os.geteuid()}_10.0.0.1_29501_0"
    path.write_text("")
    os.chown(path, 64001, 64001)
    leavings.remove("10.0.0.1", 29501, [], 0, tmp_path)
    assert path.exists()
    found = [leavings.of_others("10.0.0.1", port, tmp_path) for port in (29501, 29502)]
    os.chown(path, os.geteuid(), -1)
    assert (found, leavings.of_others("10.0.0.1", 29501, tmp_path)) == ([True, False], False)


def test_a_run_leaves_nothing_in_shared_memory(impatient: Path) -> None:
    name = f"deepspeed_allreduce_buffer_{os.geteuid()}_$MASTER_ADDR'_'$MASTER_PORT'_'0"
    for end in ("true", "kill -9 $$"):
        done = call(*everywhere("sh", "-c", f"echo here > {impatient}/shm/{name}; ls {impatient}/shm; {end}"))
        assert f"gpu02: deepspeed_allreduce_buffer_{os.geteuid()}_10.0.0.2_295" in done.stdout, done.stderr
        assert [*(impatient / "shm").iterdir()] == []


def test_what_is_left_of_a_dead_run_is_removed_when_somebody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "ACCOUNTS", tmp_path)
    monkeypatch.setattr(places, "account", lambda: "ada")
    port = next(port for port in PORTS if agent._is_free(port))
    removed: list[object] = []
    monkeypatch.setattr(leavings, "remove", lambda *words: removed.append(words))
    monkeypatch.setattr(leavings, "remove_dead", lambda _hold: None)
    place = tmp_path / "ada/runs/a-run.x"
    place.mkdir(parents=True)
    (place / "pids").write_text("7\n8\n")
    record = {"id": "a-run", "pid": os.getpid(), "rendezvous": f"fd00::1:{port}", "started": 9.5}
    (place / "record.json").write_text(json.dumps(record))
    with agent.hold_port(port) or socket.socket():  # another run has the port, and files of the same names
        assert [*runs.here()] == []
    assert removed == [] and place.exists()
    assert [*runs.here()] == []
    assert removed == [("fd00::1", port, {7, 8}, 9.5)]
    assert not place.exists()


def test_what_is_left_of_a_container_that_is_gone_is_removed(tmp_path: Path) -> None:
    """Nobody knows its runs any more: of ports that no run has, the files are nobody's."""
    free, taken = [port for port in PORTS if agent._is_free(port)][:2]
    names = {port: f"deepspeed_allreduce_buffer_{os.geteuid()}_fd00::1_{port}_3" for port in (free, taken, 31000)}
    for name in (*names.values(), f"x{names[free]}", f"{names[free]}x"):
        (tmp_path / name).write_text("")
    with agent.hold_port(taken) or socket.socket():
        with socket.create_server(("127.0.0.1", free)) as server, socket.socket() as by_hand:
            by_hand.connect(server.getsockname())
            leavings.remove_dead(agent.hold_port, tmp_path)
        assert (tmp_path / names[free]).exists()
        leavings.remove_dead(agent.hold_port, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *(names[taken], names[31000], f"x{names[free]}", f"{names[free]}x")
    }
    assert agent._is_free(free)


# Root's view


def test_what_accounts_say_is_shown_to_root_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    people = [accounts.Account(name, 1500 + at, 1500) for at, name in enumerate(("ada", "bob", "carol", "dan"))]
    answers = {"ada": (0, ["\x1b]0;x\x07run"]), "bob": (1, ["no answer"])}
    monkeypatch.setattr(accounts, "current", lambda: people)
    monkeypatch.setattr(
        runs, "_as_account", lambda one, words: (one.name > "bob", []) if words[0] == "test" else answers[one.name]
    )
    monkeypatch.setattr(processes, "owners", lambda: {0, 1500, 1503})
    assert runs._as_each(["ps"]) == 1
    said = capsys.readouterr()
    assert said.out == "ada: \\x1b]0;x\\x07run\nbob: no answer\n"
    assert [line.split()[1] for line in said.err.splitlines()] == ["dan"]  # who has put its key away, say
    assert runs._as_each(["stop", "a-run"]) == 0
    assert "bob" not in capsys.readouterr().out
    answers["ada"] = (2, [])
    with pytest.raises(Refused, match="no run is called a-run"):
        runs._as_each(["stop", "a-run"])
    assert runs._as_each(["stop", "all"]) == 0


def test_root_sees_and_ends_what_runs_on_the_node(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    people = [accounts.Account(name, 1500 + at, 1500) for at, name in enumerate(("ada", "bob", "carol"))]
    run = json.dumps({"id": "a-run", "account": "carol"})  # whose it is the account does not decide
    answers = {"ada": (0, ["a word of a shell", "[" * 100000, "[]", run]), "bob": (1, ["x", "no\aanswer"])}
    asked = []

    def ask(account: accounts.Account, words: list[str]) -> tuple[int, list[str]]:
        asked.append((account.name, words[3:]))
        return answers[account.name]

    monkeypatch.setattr(accounts, "current", lambda: people)
    monkeypatch.setattr(processes, "owners", lambda: {0, 1500, 1501})
    monkeypatch.setattr(runs, "_as_account", ask)
    assert cli.main(["ps-here", "--of-all"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"id": "a-run", "account": "ada"},
        {"account": "bob", "error": "no\\x07answer"},
        {"end": True},
    ]
    asked.clear()
    ended: list[int] = []
    monkeypatch.setattr(service, "end_all", ended.append)
    answers["dan"] = (0, ["a word of a shell"])
    people.append(accounts.Account("dan", 1504, 1500))
    monkeypatch.setattr(processes, "owners", lambda: {0, 1500, 1501, 1504})
    # Neither who says that it does, nor who does not answer, keeps a node from being drained.
    assert cli.main(["stop-here", "--of-all"]) == 0
    assert ended == [1500, 1501]
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in said] == ["ada", "bob"] and "all that it has in the mesh here is ended" in said[
        0
    ]
    assert [words for name, words in asked if name == "dan"] == [["stop-here", "all"], ["ps-here"]]


DAEMON = accounts.Account("daemon", 1, 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another account")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("id -u; exit 3", 3, "1"),
        ("sleep 60", 124, "no answer within"),
        ("setsid sleep 5 & echo out", 0, "out"),
        ("yes", 124, "y"),
    ],
)
def test_root_does_not_give_an_account_its_time(
    monkeypatch: pytest.MonkeyPatch, words: str, code: int, said: str
) -> None:
    monkeypatch.setattr(runs, "_ANSWER", 1.0)
    began = time.monotonic()
    found, lines = runs._as_account(DAEMON, ["sh", "-c", words])
    assert (found, time.monotonic() - began < 20) == (code, True)
    assert any(line.startswith(said) for line in lines), lines[-3:]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another account")
def test_root_does_not_give_an_account_its_terminal() -> None:
    """What is typed there would be read by it, and it could type."""
    pid, terminal = pty.fork()
    if not pid:
        try:
            _code, lines = runs._as_account(DAEMON, ["sh", "-c", "(exec 3<> /dev/tty) 2> /dev/null; echo $?; tty"])
            os.write(1, f"{lines} {os.isatty(1)}.".encode())
        finally:
            os._exit(0)
    said = b""
    while not said.endswith(b"."):
        said += os.read(terminal, 1024)
    os.close(terminal)
    os.waitpid(pid, 0)
    assert said == b"['2', 'not a tty'] True."


def test_what_waits_to_be_sent_keeps_nobody_waiting() -> None:
    here, there = socket.socketpair()
    lines = Lines(here.fileno(), os.dup(here.fileno()))
    lines.send({"out": "x" * (1 << 22)})
    assert lines.waiting
    other = Lines(there.fileno(), os.dup(there.fileno()))
    found: list[dict[str, object]] = []
    while not found:
        lines.flush()
        found += other.receive()
    assert len(str(found[0]["out"])) == 1 << 22
    here.close()
    os.close(lines.outgoing)
    assert (other.receive(), other.closed) == ([], True)


# From a workspace and from a node


def here(share: str) -> front.Here:
    return front.Here({"node": "GPU01", "kex": "sntrup761x25519-sha512@openssh.com"}, "ada", share)


@pytest.mark.parametrize(
    ("share", "path", "inside"),
    [
        ("/mnt/nas", "/mnt/nas/users/ada/x", "/home/ada/x"),
        ("/mnt/nas", "/mnt/nas/shared", "/shared"),
        ("", "/home/ada", "/home/ada"),
        ("", "/shared/x/y", "/shared/x/y"),
    ],
)
def test_places_of_the_share_are_found_in_the_mesh(share: str, path: str, inside: str) -> None:
    assert here(share=share).in_mesh(path) == inside


@pytest.mark.parametrize(("share", "path"), [("/mnt/nas", "/home/ada"), ("", "/local"), ("", "/home/adam")])
def test_places_that_other_nodes_do_not_see_are_refused(share: str, path: str) -> None:
    with pytest.raises(Refused, match=r"is not on the share.*ada"):
        here(share=share).in_mesh(path)


def test_the_front_checks_the_host_key_and_shows_no_key_but_its_own() -> None:
    words = front.ssh(here(share=""), Path("/home/ada/.config/gpustead/mesh_key"), ["true", "a b"])
    said = dict(word.split("=", 1) for word in words if re.match(r"\w+=", word))
    assert (said["StrictHostKeyChecking"], said["HostKeyAlias"], said["IdentitiesOnly"]) == ("yes", "gpu01", "yes")
    assert words[-4:] == ["-l", "ada", "GPU01", "true 'a b'"]
    assert words[words.index("-F") + 1] == "none"


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    key = front.ensure_key(tmp_path)
    made = key.read_text()
    assert [oct(path.stat().st_mode & 0o777) for path in (key, key.parent)] == ["0o600", "0o700"]
    assert key.with_suffix(".pub").read_text().startswith("ssh-ed25519 ")
    assert front.ensure_key(tmp_path).read_text() == made
    assert len([*key.parent.iterdir()]) == 2


@pytest.mark.parametrize("there", [True, False])
def test_sshd_may_trust_the_way_to_a_key(tmp_path: Path, there: bool) -> None:
    before = os.umask(0o002)  # as where accounts have a group in common
    try:
        if there:
            (tmp_path / ".config").mkdir()
        key = front.ensure_key(tmp_path)
    finally:
        os.umask(before)
    assert [directory.stat().st_mode & 0o022 for directory in (key.parent, key.parent.parent)] == [0, 0]


@pytest.mark.parametrize("place", ["door", "of the node"])
def test_the_door_hands_over_a_connection(tmp_path: Path, place: str) -> None:
    assert places.DOORS[1] == Path(mesh_places.DOOR)
    (tmp_path / place).mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / place / "socket"))
        server.listen()
        program = (
            f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); from pathlib import Path; "
            f"from mesh_run import front, places; places.DOORS = (Path({str(tmp_path / 'of the node')!r}),); "
            f"front.door(Path({str(tmp_path)!r}))"
        )
        ours, theirs = socket.socketpair()
        subprocess.run([sys.executable, "-c", program], stdout=theirs.fileno(), check=True)
        _data, (handed,), _flags, _address = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=handed) as connection:
            connection.sendall(b"hello")
            assert server.accept()[0].recv(5) == b"hello"


def test_what_ends_the_front_ends_the_run() -> None:
    reading, writing = os.pipe()
    told = front.Told(reading)
    os.write(writing, b'{"request": 1}\n2\n')
    assert (told.request(), told.stopped()) == ({"request": 1}, signal.SIGINT)
    os.close(writing)
    assert told.stopped() == signal.SIGHUP


def test_the_role_brings_all_of_it() -> None:
    variables = yaml.safe_load((SCRIPT.parents[1] / "vars/main.yml").read_text())
    assert variables["__ssh_mesh_modules"] == sorted(path.stem for path in SCRIPT.parent.glob("mesh_run/*.py"))


def test_what_is_to_be_stopped_is_named(place: Path) -> None:
    with pytest.raises(Refused, match="mesh-run stop all"):
        cli._names(["stop"])
    assert cli._names(["stop", "a", "b"]) == ["a", "b"]
