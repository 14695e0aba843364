# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""ufw's rules: what it prints, what we plan, and that SSH is never cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.sshd_ports import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_rules import (
    Session,
    UfwRule,
    address,
    admits,
    find_session,
    guard,
    guard_ipv6,
    normal,
    parse_added,
    plan,
    ports,
    ssh_ports,
    ssh_rules,
)

# As printed by ufw 0.36.2.
PRINTED = {
    "ufw allow 22/tcp comment 'gpustead: ssh'": UfwRule("allow", port="22", proto="tcp", comment="gpustead: ssh"),
    "ufw allow from 172.28.10.0/24 to any port 2222,29500:29510 proto tcp comment 'gpustead: mesh'": UfwRule(
        "allow", source="172.28.10.0/24", port="2222,29500:29510", proto="tcp", comment="gpustead: mesh"
    ),
    "ufw allow from 10.0.0.7": UfwRule("allow", source="10.0.0.7"),
    "ufw allow 80": UfwRule("allow", port="80"),
    "ufw deny in on eth0 from 10.0.0.9 to 10.0.0.0/8 port 80 proto udp comment 'a b'": UfwRule(
        "deny",
        interface="eth0",
        source="10.0.0.9",
        destination="10.0.0.0/8",
        port="80",
        proto="udp",
        comment="a b",
    ),
    "ufw allow from 10.1.2.0/24 port 99 to any port 80 proto tcp": UfwRule(
        "allow", source="10.1.2.0/24", source_port="99", port="80", proto="tcp"
    ),
    "ufw reject out to 1.2.3.4": UfwRule("reject", direction="out", destination="1.2.3.4"),
    # Rules that log, in the places where ufw's own get_command writes the word.
    "ufw deny log 23/tcp": UfwRule("deny", log="log", port="23", proto="tcp"),
    "ufw limit log-all 22/tcp comment 'b'": UfwRule("limit", log="log-all", port="22", proto="tcp", comment="b"),
    "ufw reject out log 25/tcp": UfwRule("reject", direction="out", log="log", port="25", proto="tcp"),
    "ufw deny in on eth0 log from 203.0.113.9": UfwRule("deny", interface="eth0", log="log", source="203.0.113.9"),
    "ufw deny log to any": UfwRule("deny", log="log"),
}
VAGUE = ["ufw limit OpenSSH", "ufw allow log 'Nginx Full'", "ufw allow from 10.0.0.8 to any app OpenSSH"]

SSH = UfwRule("allow", port="22", proto="tcp", comment="gpustead: ssh")
MESH = UfwRule("allow", source="10.0.0.0/24", port="2222", proto="tcp", comment="gpustead: mesh")
DENY = UfwRule("deny", source="10.0.0.66", comment="gpustead: declared")
ALIEN = UfwRule("allow", port="443", proto="tcp", comment="web")
HERE = Session("192.0.2.7", 22)


@pytest.mark.parametrize(("line", "rule"), PRINTED.items())
def test_parse(line: str, rule: UfwRule) -> None:
    assert parse_added(f"Added user rules (see 'ufw status' for running firewall):\n{line}\n") == [rule]
    assert normal(rule) == rule


@pytest.mark.parametrize("line", VAGUE)
def test_what_is_not_modelled_keeps_its_text(line: str) -> None:
    (rule,) = parse_added(line)
    assert (str(rule), rule.action) == (line, line.split()[1])


def test_where_a_rule_that_is_not_modelled_goes_is_known() -> None:
    assert [rule.direction for rule in parse_added("ufw deny out Samba\nufw deny Samba\n")] == ["out", "in"]


def test_a_quotation_mark_without_its_fellow_is_no_end() -> None:
    """ufw refuses one in a comment; in user.rules it can be all the same, and is printed as it is."""
    (rule, other) = parse_added("ufw allow 22/tcp comment 'Ada's'\nufw allow 80 comment 'Ada's web'\n")
    assert (rule.port, rule.proto, other.action, bool(other.app)) == ("22", "tcp", "allow", True)


def test_no_rules() -> None:
    assert parse_added("Added user rules (see 'ufw status' for running firewall):\n(None)\n") == []


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("any", "any"),
        ("0.0.0.0/0", "any"),
        ("::/0", "any"),
        ("10.1.2.3/24", "10.1.2.0/24"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("fd28:10:0::/64", "fd28:10::/64"),
    ],
)
def test_address(given: str, kept: str) -> None:
    assert address(given) == kept


def test_ports_are_sorted_as_ufw_sorts_them() -> None:
    assert ports("32768:60999,443,80") == "80,443,32768:60999"


@pytest.mark.parametrize("bad", ["0", "70000", "ssh", "22, 23", "1:2:3"])
def test_bad_ports(bad: str) -> None:
    with pytest.raises(GpusteadError, match="port"):
        ports(bad)


def test_bad_address() -> None:
    with pytest.raises(GpusteadError, match="0/99"):
        address("10.0.0.0/99")


@pytest.mark.parametrize(
    ("present", "declared", "add", "remove", "after"),
    [
        ([], [SSH, MESH], [SSH, MESH], [], [SSH, MESH]),
        ([SSH, MESH], [SSH, MESH], [], [], [SSH, MESH]),
        ([SSH, ALIEN, MESH], [SSH], [], [MESH], [SSH, ALIEN]),
        ([ALIEN], [SSH], [SSH], [], [ALIEN, SSH]),
        ([SSH], [SSH, DENY], [DENY], [], [DENY, SSH]),
        ([UfwRule("limit", port="22", proto="tcp")], [SSH], [SSH], [], [SSH]),
        ([UfwRule("deny", log="log", port="22", proto="tcp")], [SSH], [SSH], [], [SSH]),
    ],
)
def test_plan(
    present: list[UfwRule], declared: list[UfwRule], add: list[UfwRule], remove: list[UfwRule], after: list[UfwRule]
) -> None:
    todo = plan(present, declared)
    assert (list(todo.add), list(todo.remove), list(todo.after)) == (add, remove, after)
    assert todo.changed == bool(add or remove)
    assert not plan(todo.after, declared).changed


@pytest.mark.parametrize(
    ("rules", "source", "port", "verdict"),
    [
        ([], "192.0.2.7", 22, False),
        ([SSH], "192.0.2.7", 22, True),
        ([SSH], "2001:db8::7", 22, True),
        ([SSH], "192.0.2.7", 2022, False),
        ([MESH], "10.0.0.3", 2222, True),
        ([MESH], "10.0.1.3", 2222, False),
        ([MESH], "2001:db8::7", 2222, False),
        ([DENY, SSH], "10.0.0.66", 22, False),
        ([DENY, SSH], "10.0.0.67", 22, True),
        ([SSH, DENY], "10.0.0.66", 22, True),
        ([UfwRule("deny", interface="eth9"), SSH], "192.0.2.7", 22, False),
        ([UfwRule("allow", interface="eth9", port="22"), SSH], "192.0.2.7", 22, True),
        ([UfwRule("allow", interface="eth9", port="22")], "192.0.2.7", 22, False),
        ([UfwRule("deny", app="ufw deny OpenSSH"), SSH], "192.0.2.7", 22, False),
        ([UfwRule("deny", proto="udp"), SSH], "192.0.2.7", 22, True),
        ([UfwRule("deny", log="log", port="23"), SSH], "192.0.2.7", 22, True),
        ([UfwRule("deny", log="log"), SSH], "192.0.2.7", 22, False),
        ([UfwRule("limit", log="log", port="22")], "192.0.2.7", 22, True),
        ([UfwRule("deny", direction="out"), SSH], "192.0.2.7", 22, True),
        ([UfwRule("allow", port="20:30")], "192.0.2.7", 22, True),
    ],
)
def test_admits(rules: list[UfwRule], source: str, port: int, verdict: bool) -> None:
    assert admits(rules, source, port) is verdict


def test_the_controller_is_always_let_in() -> None:
    rules = ssh_rules([22], ["10.9.0.0/16"], HERE)
    assert [rule.source for rule in rules] == ["10.9.0.0/16", "192.0.2.7"]
    assert len(ssh_rules([22], ["192.0.2.0/24"], HERE)) == 1
    guard(rules, HERE, [22])


def test_guard_refuses_to_cut_the_session() -> None:
    with pytest.raises(GpusteadError, match=r"192\.0\.2\.7 to port 22.*10\.0\.0\.0/8"):
        guard([UfwRule("deny", source="10.0.0.0/8")], HERE, [22])
    with pytest.raises(GpusteadError, match="SSH port 22"):
        guard([MESH], None, [22])


@pytest.mark.parametrize("text", ["IPV6=no\n", "# x\nIPV6='no'\n", "IPV6=\n"])
def test_guard_refuses_to_close_ipv6_under_the_session(text: str) -> None:
    with pytest.raises(GpusteadError, match="2001:db8::5, while /etc/default/ufw says IPV6=no"):
        guard_ipv6(text, Session("2001:db8::5", 22))
    guard_ipv6(text, HERE)


@pytest.mark.parametrize("text", ["", "IPV6=yes\n", 'IPV6="yes"\n', "#IPV6=no\nIPV6=YES\n"])
def test_guard_lets_ipv6_be(text: str) -> None:
    guard_ipv6(text, Session("2001:db8::5", 22))


@pytest.mark.parametrize(
    ("environ", "processes", "session"),
    [
        ({"SSH_CONNECTION": "192.0.2.7 5000 192.0.2.1 22"}, {}, HERE),
        ({"SSH_CONNECTION": "::ffff:192.0.2.7 5000 ::ffff:192.0.2.1 22"}, {}, HERE),
        ({"SSH_CONNECTION": "fe80::1%eth0 5000 fe80::2%eth0 2022"}, {}, Session("fe80::1", 2022)),
        ({}, {7: (5, "A=b\0"), 5: (1, "B=c\0SSH_CONNECTION=192.0.2.7 5000 192.0.2.1 22\0")}, HERE),
        ({}, {7: (1, "A=b\0")}, None),
        # By AF_VSOCK or a socket's path, as systemd's ssh-generator has sshd listen (systemd 30777 and 39926).
        ({"SSH_CONNECTION": "UNKNOWN 65535 UNKNOWN 65535"}, {}, None),
        ({"SSH_CONNECTION": "192.0.2.7 5000 192.0.2.1 ssh"}, {}, None),
        ({}, {}, None),
    ],
)
def test_find_session(environ: dict[str, str], processes: dict[int, tuple[int, str]], session: Session | None) -> None:
    files = {f"/proc/{pid}/environ": text for pid, (_, text) in processes.items()}
    files |= {f"/proc/{pid}/status": f"Name:\tsudo\nPPid:\t{parent}\n" for pid, (parent, _) in processes.items()}
    assert find_session(environ, 7, lambda path: files.get(path, "")) == session


@pytest.mark.parametrize(
    ("answer", "session", "numbers"),
    [
        ((0, "port 22\nport 2022\naddressfamily any\n", ""), HERE, (22, 2022)),
        ((255, "", "Missing privilege separation directory"), Session("192.0.2.7", 2022), (2022,)),
        ((127, "", ""), None, (222,)),
    ],
)
def test_ssh_ports(answer: tuple[int, str, str], session: Session | None, numbers: tuple[int, ...]) -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return answer

    assert ssh_ports(run, session, 222) == numbers


SOCKET = "Listen=0.0.0.0:{0} (Stream)\nListen=[::]:{0} (Stream)\nActiveState={1}\n"
LISTENS = "LISTEN 0 128 {}:{} {}:* {}ino:18439 sk:1 cgroup:{} {}<->\n"
UNIT = "/system.slice/ssh.service"
# As `systemctl show` tells of a socket and of the unit.
GROUPS = "ControlGroup=\nActiveState=inactive\n\nControlGroup={0}\nActiveState=active\n"


@pytest.mark.parametrize(
    ("sshd", "held", "sockets", "ports"),
    [
        # What `sshd -T` prints with `Port 22` and these ListenAddress lines.
        ("port 22\nlistenaddress 192.0.2.1:2222\n", "", "", {2222}),
        ("port 22\nlistenaddress [2001:db8::1]:2222\nlistenaddress 0.0.0.0:22\n", "", "", {22, 2222}),
        ("port 22\nlistenaddress 192.0.2.1:2222 rdomain mgmt\n", "", "", {2222}),
        ("port 22\nport 2222\nlistenaddress [::]:22\nlistenaddress [::]:2222\n", "", "", {22, 2222}),
        # Ubuntu from 22.10 on: systemctl edit ssh.socket. Without /run/sshd `sshd -T` fails.
        ("port 22\nlistenaddress 0.0.0.0:22\n", SOCKET.format(2222, "active"), "", {22, 2222}),
        ("", SOCKET.format(2222, "active"), "", {2222}),
        ("port 22\n", SOCKET.format(2222, "inactive") + "\nActiveState=inactive\n", "", {22}),
        ("port 22\n", "Listen=/run/sshd.socket (Stream)\nActiveState=active\n", "", {22}),
        ("port 22\n", "Listen=[::1]:2022 (SequentialPacket)\nActiveState=active\n", "", {22}),
        # `SSHD_OPTS="-p 2222"` in /etc/default/ssh, or a port that is changed and not in force yet.
        ("port 22\n", GROUPS.format(UNIT), LISTENS.format("0.0.0.0", 2222, "0.0.0.0", "", UNIT, ""), {22, 2222}),
        ("port 22\n", GROUPS.format(UNIT), LISTENS.format("[::]", 2222, "[::]", "", UNIT, "v6only:1 "), {22, 2222}),
        # The host is a container, and sees its groups as those outside do.
        (
            "port 22\n",
            GROUPS.format(f"/lxc/node{UNIT}"),
            LISTENS.format("0.0.0.0", 2222, "0.0.0.0", "", f"/lxc/node{UNIT}", "")
            + LISTENS.format("0.0.0.0", 8080, "0.0.0.0", "", UNIT, ""),
            {22, 2222},
        ),
        # The mesh's sshd, an account's process in the unit (UsePAM no), and one of root's in a group alike.
        (
            "port 22\n",
            GROUPS.format(UNIT),
            LISTENS.format("0.0.0.0", 2222, "0.0.0.0", "", "/system.slice/docker-1.scope", ""),
            {22},
        ),
        ("port 22\n", GROUPS.format(UNIT), LISTENS.format("0.0.0.0", 8080, "0.0.0.0", "uid:1500 ", UNIT, ""), {22}),
        (
            "port 22\n",
            GROUPS.format(UNIT),
            LISTENS.format("0.0.0.0", 8080, "0.0.0.0", "", f"/user.slice{UNIT}", ""),
            {22},
        ),
    ],
)
def test_where_the_hosts_own_sshd_listens(sshd: str, held: str, sockets: str, ports: set[int]) -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[0] == "sshd":
            return (0, sshd, "") if sshd else (255, "", "Missing privilege separation directory: /run/sshd")
        return 0, {"systemctl": held, "ss": sockets}[argv[0]], ""

    assert observe(run) == ports
    assert ssh_ports(run, None, 22) == tuple(sorted(ports))
