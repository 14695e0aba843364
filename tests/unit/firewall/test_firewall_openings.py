# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whom the kernel's rules let in beyond what is declared: real captures, and what others put in front of ours."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import openings as walk
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import spans
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import delete_argv, parse_save
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.network import (
    heard_at,
    listeners,
    strangers,
)
from ansible_collections.gpustead.cluster.tests.unit import docker_engine

FIXTURES = Path(__file__).parents[1] / "fixtures"
# A converged node of the lab with Docker 26, as captured; with the line that role firewall has put there since.
DNAT = "-A gpustead-forward -m conntrack --ctstate DNAT -j DROP\n"
LAST = "-A gpustead-forward -o docker0 -j DROP\n"
NODE = {
    family: (FIXTURES / "probes" / f"{command}-save.txt").read_text().replace(LAST, DNAT + LAST)
    for family, command in (("v4", "iptables"), ("v6", "ip6tables"))
}
# IPv6 with Docker's own chains, as Docker 27 makes them.
ROUTED = "-A FORWARD -j ufw6-before-logging-forward\n"
DOCKER6 = """-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER -d fd01::2/128 ! -i docker0 -o docker0 -p tcp -m tcp --dport 8888 -j ACCEPT
"""
NODE["v6"] = NODE["v6"].replace(ROUTED, DOCKER6 + ROUTED).replace("*filter\n", "*filter\n:DOCKER - [0:0]\n")
NETWORK = {"v4": "10.214.10.0/24", "v6": "fd00:214:10::/64"}
CLIENT = {"v4": "10.214.20.20", "v6": "fd00:214:20::20"}
NODES, ALL = list(NETWORK.values()), [*NETWORK.values(), *CLIENT.values()]
RULES = [
    {"from_ip": NODES, "to_port": "2222,29500:29510,32768:60999", "proto": "tcp", "comment": "mesh"},
    {"from_ip": ALL, "to_port": "18888,16006,17860,10022", "proto": "tcp", "comment": "published"},
    {"from_ip": "10.9.0.5", "proto": "any"},  # any port: none becomes the cluster's
]
POLICY = {"rules": RULES, "ssh_sources": ["any"], "protected": ALL}
DOCKER = {"published": [18888, "16006", 17860, 10022], "published_to": ALL, "bridges": ["docker0", "br-+"]}


def look(
    policy: dict[str, Any], root: Path, saves: dict[str, str], files: Path, docker: str = "/nowhere"
) -> dict[str, Any]:
    """The probe's value, on a host with these rules in the kernel and these files of ufw's."""
    (root / "proc/net").mkdir(parents=True, exist_ok=True)
    (root / "proc/net/if_inet6").touch()
    (root / "etc/ufw").mkdir(parents=True, exist_ok=True)
    for file in files.glob("*.rules"):
        (root / "etc/ufw" / file.name).write_text(file.read_text())

    def run(argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
        if argv[0] == "sshd":
            return 0, "port 22\nlistenaddress 0.0.0.0:22\nlistenaddress [::]:22\n", ""
        return 0, saves["v6" if argv[0] == "ip6tables-save" else "v4"], ""

    host = Host(str(root), b"salt", run, docker)
    value = observe([("openings", {"name": "ports", **policy})], host)["openings ports"]
    assert isinstance(value, dict)
    return value


def test_a_node_as_its_role_left_it_is_open_to_nobody_else(tmp_path: Path) -> None:
    assert look({**POLICY, **DOCKER}, tmp_path, NODE, FIXTURES / "probes") == {"open": [], "closed": []}


INPUT = {"v4": "-A INPUT -j ufw-before-logging-input\n", "v6": "-A INPUT -j ufw6-before-logging-input\n"}
USER = {"v4": "-A ufw-user-input -p tcp -m tcp --dport 22 ", "v6": "-A ufw6-user-input -p tcp -m tcp --dport 22 "}
BEFORE = {"v4": "-A ufw-before-input -i lo -j ACCEPT\n", "v6": "-A ufw6-before-input -i lo -j ACCEPT\n"}
FORWARD = {"v4": "-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n", "v6": "-A FORWARD -j DOCKER-USER\n"}
GOVERNED = {"v4": "-A DOCKER-USER -j gpustead-forward\n", "v6": "-A DOCKER-USER -j gpustead-forward\n"}
MESH = "tcp port 2222 "
CONTAINERS = "containers "
# What somebody put in front of what: rules, and the openings' beginnings ("": none). Of both families.
FOREIGN: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "a port, in INPUT": (INPUT, "-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT", [MESH]),
    "a port, in ufw's own chain": (BEFORE, "-A {before} -p tcp -m tcp --dport 2222 -j ACCEPT", [MESH]),
    "a port, among the users' rules": (USER, "-A {user} -p tcp -m tcp --dport 2222 -j ACCEPT", [MESH]),
    "everything": (INPUT, "-A INPUT -j ACCEPT", ["tcp ports 2222,10022,16006,17860,18888,29500:29510,32768:60999 "]),
    "new connections": (INPUT, "-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", ["tcp ports 2222,"]),
    "state, as it was written once": (
        INPUT,
        "-A INPUT -p tcp -m state --state NEW -m tcp --dport 10022 -j ACCEPT",
        [
            "tcp port 10022 ",
        ],
    ),
    "a range": (INPUT, "-A INPUT -p tcp -m tcp --dport 2200:2300 -j ACCEPT", [MESH]),
    "some ports": (
        INPUT,
        "-A INPUT -p tcp -m multiport --dports 80,2000:2500,18888 -j ACCEPT",
        ["tcp ports 2222,18888 "],
    ),
    "any port but one": (INPUT, "-A INPUT -p tcp -m tcp ! --dport 2222 -j ACCEPT", ["tcp ports 10022,16006,"]),
    "any protocol": (INPUT, "-A INPUT -p all -j ACCEPT", ["tcp ports 2222,"]),
    "an interface": (INPUT, "-A INPUT -i eth1 -p tcp -m tcp --dport 2222 -j ACCEPT", [MESH]),
    "any interface but lo": (INPUT, "-A INPUT ! -i lo -p tcp -m tcp --dport 2222 -j ACCEPT", [MESH]),
    "a set": (INPUT, "-A INPUT -m set --match-set friends src -p tcp -m tcp --dport 2222 -j ACCEPT", [MESH]),
    "a rate": (INPUT, "-A INPUT -p tcp -m tcp --dport 2222 -m limit --limit 9/sec -j ACCEPT", [MESH]),
    "the opening packet": (
        INPUT,
        "-A INPUT -p tcp -m tcp --dport 2222 --tcp-flags FIN,SYN,RST,ACK SYN -j ACCEPT",
        [MESH],
    ),
    "a comment with words": (
        INPUT,
        '-A INPUT -p tcp -m tcp --dport 2222 -m comment --comment "let -j DROP in" -j ACCEPT',
        [
            MESH,
        ],
    ),
    "a chain of one's own": (INPUT, "-A INPUT -p tcp -m tcp --dport 2222 -j MINE\n-A MINE -j ACCEPT", [MESH]),
    "a chain that goes on": (
        INPUT,
        "-A INPUT -p tcp -m tcp --dport 2200:2300 -g MINE\n-A MINE -p tcp -m tcp --dport 2222 -j ACCEPT",
        [MESH],
    ),
    "a chain that drops others only": (
        INPUT,
        "-A INPUT -j MINE\n-A MINE -p tcp -m tcp ! --dport 2222 -j RETURN\n-A MINE -p udp -j DROP\n-A MINE -j ACCEPT",
        [MESH],
    ),
    "a queue, whose program accepts": (INPUT, "-A INPUT -p tcp -m tcp --dport 2222 -j NFQUEUE --queue-num 0", [MESH]),
    "a denial that may not hold": (
        INPUT,
        "-A INPUT -i eth9 -j DROP\n-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT",
        [MESH],
    ),
    "Docker's ports": (GOVERNED, "-A DOCKER-USER -j ACCEPT", [CONTAINERS]),
    "Docker's ports, by an interface": (GOVERNED, "-A DOCKER-USER -i eth0 -j ACCEPT", [CONTAINERS]),
    "one container": (FORWARD, "-A FORWARD -o docker0 -p tcp -m tcp --dport 8888 -j ACCEPT", [CONTAINERS]),
    "one published port": (
        FORWARD,
        "-A FORWARD -p tcp -m conntrack --ctstate DNAT --ctorigdstport 8080 -j ACCEPT",
        ["what Docker publishes on tcp port 8080 "],
    ),
    "one of ours to more": (
        GOVERNED,
        "-A DOCKER-USER -p tcp -m conntrack --ctorigdstport 18888 -j ACCEPT",
        ["what Docker publishes on tcp port 18888 "],
    ),
    "what is not tracked": (INPUT, "-A INPUT -m conntrack --ctstate UNTRACKED -j ACCEPT", ["tcp ports 2222,"]),
    "what is not new, as what is not tracked": (
        INPUT,
        "-A INPUT -p tcp -m tcp --dport 2222 -m conntrack ! --ctstate NEW -j ACCEPT",
        [MESH],
    ),
    "what was sent to our port": (INPUT, "-A INPUT -m conntrack --ctstate DNAT -j ACCEPT", ["tcp ports 2222,"]),
    "what was called elsewhere": (
        INPUT,
        "-A INPUT -p tcp -m conntrack --ctorigdstport 443 -j ACCEPT",
        ["tcp ports 2222,"],
    ),
    "containers, by UDP": (FORWARD, "-A FORWARD -p udp -j MINE\n-A MINE -j ACCEPT", [CONTAINERS]),
    "what Docker publishes by UDP": (
        GOVERNED,
        "-A DOCKER-USER -p udp -m conntrack --ctorigdstport 53 -j ACCEPT",
        ["what Docker publishes on udp port 53 "],
    ),
    "containers, by another protocol": (FORWARD, "-A FORWARD -p sctp -j ACCEPT", [CONTAINERS]),
    "containers, not tracked": (FORWARD, "-A FORWARD -m conntrack --ctstate UNTRACKED -j ACCEPT", [CONTAINERS]),
    # Not ours, or no opening.
    "ICMP to containers": (FORWARD, "-A FORWARD -p icmp -j ACCEPT", []),
    "another port": (INPUT, "-A INPUT -p tcp -m tcp --dport 443 -j ACCEPT", []),
    "another protocol": (INPUT, "-A INPUT -p udp -m udp --dport 2222 -j ACCEPT", []),
    "ICMP": (INPUT, "-A INPUT -p icmp -j ACCEPT", []),
    "the host itself": (INPUT, "-A INPUT -i lo -j ACCEPT", []),
    "answers": (INPUT, "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", []),
    "SSH, which is open to all": (INPUT, "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", []),
    "a log": (INPUT, '-A INPUT -p tcp -m tcp --dport 2222 -j LOG --log-prefix "mesh -j ACCEPT "', []),
    "a mark": (INPUT, "-A INPUT -p tcp -m tcp --dport 2222 -j MARK --set-xmark 0x1/0xffffffff", []),
    "behind what drops it": (INPUT, "-A INPUT -j DROP\n-A INPUT -j ACCEPT", []),
    "what containers send": (FORWARD, "-A FORWARD -i docker0 -j ACCEPT", []),
    "a route that is not to containers": (
        FORWARD,
        "-A FORWARD -i wg0 -o eth7 -m conntrack --ctstate INVALID -j ACCEPT",
        [],
    ),
    "a route behind Docker's chains": (
        {"v4": "-A ufw-before-forward -j ufw-user-forward\n", "v6": "-A ufw6-before-forward -j ufw6-user-forward\n"},
        "-A {route} -p tcp -m tcp --dport 8888 -j ACCEPT",
        [],
    ),
}


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("case", FOREIGN)
def test_what_others_put_in_front(case: str, family: str, tmp_path: Path) -> None:
    places, rules, expected = FOREIGN[case]
    prefix = "ufw" if family == "v4" else "ufw6"
    chains = {name: f"{prefix}-{name}-input" for name in ("before", "user")}
    lines = rules.format(**chains, route=f"{prefix}-user-forward")
    if case == "ICMP" and family == "v6":
        lines = lines.replace("icmp", "ipv6-icmp")
    assert places[family] in NODE[family]
    text = (
        NODE[family]
        .replace(places[family], f"{lines}\n{places[family]}", 1)
        .replace("*filter\n", "*filter\n:MINE - [0:0]\n", 1)
    )
    value = look({**POLICY, **DOCKER}, tmp_path, {**NODE, family: text}, FIXTURES / "probes")
    found = value["open"]
    assert len(found) == len(expected), found
    assert all(line.startswith(start) and f"({family})" in line for line, start in zip(found, expected)), found
    # It is named: the rule as it stands, and what takes it back.
    command = "iptables" if family == "v4" else "ip6tables"
    assert all(" -D " in line and command in line for line in found)
    assert [line for line in value["closed"] if case != "behind what drops it"] == []


def test_sources_are_named_and_those_that_were_declared_are_none(tmp_path: Path) -> None:
    def opened(source: str) -> list[str]:
        rule = f"-A INPUT -s {source} -p tcp -m tcp --dport 2222 -j ACCEPT\n"
        saves = {**NODE, "v4": NODE["v4"].replace(INPUT["v4"], rule + INPUT["v4"], 1)}
        return [line.partition(" by ")[0] for line in look(POLICY, tmp_path, saves, FIXTURES / "probes")["open"]]

    assert opened("10.214.10.7/32") == opened("10.214.10.128/25") == []
    assert opened("203.0.113.7/32") == ["tcp port 2222 (v4) is open to 203.0.113.7"]
    assert opened("10.214.0.0/16") == [
        "tcp port 2222 (v4) is open to 10.214.0.0/21, 10.214.8.0/23, 10.214.11.0/24, 10.214.12.0/22, 4 more"
    ]
    # 10.9.0.5 may call any port.
    assert opened("10.9.0.4/31") == ["tcp port 2222 (v4) is open to 10.9.0.4"]


def test_a_denial_of_what_is_tracked_is_not_relied_upon(tmp_path: Path) -> None:
    rules = "-A INPUT -p tcp -m state --state NEW -j DROP\n-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT\n"
    saves = {**NODE, "v4": NODE["v4"].replace(INPUT["v4"], rules + INPUT["v4"], 1)}
    value = look(POLICY, tmp_path, saves, FIXTURES / "probes")
    assert [line.partition(" is open")[0] for line in value["open"]] == ["tcp port 2222 (v4)"]
    assert value["closed"] != []


@pytest.mark.parametrize(
    ("rule", "closed"),
    [
        # Bans of whoever is not the cluster's are their owner's business.
        ("-A INPUT -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable", []),
        ("-A INPUT -s 10.128.0.0/9 -p tcp -m tcp --dport 22 -j DROP", ["tcp port 22 (v4) is closed to "]),
        (
            "-A INPUT -s 10.214.10.12/32 -p tcp -m tcp --dport 2222 -j DROP",
            ["tcp port 2222 (v4) is closed to 10.214.10.12"],
        ),
        ("-A INPUT -m set --match-set banned src -j DROP", []),
        ("-A INPUT -p tcp -m tcp --dport 443 -j DROP", []),
    ],
)
def test_what_is_surely_closed(rule: str, closed: list[str], tmp_path: Path) -> None:
    saves = {**NODE, "v4": NODE["v4"].replace(INPUT["v4"], f"{rule}\n{INPUT['v4']}", 1)}
    value = look(POLICY, tmp_path, saves, FIXTURES / "probes")
    assert value["open"] == []
    assert len(value["closed"]) == len(closed)
    assert all(line.startswith(start) for line, start in zip(value["closed"], closed))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (":INPUT DROP", ":INPUT ACCEPT", "the policy of iptables's INPUT"),
        # What `ufw default allow` leaves beside that.
        (
            "-A ufw-track-output ",
            "-A ufw-track-input -p tcp -m conntrack --ctstate NEW -j ACCEPT\n-A ufw-track-output ",
            "the policy of iptables's INPUT",
        ),
        ("-A DOCKER-USER -j gpustead-forward\n", "", "reached past gpustead-forward"),
        ("-A FORWARD -j DOCKER-USER\n", "", "reached past gpustead-forward"),
        (DNAT, "", "reached past gpustead-forward"),  # a bridge with a name of somebody's choice
    ],
)
def test_what_is_missing(old: str, new: str, said: str, tmp_path: Path) -> None:
    saves = {**NODE, "v4": NODE["v4"].replace(old, new, 1)}
    (line,) = look({**POLICY, **DOCKER}, tmp_path, saves, FIXTURES / "probes")["open"]
    assert said in line


def test_a_bridge_that_passes_for_one_of_dockers_is_named(tmp_path: Path) -> None:
    def bridge(name: str, *ports: str) -> None:
        for folder in ("bridge", *(f"brif/{port}" for port in ports)):
            (tmp_path / "sys/class/net" / name / folder).mkdir(parents=True)
        (tmp_path / "sys/class/net" / name / "brif").mkdir(exist_ok=True)

    for name, kind in (("eth0", "device"), ("veth1", "")):
        (tmp_path / "sys/class/net" / name / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "sys/class/net" / name / "uevent").write_text(f"INTERFACE={name}\n")
    (tmp_path / "sys/class/net/vlan5").mkdir()
    (tmp_path / "sys/class/net/vlan5/uevent").write_text("DEVTYPE=vlan\nINTERFACE=vlan5\n")
    (tmp_path / "sys/class/net/br-nobridge").mkdir()
    bridge("docker0", "veth1")
    bridge("br-0123456789ab", "veth1")
    bridge("lan", "eth0")
    policy = {**POLICY, **DOCKER}
    assert look(policy, tmp_path, NODE, FIXTURES / "probes")["open"] == []
    bridge("br-lan", "veth1")
    bridge("br-0123456789ac", "veth1", "vlan5")
    start = "containers are open to who comes in by the bridge "
    remedy = "(list Docker's own bridges in firewall_docker_bridges, or give it another name)"
    found = look(policy, tmp_path, NODE, FIXTURES / "probes")["open"]
    assert found == [
        f"{start}br-0123456789ac: it passes for one of Docker's, and vlan5 is in it {remedy}",
        f"{start}br-lan: it passes for one of Docker's, and its name is not one that Docker gives {remedy}",
    ]
    # One that the site itself names is its own affair, but for what comes in by it.
    assert strangers(["docker0", "br-lan", "br-0123456789ab"], Host(str(tmp_path))) == []
    assert look(POLICY, tmp_path, NODE, FIXTURES / "probes")["open"] == []


def test_dockers_rules_for_a_bridge_of_any_name_are_nobodys_to_remove(tmp_path: Path) -> None:
    bridge = "-A FORWARD -i docker-ml ! -o docker-ml -j ACCEPT\n-A FORWARD -i docker-ml -o docker-ml -j ACCEPT\n"
    text = NODE["v4"].replace("-A DOCKER-USER -j gpustead-forward\n", "", 1)
    saves = {**NODE, "v4": text.replace("-A FORWARD -o docker0 ", f"{bridge}-A FORWARD -o docker0 ", 1)}
    (line,) = look({**POLICY, **DOCKER}, tmp_path, saves, FIXTURES / "probes")["open"]
    assert "reached past gpustead-forward" in line
    assert " -D " not in line


# What Docker 26 adds for `docker network create -o com.docker.network.bridge.name=docker-ml ml` and `-p 80` on it.
PORT = "-A DOCKER -d 172.20.0.2/32 ! -i docker-ml -o docker-ml -p tcp -m tcp --dport 80 -j ACCEPT\n"
WAY = "-A FORWARD -o docker-ml -j DOCKER\n-A FORWARD -i docker-ml ! -o docker-ml -j ACCEPT\n"
NAMED = (
    NODE["v4"]
    .replace("-A DOCKER -d ", f"{PORT}-A DOCKER -d ", 1)
    .replace("-A FORWARD -o docker0 ", f"{WAY}-A FORWARD -o docker0 ", 1)
)
NETWORKS = [
    {"Id": "b" * 64, "Driver": "bridge", "Options": {"com.docker.network.bridge.name": "docker-ml"}},
    {"Id": "b7dbd1d787de" + "0" * 52, "Driver": "bridge", "Options": {}},
    {"Id": "c" * 64, "Driver": "macvlan", "Options": None},
]


def runs_docker(root: Path) -> None:
    for name, text in {"run/docker.pid": "12", "proc/12/status": "Name:\tdockerd\nUid:\t0\t0\t0\t0\n"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("more", "openings"),
    [
        ("", ["containers (v4) are open to any by Docker's own rules, which are reached past gpustead-forward"]),
        ("-A gpustead-forward -o docker-ml -j DROP\n", []),  # as the role leaves it once it has seen the bridge
    ],
)
def test_a_containers_own_address_on_a_bridge_that_somebody_named(
    more: str, openings: list[str], tmp_path: Path
) -> None:
    """What it publishes is closed before the role has seen the bridge; its own address, to who has a route, is not."""
    runs_docker(tmp_path)
    saves = {**NODE, "v4": NAMED.replace(LAST, more + LAST)}
    socket = tmp_path / "docker.sock"
    with docker_engine.engine(socket, {"/networks": NETWORKS}):
        found = look({**POLICY, **DOCKER}, tmp_path, saves, FIXTURES / "probes", str(socket))
    assert found == {"open": openings, "closed": []}


@pytest.mark.parametrize("there", [False, True])
def test_a_bridge_that_somebody_named_and_that_has_gone(there: bool, tmp_path: Path) -> None:
    """Its rules stay until the role runs again; without an interface of its name nothing comes in by them."""
    (tmp_path / f"sys/class/net/{'docker-ml' if there else 'docker0'}").mkdir(parents=True)
    rules = "-A gpustead-forward -i docker-ml -j RETURN\n-A gpustead-forward -o docker-ml -j DROP\n"
    saves = {**NODE, "v4": NODE["v4"].replace(LAST, rules + LAST)}
    found = look({**POLICY, **DOCKER}, tmp_path, saves, FIXTURES / "probes", str(tmp_path / "docker.sock"))
    assert bool(found["open"]) is there, found


def test_the_role_reads_which_bridges_somebody_named(tmp_path: Path) -> None:
    subject = {"name": "docker", "known": DOCKER["bridges"]}
    socket = tmp_path / "docker.sock"
    (tmp_path / "proc").mkdir()
    assert observe([("bridges", subject)], Host(str(tmp_path), docker=str(socket))) == {"bridges docker": None}
    runs_docker(tmp_path)
    with docker_engine.engine(socket, {"/networks": NETWORKS}):
        found = observe([("bridges", subject)], Host(str(tmp_path), docker=str(socket)))
    assert found == {"bridges docker": {"others": ["docker-ml"]}}


REAL = FIXTURES / "firewall"
ANY = "tcp port 2222 ({}) is open to any but "
# What `ufw insert 1 allow 2222/tcp` and the like left on a real host: with the command that takes each back.
UFW = [
    "ufw delete allow in from any to any port 2222 proto tcp",
    "ufw delete allow in on eth0 from any to any port 2222 proto tcp",
    "ufw delete allow in log from any to any port 2200:2300 proto tcp",
    "ufw delete limit in from any to any port 2222",
    "ufw delete allow in from any to any app Mesh",
]
ONE_FAMILY = {
    "v4": [
        "ufw delete allow in from 10.9.9.8 port 33 to any port 2222 proto tcp",
        "ufw delete allow in from 10.9.9.9 to any",
    ],
    "v6": ["ufw delete allow in from fd00::9 to any port 2222"],
}


def test_rules_of_ufw_are_all_named_with_what_takes_them_back(tmp_path: Path) -> None:
    saves = {"v4": (REAL / "iptables-save.txt").read_text(), "v6": (REAL / "ip6tables-save.txt").read_text()}
    rules = [{"from_ip": ["10.1.0.0/24"], "to_port": "2222,29500:29510,32768:60999", "proto": "tcp"}]
    policy = {"rules": rules, "ssh_sources": ["any"], "protected": ["10.1.0.0/24"]}
    value = look(policy, tmp_path, saves, REAL)
    for family in ("v4", "v6"):
        undone = sorted(line.rpartition(" (")[2].rstrip(")") for line in value["open"] if f" ({family}) " in line)
        assert undone == sorted([*UFW, *ONE_FAMILY[family]])
    assert value["closed"] == []
    # Where SSH is not open to all, the same goes for it: profile OpenSSH has let in everybody.
    narrow = look({**policy, "ssh_sources": ["10.9.0.0/16"]}, tmp_path, saves, REAL)["open"]
    assert [line for line in narrow if "port 22 " in line and "app OpenSSH" in line]


def test_a_rule_in_a_file_of_ufws_is_named_with_the_file(tmp_path: Path) -> None:
    look(POLICY, tmp_path, NODE, REAL)
    written = "-A ufw-before-input -p tcp --dport 2222 -j ACCEPT"
    files = tmp_path / "files"
    files.mkdir()
    for file in (FIXTURES / "probes").glob("user*.rules"):
        (files / file.name).write_text(file.read_text())
    (files / "before.rules").write_text(f"*filter\n{written}\nCOMMIT\n")
    live = "-A ufw-before-input -p tcp -m tcp --dport 2222 -j ACCEPT\n"
    saves = {**NODE, "v4": NODE["v4"].replace(BEFORE["v4"], live + BEFORE["v4"], 1)}
    (line,) = look(POLICY, tmp_path, saves, files)["open"]
    assert f"by '{written}' in /etc/ufw/before.rules (take it out of /etc/ufw/before.rules and iptables -D" in line


def test_a_name_makes_no_port_sshs(tmp_path: Path) -> None:
    """`ufw allow 2222/tcp comment 'gpustead: ssh'` does not make the mesh's port one that is open to all."""
    files = tmp_path / "files"
    files.mkdir()
    tag = b"gpustead: ssh".hex()
    added = f"### tuple ### allow tcp 2222 0.0.0.0/0 any 0.0.0.0/0 in comment={tag}\n"
    added += "-A ufw-user-input -p tcp --dport 2222 -j ACCEPT\n"
    kept = (FIXTURES / "probes" / "user.rules").read_text()
    (files / "user.rules").write_text(kept.replace("### tuple", f"{added}\n### tuple", 1))
    (files / "user6.rules").write_text((FIXTURES / "probes" / "user6.rules").read_text())
    saves = {
        **NODE,
        "v4": NODE["v4"].replace(
            USER["v4"], f"{USER['v4'].replace('--dport 22 ', '--dport 2222 ')}-j ACCEPT\n{USER['v4']}", 1
        ),
    }
    assert len(look(POLICY, tmp_path, saves, files)["open"]) == 1


def test_a_declared_range_does_not_take_sshs_port(tmp_path: Path) -> None:
    policy = {**POLICY, "rules": [*RULES, {"from_ip": "10.9.0.9", "to_port": "1:1024", "proto": "tcp"}]}
    assert look(policy, tmp_path, NODE, FIXTURES / "probes") == {"open": [], "closed": []}


def test_an_interface_that_is_declared_is_no_opening_and_no_other_is(tmp_path: Path) -> None:
    """As a VPN puts it: its interface may, and nobody else."""
    vpn = {"interface": "wg0", "from_ip": "any"}
    text = NODE["v4"].replace("*filter\n", "*filter\n:ts - [0:0]\n", 1)
    for interface, openings in (("wg0", 0), ("wg1", 1)):
        rules = f"-A INPUT -j ts\n-A ts -s 100.64.0.0/10 ! -i {interface} -j DROP\n-A ts -i {interface} -j ACCEPT\n"
        saves = {**NODE, "v4": text.replace(INPUT["v4"], rules + INPUT["v4"], 1)}
        policy = {**POLICY, "rules": [*RULES, vpn]}
        assert len(look(policy, tmp_path, saves, FIXTURES / "probes")["open"]) == openings


@pytest.mark.parametrize(
    ("declared", "openings"),
    [
        ({"from_port": "53", "from_ip": "any", "proto": "tcp"}, 0),
        ({"from_port": "53", "from_ip": ["any"], "proto": "tcp", "to_ip": "any"}, 0),
        ({"from_port": "54", "from_ip": "any", "proto": "tcp"}, 1),
        ({"from_port": "53", "from_ip": "10.9.0.0/16", "proto": "tcp"}, 1),
    ],
)
def test_what_is_declared_for_one_source_port_opens_no_other(
    declared: dict[str, Any], openings: int, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    tag = b"gpustead: declared".hex()
    added = f"### tuple ### allow tcp any 0.0.0.0/0 53 0.0.0.0/0 in comment={tag}\n-A ufw-user-input -p tcp --sport 53"
    kept = (FIXTURES / "probes" / "user.rules").read_text()
    (files / "user.rules").write_text(kept.replace("### tuple", f"{added} -j ACCEPT\n\n### tuple", 1))
    (files / "user6.rules").write_text((FIXTURES / "probes" / "user6.rules").read_text())
    live = "-A ufw-user-input -p tcp -m tcp --sport 53 -j ACCEPT\n"
    saves = {**NODE, "v4": NODE["v4"].replace(USER["v4"], live + USER["v4"], 1)}
    policy = {**POLICY, "rules": [*RULES, declared]}
    assert len(look(policy, tmp_path, saves, files)["open"]) == openings
    # Somebody else's for the mesh is seen beside it.
    other = live + "-A ufw-user-input -p tcp -m tcp --dport 2222 -j ACCEPT\n"
    saves = {**NODE, "v4": NODE["v4"].replace(USER["v4"], other + USER["v4"], 1)}
    assert len(look(policy, tmp_path, saves, files)["open"]) == openings + 1


@pytest.mark.parametrize(
    ("kept", "command"),
    [
        ("allow tcp 22 0.0.0.0/0 any 10.0.0.8 OpenSSH - in", "ufw delete allow in from 10.0.0.8 to any app OpenSSH"),
        ("allow tcp 80 ::/0 any ::/0 Nginx%20HTTP - in", "ufw delete allow in from any to any app Nginx HTTP"),
        (
            "route:allow tcp 8888 0.0.0.0/0 any 0.0.0.0/0 in_eth0!out_eth1",
            "ufw route delete allow in on eth0 out on eth1 from any to any port 8888 proto tcp",
        ),
        (
            "route:allow tcp 8889 0.0.0.0/0 any 0.0.0.0/0 in",
            "ufw route delete allow from any to any port 8889 proto tcp",
        ),
        ("allow_log-all any any 10.0.0.1 any 0.0.0.0/0 in", "ufw delete allow in log-all from any to 10.0.0.1"),
    ],
)
def test_the_command_that_deletes_a_rule(kept: str, command: str) -> None:
    assert " ".join(delete_argv(kept)) == command


def test_spans() -> None:
    ten, gap = ((0, 9),), ((3, 4), (7, 7))
    assert spans.minus(ten, gap) == ((0, 2), (5, 6), (8, 9))
    assert spans.union(spans.minus(ten, gap), gap) == ten
    assert spans.common(ten, ((5, 20),)) == ((5, 9),)
    assert spans.ports_of("443,80,8000:8010") == ((80, 80), (443, 443), (8000, 8010))


def test_a_loop_of_chains_ends() -> None:
    text = "*filter\n:INPUT DROP [0:0]\n:A - [0:0]\n-A INPUT -j A\n-A A -p tcp -j A\nCOMMIT\n"
    policy = walk.declared([{"to_port": "22", "proto": "tcp"}])
    assert walk.incoming(parse_save(text), "v4", policy, ()) == ([], [])


# --- what listens

SS = """\
LISTEN 0 128    127.0.0.1:3003 0.0.0.0:*
LISTEN 0 128      0.0.0.0:3004 0.0.0.0:*
LISTEN 0 128         [::]:3002    [::]:*
LISTEN 0 128            *:3001       *:*
LISTEN 0 128 127.0.0.53%lo:53  0.0.0.0:*
LISTEN 0 128 [fe80::1]%eth0:53   [::]:*
LISTEN 0 128 172.17.0.1:2222   0.0.0.0:*
LISTEN 0 128 [::1]:2222           [::]:*
"""


def test_listeners() -> None:
    assert listeners(SS) == {
        3003: ["127.0.0.1"],
        3004: ["0.0.0.0"],
        3002: ["::"],
        3001: ["*"],
        53: ["127.0.0.53", "fe80::1"],
        2222: ["172.17.0.1", "::1"],
    }


@pytest.mark.parametrize(
    ("addresses", "networks", "heard"),
    [
        (["127.0.0.1"], [], False),
        (["127.0.0.1", "::1"], ["10.1.0.0/24"], False),
        (["fe80::1"], [], False),
        (["10.9.0.1"], [], True),
        (["10.9.0.1"], ["10.1.0.0/24"], False),
        (["10.1.0.1"], ["fd00::/64", "10.1.0.0/24"], True),
        (["::ffff:10.1.0.1"], ["10.1.0.0/24"], True),
        (["::"], ["10.1.0.0/24"], False),
        (["::"], ["10.1.0.0/24", "fd00::/64"], True),
        (["0.0.0.0"], ["10.1.0.0/24"], True),
        (["*"], ["10.1.0.0/24"], True),
        ([], [], False),
    ],
)
def test_who_hears_the_network(addresses: list[str], networks: list[str], heard: bool) -> None:
    assert heard_at(addresses, networks) is heard


def test_the_probe_of_listeners(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str], _timeout: float) -> tuple[int, str, str]:
        asked.append(argv)
        return 0, SS, ""

    host = Host(str(tmp_path), b"", run)
    specs = [("listener", {"name": port, "networks": ["10.1.0.0/24"]}) for port in ("2222", "3001", "9")]
    assert observe(specs, host) == {
        "listener 2222": {"at": ["172.17.0.1", "::1"], "heard": False},
        "listener 3001": {"at": ["*"], "heard": True},
        "listener 9": None,
    }
    # An account that listens on all others must not have the last word.
    assert asked == [["ss", "-Hltn", "sport = :2222 or sport = :3001 or sport = :9"]]


def test_one_port_is_told_from_another_by_ss_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port, another = server.getsockname()[1], other.getsockname()[1]
        seen = observe([("listener", {"name": str(one)}) for one in (port, another)], Host())
        assert seen[f"listener {port}"] == seen[f"listener {another}"] == {"at": ["127.0.0.1"], "heard": False}
