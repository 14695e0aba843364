# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kernel's rules against ufw's files: what counts as a difference, and what is done about it in which order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_live import (
    FAMILIES,
    chain,
    disordered,
    heal,
    jumps_back,
    observe,
)

V4 = FAMILIES[0]
BLOCK = "*filter\n:gpustead-forward - [0:0]\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -j gpustead-forward\nCOMMIT\n"
FILES = {
    "/etc/ufw/ufw.conf": "ENABLED=yes\nLOGLEVEL=low\n",
    "/etc/default/ufw": 'IPV6=no\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\n',
    "/etc/ufw/user.rules": "*filter\n:ufw-user-input - [0:0]\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\nCOMMIT\n",
    "/etc/ufw/after.rules": f"# BEGIN gpustead: what Docker publishes\n{BLOCK}# END gpustead: what Docker publishes\n",
}
PRINTED = """*filter
:INPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
:gpustead-forward - [0:0]
:ufw-user-input - [0:0]
-A DOCKER-USER -j gpustead-forward
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
COMMIT
"""
LIVE = "\n".join(
    [
        "*filter",
        ":INPUT DROP [17:990]",
        ":FORWARD DROP [0:0]",
        ":OUTPUT ACCEPT [3:4]",
        ":DOCKER-USER - [5:6]",
        ":gpustead-forward - [7:8]",
        ":ufw-before-input - [0:0]",
        ":ufw-user-input - [9:10]",
        *[jump for way in ("INPUT", "OUTPUT", "FORWARD") for jump in V4.jumps(way)],
        "-A INPUT -s 10.6.6.6/32 -j DROP",
        "-A DOCKER-USER -j gpustead-forward",
        "-A ufw-before-input -j ufw-user-input",
        "-A ufw-before-output -j ufw-user-output",
        "-A ufw-before-forward -j ufw-user-forward",
        "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT",
        "COMMIT",
        "",
    ]
)
SSH = "-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n"
JUMP = "-A INPUT -j ufw-before-input\n"


class Kernel:
    """Answers as the commands do; `after` is what there is once ufw was reloaded."""

    def __init__(self, live: str, after: str = LIVE, **files: str) -> None:
        self.live, self.after = live, after
        self.files = {**FILES, **{f"/etc/ufw/{name}": text for name, text in files.items()}}
        self.done: list[tuple[str, str]] = []

    def run(self, argv: Sequence[str], data: str) -> tuple[int, str, str]:
        if argv[0] == "unshare":
            assert data.startswith("*filter") and argv[1] == "--net"
            return 0, PRINTED, ""
        if argv[0] == "iptables-save":
            return 0, self.live, ""
        self.done.append((" ".join(argv), data))
        if argv[0] == "ufw":
            self.live = self.after
        return 0, "", ""

    def read(self, path: str) -> str:
        return self.files.get(path, "")

    def stale(self) -> list[str]:
        return [str(one) for one in observe(self.run, self.read)]


def test_a_chain_has_no_counters() -> None:
    assert chain(LIVE, "INPUT")[0] == ":INPUT DROP"
    assert chain(LIVE, "INPU") == chain(LIVE, "nowhere") == []


def test_what_is_in_force_is_not_stale_and_rules_of_others_elsewhere_are_theirs() -> None:
    assert Kernel(LIVE).stale() == []


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (LIVE.replace(SSH, ""), "iptables: ufw-user-input"),
        (LIVE.replace(SSH, "-A ufw-user-input -j ACCEPT\n" + SSH), "iptables: ufw-user-input"),
        (LIVE.replace("-A DOCKER-USER", "-A DOCKER-USER -j ACCEPT\n-A DOCKER-USER"), "iptables: DOCKER-USER"),
        (LIVE.replace(":INPUT DROP", ":INPUT ACCEPT"), "iptables: INPUT"),
        (LIVE.replace(JUMP, ""), "iptables: INPUT"),
        (LIVE.replace(":OUTPUT ACCEPT", ":OUTPUT DROP"), "iptables: OUTPUT"),
        (LIVE.replace("-A ufw-before-input -j ufw-user-input\n", ""), "iptables: ufw-before-input"),
        (LIVE.replace("-A ufw-before-forward -j ufw-user-forward\n", ""), "iptables: ufw-before-forward"),
        (LIVE.replace(SSH, "-A ufw-user-output -d 9.9.9.9/32 -j DROP\n" + SSH), "iptables: ufw-user-output"),
        (LIVE.replace(SSH, "-A ufw-user-forward -j ACCEPT\n" + SSH), "iptables: ufw-user-forward"),
    ],
)
def test_a_difference_is_named(live: str, said: str) -> None:
    assert live != LIVE
    assert Kernel(live).stale() == [said]


def test_without_our_block_docker_user_is_somebody_elses() -> None:
    live = LIVE.replace("-A DOCKER-USER -j gpustead-forward", "-A DOCKER-USER -j DROP")
    assert Kernel(live, **{"after.rules": "*filter\nCOMMIT\n"}).stale() == []


def test_of_a_ufw_that_is_off_only_the_jumps_count() -> None:
    off = {"ufw.conf": "ENABLED=no\n"}
    assert Kernel(LIVE.replace(SSH, ""), **off).stale() == []
    assert Kernel("*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", **off).stale() == []
    assert Kernel(LIVE.replace(JUMP, ""), **off).stale() == ["iptables: INPUT"]


def test_jumps_come_back_in_order_before_the_reload() -> None:
    kernel = Kernel(LIVE.replace(JUMP, "").replace(":INPUT DROP", ":INPUT ACCEPT"))
    heal(kernel.run, kernel.read, observe(kernel.run, kernel.read))
    (restore, text), (reload, _) = kernel.done
    assert (restore, reload) == ("iptables-restore --noflush", "ufw reload")
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("-A")] == V4.jumps("INPUT")
    assert len([line for line in lines if line.startswith("-D INPUT")]) == 5
    assert "-D INPUT -j ufw-before-input" not in lines
    assert ":ufw-before-input - [0:0]" not in lines  # declared, it would be emptied


def test_jumps_in_another_order_are_put_right() -> None:
    first, second = V4.jumps("INPUT")[:2]
    live = LIVE.replace(f"{first}\n{second}\n", f"{second}\n{first}\n")
    assert disordered(live, V4) == ["INPUT"]
    assert jumps_back(LIVE, V4) == ""


def test_a_reload_that_was_asked_for_needs_no_difference() -> None:
    kernel = Kernel(LIVE)
    heal(kernel.run, kernel.read, [])
    assert kernel.done == [("ufw reload", "")]


def test_whatever_changes_them_at_once_is_an_error() -> None:
    broken = LIVE.replace(SSH, "")
    kernel = Kernel(broken, after=broken)
    with pytest.raises(GpusteadError, match=r"still has other rules \(iptables: ufw-user-input\)"):
        heal(kernel.run, kernel.read, observe(kernel.run, kernel.read))


STRAY = "-p tcp -m tcp --dport 9999 -j ACCEPT"


@pytest.mark.parametrize(("allowed", "gone"), [(None, []), ([], [STRAY]), ([f"v4 {STRAY}"], [])])
def test_what_accepts_past_ufw_is_taken_out_last_unless_it_was_there_before(
    allowed: list[str] | None, gone: list[str]
) -> None:
    kernel = Kernel(LIVE.replace(JUMP, f"-A INPUT {STRAY}\n{JUMP}"))
    stale = observe(kernel.run, kernel.read, allowed)
    assert [str(one) for one in stale] == [f"iptables: -A INPUT {rule}" for rule in gone]
    heal(kernel.run, kernel.read, stale, allowed)
    assert [text for command, text in kernel.done[1:]] == [f"*filter\n-D INPUT {rule}\nCOMMIT\n" for rule in gone]


def test_the_jump_to_docker_user_comes_back_first() -> None:
    docker = LIVE.replace(":DOCKER-USER", ":DOCKER - [0:0]\n:DOCKER-USER")
    first, *_ = V4.jumps("FORWARD")
    healed = docker.replace(f"{first}\n", f"-A FORWARD -j DOCKER-USER\n{first}\n")
    late = docker.replace(
        "-A DOCKER-USER", "-A FORWARD -o docker0 -j ACCEPT\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER", 1
    )
    for live, removed in ((docker, []), (late, ["-D FORWARD -j DOCKER-USER"])):
        kernel = Kernel(live, after=healed)
        assert kernel.stale() == ["iptables: FORWARD"]
        heal(kernel.run, kernel.read, observe(kernel.run, kernel.read))
        assert kernel.done[0][1].splitlines()[1:-1] == [*removed, "-I FORWARD 1 -j DOCKER-USER"]
    assert Kernel(healed).stale() == []


def test_no_namespace_is_an_error_and_loads_nothing() -> None:
    def run(argv: Sequence[str], data: str) -> tuple[int, str, str]:
        return (1, "", "unshare failed: Operation not permitted") if argv[0] == "unshare" else (0, LIVE, "")

    with pytest.raises(GpusteadError, match="Operation not permitted"):
        observe(run, Kernel(LIVE).read)
