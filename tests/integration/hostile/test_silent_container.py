"""Root in a container has Docker wait for it for ever: it is named, and nobody else goes without."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Host, Lab
from support import roles_run

PROJECT = "gpustead-workspace"
CONTAINER = f"{PROJECT}-ssh-1"
# As the README of role workspace says.
END = """bash -c '
for place in $(findmnt -rno TARGET -t overlay); do
  for file in "$place/etc/passwd" "$place/etc/group"; do
    [ -p "$file" ] && (exec 3<>"$file" && rm "$file")
  done
done; true'"""


def site(lab: Lab, node: Host, *more: str, **settings: Any) -> tuple[int, str]:
    # For the ports of others than the owner.
    settings = {"cluster_workspace_port_range": "19000:19999", **settings} if settings else settings
    done = lab.playbook("site.yml", "--limit", node.name, *more, "-e", json.dumps(settings))
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def node(lab: Lab) -> Iterator[Host]:
    """A node with the owner's workspace, whose container of service ssh Docker waits for."""
    node = lab.nodes[-1]
    attack = "rm -f /etc/passwd; mkfifo /etc/passwd; kill 1"
    # As who has sudo there.
    assert node.compose(PROJECT, "ssh", f"sh -c '{attack}'", user="root").rc in (0, 137, 143)
    for _attempt in range(30):
        if node.run(f"timeout 3 docker inspect {CONTAINER} >/dev/null").rc == 124:
            break
        time.sleep(1)
    else:
        pytest.fail("Docker still answers")
    yield node
    node.check_output(END)
    node.check_output(f"timeout 60 docker rm -f {CONTAINER}")
    code, said = site(lab, node)
    assert code == 0, said


def test_who_has_docker_wait_is_named_and_nobody_else_goes_without(lab: Lab, node: Host) -> None:
    other = lab.nodes[0].variables["cluster_users"][1]["name"]
    instances = [{"owner": lab.owner}, {"owner": other}]
    began = time.monotonic()
    code, said = site(lab, node, site_force=True, workspace_instances=instances)
    assert time.monotonic() - began < 900
    flat = " ".join(said.split())
    assert code != 0
    assert f"of {PROJECT}/ssh (Docker does not answer: timed out): expected that Docker answers for it. A FIFO" in flat
    assert ("ssh_mesh", node.name) in roles_run(said)
    assert f"{PROJECT}-{other}-ssh-1" in node.check_output("docker ps --format '{{.Names}}'")
    assert node.run("test -e /var/lib/gpustead/receipts/workspace.json").rc != 0

    # No longer declared, it is still left alone, and its place is not given to others.
    code, said = site(lab, node, "--tags", "workspace", workspace_instances=instances[1:])
    assert code != 0
    assert f"of {PROJECT}/ssh (Docker does not answer: timed out)" in " ".join(said.split())

    code, said = site(lab, node, "--tags", "workspace", "--check", workspace_instances=instances)
    assert f"of {PROJECT}/ssh (Docker does not answer: timed out)" in " ".join(said.split())

    done = lab.playbook("playbooks/verify.yml", "--limit", node.name)
    assert done.returncode != 0
    assert f"service {PROJECT}/ssh" in done.stdout + done.stderr
    assert "cannot be asked: Docker does not answer" in done.stdout + done.stderr
