# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command mesh-run: what it chooses, what it refuses, and that words survive the shells in between."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "roles/ssh_mesh/files/mesh-run"

# Answers for two nodes of three, and runs what it is asked to run here.
SSH = """#!/bin/sh
[ "$1" = -G ] && { echo "hostname 10.0.0.${2#gpu0}"; exit; }
while [ "$1" = -o ]; do shift 2; done
[ "$1" = gpu03 ] && { echo "ssh: connect to host gpu03 port 2222: Connection refused" >&2; exit 255; }
shift
exec sh -c "$*"
"""
# What pdsh does for one node: its own % words, then a shell.
PDSH = """#!/usr/bin/env python3
import re, subprocess, sys
words = sys.argv[1:]
at = words.index("-w")
name = words[at + 1].split(",")[0]
command = re.sub("%(.)", lambda m: {"%": "%", "n": "0", "h": name}.get(m[1], m[0]), " ".join(words[at + 2:]))
sys.exit(subprocess.run(["sh", "-c", command]).returncode)
"""
SHOW = "#!/usr/bin/env python3\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], dict(os.environ)]))\n"


def load() -> ModuleType:
    loader = SourceFileLoader("mesh_run", str(SCRIPT))
    spec = importlib.util.spec_from_loader("mesh_run", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mesh_run"] = module
    dont, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = dont
    return module


mesh_run = load()
NODES = tuple(mesh_run.Node(name, slots) for name, slots in [("gpu01", 2), ("gpu02", 4), ("gpu03", 2)])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mesh of three nodes, seen from gpu02."""
    for name, text in {"ssh": SSH, "pdsh": PDSH, "deepspeed": SHOW, "torchrun": SHOW}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    (tmp_path / "hostfile").write_text("gpu01 slots=2\ngpu02 slots=4\ngpu03 slots=2\n")
    (tmp_path / "deepspeed_env").write_text("FROM=cluster\nLEVEL=cluster\n")
    (tmp_path / "mesh.env").write_text("GPUSTEAD_NODE=gpu02\nNCCL_SOCKET_IFNAME==eth7\nGLOO_SOCKET_IFNAME=eth7\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".deepspeed_env").write_text("# mine\n\nLEVEL=user\n")
    (tmp_path / "train.py").write_text("")
    for name, value in {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "GPUSTEAD_MESH_DIR": str(tmp_path),
        "GPUSTEAD_MESH_ENV": str(tmp_path / "mesh.env"),
        "NCCL_SOCKET_IFNAME": "=eth7",
        "GLOO_SOCKET_IFNAME": "eth7",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


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
    nodes = mesh_run.choose(NODES, requested, per_node, here)
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
    with pytest.raises(mesh_run.Refused, match=re.escape(said)):
        mesh_run.choose(NODES, requested, per_node, "gpu01")


@pytest.mark.parametrize("text", ["", "# none\n", "gpu01\n", "gpu01 slots=two\n"])
def test_bad_hostfile(text: str) -> None:
    with pytest.raises(mesh_run.Refused, match="hostfile"):
        mesh_run.read_hostfile(text)


WORDS = [
    "plain",
    "a b",
    'say "hi" now',
    "$HOME",
    "cost $5 `id`",
    "100%",
    "%n of %h",
    "a\\b c",
    "it's",
    "*",
    "",
    "x;y",
    "é ü",
]


@pytest.mark.parametrize("word", WORDS)
def test_argument_survives_deepspeed_and_pdsh(place: Path, word: str) -> None:
    sent = mesh_run.deepspeed_argument(word)
    if " " in sent:  # PDSHRunner.parse_user_args of DeepSpeed 0.19
        sent = '"{}"'.format(sent.replace('"', '\\"'))
    done = subprocess.run(["pdsh", "-w", "gpu01", "torchrun", sent], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)[0] == [word]


@pytest.mark.parametrize("value", [word for word in WORDS if word])
def test_setting_survives_deepspeed_and_pdsh(place: Path, value: str) -> None:
    sent = mesh_run.deepspeed_value(value)
    if re.search(r"[^\w@%+=:,./-]", sent):  # MultiNodeRunner.add_export of DeepSpeed 0.19
        sent = f'"{sent}"'
    done = subprocess.run(
        ["pdsh", "-w", "gpu01", f"export SETTING={sent};", "torchrun"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)[1]["SETTING"] == value


def test_deepspeed_is_started_with_the_right_words(place: Path) -> None:
    done = call("--nodes", "gpu01,gpu02", "--gpus-per-node", "2", "train.py", "--lr", "0.1")
    assert done.returncode == 0, done.stderr
    argv, environment = json.loads(done.stdout)
    assert option(argv, "--include") == "gpu02@gpu01"  # it runs on gpu02: the head
    assert option(argv, "--master_addr") == "10.0.0.2"
    assert argv[-3:] == ["train.py", "--lr", "0.1"]
    # What belongs to this node does not go to the others.
    assert "NCCL_SOCKET_IFNAME" not in environment
    assert environment["PDSH_RCMD_TYPE"] == "ssh"
    assert environment["DS_ACCELERATOR"] == "cpu"


@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_dry_run_shows_the_settings(place: Path, monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    monkeypatch.setenv("NCCL_ALGO", "Ring")
    done = call("--dry-run", "--launcher", launcher, "--env", "NCCL_ALGO=Tree", "--env", "X=a b", "train.py")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for line in ["FROM=cluster", "LEVEL=user", "NCCL_DEBUG=INFO", "NCCL_ALGO=Tree", "X=a b", "DS_ACCELERATOR=cpu"]:
        assert line in lines
    assert not [line for line in lines if line.startswith(("NCCL_SOCKET", "GLOO_SOCKET"))]
    assert launcher in shlex.split(lines[-1])[-1] or shlex.split(lines[-1])[0].endswith(launcher)


def test_interface_can_be_overridden(place: Path) -> None:
    done = call("--dry-run", "--env", "NCCL_SOCKET_IFNAME==eth9", "train.py")
    assert "NCCL_SOCKET_IFNAME==eth9" in done.stdout.splitlines()


def test_torchrun_is_started_with_the_right_words(place: Path) -> None:
    words = ["--launcher", "torchrun", "--nodes", "gpu01,gpu02", "--env", "X=a 'b' %n", "train.py", "one word", "$HOME"]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    argv, environment = json.loads(done.stdout)
    assert argv[-3:] == ["train.py", "one word", "$HOME"]
    assert [option(argv, name) for name in ("--nnodes", "--node_rank", "--nproc_per_node")] == ["2", "0", "4"]
    assert environment["X"] == "a 'b' %n"
    assert environment["LEVEL"] == "user"


@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_exit_code_is_passed_on(place: Path, launcher: str) -> None:
    (place / "bin" / launcher).write_text("#!/bin/sh\nexit 7\n")
    assert call("--nodes", "gpu01", "--launcher", launcher, "train.py").returncode == 7


def test_interrupt_ends_the_run(place: Path) -> None:
    (place / "bin" / "deepspeed").write_text("#!/bin/sh\necho started\nexec sleep 60\n")
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--nodes", "gpu01", "train.py"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train.py"], "gpu03: ssh: connect to host gpu03 port 2222: Connection refused"),
        (["--nodes", "gpu01", "missing.py"], "gpu01: missing.py: no such file there"),
        (["--nodes", "gpu01", "--env", "1X=2", "train.py"], "--env: '1X=2' is not NAME=VALUE"),
        (["--nodes", "gpu01", "--env", "X", "train.py"], "--env: 'X' is not NAME=VALUE"),
        (["--nodes", "gpu01", "--env", "X=\a", "train.py"], "control character"),
    ],
)
def test_refusals_are_clear(place: Path, words: list[str], said: str) -> None:
    done = call(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_directory_with_a_space(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "my work").mkdir()
    monkeypatch.chdir(place / "my work")
    assert "without spaces" in call("--dry-run", "train.py").stderr


def test_outside_of_the_mesh(place: Path) -> None:
    (place / "hostfile").unlink()
    done = call("train.py")
    assert (done.returncode, "in the mesh container" in done.stderr) == (2, True)
