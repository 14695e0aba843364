"""An account puts something at its docker.sock: role docker goes on, and warns only of what answers as a daemon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Host, Lab

DAEMON = """
import json, socket, sys
info = {"ServerVersion": "28.2.2\\x1b[2J", "SecurityOptions": ["name=rootless"]}
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    link, _ = server.accept()
    link.recv(65536)
    link.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + json.dumps(info).encode())
    link.close()
"""


@pytest.fixture
def place(lab: Lab) -> Iterator[tuple[Host, str]]:
    """A node, and the runtime directory that the owner has there once logged in."""
    node = lab.nodes[-1]
    uid = node.check_output(f"id -u {lab.owner}")
    there = node.run(f"test -d /run/user/{uid}").rc == 0
    if not there:  # what logind does at a login
        node.check_output(f"mkdir -p /run/user && install -d -m 0700 -o {uid} -g {uid} /run/user/{uid}")
    yield node, f"/run/user/{uid}/docker.sock"
    node.check_output("systemctl stop lab-daemon || true")
    node.check_output(f"rm -rf /run/user/{uid}/docker.sock" if there else f"rm -rf /run/user/{uid}")


def docker(lab: Lab, node: Host) -> str:
    done = lab.playbook("site.yml", "--limit", node.name, "--tags", "docker", "-e", "site_force=true")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "made",
    ["touch {}", "mkfifo {}", "ln -s /run/docker.sock {}", "mkdir {}"],
    ids=["file", "FIFO", "link", "directory"],
)
def test_what_is_no_daemon_stops_nothing(lab: Lab, place: tuple[Host, str], made: str) -> None:
    node, path = place
    node.check_output(f"runuser -u {lab.owner} -- {made.format(path)}")
    assert "rootless Docker" not in docker(lab, node)


def test_a_daemon_is_said_with_whose_it_is(lab: Lab, place: tuple[Host, str]) -> None:
    node, path = place
    start = f"systemd-run --unit lab-daemon --collect --uid {lab.owner} python3 -c '{DAEMON}' {path}"
    node.check_output(f"{start} && for i in $(seq 50); do test -S {path} && break; sleep 0.1; done")
    said = " ".join(docker(lab, node).split())
    assert f"'{lab.owner}' runs a rootless Docker of an unknown version at {path}" in said
    assert "\x1b[2J" not in said
