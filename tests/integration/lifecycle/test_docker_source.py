"""Docker's own packages in the place of the distribution's, and back, while containers run.

Docker's repository is a stand-in with Debian's programs (tests/docker): names, versions, conflicts are the real one's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from conftest import PROJECT, Host, Lab
from support import PORTS, site, stale

PLACE, PORT, UNIT = "/srv/lab-docker", 8097, "lab-docker-packages"
APT = "DEBIAN_FRONTEND=noninteractive apt-get --option DPkg::Lock::Timeout=300 --yes"
DEBIANS = "docker.io docker-cli containerd runc docker-compose docker-buildx"
DOCKERS = "docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin"
OWN = "lab-own"


@pytest.fixture
def node(lab: Lab) -> Iterator[Host]:
    """A node with a repository, a container of somebody's own that writes, and a volume of that one's."""
    host = lab.nodes[-1]
    clean = f"docker rm --force {OWN}; docker volume rm {OWN}; systemctl stop {UNIT}; rm -rf {PLACE}"
    host.run(clean)
    tools = "apt-utils dpkg-dev gpg gpg-agent"
    program = (PROJECT / "tests/docker/packages.py").read_text()
    host.check_output(f"apt-get update && {APT} --no-install-recommends install {tools}")
    host.check_output(f"python3 - {PLACE} <<'LAB_END'\n{program}\nLAB_END")
    host.check_output(f"systemd-run --unit={UNIT} python3 -m http.server {PORT} --bind 127.0.0.1 --directory {PLACE}")
    image = host.check_output("docker inspect --format '{{.Image}}' gpustead-workspace-jupyter-1")
    writes = "while sleep 1; do date +%s > /kept/alive; done"
    run = f"docker run --detach --init --restart unless-stopped --name {OWN} --volume {OWN}:/kept"
    host.check_output(f"{run} --entrypoint sh {image} -c '{writes}'")
    yield host
    host.run(clean)
    host.run(f"{APT} purge --auto-remove {tools}")


def options(node: Host) -> list[str]:
    """Of a run with Docker's repository."""
    url = f"http://127.0.0.1:{PORT}"
    checksum = node.check_output(f"sha256sum {PLACE}/debian/gpg").split()[0]
    settings = {
        "docker_source": "docker",
        "docker_repository_url": url,
        "docker_repository_key_checksum": f"sha256:{checksum}",
    }
    return ["--limit", node.name, *(word for item in settings.items() for word in ("-e", "=".join(item)))]


def installed(node: Host) -> set[str]:
    """Of all packages of both."""
    listed = node.run(f"dpkg-query --show --showformat '${{db:Status-Abbrev}}${{Package}}\\n' {DEBIANS} {DOCKERS}")
    return {line[3:].strip() for line in str(listed.stdout).splitlines() if line.startswith("ii ")}


def refused(lab: Lab, *args: str) -> str:
    done = lab.playbook("site.yml", *args)
    assert done.returncode != 0
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


def goes_on(node: Host) -> None:
    """Somebody's container has lost nothing, and all of the workspace's are served."""
    node.check_output(f"docker exec {OWN} sh -c 'sleep 3; test $(($(date +%s) - $(cat /kept/alive))) -lt 3'")
    states = node.check_output("docker ps --all --format '{{.Names}} {{.State}}'").splitlines()
    assert states and all(line.endswith(" running") for line in states), states
    answers = f"until </dev/tcp/{node.address}/$0; do sleep 1; done"
    ports = " ".join(map(str, PORTS.values()))
    node.check_output(f"for port in {ports}; do timeout 60 bash -c {shlex.quote(answers)} $port; done")


def test_dockers_own_packages_and_back(lab: Lab, node: Host) -> None:
    images = node.check_output("docker images --quiet --no-trunc | sort")
    assert installed(node) == set(DEBIANS.split())

    # To exchange what runs is for people to say: named, and nothing changed.
    said = refused(lab, *options(node))
    assert "docker.io is installed, and docker_source is 'docker'" in said
    assert "or remove docker.io first" in said
    assert installed(node) == set(DEBIANS.split())
    node.check_output("test ! -e /etc/apt/sources.list.d/docker.sources")

    node.check_output(f"{APT} remove {DEBIANS}")
    site(lab, *options(node))
    assert installed(node) == set(DOCKERS.split())
    assert node.check_output("systemctl show --property=ExecStart --value docker").count("/usr/bin/dockerd")
    goes_on(node)
    assert node.check_output("docker images --quiet --no-trunc | sort") == images
    assert stale(site(lab, *options(node))) == {}

    back = ("--limit", node.name)
    assert "docker-ce is installed, and docker_source is 'distribution'" in refused(lab, *back)
    node.check_output(f"{APT} remove {DOCKERS}")
    site(lab, *back)
    assert installed(node) == set(DEBIANS.split())
    node.check_output("test ! -e /etc/apt/sources.list.d/docker.sources -a ! -e /etc/apt/keyrings/docker.asc")
    goes_on(node)
    assert node.check_output("docker images --quiet --no-trunc | sort") == images
    assert stale(site(lab, *back)) == {}
