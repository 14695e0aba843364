"""Somebody opens the cluster's ports, shuts the controller out, or dies on the way: it is named, and taken back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from support import STATE, receipts, site

BRIDGE = "docker-lab"
CUT = "-A ufw-before-input -p tcp --dport 22 -m conntrack --ctstate NEW -j DROP"
LISTENER = "import socket, time; s = socket.create_server(('127.0.0.1', 2222)); time.sleep(600)"
# All that the firewall is, without counters: files, kernel, whether it is on.
STATE_OF = """
for table in iptables ip6tables; do $table-save -t filter; done | sed -E '/^#|^-A DOCKER /d; s/\\[[0-9:]+\\]//'
cat /etc/ufw/*.rules /etc/ufw/ufw.conf /etc/default/ufw; ls /etc/ufw; ufw status verbose
"""
# What somebody does by hand, and what is said of it: the port, and the rule.
OPENED = [
    ("ufw insert 1 allow 2222/tcp", "tcp port 2222 (v4)", "ufw allow in from any to any port 2222 proto tcp"),
    ("ufw allow from 203.0.113.9", "(v4) are open to 203.0.113.9", "ufw allow in from 203.0.113.9 to any"),
    ("iptables -I INPUT -p tcp --dport 2000:3000 -j ACCEPT", "tcp port 2222 (v4)", "--dport 2000:3000 -j ACCEPT"),
    ("ip6tables -I INPUT -p tcp --dport 2222 -j ACCEPT", "tcp port 2222 (v6)", "ip6tables: -A INPUT -p tcp"),
    ("iptables -I ufw-before-input -i eth0 -j ACCEPT", "tcp ports 10022,", "-A ufw-before-input -i eth0 -j ACCEPT"),
    ("iptables -I DOCKER-USER -j ACCEPT", "containers (v4)", "-A DOCKER-USER -j ACCEPT"),
    ("iptables -I FORWARD -o br-+ -j ACCEPT", "containers (v4)", "-A FORWARD -o br-+ -j ACCEPT"),
    (
        "iptables -N lab-mine; iptables -A lab-mine -j ACCEPT; iptables -I FORWARD -p udp -j lab-mine",
        "containers (v4)",
        "-A FORWARD -p udp -j lab-mine",
    ),
    (
        "iptables -t raw -I PREROUTING -p tcp --dport 2222 -j CT --notrack;"
        " iptables -I INPUT -m conntrack --ctstate UNTRACKED -j ACCEPT",
        "tcp ports 2222,10022,",
        "--ctstate UNTRACKED -j ACCEPT",
    ),
    (
        "iptables -t nat -I PREROUTING -p tcp --dport 2223 -j REDIRECT --to-ports 2222;"
        " iptables -I INPUT -m conntrack --ctstate DNAT -j ACCEPT",
        "tcp ports 2222,10022,",
        "--ctstate DNAT -j ACCEPT",
    ),
]


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Host]:
    """One that has converged with this code, and is left so. The others are not touched."""
    host = lab.nodes[1]
    site(lab, "--limit", host.name)
    yield host
    # What role firewall does not look at: by itself it opens nothing.
    host.run("iptables -t raw -D PREROUTING -p tcp --dport 2222 -j CT --notrack")
    host.run("iptables -t nat -D PREROUTING -p tcp --dport 2223 -j REDIRECT --to-ports 2222")
    host.run("ip link del br-lan")
    site(lab, "--limit", host.name, "-e", '{"firewall_exclusive": true}')
    # Of a chain that somebody jumps to, what it lets in has gone.
    host.run("iptables -D FORWARD -p udp -j lab-mine; iptables -F lab-mine; iptables -X lab-mine")
    assert "lab-mine" not in host.check_output("iptables -S")
    site(lab, "--limit", host.name)


def banner(source: Host, address: str, port: int) -> str:
    """What a server says first; nothing where nobody gets through."""
    family = "AF_INET6" if ":" in address else "AF_INET"
    script = f"import socket; s = socket.socket(socket.{family}); s.settimeout(4); "
    script += f"s.connect(('{address}', {port})); print(s.recv(20).decode())"
    return str(source.run(f'python3 -c "{script}" 2>/dev/null').stdout).strip()


def verify(lab: Lab, node: Host, tmp_path: Path) -> tuple[int, str]:
    report = tmp_path / "verify.json"
    done = lab.playbook("playbooks/verify.yml", "--limit", node.name, "-e", f"verify_report={report}")
    return done.returncode, done.stdout + done.stderr


def drift(lab: Lab, node: Host, tmp_path: Path) -> tuple[int, dict[str, str]]:
    """Exit status, and of role firewall what differs by subject."""
    report = tmp_path / "drift.json"
    done = lab.playbook("playbooks/drift.yml", "--limit", node.name, "-e", f"drift_report={report}")
    findings = json.loads(report.read_text())["findings"]
    return done.returncode, {each["subject"]: each["what"] for each in findings if each["role"] == "firewall"}


def flat(text: str) -> str:
    return " ".join(text.split())


class TestOpened:
    """Rules of somebody's own in front of ours."""

    def test_all_are_named_kept_and_with_the_option_removed(self, lab: Lab, node: Host, tmp_path: Path) -> None:
        outsider = lab["outsider"]
        assert banner(outsider, node.address, 2222) == ""
        for command, _, _ in OPENED:
            node.check_output(command)
        assert banner(outsider, node.address, 2222).startswith("SSH-2.0")

        try:
            code, said = verify(lab, node, tmp_path)
            assert code != 0
            for _, what, rule in OPENED:
                assert any(what in line and rule in line for line in said.splitlines()), f"{rule}\n{said}"
            assert "firewall_extra_rules" in said
            code, found = drift(lab, node, tmp_path)
            assert code == 2
            for _, what, rule in OPENED:
                assert what in found["openings ports"]
                assert rule in found["openings ports"]

            # What is ufw's is somebody's: without the option the run says so, and leaves it.
            done = lab.playbook("site.yml", "--limit", node.name)
            assert done.returncode != 0
            assert "tcp port 2222 (v4) is open to any but" in flat(done.stdout + done.stderr)
            assert "ufw delete allow in from any to any port 2222 proto tcp" in flat(done.stdout + done.stderr)
            assert "2222/tcp" in node.check_output("ufw status")
            assert "firewall" not in receipts(node)
        finally:
            site(lab, "--limit", node.name, "-e", '{"firewall_exclusive": true}')
        assert banner(outsider, node.address, 2222) == ""
        assert banner(lab.nodes[0], node.address, 2222).startswith("SSH-2.0")
        assert "203.0.113.9" not in node.check_output("ufw status; iptables -S")
        code, said = verify(lab, node, tmp_path)
        assert code == 0, said

    def test_a_bridge_that_comes_later_and_passes_for_one_of_dockers(
        self, lab: Lab, node: Host, tmp_path: Path
    ) -> None:
        node.check_output("ip link add br-lan type bridge")
        try:
            code, said = verify(lab, node, tmp_path)
            assert code != 0
            assert "containers are open to who comes in by the bridge br-lan" in said
            assert "firewall_docker_bridges" in said
            code, found = drift(lab, node, tmp_path)
            assert code == 2
            assert "the bridge br-lan" in found["openings ports"]
        finally:
            node.check_output("ip link del br-lan")

    def test_an_open_default_and_a_firewall_that_is_off(self, lab: Lab, node: Host, tmp_path: Path) -> None:
        for command, word in (("ufw default allow", "lets in by default"), ("ufw disable", "is not active")):
            node.check_output(command)
            code, said = verify(lab, node, tmp_path)
            assert code != 0
            assert word in said
            assert "by the policy of iptables's INPUT" in said
            assert drift(lab, node, tmp_path)[0] == 2
            site(lab, "--limit", node.name)
            assert verify(lab, node, tmp_path)[0] == 0

    def test_bans_of_strangers_stay_and_are_no_drift(self, lab: Lab, node: Host, tmp_path: Path) -> None:
        site(lab, "--limit", node.name)
        node.check_output("ufw prepend reject from 203.0.113.7 comment 'by Fail2Ban'")
        try:
            assert drift(lab, node, tmp_path) == (0, {})
            code, said = verify(lab, node, tmp_path)
            assert code == 0, said
            site(lab, "--limit", node.name)
            assert "203.0.113.7" in node.check_output("ufw status")
            # One of the cluster's own is drift.
            node.check_output(f"ufw prepend reject from {lab.nodes[0].address}")
            assert "closed" in drift(lab, node, tmp_path)[1]["openings ports"]
        finally:
            node.check_output("ufw delete reject from 203.0.113.7")
            node.check_output(f"ufw delete reject from {lab.nodes[0].address}")

    @pytest.mark.parametrize("chain", ["INPUT", "DOCKER-USER", "ufw-before-input"])
    def test_bans_in_chains_of_their_own_stay_and_are_no_drift(
        self, lab: Lab, node: Host, tmp_path: Path, chain: str
    ) -> None:
        """As fail2ban makes them (iptables-multiport, with `chain`), and CrowdSec."""
        site(lab, "--limit", node.name)
        banned = "iptables -N f2b-lab; iptables -A f2b-lab -s 203.0.113.7 -j REJECT; iptables -A f2b-lab -j RETURN"
        jump = f"{chain} -p tcp -m multiport --dports 22,18888 -j f2b-lab"
        node.check_output(f"{banned}; iptables -I {jump}")
        try:
            assert drift(lab, node, tmp_path) == (0, {})
            code, said = verify(lab, node, tmp_path)
            assert code == 0, said
            site(lab, "--limit", node.name)
            node.check_output(f"iptables -C {jump}")
            if chain == "DOCKER-USER":
                # Something else is to be put right: ufw is reloaded, which empties that chain.
                node.check_output("iptables -A ufw-user-input -p tcp --dport 2222 -j ACCEPT")
                site(lab, "--limit", node.name)
                node.check_output(f"iptables -C {jump}")
            # One of the cluster's own is drift.
            node.check_output(f"iptables -I f2b-lab -s {lab.nodes[0].address} -j DROP")
            assert drift(lab, node, tmp_path)[0] == 2
        finally:
            node.run(f"iptables -D {jump}; iptables -F f2b-lab; iptables -X f2b-lab")

    def test_a_listener_that_only_the_host_hears(self, lab: Lab, node: Host, tmp_path: Path) -> None:
        node.check_output("docker compose -p gpustead-mesh stop mesh")
        node.check_output(f'systemd-run --unit lab-listener --collect python3 -c "{LISTENER}" && sleep 1')
        try:
            code, said = verify(lab, node, tmp_path)
        finally:
            node.check_output("systemctl stop lab-listener; docker compose -p gpustead-mesh start mesh && sleep 5")
        assert code != 0
        assert "the mesh's sshd listens at 127.0.0.1 alone" in said

    def test_what_is_published_on_a_bridge_of_any_name_is_closed(self, lab: Lab, node: Host) -> None:
        image, address, neighbour = node.check_output("cat /etc/gpustead/image"), "", lab["nas"]
        node.check_output(f"docker network create -o com.docker.network.bridge.name={BRIDGE} lab")
        try:
            serve = "--entrypoint python3 --rm --detach --name lab-web"
            node.check_output(f'docker run {serve} --network lab -p 18999:22 {image} -c "{PUBLISHED}" && sleep 2')
            assert banner(node, node.address, 18999) == "hello"
            assert banner(lab["outsider"], node.address, 18999) == ""
            assert banner(lab.nodes[0], node.address, 18999) == ""
            # Its own address, to who has a route there: closed once the role has seen the bridge.
            address = node.check_output("docker inspect -f '{{.NetworkSettings.Networks.lab.IPAddress}}' lab-web")
            neighbour.check_output(f"ip route add {address} via {node.address}")
            assert banner(neighbour, address, 22) == "hello"
            site(lab, "--limit", node.name, "-e", "site_force=true", "--tags", "firewall")
            assert banner(neighbour, address, 22) == ""
            assert f"-o {BRIDGE} -j DROP" in node.check_output("iptables -S gpustead-forward")
        finally:
            neighbour.run(f"ip route del {address}")
            node.run("docker rm -f lab-web; docker network rm lab")
            site(lab, "--limit", node.name)

    def test_where_sshd_listens_in_fact_is_open(self, lab: Lab, node: Host) -> None:
        """By a ListenAddress, by a port that only its command line names, and by one that systemd holds for it."""
        config, options = "/etc/ssh/sshd_config.d/00-trial.conf", "/etc/default/ssh"
        held = "/etc/systemd/system/ssh.socket.d"
        node.check_output(f"cp -a {options} /root/default-ssh")
        lines = f"ListenAddress {node.address}:2022\\nListenAddress 0.0.0.0:22"
        node.check_output(f"printf '{lines}\\n' > {config}; sshd -t && systemctl restart ssh")
        try:
            site(lab, "--limit", node.name, "-e", "site_force=true", "--tags", "firewall")
            assert banner(lab["outsider"], node.address, 2022).startswith("SSH-2.0")
            node.check_output(f"rm {config}; echo 'SSHD_OPTS=\"-p 22 -p 2023\"' > {options}; systemctl restart ssh")
            site(lab, "--limit", node.name, "-e", "site_force=true", "--tags", "firewall")
            assert banner(lab["outsider"], node.address, 2023).startswith("SSH-2.0")
            assert banner(lab["outsider"], node.address, 2222) == ""
            assert "2022" not in node.check_output("ufw status")
            node.check_output(f"mkdir {held} && printf '[Socket]\\nListenStream=2024\\n' > {held}/lab.conf")
            node.check_output("systemctl daemon-reload && systemctl stop ssh && systemctl start ssh.socket")
            site(lab, "--limit", node.name, "-e", "site_force=true", "--tags", "firewall")
            assert node.check_output("systemctl is-active ssh.socket") == "active"
            assert banner(lab["outsider"], node.address, 2024).startswith("SSH-2.0")
        finally:
            node.check_output(f"rm -rf {config} {held}; mv /root/default-ssh {options}; systemctl daemon-reload")
            node.check_output("systemctl stop ssh.socket; systemctl restart ssh")
            site(lab, "--limit", node.name)


PUBLISHED = """
import socket
s = socket.create_server(('', 22))
while True:
    c = s.accept()[0]; c.sendall(b'hello'); c.close()
"""


class Watch(threading.Thread):
    """Logs in anew, as far as the banner; `outage` is the longest time in which nobody got through.

    Not more often than sshd forgives: who leaves without a login is kept out for a second (PerSourcePenalties).
    """

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address, self.over, self.outage = address, False, 0.0

    def run(self) -> None:
        last = time.monotonic()
        while not self.over:
            try:
                with socket.create_connection((self.address, 22), timeout=1) as link:
                    link.settimeout(1)
                    through = link.recv(4) == b"SSH-"
            except OSError:
                through = False
            now = time.monotonic()
            if through:
                last = now
            self.outage = max(self.outage, now - last)
            time.sleep(3)


@pytest.fixture
def trap(node: Host) -> Iterator[None]:
    """A rule of somebody's in before.rules that no guard knows of: it is loaded with the next reload."""
    node.check_output("cp -a /etc/ufw/before.rules /root/before.rules")
    node.check_output(f"sed -i '0,/^-A ufw-before-input/s//{CUT}\\n&/' /etc/ufw/before.rules")
    yield
    node.check_output("cp -a /root/before.rules /etc/ufw/before.rules && rm /root/before.rules")


# Not the one by which the controller comes in: what is put back would keep it out as well.
ONE_RULE_LESS = "iptables $(iptables -S ufw-user-input | grep '^-A' | grep -v -m 1 -- '--dport 22 ' | sed 's/^-A/-D/')"


@pytest.mark.parametrize("before", ["ufw --force disable", ONE_RULE_LESS], ids=["off", "on"])
def test_who_shuts_the_controller_out_is_taken_back(lab: Lab, node: Host, trap: None, before: str) -> None:
    node.check_output(before)
    as_it_was = node.check_output(STATE_OF)
    watch = Watch(node.address)
    watch.start()
    done = lab.playbook("site.yml", "--limit", node.name)
    watch.over = True
    watch.join()

    said = flat(done.stdout + done.stderr)
    assert done.returncode != 0
    assert f"SSH to {node.address} port 22: a new login under the changed firewall rules failed" in said
    assert "They were taken back" in said
    assert 5 < watch.outage < 60
    assert node.check_output(STATE_OF) == as_it_was
    assert "firewall" not in receipts(node)
    assert node.run("ls /run/gpustead/firewall").rc != 0

    node.check_output("cp -a /root/before.rules /etc/ufw/before.rules")
    site(lab, "--limit", node.name)
    assert "firewall" in receipts(node)
    assert node.check_output("ufw status").startswith("Status: active")


def test_a_run_that_dies_before_the_proof_is_taken_back(lab: Lab, node: Host, trap: None) -> None:
    node.check_output("ufw --force disable")
    as_it_was = node.check_output(STATE_OF)
    command = ["ansible-playbook", "-i", str(lab.inventory), "site.yml", "--limit", node.name]
    run = subprocess.Popen(
        command, cwd=PROJECT, env=plain_environment(), stdout=subprocess.DEVNULL, start_new_session=True
    )
    enabled = "test -e /run/gpustead/firewall/armed && ufw status | grep -q 'Status: active'"
    node.check_output(f"for i in $(seq 600); do {enabled} && exit 0; sleep 0.2; done; exit 1")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    began = time.monotonic()
    node.check_output("for i in $(seq 600); do test -e /run/gpustead/firewall/taken-back && break; sleep 0.1; done")
    assert time.monotonic() - began < 60
    assert node.check_output(STATE_OF) == as_it_was
    assert "firewall" not in receipts(node)

    node.check_output("cp -a /root/before.rules /etc/ufw/before.rules")
    site(lab, "--limit", node.name)
    assert "firewall" in receipts(node)


def test_without_changes_nothing_is_put_on_trial(lab: Lab, node: Host) -> None:
    site(lab, "--limit", node.name)
    count = "journalctl --no-pager -u gpustead-firewall-takeback | wc -l"
    before = node.check_output(count)
    site(lab, "--limit", node.name, "-e", "site_force=true", "--tags", "firewall")
    assert node.check_output(count) == before
    assert node.run(f"ls {STATE}/../firewall /run/gpustead/firewall").rc != 0
    site(lab, "--limit", node.name)  # a part of a run leaves no receipt
