"""What dockerd takes and does not start with, and with what it starts and no cluster runs: refused before a change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.filter.docker_plan import docker_plan
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import daemon_json_check, dockerd, unfit_settings
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import docker_daemon_config as daemon_json
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.log_options import refused
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

PATH = "/etc/docker/daemon.json"
ROTATION = {"max-size": "50m", "max-file": "5"}
NET = "com.docker.network.bridge."


def plan(current: dict[str, Any], settings: dict[str, Any], absent: Sequence[str] = ()) -> daemon_json.Plan:
    return daemon_json.plan(json.dumps(current), settings, absent, PATH)


# What the file has, what is declared, and its log-opts then.
LOG_OPTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str] | None]] = {
    "a driver in place of json-file": (
        {"log-driver": "json-file", "log-opts": ROTATION},
        {"log-driver": "journald"},
        None,
    ),
    "json-file in place of syslog": (
        {"log-driver": "syslog", "log-opts": {"syslog-address": "tcp://log:514", "tag": "x"}},
        {"log-driver": "json-file", "log-opts": ROTATION},
        ROTATION,
    ),
    "a driver in place of the one that is not named": (
        {"log-opts": {**ROTATION, "labels": "a"}},
        {"log-driver": "local", "log-opts": {"max-size": "9m"}},
        {"max-size": "9m"},
    ),
    "one driver for the next, as options alike": (
        {"log-driver": "gelf", "log-opts": {"gelf-address": "udp://g:1", "tag": "x"}},
        {"log-driver": "fluentd", "log-opts": {"fluentd-address": "f:24224"}},
        {"fluentd-address": "f:24224"},
    ),
    "the same driver keeps what others put there": (
        {"log-driver": "json-file", "log-opts": {"labels": "a"}},
        {"log-driver": "json-file", "log-opts": ROTATION},
        {"labels": "a", **ROTATION},
    ),
    "what an earlier change of the driver had left": (
        {"log-driver": "journald", "log-opts": {**ROTATION, "tag": "x"}},
        {"log-driver": "journald"},
        {"tag": "x"},
    ),
    "a plugin's options are its own": (
        {"log-driver": "loki", "log-opts": {"max-size": "50m", "loki-url": "http://l"}},
        {"log-driver": "loki"},
        {"max-size": "50m", "loki-url": "http://l"},
    ),
    "none takes whatever there is": ({"log-driver": "none", "log-opts": ROTATION}, {"log-driver": "none"}, ROTATION),
    "nothing is declared": ({"log-driver": "json-file", "log-opts": ROTATION}, {"debug": True}, ROTATION),
}


@pytest.mark.parametrize(("current", "settings", "expected"), LOG_OPTS.values(), ids=list(LOG_OPTS))
def test_a_log_driver_has_its_own_options_alone(
    current: dict[str, Any], settings: dict[str, Any], expected: dict[str, str] | None
) -> None:
    outcome = plan(current, settings)
    after = json.loads(outcome.after)
    assert after.get("log-opts") == expected
    again = plan(after, settings)
    assert (again.changed, again.after) == (False, json.dumps(after))


def test_a_driver_that_is_taken_out_takes_its_options_with_it() -> None:
    outcome = plan({"log-driver": "syslog", "log-opts": {"syslog-address": "udp://l"}}, {}, ["log-driver"])
    assert json.loads(outcome.after) == {}


DRIVERS = [
    "json-file",
    "local",
    "journald",
    "syslog",
    "gelf",
    "fluentd",
    "awslogs",
    "splunk",
    "gcplogs",
    "none",
    "loki",
]


@pytest.mark.parametrize(
    ("option", "takers"),
    [
        ("max-size", {"json-file", "local"}),
        ("compress", {"json-file", "local"}),
        ("tag", set(DRIVERS) - {"local", "gcplogs"}),
        ("env", set(DRIVERS) - {"local", "awslogs"}),
        ("syslog-address", {"syslog"}),
        ("gcp-project", {"gcplogs"}),
        ("mode", set(DRIVERS)),
        ("max-buffer-size", set(DRIVERS)),
        ("cache-disabled", set(DRIVERS)),
        ("of-a-newer-docker", set(DRIVERS)),
    ],
)
def test_which_driver_surely_refuses_an_option(option: str, takers: set[str]) -> None:
    others = {"none", "loki"}  # `none` takes all, and a plugin's are not known
    assert {driver for driver in DRIVERS if not refused(driver, [option])} == takers | others


NOT_STARTED: dict[str, tuple[dict[str, Any], str]] = {
    "an option of another driver": (
        {"log-driver": "journald", "log-opts": ROTATION},
        r"log-opts has max-size, max-file, and log-driver is journald: expected options that journald knows",
    ),
    "of the default driver": ({"log-opts": {"syslog-address": "udp://l"}}, "log-opts has syslog-address.*json-file"),
    "a number": ({"log-opts": {"max-file": 5}}, r"log-opts has max-file: 5: expected a string.*docker_log_opts"),
    "a truth": ({"log-opts": {"compress": True}}, "log-opts has compress: true"),
    "a size": ({"log-opts": {"max-size": "50 megs"}}, "log-opts has max-size: 50 megs: expected one such as 50m"),
    "how many files": ({"log-opts": {"max-file": "0"}}, "log-opts has max-file: 0: expected one such as 5"),
    "a truth in words": ({"log-driver": "local", "log-opts": {"compress": "yes"}}, "log-opts has compress: yes"),
    # What Docker had formerly: kainstall 55, install-docker 11, flatcar 1630, dokku 5523.
    "a check that went with Docker 24": (
        {"storage-driver": "overlay2", "storage-opts": ["overlay2.override_kernel_check=true", "overlay2.size=9G"]},
        r"storage-opts has overlay2\.override_kernel_check=true: expected .* docker_daemon_absent: \[storage-opts\]",
    ),
    "a storage driver that went with it": (
        {"storage-driver": "aufs"},
        "storage-driver: aufs: expected a driver that Docker still has",
    ),
    "a storage driver that went with Docker 25": (
        {"storage-driver": "devicemapper"},
        r"devicemapper.*docker_daemon_absent: \[storage-driver\]",
    ),
    "a log driver that went": ({"log-driver": "logentries"}, "log-driver: logentries: expected a driver"),
    # moby 44905
    "a truth in quotes": ({"ipv6": "true", "fixed-cidr-v6": "fd00::/64"}, 'ipv6: "true": expected true or false'),
    "a mirror without a scheme": ({"registry-mirrors": ["mirror:5000"]}, "registry mirror 'mirror:5000'.* https://"),
    "and with a password": ({"registry-mirrors": ["u:hunter2@mirror"]}, r"registry mirror '\*\*\*@mirror'"),
}


@pytest.mark.parametrize(("settings", "words"), NOT_STARTED.values(), ids=list(NOT_STARTED))
def test_what_dockerd_does_not_start_with_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(GpusteadError, match=words) as error:
        plan({}, settings)
    assert "hunter2" not in str(error.value)
    with pytest.raises(AnsibleFilterError, match=words):
        docker_plan(settings)


def test_all_that_is_wrong_is_named_one_in_a_line() -> None:
    settings = {
        "log-opts": {"max-size": "big", "max-file": 5},
        "registry-mirrors": ["mirror:5000", "https://u:hunter2@mirror", "https://mirror"],
        "userns-remap": "default",
    }
    with pytest.raises(AnsibleFilterError) as error:
        docker_plan(settings)
    words = [
        "log-opts has max-size: big",
        "log-opts has max-file: 5",
        "mirror 'mirror:5000'",
        "a registry mirror has a user",
    ]
    lines = str(error.value.message).splitlines()
    assert [word for word, line in zip([*words, "userns-remap: default"], lines) if word not in line] == []
    assert len(lines) == 5
    assert "hunter2" not in str(error.value)


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "other ids": ({"userns-remap": "default"}, "userns-remap: default: .*the mesh .* files on the NAS"),
    "no rules": ({"iptables": False}, "iptables: false: .*no way out"),
    "no socket": ({"hosts": ["tcp://127.0.0.1:2375"]}, "/var/run/docker.sock"),
    "ports for the host alone": (
        {"default-network-opts": {"bridge": {f"{NET}host_binding_ipv4": "127.0.0.1"}}},
        "host_binding_ipv4: 127.0.0.1: .*from their own host alone",
    ),
    "no ports": ({"default-network-opts": {"bridge": {f"{NET}gateway_mode_ipv4": "isolated"}}}, "not published"),
    "no way out": ({"default-network-opts": {"bridge": {f"{NET}enable_ip_masquerade": "false"}}}, "no way out"),
}
FIT: list[dict[str, Any]] = [
    {"userns-remap": ""},
    {"iptables": True, "ip6tables": False},
    {"icc": False, "userland-proxy": False, "ip": "127.0.0.1"},
    {"hosts": ["unix:///var/run/docker.sock", "tcp://127.0.0.1:2375"]},
    {"hosts": ["fd://"]},
    {"default-network-opts": {"bridge": {f"{NET}host_binding_ipv4": "10.1.0.5", f"{NET}gateway_mode_ipv4": "nat"}}},
    {"default-network-opts": {"overlay": {}}},
    {"ip-forward": False},  # where the kernel forwards anyhow
    {"storage-driver": "overlay2", "storage-opts": ["overlay2.size=20G"]},
    {"storage-driver": "zfs", "storage-opts": ["zfs.fsname=tank/docker"]},
    {"ipv6": True, "ip6tables": False, "userland-proxy": False, "experimental": True},
]


@pytest.mark.parametrize(("settings", "words"), UNFIT.values(), ids=list(UNFIT))
def test_what_no_cluster_runs_with_is_refused_wherever_it_stands(settings: dict[str, Any], words: str) -> None:
    key = next(iter(settings))
    text = json.dumps({"debug": True, **settings}, indent=2)
    with pytest.raises(GpusteadError, match=words) as error:
        daemon_json.plan(text, {"live-restore": True}, [], PATH)
    assert str(error.value).startswith(f"{PATH} line 3 column 3: {key}")
    assert f"docker_daemon_absent: [{key}]" in str(error.value)
    with pytest.raises(AnsibleFilterError, match=words):
        docker_plan(settings)
    # The remedy that is named.
    assert json.loads(daemon_json.plan(text, {}, [key], PATH).after) == {"debug": True}


@pytest.mark.parametrize("settings", FIT, ids=str)
def test_what_a_cluster_runs_with_is_not(settings: dict[str, Any]) -> None:
    assert not plan(settings, {}).changed
    assert unfit_settings.warnings(settings) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"no-new-privileges": True}, "sudo then does not work"),
        ({"bridge": "none"}, "no image can then be built"),
        ({"ip-masq": False}, "builds of images then have no way out"),
    ],
)
def test_what_a_part_of_it_does_not_run_with_is_warned_of(settings: dict[str, Any], words: str) -> None:
    assert not plan(settings, {}).changed
    assert [words in found.why for found in unfit_settings.warnings(settings)] == [True]


def flag(key: str, text: str) -> dockerd.Flag:
    return dockerd.Flag(key, text, "/etc/default/docker")


# Options in /etc/default/docker and drop-ins: the same settings, in the other place where they are recommended.
@pytest.mark.parametrize(
    ("given", "found"),
    [
        (flag("iptables", "--iptables=false"), True),
        (flag("iptables", '--iptables="False"'), True),
        (flag("iptables", "--iptables"), False),
        (flag("iptables", "--iptables=true"), False),
        (flag("userns-remap", "--userns-remap=default"), True),
        (flag("userns-remap", "--userns-remap"), True),
        (flag("userns-remap", "--userns-remap="), False),
        (flag("hosts", "-H"), False),
    ],
    ids=str,
)
def test_options_of_the_unit_count(given: dockerd.Flag, found: bool) -> None:
    assert bool(unfit_settings.of_flags([given])) is found
    if found:
        with pytest.raises(GpusteadError, match=r"/etc/default/docker starts dockerd with .* Remove the option from"):
            daemon_json.check_host({}, [given], "", True, PATH)


STATES = ["pending", "active", "locked", "error", "its state is not known"]


@pytest.mark.parametrize("state", STATES)
def test_live_restore_and_a_swarm_exclude_each_other(state: str) -> None:
    with pytest.raises(
        GpusteadError, match=rf"in a swarm of Docker's \({state}\).*docker_live_restore: false"
    ) as error:
        daemon_json.check_host({"live-restore": True}, [], state, True, PATH)
    assert "docker swarm leave" in str(error.value)
    daemon_json.check_host({"live-restore": False}, [], state, True, PATH)
    daemon_json.check_host({}, [], state, True, PATH)


def test_forwarding_counts_where_docker_does_not_switch_it_on() -> None:
    daemon_json.check_host({"ip-forward": False}, [], "", True, PATH)
    with pytest.raises(GpusteadError, match=r"ip-forward: false.* kernel does not forward here.*no way out"):
        daemon_json.check_host({"ip-forward": False}, [], "", False, PATH)
    with pytest.raises(GpusteadError, match="--ip-forward=false"):
        daemon_json.check_host({}, [flag("ip-forward", "--ip-forward=false")], "", False, PATH)


@pytest.mark.parametrize(
    ("info", "noted", "state"),
    [
        ({"Swarm": {"LocalNodeState": "inactive"}}, False, ""),
        ({"Swarm": {"LocalNodeState": "inactive"}}, True, ""),
        ({"Swarm": {"LocalNodeState": "active", "ControlAvailable": True}}, True, "active"),
        ({"Swarm": {"LocalNodeState": "locked"}}, True, "locked"),
        ({"ServerVersion": "26.1.5"}, False, ""),
        ({}, False, ""),
        ({}, True, "its state is not known"),
    ],
)
def test_whether_the_host_is_in_a_swarm(tmp_path: Path, info: dict[str, Any], noted: bool, state: str) -> None:
    if noted:
        (tmp_path / "swarm").mkdir()
        (tmp_path / "swarm/docker-state.json").touch()
    assert dockerd.observe_swarm(info, str(tmp_path)) == state


def host(said: dict[str, Any]) -> Any:
    """A host on which Docker runs and says this of itself."""

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[:2] == ["systemctl", "show"]:
            return 0, "FragmentPath=\n", ""
        return (0, json.dumps({"LoggingDriver": "json-file", **said}), "") if "docker" in argv else (0, "", "")

    return run


def test_it_is_seen_before_anything_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "daemon.json"
    file.write_text("{}\n")
    monkeypatch.setattr(daemon_json_check, "DAEMON_JSON", str(file))
    swarm = host({"Swarm": {"LocalNodeState": "active"}})
    with pytest.raises(GpusteadError, match="in a swarm"):
        daemon_json_check.check(swarm, {"live-restore": True}, [], None, str(tmp_path))
    file.write_text('{"no-new-privileges": true}\n')
    found = daemon_json_check.check(host({}), {"live-restore": True}, [], None, str(tmp_path))
    assert list(map(str, found)) == ["no-new-privileges: true"]


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        # An edit by hand that Docker has not read yet: it would be down after a restart of ours.
        ('{"hosts": ["fd://"]}', {"debug": True}, "docker.service starts dockerd with '-H', .* to hold 'hosts'"),
        ('{"hosts": ["fd://"]}', {}, r"docker_daemon_absent: \[hosts\]"),
        ('{"runtimes": {"nvidia": {"path": "nvidia"}}}', {"debug": True}, None),
        ('{"runtimes": {}}', {"runtimes": {"nvidia": {"path": "nvidia"}}}, "'runtimes'"),
    ],
)
def test_a_key_that_stands_in_the_file_clashes_with_an_option_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, settings: dict[str, Any], words: str | None
) -> None:
    file, unit = tmp_path / "daemon.json", tmp_path / "docker.service"
    file.write_text(text)
    unit.write_text("[Service]\nExecStart=/usr/bin/dockerd -H fd:// --add-runtime=a=/a\n")
    monkeypatch.setattr(daemon_json_check, "DAEMON_JSON", str(file))

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (0, f"FragmentPath={unit}\n", "") if argv[1] == "show" else (3, "", "")

    if words is None:
        daemon_json_check.check(run, settings, [], None, str(tmp_path))
    else:
        with pytest.raises(GpusteadError, match=words):
            daemon_json_check.check(run, settings, [], None, str(tmp_path))


ROLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the default": ({}, {"log-driver": "json-file", "log-opts": ROTATION}),
    "local": ({"docker_log_driver": "local"}, {"log-driver": "local", "log-opts": ROTATION}),
    "another driver": ({"docker_log_driver": "journald"}, {"log-driver": "journald"}),
    "in the words of daemon.json": ({"docker_daemon_settings": {"log-driver": "journald"}}, {"log-driver": "journald"}),
    "with options of its own": (
        {"docker_daemon_settings": {"log-driver": "syslog", "log-opts": {"tag": "x"}}},
        {"log-driver": "syslog", "log-opts": {"tag": "x"}},
    ),
}


@pytest.mark.parametrize(("settings", "expected"), ROLE.values(), ids=list(ROLE))
def test_the_role_rotates_what_can_be_rotated(
    tmp_path: Path, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    found = render(tmp_path, "docker", ["__docker_plan"], {"gpu_nodes": ["a"]}, settings)["__docker_plan"]
    assert {key: value for key, value in found["plain"].items() if key.startswith("log")} == expected
