"""By which interface a node reaches the others: one with a network for its management and one for the nodes."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_route import find_route
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.tests.unit.captures import PROJECT

BOTH = ["192.168.0.0/16"]
ROUTES = {"192.168.5.0/24": "enp37s0f0", "fd00:5::/64": "enp37s0f0", "127.0.0.0/8": "lo", "0.0.0.0/0": "eno1"}
ADDRESSES = {
    "lo": ("127.0.0.1/8", "192.168.5.99/32"),
    "eno1": ("192.168.3.7/24", "fe80::1/64"),
    "enp37s0f0": ("192.168.5.7/24", "fd00:5::7/64"),
    "docker0": ("172.17.0.1/16",),
    "br-0123456789ab": ("172.18.0.1/16",),
    "veth12": ("192.168.5.1/32",),
    "br0": ("10.9.0.7/24",),
    "down": ("10.7.0.7/24",),
}
NAMES = {
    "gpu02": ["192.168.5.8"],
    "both": ["192.168.3.8", "192.168.5.8"],
    "management": ["192.168.3.8"],
    "six": ["fd00:5::8", "192.168.5.8"],
    "own": ["127.0.1.1"],
    "elsewhere": ["10.1.1.1"],
    "scoped": ["fe80::8%eno1"],
}


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    if argv[:2] == ["getent", "ahosts"]:
        found = NAMES.get(argv[2], [])
        lines = [f"{address}  {kind} x" for address in found for kind in ("STREAM", "DGRAM")]
        return (0 if found else 2), "\n".join(lines), ""
    if argv[:4] == ["ip", "-j", "route", "get"]:
        address = ipaddress.ip_address(argv[4])
        device = next((name for net, name in ROUTES.items() if address in ipaddress.ip_network(net)), "")
        return (0, json.dumps([{"dst": argv[4], "dev": device}]), "") if device else (2, "", "unreachable\n")
    assert argv == ["ip", "-j", "address"]
    return 0, json.dumps([link(name) for name in ADDRESSES]), ""


def link(name: str) -> dict[str, object]:
    flags = ["LOOPBACK", "UP"] if name == "lo" else [] if name == "down" else ["BROADCAST", "UP"]
    pairs = [one.split("/") for one in ADDRESSES[name]]
    return {"ifname": name, "flags": flags, "addr_info": [{"local": at, "prefixlen": int(bits)} for at, bits in pairs]}


FOUND: dict[str, tuple[str, list[str], str]] = {
    "an address": ("192.168.5.8", BOTH, "enp37s0f0"),
    "an address beyond a router": ("10.1.1.1", BOTH, "eno1"),
    "a name, which its network's address would not find": ("gpu02", BOTH, "enp37s0f0"),
    "a name in the network of the management": ("management", BOTH, "eno1"),
    "a name with addresses of both kinds": ("six", ["192.168.5.0/24", "fd00:5::/64"], "enp37s0f0"),
    "a name of which one address is in the network": ("both", ["192.168.5.0/24"], "enp37s0f0"),
    "a name that is not known here": ("gpu09", ["192.168.5.0/24"], "enp37s0f0"),
    "a name that is the node's own in /etc/hosts": ("own", ["192.168.5.0/24"], "enp37s0f0"),
    "a name with an address elsewhere": ("elsewhere", ["192.168.3.0/24"], "eno1"),
    "an address of the link": ("scoped", ["fd00:5::/64"], "enp37s0f0"),
    "a bridge of the administrator's": ("gpu09", ["10.9.0.0/24"], "br0"),
    "a name without networks": ("gpu02", [], "enp37s0f0"),
    "no other node": ("", ["192.168.5.0/24"], "enp37s0f0"),
}


@pytest.mark.parametrize("case", FOUND)
def test_the_interface_to_the_others(case: str) -> None:
    peer, networks, device = FOUND[case]
    assert [one["dev"] for one in json.loads(find_route(peer, networks, run))] == [device]


REFUSED: dict[str, tuple[str, list[str], str]] = {
    "a name that is not known here, and two interfaces": (
        "gpu09",
        BOTH,
        "this node resolves gpu09 to no address in the networks of the cluster, and the networks of the cluster"
        " (192.168.0.0/16) are reached by eno1 and enp37s0f0: expected one. Set ssh_mesh_interface of this node",
    ),
    "a name that two interfaces lead to": (
        "both",
        BOTH,
        "the addresses of both are reached by eno1 and enp37s0f0: expected one. Set ssh_mesh_interface",
    ),
    "a network that the node is not in": ("gpu09", ["10.8.0.0/24"], "are reached by no interface: expected one"),
    "Docker's own network": ("gpu09", ["172.16.0.0/12"], "are reached by no interface"),
    "an interface that is down": ("gpu09", ["10.7.0.0/24"], "are reached by no interface"),
    "an address without a route": ("fd00:9::2", BOTH, "ip -j route get fd00:9::2 ended with 2 (unreachable)"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_be_several_or_none_is_refused(case: str) -> None:
    peer, networks, words = REFUSED[case]
    with pytest.raises(GpusteadError) as caught:
        find_route(peer, networks, run)
    assert words in str(caught.value)


HOSTS = "192.168.5.8 gpu02.example.org\n10.9.0.8 elsewhere.example.org\n"
# A node with a management network that has the default route, a fast one, and a bridge of Docker's.
NETWORK = """
ip link set lo up
for name in eno1 enp37s0f0 docker0; do ip link add name $name type veth peer name to-$name; done
ip address add 192.168.3.7/24 dev eno1
ip address add 192.168.5.7/24 dev enp37s0f0
ip address add 192.168.17.1/24 dev docker0
for name in eno1 enp37s0f0 docker0; do ip link set to-$name up; ip link set $name up; done
ip route add default via 192.168.3.1
mount --bind "$1" /etc/hosts
printf 'hosts: files\n' > "$1.nss" && mount --bind "$1.nss" /etc/nsswitch.conf
shift
exec "$@"
"""
ASK = """
import sys
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_route import find_route
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within
for peer in sys.argv[1:]:
    try:
        print(find_route(peer, ["192.168.0.0/16"], within(30)).strip())
    except GpusteadError as error:
        print(error)
"""


MADE = ["unshare", "--net", "--mount", "ip", "link", "add", "name", "x0", "type", "veth"]


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip") or subprocess.run(MADE, check=False).returncode != 0,
    reason="needs root, ip and network namespaces",
)
def test_two_networks_as_ip_itself_prints_them(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    inside = ["unshare", "--net", "--mount", "sh", "-euc", NETWORK, "sh", str(tmp_path / "hosts")]
    asked = ["gpu02.example.org", "192.168.3.8", "elsewhere.example.org", "gpu09.example.org"]
    done = subprocess.run(
        [*inside, sys.executable, "-c", ASK, *asked],
        env={**os.environ, "PYTHONPATH": str(PROJECT / ".dev")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    fast, managed, *refused = done.stdout.splitlines()
    assert [json.loads(route)[0]["dev"] for route in (fast, managed)] == ["enp37s0f0", "eno1"]
    for line in refused:
        assert re.search(
            "are reached by (eno1 and enp37s0f0|enp37s0f0 and eno1): expected one. Set ssh_mesh_inter", line
        )


def test_a_node_alone_needs_no_interface() -> None:
    assert find_route("", BOTH, run) == find_route("", [], run) == ""
