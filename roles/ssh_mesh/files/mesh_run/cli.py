# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""mesh-run: start a program on the nodes of the mesh, see what runs, and end it.

    mesh-run train.py --epochs 3                       all nodes, all their slots
    mesh-run --nodes 2 --gpus-per-node 1 train.py      two nodes, one GPU on each
    mesh-run --nodes gpu01,gpu03 --env NCCL_DEBUG=INFO train.py
    mesh-run --launcher none hostname                  a command, once on each node
    mesh-run ps                                        what runs; root's: of all accounts
    mesh-run stop 20261130-101500-a1b2                 end it on all nodes; all: all that is yours

Run it in your workspace, at a login on a node, or in the mesh's container, from a directory that all nodes share: your
home on the share, or /shared. Settings for the training come from the cluster's (ssh_mesh_env), ~/.deepspeed_env
(yours, on the share), NCCL_* and GLOO_* of this shell, --env-file and --env; later ones win. The network interface is
each node's own unless one of these says otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mesh_run import agent, front, head, places, runs, service
from mesh_run.request import LAUNCHERS, Refused, Request, environment_file, own_settings, read_environment

OF_ALL = ["--of-all"]  # of all accounts, for root; an earlier release passes over it


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mesh-run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", metavar="NAMES|N", help="gpu01,gpu02 or how many (default: all of the mesh)")
    parser.add_argument("--gpus-per-node", metavar="N", type=int, help="ranks on each node (default: its slots)")
    parser.add_argument("--env", metavar="NAME=VALUE", action="append", default=[], help="setting for all ranks")
    parser.add_argument("--env-file", metavar="FILE", action="append", default=[], help="settings, one a line")
    parser.add_argument("--launcher", choices=tuple(LAUNCHERS), default="deepspeed")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--venv", metavar="DIR", default="", help="environment of Python for all ranks, on the share")
    where.add_argument("--conda", metavar="NAME|DIR", default="", help="likewise, one of conda or mamba")
    parser.add_argument("--master-port", metavar="P", type=int, help="default: a free one from 29500 to 29510")
    parser.add_argument(
        "--join-timeout",
        metavar="S",
        type=float,
        default=120,
        help="seconds until it is said who has not joined (default: 120)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands, ask no node, start nothing")
    parser.add_argument("script", help="of Python; with --launcher none a command")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    return parser.parse_args(argv)


def asked(options: argparse.Namespace, directory: str, node: dict[str, str], *, same: bool) -> Request:
    """What was typed. Raises Refused.

    Args:
        directory: where, as the mesh has it.
        node: what this node has by itself.
        same: whether programs lie here where they lie in the mesh.
    """
    if options.master_port is not None and not 1024 <= options.master_port < 1 << 16:
        raise Refused(f"--master-port {options.master_port}: a port is from 1024 to 65535")
    environment = own_settings(dict(os.environ), node)
    for path in options.env_file:
        environment.update(environment_file(Path(path), needed=True))
    environment.update(read_environment("\n".join(options.env), "--env"))
    return Request(
        command=(options.script, *options.arguments),
        directory=directory,
        environment=environment,
        launcher=options.launcher,
        nodes=options.nodes,
        per_node=options.gpus_per_node,
        prefix=options.venv or options.conda,
        conda=bool(options.conda),
        port=options.master_port,
        patience=options.join_timeout,
        path=os.environ.get("PATH", "") if same else "",
        dry_run=options.dry_run,
    )


def _in_mesh(words: Sequence[str]) -> int:
    if words[0] == "ps":
        return runs.show()
    if words[0] == "stop":
        return runs.stop(_names(words))
    options = parse(words)
    front.ensure_key(Path.home())
    node = environment_file(places.NODE_ENV)
    return head.run(asked(options, str(Path.cwd()), node, same=True))


def _from_outside(words: Sequence[str]) -> int:
    if words[0] in ("ps", "stop"):
        return front.relay(front.find(), {"words": ["ps"] if words[0] == "ps" else ["stop", *_names(words)]})
    options = parse(words)
    here = front.find()
    directory = here.in_mesh(os.getcwd())
    return front.relay(here, {"request": asked(options, directory, {}, same=not here.share).raw()})


def _names(words: Sequence[str]) -> list[str]:
    names = list(words[1:])
    if not names or any(name.startswith("-") for name in names):
        raise Refused("stop what? mesh-run stop ID..., as mesh-run ps shows them, or mesh-run stop all")
    return names


def _head() -> int:
    """What a front has asked for."""
    told = front.Told()
    message = told.request()
    if "words" in message:
        return _in_mesh([str(word) for word in message["words"]])
    front.ensure_key(Path.home())
    # 255 is how ssh says that it has failed itself.
    return min(head.run(Request.of(message["request"]), told), 254)


def _show_here(words: Sequence[str]) -> int:
    if words == OF_ALL:
        return runs.show_all_here()
    for record in runs.here():
        print(json.dumps(record))
    return 0


def _stop_here(names: Sequence[str]) -> int:
    if names == OF_ALL:
        return runs.stop_all_here()
    ended, stays = runs.stop_here(names)
    print(" ".join(ended))
    if stays:
        raise Refused(f"{', '.join(stays)} does not end here")
    return 0


def main(argv: Sequence[str]) -> int:
    """What was typed, or what another part of this says to it; the exit status."""
    words = list(argv) or ["--help"]
    inner: dict[str, Callable[[], int]] = {
        "agent": agent.main,
        "head": _head,
        "door": front.door,
        "mesh": service.main,
        "serve": service.main,
        "ps-here": lambda: _show_here(words[1:]),
        "stop-here": lambda: _stop_here(words[1:]),
    }
    try:
        if words[0] in inner:
            return inner[words[0]]()
        return _in_mesh(words) if places.in_mesh() else _from_outside(words)
    except Refused as refusal:
        head.say(str(refusal))
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
