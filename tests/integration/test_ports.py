"""Who reaches which port: a node, a declared client, an outsider; over IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Host, Lab
from support import PORTS, answered, probe

MESH_PORTS = [2222, 29500]
PUBLISHED_PORTS = [*PORTS.values()]
REGISTRY_PORT = 5000
LISTENER = """
import socket, threading, time
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', 29500)); s.listen(64)
while True: s.accept()[0].close()
"""


def reachable(source: Host, pairs: list[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those (address, port) pairs that the source can connect to."""
    return answered(source.check_output(probe(pairs)))


@pytest.fixture(scope="module")
def rendezvous(lab: Lab) -> Iterator[None]:
    """A listener on the rendezvous port of every node, so that a closed port means a firewall."""
    for node in lab.nodes:
        node.check_output(f'systemd-run --unit lab-rendezvous --collect python3 -c "{LISTENER}"')
    yield
    for node in lab.nodes:
        node.run("systemctl stop lab-rendezvous")


def as_declared(lab: Lab) -> None:
    """Every port of every node, seen by every kind of peer: open or closed as declared."""
    node, peer, client, outsider = lab.nodes[0], lab.nodes[1], lab["client"], lab["outsider"]
    addresses = [node.address, node.address6]
    registry = lab["nas"]
    mesh = {(address, port) for address in addresses for port in MESH_PORTS}
    published = {(address, port) for address in addresses for port in PUBLISHED_PORTS}
    store = {(registry.address, REGISTRY_PORT)}
    everything = sorted(mesh | published | store)
    assert reachable(peer, everything) == mesh | published | store
    assert reachable(client, everything) == published
    # It has a route: SSH to the host itself is open.
    door = {(address, 22) for address in [*addresses, registry.address]}
    assert reachable(outsider, sorted({*everything, *door})) == door


@pytest.mark.usefixtures("rendezvous")
class TestPorts:
    def test_as_declared(self, lab: Lab) -> None:
        as_declared(lab)

    def test_container_addresses_are_not_reached_around_the_published_ports(self, lab: Lab) -> None:
        node, neighbour = lab.nodes[0], lab["nas"]
        inside = node.check_output(
            "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "
            "$(docker compose -p gpustead-workspace ps -q jupyter)"
        )
        assert reachable(node, [(inside, 8888)]) == {(inside, 8888)}
        neighbour.check_output(f"ip route replace {inside}/32 via {node.address}")
        try:
            assert reachable(neighbour, [(inside, 8888)]) == set()
        finally:
            neighbour.check_output(f"ip route del {inside}/32")

    def test_as_declared_after_ufw_reload(self, lab: Lab) -> None:
        for node in lab.nodes:
            node.check_output("ufw reload")
        as_declared(lab)

    def test_as_declared_after_docker_restart(self, lab: Lab) -> None:
        lab.nodes[0].check_output("systemctl restart docker")
        wait = "for i in $(seq 60); do docker ps --format '{{.Status}}' | grep -qv '(healthy)' || exit 0; sleep 1; done"
        lab.nodes[0].check_output(wait)
        as_declared(lab)
