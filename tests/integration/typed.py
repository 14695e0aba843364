"""What somebody types, where a page says: on the own machine, in a workspace, on a node, on the controller.

Pages speak of account ada, nodes gpu01 and gpu02, and the inventory inventory/mycluster. The lab has the first three.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from conftest import PROJECT, Host, Lab

WORKSPACE = "gpu01-workspace"


def bash(script: str) -> str:
    return f"bash -euo pipefail -c {shlex.quote(script)}"


def on(host: Host, script: str) -> tuple[int, str]:
    """Exit status and output of commands of root's."""
    done = host.run(f"{bash(script)} </dev/null")
    return done.rc, done.stdout + done.stderr


def on_controller(lab: Lab, script: str) -> tuple[int, str]:
    # Its directory has the lab's ansible.cfg. The inventory is another one, by its place alone.
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("inventory/mycluster", str(lab.inventory))],
        cwd=PROJECT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def typed(lab: Lab, place: str, script: str) -> tuple[int, str]:
    """Exit status and output of what is typed at a place of scripts/docs_site.py."""
    if place == "controller":
        return on_controller(lab, script)
    if place == "laptop":
        return on(lab["client"], script)
    if place in ("workspace", "node"):
        name = "gpu01" if place == "node" else WORKSPACE
        return on(lab["client"], f"ssh -o BatchMode=yes {name} {shlex.quote(bash(script))}")
    match = re.fullmatch(r"node(?: (\w+))? as root", place)
    assert match, f"no such place as {place!r}"
    return on(lab[match[1] or "gpu01"], script)


@contextmanager
def laptop(lab: Lab) -> Iterator[Host]:
    """The lab's client as somebody's machine: it has the owner's key, client.yml's file, and names that resolve."""
    assert lab.owner == "ada"
    client, key = lab["client"], (lab.inventory / ".ssh/id_ed25519").read_text()
    names = "\n".join(f"{node.address} {node.name} # gpustead test" for node in lab.nodes)
    client.check_output(f"cat >> /etc/hosts <<'END'\n{names}\nEND")
    client.check_output(f"mkdir -p -m 0700 ~/.ssh; umask 077; cat > ~/.ssh/id_cluster <<'END'\n{key}END")
    for arguments in (
        ["site.yml"],
        ["playbooks/client.yml", "-e", "client_hosts=client", "-e", "client_identity_file=~/.ssh/id_cluster"],
    ):
        done = lab.playbook(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    try:
        yield client
    finally:
        # Written and not replaced: in a container the file is mounted.
        client.run(
            "mine=$(grep -v ' # gpustead test$' /etc/hosts); echo \"$mine\" > /etc/hosts; rm -f ~/.ssh/id_cluster"
        )
