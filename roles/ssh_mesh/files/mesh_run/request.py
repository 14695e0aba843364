# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody asked for, and the run that this makes: nodes, settings, and the launcher's command on each node."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mesh_run.names import NAME

PORTS = range(29500, 29511)  # open between the nodes
PER_SHELL = ("NCCL_", "GLOO_")  # taken from the shell to all nodes
LAUNCHERS = {"deepspeed": "deepspeed", "torchrun": "torch", "accelerate": "accelerate", "none": ""}
RANK = str(Path(__file__).with_name("rank.py"))


class Refused(Exception):
    """What the person who typed the command should read; nothing was started."""


@dataclass(frozen=True)
class Node:
    name: str
    slots: int


@dataclass(frozen=True)
class Request:
    """What was typed, and what of the shell counts.

    Attributes:
        command: the script and its arguments; with launcher none, the command.
        directory: where it runs, as the mesh has it.
        environment: settings of the shell, of `--env-file` and of `--env`, later ones win.
        nodes: names with commas, how many, or None for all.
        per_node: ranks on each node, or None for its slots.
        prefix: directory of an environment of Python, whose `bin` comes first; empty: none.
        conda: whether that is one of conda, by path or by name.
        port: the rendezvous; None: one that is free on all nodes.
        patience: seconds after which it is said who has not joined.
        path: PATH of the shell, where that has the same programs as the mesh.
    """

    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str] = field(default_factory=dict)
    launcher: str = "deepspeed"
    nodes: str | None = None
    per_node: int | None = None
    prefix: str = ""
    conda: bool = False
    port: int | None = None
    patience: float = 120
    path: str = ""
    dry_run: bool = False

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Request:
        return cls(**{**raw, "command": tuple(raw["command"])})

    def raw(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """A run, as all its nodes know it; the first node is the head, where rank 0 runs.

    Attributes:
        id: names its logs, and what it left.
        environment: for all ranks.
        logs: directory with a file for each rank.
    """

    id: str
    nodes: tuple[Node, ...]
    address: str
    environment: Mapping[str, str]
    request: Request
    logs: str

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Job:
        nodes = tuple(Node(**node) for node in raw["nodes"])
        return cls(**{**raw, "nodes": nodes, "request": Request.of(raw["request"])})

    def raw(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def ranks(self) -> int:
        return sum(self.on(at) for at in range(len(self.nodes)))

    def on(self, at: int) -> int:
        """Ranks of one of the nodes."""
        return 1 if self.request.launcher == "none" else self.nodes[at].slots


def read_hostfile(text: str, place: str = "hostfile") -> tuple[Node, ...]:
    """The nodes that take runs. Raises Refused for a line that is none."""
    nodes = []
    for line in _lines(text):
        match = re.match(r"(\S+)\s+slots=(\d{1,4})\s*$", line)
        # ssh is called with it, and takes what begins with a dash for an option.
        if not match or not NAME.match(match[1]):
            raise Refused(f"{place}: line {line!r} is not '<node> slots=<number>'")
        nodes.append(Node(match[1], int(match[2])))
    return tuple(nodes)


def read_environment(text: str, place: str) -> dict[str, str]:
    """NAME=VALUE lines. Raises Refused for others."""
    values = {}
    for line in _lines(text):
        name, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            raise Refused(f"{place}: {line!r} is not NAME=VALUE")
        if not value.isprintable():
            raise Refused(f"{place}: {name.strip()} has a control character in it")
        values[name.strip()] = value.strip()
    return values


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]


def environment_file(path: Path, *, needed: bool = False) -> dict[str, str]:
    """Those of a file; without one, and not needed, none."""
    try:
        return read_environment(path.read_text(), str(path))
    except FileNotFoundError:
        if not needed:
            return {}
        raise Refused(f"{path} is not there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}") from None


def choose(
    available: Sequence[Node],
    requested: str | None,
    per_node: int | None,
    here: str,
    left_out: Mapping[str, str] | None = None,
) -> tuple[Node, ...]:
    """The nodes of a run, the head first: this node where it takes part, else the first chosen one.

    Args:
        left_out: why nodes take no new runs, by their names.

    Raises:
        Refused: a node that is none or takes no runs, or more ranks than slots.
    """
    out = left_out or {}
    by_name = {node.name: node for node in available if node.name not in out}
    first_here = sorted(by_name.values(), key=lambda node: node.name != here)
    without = f"; without {', '.join(f'{name}, which {why}' for name, why in out.items())}" if out else ""
    if not by_name:
        raise Refused(f"the mesh has no node{without}")
    if requested is None:
        chosen = first_here
    elif requested.isdigit():
        if not 0 < int(requested) <= len(by_name):
            raise Refused(f"--nodes {requested}: the mesh has {len(by_name)} node(s): {', '.join(by_name)}{without}")
        chosen = first_here[: int(requested)]
    else:
        names = list(dict.fromkeys(name.strip() for name in requested.split(",") if name.strip()))
        barred = [f"{name} {out[name]}" for name in names if name in out]
        if barred:
            raise Refused(f"--nodes {requested}: {'; '.join(barred)}")
        unknown = [name for name in names if name not in by_name]
        if unknown or not names:
            raise Refused(f"--nodes {requested}: not in the mesh: {', '.join(unknown)}; it has {', '.join(by_name)}")
        chosen = sorted((by_name[name] for name in names), key=lambda node: node.name != here)
    if per_node is None:
        return tuple(chosen)
    small = [f"{node.name} has {node.slots}" for node in chosen if node.slots < per_node]
    if small or per_node < 1:
        raise Refused(f"--gpus-per-node {per_node}: {', '.join(small) or 'must be at least 1'}")
    return tuple(Node(node.name, per_node) for node in chosen)


def own_settings(shell: Mapping[str, str], node: Mapping[str, str]) -> dict[str, str]:
    """NCCL_* and GLOO_* that were set in this shell, as opposed to what this node has by itself."""
    return {name: value for name, value in shell.items() if name.startswith(PER_SHELL) and node.get(name) != value}


def launch(
    job: Job, at: int, port: int, python: str, *, gpus: bool, scratch: str = ""
) -> tuple[list[str], dict[str, str]]:
    """The launcher's command on one node, and what it needs in its environment. Each rank is rank.py.

    Args:
        at: which of the nodes it is.
        python: of the environment that the ranks run in. It is isolated for the launcher: the directory of the run may
            be everybody's, and what lies in there no module of it.
        gpus: whether the nodes have any.
        scratch: a directory of the run's own, which is removed with it; empty: for no more than to show the command.

    Raises:
        Refused: the launcher cannot do it.
    """
    launcher, count, slots = job.request.launcher, len(job.nodes), job.nodes[at].slots
    if launcher == "none":
        place = {"RANK": str(at), "LOCAL_RANK": "0", "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": "1"}
        head = {"MASTER_ADDR": job.address, "MASTER_PORT": str(port), "NODE_RANK": str(at), "NNODES": str(count)}
        return ["/usr/bin/env", "python3", RANK], {**place, **head}
    if launcher == "deepspeed":
        world = json.dumps({node.name: list(range(node.slots)) for node in job.nodes}).encode()
        words = [f"--world_info={base64.urlsafe_b64encode(world).decode()}", f"--node_rank={at}"]
        head_words = [f"--master_addr={job.address}", f"--master_port={port}"]
        return [python, "-I", "-u", "-m", "deepspeed.launcher.launch", *words, *head_words, RANK], {}
    # By itself it makes a directory in /tmp, and leaves it there.
    logs = ["--log_dir", scratch] if scratch else []
    if launcher == "accelerate" and gpus:
        if len({node.slots for node in job.nodes}) > 1:
            uneven = ", ".join(f"{node.name} {node.slots}" for node in job.nodes)
            raise Refused(f"accelerate needs as many ranks on each node ({uneven}): say --gpus-per-node")
        words = ["--multi_gpu", "--num_machines", str(count), "--machine_rank", str(at)]
        words += ["--num_processes", str(job.ranks), "--main_process_ip", job.address, "--main_process_port", str(port)]
        return [python, "-I", "-m", "accelerate.commands.launch", *words, *logs, RANK], {}
    # Without GPUs accelerate starts one process alone; its library takes torchrun's.
    words = ["--nnodes", str(count), "--node_rank", str(at), "--nproc_per_node", str(slots)]
    words += ["--master_addr", job.address, "--master_port", str(port)]
    cpu = {"ACCELERATE_USE_CPU": "true"} if launcher == "accelerate" else {}
    return [python, "-I", "-m", "torch.distributed.run", *words, *logs, RANK], cpu


def prefix_of(request: Request, home: str) -> str:
    """The directory of the environment that was asked for: of conda also by name. Raises Refused without a Python."""
    if not request.prefix:
        return ""
    given = Path(
        request.directory, request.prefix.replace("~", home, 1) if request.prefix[0] == "~" else request.prefix
    )
    places = [given]
    if request.conda and "/" not in request.prefix:
        roots = [Path(home, name) for name in (".conda", "micromamba", "miniforge3", "miniconda3")]
        places = [root / "envs" / request.prefix for root in (*roots, Path("/opt/mamba"))]
    for place in places:
        if (place / "bin" / "python").exists():
            return str(place)
    raise Refused(f"{request.prefix}: no bin/python in {', '.join(map(str, places))}")


def activated(prefix: str, conda: bool, path: str) -> dict[str, str]:
    """What activating an environment sets."""
    name = {"CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": Path(prefix).name} if conda else {"VIRTUAL_ENV": prefix}
    return {**name, "PATH": f"{prefix}/bin:{path}"}
