"""Docker's daemon.json: what is refused, what becomes of a file, what Docker must do to notice."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import daemon_json_editor, dockerd
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import docker_daemon_config as daemon_json
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.modules import docker_daemon_config

FIXTURES = Path(__file__).parents[1] / "fixtures" / "daemon_json"
PATH = "/etc/docker/daemon.json"


def plan(text: str, settings: dict[str, Any], absent: Sequence[str] = ()) -> daemon_json.Plan:
    return daemon_json.plan(text, settings, absent, PATH)


REFUSED = {
    "comment": ('{\n  // logs\n  "a": 1\n}', "line 2 column 3", "comment"),
    "hash": ('{\n  "a": 1\n}\n# end', "line 4 column 1", "comment"),
    "typographic quotes": ("{\n  \u201ca\u201d: 1}", "line 2 column 3", "straight ones"),
    "single quotes": ("{'a': 1}", "line 1 column 2", "straight double quotes"),
    "typographic value": ('{"a": \u201cb\u201d}', "line 1 column 7", "straight ones"),
    "byte-order mark": ("\ufeff{}", "line 1 column 1", "byte-order mark"),
    "twice": ('{"a": 1,\n "b": 2,\n "a": 3}', "line 3 column 2", "each key once"),
    "twice, deeper": ('{"o": [{"a": 1,\n    "a": 2}]}', "line 2 column 5", "each key once"),
    "trailing comma": ('{"a": 1,\n}', "line 2 column 1", "Remove the comma"),
    "missing comma": ('{"a": 1\n "b": 2}', "line 2 column 2", '","'),
    "trailing text": ('{"a": 1}\nexit', "line 2 column 1", "nothing after"),
    "list": ('["a"]', "line 1 column 1", "an object"),
    "cut off": ('{"a": {"b": 1}', "line 1 column 15", "end of the file"),
    "open string": ('{"a": "b\n}', "line 1 column 9", "valid string"),
    "no number": ('{"a": NaN}', "line 1 column 7", "NaN"),
    "no colon": ('{"a" 1}', "line 1 column 6", '":"'),
    "list not closed": ('{"a": [1 2]}', "line 1 column 10", '"]"'),
    "legacy, since Docker 25": ('{"oom-score-adjust": -500}', "line 1 column 2", "OOMScoreAdjust"),
    "legacy, since Docker 28": ('{"api-cors-header": "*"}', "line 1 column 2", "Docker 28 dropped"),
    "legacy": ('{"debug": true,\n  "graph": "/data"}', "line 2 column 3", "data-root"),
}


@pytest.mark.parametrize(("text", "where", "remedy"), REFUSED.values(), ids=list(REFUSED))
def test_refused(text: str, where: str, remedy: str) -> None:
    with pytest.raises(GpusteadError) as error:
        plan(text, {"debug": True})
    message = str(error.value)
    assert message.startswith(PATH)
    assert where in message
    assert remedy in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "where", "remedy"),
    [
        ("invalid-extra-brace-legacy-graph", "line 3 column 54", "Remove the ','"),
        ("invalid-two-documents-smart-quotes", "line 9 column 1", "second document"),
    ],
)
def test_refused_as_published(name: str, where: str, remedy: str) -> None:
    with pytest.raises(GpusteadError) as error:
        plan((FIXTURES / f"{name}.txt").read_text(), {"debug": True})
    assert where in str(error.value)
    assert remedy in str(error.value)


def test_not_utf8() -> None:
    with pytest.raises(GpusteadError, match="line 2 column 8: byte 0xe9"):
        daemon_json_editor.decode(b'{\n "a": "\xe9"}', PATH)


VALID = ["cdi-features-and-runtime", "data-root-default-runtime", "toolkit-1.17-bare-path"]


@pytest.mark.parametrize("name", VALID)
def test_nothing_to_do_leaves_every_byte(name: str) -> None:
    text = (FIXTURES / f"{name}.txt").read_text()
    settings = {"runtimes": json.loads(text)["runtimes"]}
    outcome = plan(text, settings)
    assert outcome.after == text
    assert (outcome.changed, outcome.changed_keys) == (False, ())
    assert (outcome.reload_required, outcome.restart_required) == (False, False)


@pytest.mark.parametrize("name", VALID)
def test_an_addition_leaves_every_line(name: str) -> None:
    text = (FIXTURES / f"{name}.txt").read_text()
    outcome = plan(text, {"live-restore": True})
    kept, added = outcome.after.splitlines(), '    "live-restore": true'
    assert kept[-2] == added
    assert [line.rstrip(",") for line in kept if line != added] == [line.rstrip(",") for line in text.splitlines()]
    assert json.loads(outcome.after) == {**json.loads(text), "live-restore": True}


MERGED = {
    "no file": ("", {"a": {"b": 1}}, [], '{\n  "a": {\n    "b": 1\n  }\n}\n'),
    "empty object": ("{}\n", {"a": 1}, [], '{\n  "a": 1\n}\n'),
    "one line": ('{"a":1, "b":2}', {"c": [1], "d": {"e": 1}}, [], '{"a":1, "b":2, "c": [1], "d": {"e": 1}}'),
    "deep": ('{"o": {"a": 1, "b": 2}}', {"o": {"b": 3, "c": 4}}, [], '{"o": {"a": 1, "b": 3, "c": 4}}'),
    "empty on one line": ('{"o": {}}', {"o": {"a": 1, "b": 2}}, [], '{"o": { "a": 1, "b": 2 }}'),
    "lists are replaced": ('{"l": ["a", "b"]}', {"l": ["c"]}, [], '{"l": ["c"]}'),
    "type counts": ('{"a": 1}', {"a": True}, [], '{"a": true}'),
    "object over scalar": ('{"a": 1}', {"a": {"b": 1}}, [], '{"a": {"b": 1}}'),
    "scalar over object": ('{"a": {"b": 1}}', {"a": "x"}, [], '{"a": "x"}'),
    "tabs": ('{\n\t"a": 1\n}', {"o": {"b": 2}}, [], '{\n\t"a": 1,\n\t"o": {\n\t\t"b": 2\n\t}\n}'),
    "windows": ('{\r\n  "a": 1\r\n}\r\n', {"b": 2}, [], '{\r\n  "a": 1,\r\n  "b": 2\r\n}\r\n'),
    "first gone": ('{\n  "a": 1,\n  "b": 2\n}', {}, ["a"], '{\n  "b": 2\n}'),
    "last gone": ('{\n  "a": 1,\n  "b": 2\n}', {}, ["b"], '{\n  "a": 1\n}'),
    "an object emptied": ('{"runtimes": {"n": {}}}', {}, ["runtimes.n"], '{"runtimes": {}}'),
    "all gone": ('{\n  "a": 1\n}\n', {}, ["a"], "{}\n"),
    "one for another": ('{\n  "a": 1\n}\n', {"b": 2}, ["a"], '{\n  "b": 2\n}\n'),
    "legacy gone": ('{"graph": "/d"}', {"data-root": "/d"}, ["graph"], '{"data-root": "/d"}'),
    "odd style": ('{ "a" :1 ,\n  "b": [ 1,2 ] }', {"a": 2}, [], '{ "a" :2 ,\n  "b": [ 1,2 ] }'),
    "not ASCII": ('{"a": "\\u00e9"}', {"b": "é"}, [], '{"a": "\\u00e9", "b": "é"}'),
}


@pytest.mark.parametrize(("text", "settings", "absent", "expected"), MERGED.values(), ids=list(MERGED))
def test_merged(text: str, settings: dict[str, Any], absent: list[str], expected: str) -> None:
    outcome = plan(text, settings, absent)
    assert outcome.after == expected
    again = plan(outcome.after, settings, absent)
    assert (again.changed, again.changed_keys, again.after) == (False, (), expected)


def test_settings_and_absent() -> None:
    with pytest.raises(GpusteadError, match="'a' is in settings and in absent"):
        plan("{}", {"a": 1}, ["a"])


# What changes, then whether a reload does something about it and whether a restart is needed.
NOTICED = {
    "nothing": ('{"debug": true}', {"debug": True}, [], False, False),
    "reloaded": ('{"debug": true}', {"debug": False, "registry-mirrors": ["https://m"]}, [], True, False),
    "restarted": ("{}", {"log-driver": "local"}, [], False, True),
    "both": ("{}", {"live-restore": True, "log-driver": "local"}, [], True, True),
    "gone, sticks till a restart": ('{"registry-mirrors": ["https://m"]}', {}, ["registry-mirrors"], False, True),
    "gone, goes back by a reload": ('{"max-concurrent-downloads": 9}', {}, ["max-concurrent-downloads"], True, False),
    "an object emptied": ('{"runtimes": {"n": {"path": "n"}}}', {}, ["runtimes.n"], True, False),
    "feature reloaded": ('{"features": {"cdi": true}}', {"features": {"buildkit": True}}, [], True, False),
    "feature restarted": ("{}", {"features": {"containerd-snapshotter": True}}, [], False, True),
}


@pytest.mark.parametrize(("text", "settings", "absent", "reload", "restart"), NOTICED.values(), ids=list(NOTICED))
def test_noticed(text: str, settings: dict[str, Any], absent: list[str], reload: bool, restart: bool) -> None:
    outcome = plan(text, settings, absent)
    assert (outcome.reload_required, outcome.restart_required) == (reload, restart)


UNIT = """[Service]
# ExecStart=/usr/bin/dockerd --debug
EnvironmentFile=-/etc/default/docker
ExecStart=/usr/sbin/dockerd -H fd:// \\
  --containerd=/run/containerd/containerd.sock $DOCKER_OPTS
ExecReload=/bin/kill -s HUP $MAINPID
"""
FILES = {
    "docker.service": UNIT,
    "/etc/default/docker": '# DOCKER_OPTS="--debug"\nDOCKER_OPTS="--log-driver syslog --dns=10.0.0.1"\n',
    "quoted.conf": '[Service]\nEnvironment="OPTS=--label a=b -l warn"\n'
    "ExecStart=\nExecStart=/usr/bin/dockerd ${OPTS}\n",
    # systemd passes over remarks between continued lines (systemd.syntax(7)).
    "remarks.conf": "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd \\\n"
    "  # the registry \\\n  --insecure-registry=r:5000 \\\n;--debug\n  --iptables=false\nRestart=always\n",
    "dropin.conf": (FIXTURES / "dropin-add-runtime.conf").read_text(),
}


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (
            ["docker.service"],
            [
                ("hosts", "docker.service"),
                ("containerd", "docker.service"),
                ("log-driver", "/etc/default/docker"),
                ("dns", "/etc/default/docker"),
            ],
        ),
        (["docker.service", "dropin.conf"], [("hosts", "dropin.conf"), ("runtimes", "dropin.conf")]),
        (["docker.service", "remarks.conf"], [("insecure-registries", "remarks.conf"), ("iptables", "remarks.conf")]),
        (["docker.service", "quoted.conf"], [("labels", "quoted.conf"), ("log-level", "quoted.conf")]),
    ],
)
def test_flags(units: list[str], expected: list[tuple[str, str]]) -> None:
    assert [(flag.key, flag.path) for flag in dockerd.flags(units, FILES.__getitem__)] == expected


def test_flags_of_the_unit_that_systemd_names() -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        assert argv[:3] == ["systemctl", "show", "docker.service"]
        return 0, "FragmentPath=docker.service\nDropInPaths=quoted.conf dropin.conf\n", ""

    found = dockerd.observe_flags(run, FILES.__getitem__)
    assert {flag.path for flag in found} == {"dropin.conf"}
    daemon_json.check_flags(["debug"], found, PATH)
    with pytest.raises(GpusteadError, match=r"dropin\.conf starts dockerd with '--add-runtime=nvidia=.*'runtimes'"):
        daemon_json.check_flags(["debug", "runtimes"], found, PATH)


def test_no_unit() -> None:
    assert dockerd.observe_flags(lambda argv: (0, "FragmentPath=\nDropInPaths=\n", ""), FILES.__getitem__) == ()


# What dockerd 26.1 and 20.10 said.
def test_validated() -> None:
    def said(rc: int, err: str) -> Run:
        return lambda argv: (rc, "", err)

    assert dockerd.validate(said(0, "configuration OK\n"), "dockerd", "/tmp/c.json", PATH)
    old = "Status: unknown flag: --validate\nSee 'dockerd --help'., Code: 125\n"
    assert not dockerd.validate(said(1, old), "dockerd", "/tmp/c.json", PATH)
    wrong = (
        "unable to configure the Docker daemon with file /tmp/c.json: "
        "the following directives don't match any configuration option: storge-driver\n"
    )
    with pytest.raises(GpusteadError, match=r"with file /etc/docker/daemon\.json: .* storge-driver: expected"):
        dockerd.validate(said(1, wrong), "dockerd", "/tmp/c.json", PATH)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"http-proxy": "http://u:p@proxy:3128"', '"http-proxy": "http://***@proxy:3128"'),
        ('["https://mirror/a@b", "u@h"]', '["https://mirror/a@b", "u@h"]'),
        ('{"splunk-token" : "a\\"b", "tag": "c"}', '{"splunk-token" : "***", "tag": "c"}'),
    ],
)
def test_shown(text: str, expected: str) -> None:
    assert dockerd.shown(text) == expected


# dockerd 26.1: "invalid mirror: username/password not allowed in URI", and does not start.
@pytest.mark.parametrize("mirror", ["https://u:hunter2@mirror", "https://hunter2@mirror"])
def test_a_mirror_with_a_password_is_refused_and_not_shown(mirror: str) -> None:
    with pytest.raises(GpusteadError, match="a registry mirror has a user or password") as error:
        plan("", {"registry-mirrors": ["https://other", mirror]})
    assert "hunter2" not in str(error.value)


def test_the_module_keeps_the_file_and_its_backup_to_root_and_shows_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "daemon.json"
    path.write_text('{"proxies": {"http-proxy": "http://u:hunter1@proxy"}}\n')
    path.chmod(0o644)
    options = {"settings": {"debug": True}, "secret": {"proxies": {"http-proxy": "http://u:hunter2@proxy"}}}
    with patch_module_args({**options, "path": str(path)}), pytest.raises(SystemExit):
        docker_daemon_config.main()
    said = capsys.readouterr().out
    assert json.loads(said)["changed_keys"] == ["proxies", "debug"]
    assert "hunter" not in said
    assert json.loads(path.read_text()) == {"debug": True, "proxies": {"http-proxy": "http://u:hunter2@proxy"}}
    assert {oct(file.stat().st_mode & 0o777) for file in tmp_path.iterdir()} == {"0o600"}
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")
def test_the_module_takes_the_file_and_its_copies_from_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, copy, other = (tmp_path / name for name in ("daemon.json", "daemon.json.1.bak", "other.json"))
    for file in (path, copy, other):
        file.write_text("{}\n")
        file.chmod(0o644)
    os.chown(copy, 0, 1)
    (tmp_path / "daemon.json.2.bak").symlink_to(other)

    def asked(check: bool) -> dict[str, Any]:
        with patch_module_args({"path": str(path), "_ansible_check_mode": check}), pytest.raises(SystemExit):
            docker_daemon_config.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    foreseen = asked(True)
    assert [each["before"] for each in foreseen["diff"][1:]] == [f"{path} 0644 0:0\n", f"{copy} 0644 0:1\n"]
    assert path.stat().st_mode & 0o777 == 0o644
    assert asked(False) == foreseen
    assert not asked(False)["changed"]
    assert [file.stat().st_mode & 0o777 for file in (path, copy, other)] == [0o600, 0o600, 0o644]
    assert (copy.stat().st_gid, foreseen["restart_required"], foreseen["changed_keys"]) == (0, False, [])


def test_a_key_in_an_object_can_be_taken_away() -> None:
    text = '{"log-opts": {"max-file": "5", "tag": "x"}, "debug": true}\n'
    result = daemon_json.plan(text, {"log-opts": {"max-size": "50m"}}, ["log-opts.max-file"], "daemon.json")
    assert json.loads(result.after) == {"log-opts": {"tag": "x", "max-size": "50m"}, "debug": True}
    assert result.changed_keys == ("log-opts",)
    again = daemon_json.plan(result.after, {"log-opts": {"max-size": "50m"}}, ["log-opts.max-file"], "daemon.json")
    assert again.changed_keys == ()


INFO: dict[str, Any] = {
    "LoggingDriver": "json-file",
    "LiveRestoreEnabled": True,
    "RegistryConfig": {
        "Mirrors": ["https://mirror.example/"],
        "InsecureRegistryCIDRs": ["10.0.0.0/8", "127.0.0.0/8", "::1/128"],
        "IndexConfigs": {"docker.io": {"Secure": True}, "host:5000": {"Secure": False}},
    },
}
RUNNING = {
    "live-restore": True,
    "registry-mirrors": ["https://mirror.example"],
    "insecure-registries": ["http://host:5000", "10.1.2.3/8"],
}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (RUNNING, ()),
        ({**RUNNING, "log-driver": "local"}, ("log-driver",)),
        ({**RUNNING, "live-restore": False}, ("live-restore",)),
        ({**RUNNING, "registry-mirrors": []}, ("registry-mirrors",)),
        ({**RUNNING, "insecure-registries": ["10.0.0.0/8"]}, ("insecure-registries",)),
        ({}, ("insecure-registries", "live-restore", "registry-mirrors")),
    ],
)
def test_docker_runs_with_other_settings_than_its_file_has(settings: dict[str, Any], keys: tuple[str, ...]) -> None:
    there = plan(json.dumps(settings), {})
    assert not there.changed
    assert daemon_json.not_taken_over(there, INFO, ()) == keys
    assert daemon_json.not_taken_over(there, {}, ()) == ()
    # Docker keeps, on a reload, what the file does not name.
    assert daemon_json.reloadable(there, keys) == tuple(k for k in keys if k != "log-driver" and k in settings)


def test_what_changes_now_or_stands_in_the_unit_is_no_such_key() -> None:
    changing = plan(json.dumps({**RUNNING, "log-driver": "local"}), {"log-driver": "syslog"})
    assert daemon_json.not_taken_over(changing, INFO, ()) == ()
    flag = dockerd.Flag("log-driver", "--log-driver=json-file", "/lib/docker.service")
    assert daemon_json.not_taken_over(plan(json.dumps({**RUNNING, "log-driver": "local"}), {}), INFO, (flag,)) == ()


def test_only_a_daemon_that_runs_is_asked() -> None:
    asked: list[str] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv[0])
        return (3, "inactive", "") if argv[0] == "systemctl" else (0, json.dumps(INFO), "")

    assert dockerd.observe_info(run) == {}
    assert asked == ["systemctl"]
    assert dockerd.observe_info(lambda argv: (0, json.dumps(INFO), "")) == INFO
    assert dockerd.observe_info(lambda argv: (0, "Cannot connect", "")) == {}
