"""Docker does not start with what it was told: it runs again with what it had, and the run has its words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import Host, Lab
from support import assert_fresh, converge, receipts, site

FILE = "/etc/docker/daemon.json"
KEPT = "/root/daemon.json"
CONTAINERS = "docker ps --format '{{.Names}}' | sort"
IDS = "docker ps --no-trunc --quiet | sort"


@pytest.fixture(scope="module")
def node(lab: Lab) -> Host:
    converge(lab)
    return lab.nodes[1]


@pytest.fixture(autouse=True)
def _as_it_was(lab: Lab, node: Host) -> Iterator[None]:
    """Whatever a test does: Docker runs with as many containers, and a plain run leaves nothing stale."""
    containers = node.check_output(CONTAINERS)
    node.check_output(f"cp -a {FILE} {KEPT}")
    yield
    node.check_output(f"rm {KEPT}")
    site(lab, "--limit", node.name)
    assert node.check_output(CONTAINERS) == containers
    assert_fresh(lab)


@pytest.fixture
def same_containers(node: Host, _as_it_was: None) -> Iterator[None]:
    """While live-restore holds, none is stopped or made anew."""
    before = node.check_output(IDS)
    yield
    assert node.check_output(IDS) == before


def refused(lab: Lab, node: Host, **settings: object) -> str:
    """What a run says that has to fail on the node, without line breaks."""
    done = lab.playbook("site.yml", "--limit", node.name, "-e", json.dumps(settings))
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, said
    return said


@pytest.mark.usefixtures("same_containers")
def test_what_docker_refuses_only_when_it_starts_is_taken_back(lab: Lab, node: Host) -> None:
    before = node.check_output(f"cat {FILE}")
    said = refused(lab, node, docker_daemon_settings={"log-opts": {"of-no-driver": "1"}})
    assert f"Docker does not start with its new {FILE}: " in said
    assert "unknown log opt 'of-no-driver' for json-file log driver" in said
    assert "The former one was put back, and Docker runs with it." in said
    assert node.check_output("systemctl is-active docker") == "active"
    assert node.check_output(f"cat {FILE}") == before
    assert node.check_output(f"stat -c %a {FILE}*").split() == ["600"] * len(node.check_output(f"ls {FILE}*").split())
    assert "docker" not in receipts(node)


@pytest.mark.usefixtures("same_containers")
def test_what_docker_refuses_on_a_reload_is_taken_back(lab: Lab, node: Host) -> None:
    before = node.check_output(f"cat {FILE}")
    said = refused(lab, node, docker_registry_mirrors=["https://mirror.example/?a=b"])
    assert f"Docker does not take over its new {FILE}: " in said
    assert "mirror.example" in said
    assert node.check_output(f"cat {FILE}") == before
    node.check_output("systemctl restart docker")  # as a boot


@pytest.mark.usefixtures("same_containers")
def test_another_log_driver_and_back(lab: Lab, node: Host) -> None:
    site(lab, "--limit", node.name, "-e", "docker_log_driver=journald")
    assert node.check_output("docker info --format '{{.LoggingDriver}}'") == "journald"
    assert "max-size" not in node.check_output(f"cat {FILE}")
    site(lab, "--limit", node.name)
    assert node.check_output("docker info --format '{{.LoggingDriver}}'") == "json-file"


def test_a_host_with_another_driver_and_its_options(lab: Lab, node: Host) -> None:
    theirs = json.dumps({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://127.0.0.1:514"}})
    node.check_output(f"echo '{theirs}' > {FILE} && systemctl restart docker")
    site(lab, "--limit", node.name)
    assert "syslog" not in node.check_output(f"cat {FILE}")


def test_a_docker_that_systemd_does_not_start_any_more(lab: Lab, node: Host) -> None:
    theirs = json.dumps({"live-restore": True, "log-driver": "journald", "log-opts": {"max-size": "50m"}})
    node.check_output(f"echo '{theirs}' > {FILE}; for i in 1 2 3 4 5; do systemctl restart docker; done; true")
    assert "repeated too quickly" in node.check_output("journalctl -u docker.service --no-pager -n 50")
    assert node.run("systemctl is-active docker").rc != 0
    site(lab, "--limit", node.name)
    assert node.check_output("systemctl is-active docker") == "active"


@pytest.mark.usefixtures("same_containers")
def test_where_daemon_json_is_not_to_blame_it_stays(lab: Lab, node: Host) -> None:
    drop_in = "/etc/systemd/system/docker.service.d/zz-broken.conf"
    before = node.check_output(f"cat {FILE}")
    node.check_output(f"printf '[Service]\\nExecStartPre=/bin/false\\n' > {drop_in}; systemctl daemon-reload")
    try:
        said = refused(lab, node, docker_daemon_settings={"log-level": "warn"})
        assert "Control process exited" in said
        assert "It does not with the former one either" in said
        assert node.check_output(f"cat {FILE}") == before
    finally:
        node.check_output(f"rm {drop_in}; systemctl daemon-reload")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"userns-remap": "default"}, "the mesh may not use the host's network"),
        ({"iptables": False}, "containers then have no way out"),
    ],
)
def test_what_no_cluster_runs_with_is_refused_before_a_change(
    lab: Lab, node: Host, settings: dict[str, object], words: str
) -> None:
    there = json.loads(node.check_output(f"cat {FILE}"))
    node.check_output(f"echo '{json.dumps({**there, **settings})}' > {FILE}")
    try:
        said = refused(lab, node, site_force=True)
        assert f"{FILE} line " in said
        assert words in said
        assert f"docker_daemon_absent: [{next(iter(settings))}]" in said
        assert node.check_output("systemctl is-active docker") == "active"
    finally:
        node.check_output(f"cp -a {KEPT} {FILE}")


def test_a_swarm_and_live_restore_exclude_each_other(lab: Lab, node: Host) -> None:
    site(lab, "--limit", node.name, "-e", '{"docker_live_restore": false}')
    node.check_output("docker swarm init --advertise-addr 127.0.0.1")
    try:
        said = refused(lab, node)
        assert "the host is in a swarm of Docker's (active)" in said
        assert "docker_live_restore: false" in said
        assert node.check_output("docker info --format '{{.LiveRestoreEnabled}}'") == "false"
        site(lab, "--limit", node.name, "-e", '{"docker_live_restore": false}')
    finally:
        node.check_output("docker swarm leave --force; docker network rm docker_gwbridge")
