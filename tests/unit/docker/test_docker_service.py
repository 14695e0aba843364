"""Docker's unit: whatever Docker does not start with goes, the former daemon.json comes back, and Docker runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import docker_daemon_config as daemon_json
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import docker_service
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT
from ansible_collections.gpustead.cluster.plugins.modules import docker_daemon_config
from ansible_collections.gpustead.cluster.plugins.modules import docker_service as module

GOOD, BAD = '{"log-driver": "json-file"}\n', '{"log-driver": "journald", "log-opts": {"max-size": "50m"}}\n'
REFUSAL = "failed to set log opts: unknown log opt 'max-size' for journald log driver"
TOO_QUICKLY = "docker.service: Start request repeated too quickly."


def entry(message: str, by: str = "dockerd") -> str:
    """As journald has it, with who it was by its own knowledge."""
    unit = {"UNIT" if by == "systemd" else "_SYSTEMD_UNIT": "docker.service"}
    how = {"_TRANSPORT": "stdout" if by == "dockerd" else "journal", "_UID": "0"}
    return json.dumps({"MESSAGE": message, "SYSLOG_IDENTIFIER": by, **unit, **how})


def chosen(argv: Sequence[str], journal: Sequence[str]) -> list[str]:
    """What journalctl prints: the last of those that have all fields of a group; + stands between groups."""
    fields = " ".join(word for word in argv[1:] if not word.startswith("--"))
    groups = [dict(word.split("=", 1) for word in group.split()) for group in fields.split(" + ")]
    most = next(int(word.partition("=")[2]) for word in argv if word.startswith("--lines="))
    found = [line for line in filter(None, journal) if any(one.items() <= json.loads(line).items() for one in groups)]
    return found[-most:]


class Host:
    """systemd and dockerd: it refuses what it cannot start with, and systemd refuses after two failed starts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.file, self.pid = folder / "daemon.json", folder / "docker.pid"
        self.kept = folder / "daemon.json.started.bak"
        monkeypatch.setattr(docker_service, "PID", str(self.pid))
        monkeypatch.setattr(docker_service, "_PAUSE", 0)
        monkeypatch.setattr(docker_service, "_MOMENT", 0)
        self.failed, self.active, self.journal = 0, False, [""]
        self.done: list[str] = []
        self.hiccups, self.broken, self.tells, self.late = 0, "", True, 0
        self.containers: list[str] = []  # what they say meanwhile, with log driver journald or syslog

    def read(self) -> str:
        return self.file.read_text() if self.file.exists() else ""

    def write(self, text: str) -> None:
        """As docker_daemon_config does."""
        docker_service.keep(str(self.file))
        self.file.write_text(text)

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        verb = argv[1]
        if argv[0] == "journalctl":
            return (0, "\n".join(chosen(argv, self.journal)), "") if "--output=json" in argv else (0, "", "")
        if verb == "is-active":
            return (0 if self.active else 3), "", ""
        self.done.append(verb)
        if verb == "reset-failed":
            self.failed = 0
            return 0, "", ""
        self.journal = [entry("Starting Docker Application Container Engine...", "systemd")]
        return self.reload() if verb == "reload-or-restart" and self.active else self.start()

    def start(self) -> tuple[int, str, str]:
        self.active = False
        if self.failed >= 2:
            self.journal = [entry(TOO_QUICKLY, "systemd")]
            return 1, "", "Job for docker.service failed."
        why = self.broken or (REFUSAL if "max-size" in self.read() and "journald" in self.read() else "")
        if self.hiccups:
            self.hiccups, why = self.hiccups - 1, "failed to start daemon: Error initializing network controller"
        if why:
            self.failed += 1
            self.journal += [entry('time="x" level=info msg="Starting up"'), entry(why)]
            self.journal += [entry("docker.service: Failed with result 'exit-code'.", "systemd")]
            return 1, "", "Job for docker.service failed because the control process exited with error code."
        self.active = True
        self.pid.write_text("1")
        time.sleep(0.02)  # the clock of files is coarse
        return 0, "", ""

    def reload(self) -> tuple[int, str, str]:
        if "no-scheme" in self.read():
            self.journal.append(
                entry('time="x" level=error msg="Error reconfiguring the daemon" error="invalid mirror"')
            )
        elif self.tells:
            self.journal.append(entry('time="x" level=info msg="Reloaded configuration: {}"'))
        self.journal += [entry(said, "gpustead-workspace-ssh-1") for said in self.containers]
        return 0, "", ""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One on which Docker runs with GOOD."""
    made = Host(tmp_path, monkeypatch)
    made.file.write_text(GOOD)
    assert docker_service.bring(made.run, "started", str(made.file)) == ""
    made.done.clear()
    return made


def test_a_start_that_is_well_keeps_what_docker_started_with(host: Host) -> None:
    host.write('{"debug": true}\n')
    assert host.kept.read_text() == GOOD
    assert docker_service.bring(host.run, "restarted", str(host.file)) == ""
    assert host.done == ["reset-failed", "restart"]
    assert host.kept.read_text() == '{"debug": true}\n'
    assert host.kept.stat().st_mode & 0o777 == 0o600


def test_what_docker_does_not_start_with_goes_and_docker_runs(host: Host) -> None:
    host.write(BAD)
    with pytest.raises(GpusteadError) as error:
        docker_service.bring(host.run, "restarted", str(host.file))
    assert host.active
    assert host.read() == GOOD
    refused = [path for path in host.file.parent.glob("*.bak") if path != host.kept]
    assert [path.read_text() for path in refused] == [BAD]
    said = str(error.value)
    assert f"Docker does not start with its new {host.file}: {REFUSAL}" in said
    assert f"The former one was put back, and Docker runs with it. The refused one is {refused[0]}." in said


def test_a_host_that_met_systemds_limit_is_healed_by_setting_it_back(host: Host) -> None:
    host.file.write_text(BAD)
    while host.start()[0]:
        if TOO_QUICKLY in host.journal[-1]:
            break
    host.write(GOOD)
    assert docker_service.bring(host.run, "started", str(host.file)) == ""
    assert host.active


def test_runs_that_died_in_between_do_not_lose_the_former_file(host: Host) -> None:
    host.write('{"log-driver": "journald"}\n')
    host.write(BAD)  # and neither of them came to restart Docker
    with pytest.raises(GpusteadError, match="was put back"):
        docker_service.bring(host.run, "restarted", str(host.file))
    assert (host.active, host.read()) == (True, GOOD)


def test_an_edit_that_docker_never_read_is_not_the_former_file(host: Host) -> None:
    host.file.write_text(BAD)  # by hand, and Docker ran on
    os.utime(host.file, (time.time() + 5, time.time() + 5))
    host.write(BAD.replace("50m", "60m"))
    with pytest.raises(GpusteadError, match="was put back"):
        docker_service.bring(host.run, "restarted", str(host.file))
    assert (host.active, host.read()) == (True, GOOD)


def test_docker_that_had_started_without_a_file_does_so_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, monkeypatch)
    host.start()
    host.write(BAD)
    with pytest.raises(GpusteadError, match="was put back"):
        docker_service.bring(host.run, "restarted", str(host.file))
    assert host.active
    assert not host.file.exists()


@pytest.mark.parametrize("text", [GOOD, '{"debug": true}\n'], ids=["the former file", "another file"])
def test_what_was_in_the_way_for_a_moment_undoes_nothing(host: Host, text: str) -> None:
    host.write(text)
    host.hiccups = 1
    said = docker_service.bring(host.run, "restarted", str(host.file))
    assert said == "failed to start daemon: Error initializing network controller"
    assert (host.active, host.read()) == (True, text)


def test_where_the_file_is_not_to_blame_it_stays(host: Host) -> None:
    host.broken = "failed to start daemon: no space left on device"
    with pytest.raises(GpusteadError, match=r"start with its .*: failed to .* no space left .* is as when Docker last"):
        docker_service.bring(host.run, "restarted", str(host.file))
    assert host.read() == GOOD
    host.write('{"debug": true}\n')
    with pytest.raises(GpusteadError, match=r"with the former one either, which was put back: failed to .* no space"):
        docker_service.bring(host.run, "restarted", str(host.file))
    assert host.read() == GOOD


def test_a_reload_that_docker_refuses_is_seen_and_taken_back(host: Host) -> None:
    host.write('{"registry-mirrors": ["no-scheme"]}\n')
    with pytest.raises(
        GpusteadError, match=r"does not take over its new .*: Error reconfiguring the daemon: invalid mir"
    ):
        docker_service.bring(host.run, "reloaded", str(host.file))
    assert (host.active, host.read()) == (True, GOOD)


FORGED = ['time="x" level=fatal msg="owned"', 'time="x" level=info msg="Reloaded configuration: {}"', *["."] * 500]


def test_what_containers_say_meanwhile_is_none_of_dockers_words(host: Host) -> None:
    """By log driver journald or syslog it stands in the journal of Docker's unit."""
    host.containers, host.tells = FORGED, False
    host.write('{"registry-mirrors": ["https://m"]}\n')
    assert docker_service.bring(host.run, "reloaded", str(host.file)) == ""
    host.containers = FORGED[1:]
    host.write('{"registry-mirrors": ["no-scheme"]}\n')
    with pytest.raises(GpusteadError, match="Error reconfiguring the daemon: invalid mirror"):
        docker_service.bring(host.run, "reloaded", str(host.file))


@pytest.mark.parametrize("tells", [True, False], ids=["it says so", "its log-level is warn"])
def test_a_reload_is_no_start(host: Host, tells: bool) -> None:
    """The next restart may still fail with what was reloaded."""
    host.tells = tells
    host.write('{"registry-mirrors": ["https://m"]}\n')
    assert docker_service.bring(host.run, "reloaded", str(host.file)) == ""
    assert host.kept.read_text() == GOOD


def test_a_reload_starts_docker_where_it_does_not_run(host: Host) -> None:
    host.active = False
    host.tells = False
    assert docker_service.bring(host.run, "reloaded", str(host.file)) == ""
    assert host.active


def test_a_fresh_host_has_no_place_for_the_file_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_service, "PID", str(tmp_path / "docker.pid"))
    docker_service.keep(str(tmp_path / "docker" / "daemon.json"))
    assert (tmp_path / "docker" / "daemon.json.started.bak").read_text() == ""


def test_docker_that_hangs_is_asked_no_third_time(host: Host) -> None:
    """Twice of the time of one start is all that a role gives."""
    host.write(BAD)
    asked: list[str] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv[1])
        return (TIMED_OUT, "", "no answer within 280 s, and was killed") if argv[1] == "restart" else host.run(argv)

    with pytest.raises(GpusteadError, match="systemctl restart: no answer within 280 s"):
        docker_service.bring(run, "restarted", str(host.file))
    assert asked.count("restart") == 2


def test_a_link_stays_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(tmp_path, monkeypatch)
    elsewhere = tmp_path / "site" / "daemon.json"
    elsewhere.parent.mkdir()
    elsewhere.write_text(GOOD)
    host.file.symlink_to(elsewhere)
    docker_service.bring(host.run, "started", str(host.file))
    host.write(BAD)
    with pytest.raises(GpusteadError):
        docker_service.bring(host.run, "restarted", str(host.file))
    assert (host.file.is_symlink(), elsewhere.read_text()) == (True, GOOD)


def test_a_password_that_docker_quotes_is_not_shown(host: Host) -> None:
    host.write('{"log-opts": {"splunk-token": "hunter2"}, "proxies": {"http-proxy": "http://u:hunter3@p"}}\n')
    host.broken = "failed to start daemon: splunk: token hunter2, proxy http://u:hunter3@p"
    with pytest.raises(GpusteadError) as error:
        docker_service.bring(host.run, "restarted", str(host.file))
    assert "token ***" in str(error.value)
    assert "hunter" not in str(error.value)


# What stood in journals: moby/moby#12087, docker/docs#16059, NixOS/nixpkgs#27637, moby/moby#38242, moby/moby#33931.
WORDS = {
    "dockerd's last words": ([(REFUSAL, "dockerd")], REFUSAL),
    "a fatal line": (
        [('time="2017" level=fatal msg="Failed to set log opts: unknown log opt \'max-size\'"', "dockerd-current")],
        "Failed to set log opts: unknown log opt 'max-size'",
    ),
    "a line with an error of its own": (
        [('time="x" level=error msg="failed to start" error="a \\"b\\" c" id=1', "dockerd")],
        'failed to start: a "b" c',
    ),
    "as JSON": (
        [('{"level":"fatal","msg":"it is so"}', "dockerd"), ('{"level":"info","msg":"bye"}', "dockerd")],
        '{"level":"fatal","msg":"it is so"}',
    ),
    "with what is usual around it": (
        [
            ('time="x" level=info msg="Starting up"', "dockerd"),
            ('time="x" level=warning msg="a warning"', "dockerd"),
            ('time="x" level=error msg="something before"', "dockerd"),
            ("failed to start cluster component: --live-restore daemon configuration is incompatible", "dockerd"),
            ("docker.service: Main process exited, code=exited, status=1/FAILURE", "systemd"),
            (TOO_QUICKLY, "systemd"),
        ],
        "failed to start cluster component: --live-restore daemon configuration is incompatible",
    ),
    "a stack": (
        [("panic: runtime error", "dockerd"), ("goroutine 1 [running]:", "dockerd"), ("main.main()", "dockerd")],
        "panic: runtime error",
    ),
    "something that runs before it": (
        [
            ("Starting Docker Application Container Engine...", "systemd"),
            ("docker.service: Control process exited, code=exited, status=1/FAILURE", "systemd"),
            ("docker.service: Failed with result 'exit-code'.", "systemd"),
        ],
        "docker.service: Control process exited, code=exited, status=1/FAILURE "
        "docker.service: Failed with result 'exit-code'.",
    ),
    "nothing": ([], ""),
}


@pytest.mark.parametrize(("lines", "expected"), WORDS.values(), ids=list(WORDS))
def test_dockers_own_words(lines: list[tuple[str, str]], expected: str) -> None:
    assert docker_service.words("\n".join(["no JSON", "[]", *(entry(*line) for line in lines)])) == expected


def test_a_message_that_is_no_text_is_passed_over() -> None:
    assert docker_service.words('{"MESSAGE": [102, 111], "SYSLOG_IDENTIFIER": "dockerd"}') == ""


SHOWN = "ActiveState={}\nUnitFileState={}\n"


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that answers with what stands in `shown`, and keeps what it was asked to do."""
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\n[ "$1" = show ] && exec cat {tmp_path}/shown\necho "$*" >>{tmp_path}/done\n')
    program.chmod(0o755)
    (tmp_path / "done").touch()
    (tmp_path / "journalctl").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(docker_service.bring, "__defaults__", (str(tmp_path / "daemon.json"),))
    return tmp_path


@pytest.mark.parametrize(
    ("shown", "arguments", "done"),
    [
        (("active", "enabled"), {"state": "started", "enabled": True}, []),
        (("inactive", "enabled"), {"state": "started", "enabled": True}, ["reset-failed", "start"]),
        (("active", "disabled"), {"state": "started", "enabled": True}, ["enable"]),
        (
            ("failed", "disabled"),
            {"state": "started", "daemon_reload": True},
            ["daemon-reload", "reset-failed", "start"],
        ),
        (("active", "enabled"), {"state": "restarted"}, ["reset-failed", "restart"]),
    ],
)
def test_the_module_does_what_is_to_be_done(
    systemctl: Path,
    capsys: pytest.CaptureFixture[str],
    shown: tuple[str, str],
    arguments: dict[str, object],
    done: list[str],
) -> None:
    (systemctl / "shown").write_text(SHOWN.format(*shown))
    for check in (True, False):
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        answer = json.loads(capsys.readouterr().out)
        assert answer["changed"] is bool(done)
        asked = [line.split()[0] for line in (systemctl / "done").read_text().splitlines()]
        assert asked == ([] if check else done)


def test_the_module_that_writes_the_file_keeps_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host(tmp_path, monkeypatch)
    host.file.write_text(GOOD)
    host.start()
    monkeypatch.setattr(daemon_json, "DAEMON_JSON", str(host.file))
    monkeypatch.setenv("PATH", str(tmp_path))
    for settings, check in (({}, True), ({}, False), ({"debug": True}, False), ({"debug": False}, False)):
        arguments = {"path": str(host.file), "settings": settings, "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            docker_daemon_config.main()
        capsys.readouterr()
        assert host.kept.exists() is not check
        time.sleep(0.02)
    assert (host.kept.read_text(), json.loads(host.read())["debug"]) == (GOOD, False)
