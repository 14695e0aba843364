"""Who reaches which port of a node, whatever happened to its firewall, its Docker and itself meanwhile."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Host, Lab
from machines import addresses, ask, boot_of, image_of, playbook, reachable, reboot, site, tell, until
from support import PORTS, roles_run

ITSELF = frozenset({"itself"})
NODES = ITSELF | {"node"}
USERS = NODES | {"client"}
EVERYBODY = USERS | {"outsider"}

# Networks for containers of somebody's own, by how they are made; nothing for the one that Docker has by itself. A
# swarm excludes live-restore, which role docker sets: its bridge is made as Docker's manual makes it before a swarm.
NETWORKS = {
    "bridge": "",
    "lab-plain": "",
    "lab-ipv6": "--ipv6 --subnet fd00:99::/64",
    "lab-named": "-o com.docker.network.bridge.name=labnet0",
    "docker_gwbridge": "-o com.docker.network.bridge.name=docker_gwbridge "
    "-o com.docker.network.bridge.enable_icc=false",
}
# In each of them one container, published by `docker run --publish` at a port that is declared (of
# cluster_workspace_port_range) and at one that is not.
DECLARED, UNDECLARED = 19100, 18100
HOST_NETWORK = 18150
# Port, what answers there, and to whom.
TABLE = {
    22: ("the host's sshd", EVERYBODY),
    2222: ("the mesh's sshd, on the host's network", NODES),
    HOST_NETWORK: ("a container on the host's network", ITSELF),
    **{port: (f"{service}, published by compose", USERS) for service, port in PORTS.items()},
    **{DECLARED + at: (f"declared, in {name}", USERS) for at, name in enumerate(NETWORKS)},
    **{UNDECLARED + at: (f"not declared, in {name}", ITSELF) for at, name in enumerate(NETWORKS)},
}
SERVE = """
import socket, sys
port = int(sys.argv[1])
try:
    server = socket.create_server(('::', port), family=socket.AF_INET6, dualstack_ipv6=True)
except OSError:  # no IPv6 in there
    server = socket.create_server(('', port))
while True:
    server.accept()[0].close()
"""

Cell = tuple[str, str, int]  # from where, address, port


class Bed:
    """A node with containers of somebody's own, and those who look at its ports."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.node, self.peer = lab, lab.nodes[0], lab.nodes[1]
        self.vantages = {
            "itself": self.node,
            "node": self.peer,
            "client": lab["client"],
            "outsider": lab["outsider"],
        }
        self.places = addresses(self.node)
        self.declared: set[Cell] = {
            (vantage, place, port) for port, (_what, to) in TABLE.items() for vantage in to for place in self.places
        }

    def opened(self, *vantages: str) -> set[Cell]:
        """What can be connected to from there, or from everywhere."""
        pairs = [(place, port) for place in self.places for port in TABLE]

        def look(vantage: str) -> set[Cell]:
            return {(vantage, *pair) for pair in reachable(self.vantages[vantage], pairs)}

        with ThreadPoolExecutor(len(self.vantages)) as pool:
            return set().union(*pool.map(look, vantages or self.vantages))

    def as_declared(self, seconds: float = 240) -> None:
        """Nothing else is open at any time; what is declared is within the time that services take to come back."""
        end = time.monotonic() + seconds
        while True:
            found = self.opened()
            assert words(found - self.declared) == [], "open, and not declared"
            if found == self.declared:
                return
            assert time.monotonic() < end, f"closed, though declared: {words(self.declared - found)}"
            time.sleep(3)


def words(cells: set[Cell]) -> list[str]:
    return sorted(f"{place} {port} ({TABLE[port][0]}) from {vantage}" for vantage, place, port in cells)


@pytest.fixture(scope="module")
def bed(lab: Lab) -> Iterator[Bed]:
    node, made = lab.nodes[0], [name for name in NETWORKS if name != "bridge"]
    clean = f"docker rm --force {' '.join(f'lab-in-{name}' for name in (*NETWORKS, 'host'))};"
    clean += f" docker network rm {' '.join(made)}"
    ask(node, clean, 180)
    serve = f"--entrypoint python3 {image_of(node)} -c {shlex.quote(SERVE)}"
    run = "docker run --detach --restart unless-stopped --stop-signal KILL"
    try:
        for at, (name, options) in enumerate(NETWORKS.items()):
            if name in made:
                tell(node, f"docker network create {options} {name}")
            published = f"--publish {DECLARED + at}:8000 --publish {UNDECLARED + at}:8000"
            tell(node, f"{run} --name lab-in-{name} --network {name} {published} {serve} 8000", 120)
        tell(node, f"{run} --name lab-in-host --network host {serve} {HOST_NETWORK}", 120)
        yield Bed(lab)
    finally:
        ask(node, clean, 180)
        # The bridges that have gone are nobody's any more.
        site(lab, "--limit", node.name)


def test_as_declared(bed: Bed) -> None:
    bed.as_declared()


@pytest.mark.parametrize(
    "event",
    [
        "ufw reload",
        "systemctl restart ufw",
        "systemctl restart docker",
        "systemctl restart docker && ufw reload",
        "ufw reload && systemctl restart docker",
        "systemctl stop docker.socket docker && ufw reload && systemctl start docker",
        "systemctl stop docker.socket docker && systemctl restart ufw && systemctl start docker",
    ],
)
def test_as_declared_after(bed: Bed, event: str) -> None:
    tell(bed.node, event, 300)
    bed.as_declared()


def test_nobody_reaches_a_containers_own_address(bed: Bed) -> None:
    """Whoever has a route there. Of bridges that somebody named later, the README says when they are closed."""
    node, peer = bed.node, bed.peer
    shown = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}"
    names = " ".join(f"lab-in-{name}" for name in NETWORKS if name != "lab-named")
    inside = tell(node, f"docker inspect --format '{shown}' {names}").split()
    assert len(inside) == len(NETWORKS) and any(":" in place for place in inside)
    pairs = [(place, 8000) for place in inside]
    assert reachable(node, pairs) == {*pairs}
    ways = [f"-6 route {{}} {place}" if ":" in place else f"-4 route {{}} {place}" for place in inside]
    try:
        for place, way in zip(inside, ways, strict=True):
            tell(peer, f"ip {way.format('replace')} via {bed.places[':' in place]}")
        assert reachable(peer, pairs) == set()
    finally:
        for way in ways:
            ask(peer, f"ip {way.format('del')}")


def empty(bed: Bed) -> None:
    """As somebody does by hand who looks for why a port is closed. Then all that is published is open to everybody."""
    tell(bed.node, "iptables -F DOCKER-USER; ip6tables -F DOCKER-USER || true")
    assert ("outsider", bed.places[0], UNDECLARED) in bed.opened("outsider")


def test_an_emptied_docker_user_is_filled_by_a_reload_of_ufw(bed: Bed) -> None:
    empty(bed)
    tell(bed.node, "ufw reload")
    bed.as_declared()


def test_an_emptied_docker_user_is_drift_and_the_next_run_fills_it(bed: Bed, tmp_path: Path) -> None:
    empty(bed)
    try:
        report, limit = tmp_path / "drift.json", ("--limit", bed.node.name)
        done = playbook(bed.lab, "playbooks/drift.yml", *limit, "-e", f"drift_report={report}", seconds=600)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "chain DOCKER-USER" in report.read_text()
        assert ("firewall", bed.node.name) in roles_run(site(bed.lab, *limit))
    finally:
        ask(bed.node, "ufw reload")
    bed.as_declared()


def booting(bed: Bed) -> None:
    """A boot of the node, during which nothing is open to an outsider that is not declared."""
    before = boot_of(bed.node)
    ask(bed.node, "systemctl reboot --no-block")

    def is_back() -> bool:
        assert words(bed.opened("outsider") - bed.declared) == [], "open during the boot"
        return boot_of(bed.node) not in ("", before)

    until(f"{bed.node.name} boots", is_back, 600)


def test_as_declared_after_and_during_a_boot(bed: Bed) -> None:
    booting(bed)
    bed.as_declared(400)


def test_as_declared_after_the_other_node_has_booted(bed: Bed) -> None:
    reboot([bed.peer])
    bed.as_declared()


def switch(node: Host, kind: str) -> None:
    for name in ("iptables", "ip6tables"):
        tell(node, f"update-alternatives --set {name} /usr/sbin/{name}-{kind}")


def test_as_declared_with_the_other_iptables(bed: Bed) -> None:
    """Where the kernel has both: User-Mode Linux 6.12 has the legacy one alone."""
    now = "legacy" if "legacy" in tell(bed.node, "iptables --version") else "nft"
    other = {"legacy": "nft", "nft": "legacy"}[now]
    rule = "-t nat -{} POSTROUTING -m addrtype --dst-type LOCAL -j RETURN"
    tried = ask(bed.node, " && ".join(f"iptables-{other} {rule.format(verb)}" for verb in "AD"))
    if tried.returncode:
        pytest.skip(f"this kernel has no iptables-{other}: {tried.stderr.strip()}")
    switch(bed.node, other)
    try:
        booting(bed)
        bed.as_declared(400)
    finally:
        switch(bed.node, now)
        booting(bed)
    bed.as_declared(400)
