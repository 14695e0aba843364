"""The registry as a container: taken up by what was a package, back again, with all images there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Host, Lab
from machines import ask, reboot, site, tell, until
from support import stale

IMAGE = "lab/registry:1"
# The program of Debian's package with the libraries that it needs, as the image of the same project has it.
PACK = (
    "cd / && tar -chf - usr/bin/docker-registry $(ldd /usr/bin/docker-registry | grep -o '/[^ )]*') | docker import"
    f""" --change 'ENTRYPOINT ["/usr/bin/docker-registry"]' - {IMAGE}"""
)
STORAGE = "/var/lib/docker-registry/docker/registry/v2/repositories/lab"


@pytest.fixture
def nas(lab: Lab) -> Iterator[Host]:
    """The host of the registry with a Docker of its own, which role docker brings to nodes alone."""
    host, packages = lab["nas"], "docker.io docker-cli python3-requests"
    apt = "DEBIAN_FRONTEND=noninteractive apt-get --option DPkg::Lock::Timeout=300 --yes"
    tell(host, f"apt-get update && {apt} --no-install-recommends install {packages}", 900)
    tell(host, PACK, 300)
    yield host
    site(lab, "--limit", host.name)
    ask(host, f"rm -rf {STORAGE}")
    # With its rules of the firewall, which go with a boot.
    ask(host, f"systemctl stop docker.socket docker containerd; {apt} purge --auto-remove {packages}", 900)
    ask(host, "rm -rf /var/lib/docker /var/lib/containerd")
    reboot([host])


def serves(lab: Lab, name: str) -> None:
    """A node gets what is in the registry, and puts something new there, as `name` below lab/."""
    node = lab.nodes[0]
    image = tell(node, "cat /etc/gpustead/image")
    pull = f"timeout 100 docker pull --quiet {image}"
    until("the registry answers", lambda: ask(node, pull, 120).returncode == 0, 300)
    own = f"{image.partition('/')[0]}/lab/{name}"
    # Of an image that nobody has: a layer of its own.
    tell(node, f"head -c 4096 /dev/urandom > /tmp/lab && tar -cf - -C /tmp lab | docker import - {own}", 120)
    try:
        tell(node, f"timeout 280 docker push --quiet {own} && docker rmi {own} && docker pull --quiet {own}", 300)
    finally:
        ask(node, f"docker rmi {own}; rm /tmp/lab", 120)


def test_the_registry_as_a_container_and_back(lab: Lab, nas: Host) -> None:
    serves(lab, "one:package")
    options = ["--limit", nas.name, "-e", "registry_backend=container", "-e", f"registry_image={IMAGE}"]
    site(lab, *options)
    assert ask(nas, "systemctl is-active docker-registry").returncode != 0
    assert tell(nas, "docker ps --format '{{.Names}} {{.Image}}'") == f"gpustead-registry {IMAGE}"
    serves(lab, "one:container")
    serves(lab, "two:container")
    assert stale(site(lab, *options)) == {}
    # By itself after a boot.
    reboot([nas])
    serves(lab, "two:booted")
    site(lab, "--limit", nas.name)
    assert tell(nas, "systemctl is-active docker-registry; docker ps --quiet --all") == "active"
    # Into what root of the container has made, too.
    serves(lab, "two:package")
    assert stale(site(lab, "--limit", nas.name)) == {}
