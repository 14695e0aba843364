"""The mesh's sshd is reloaded past `docker kill`, after which Docker would not start the container at a boot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).parents[3] / "roles"
# Ends at SIGHUP (1). Not a shell: it cannot trap what is ignored when it starts, as below nohup.
SSHD = "import signal, sys, time; signal.signal(1, lambda *_: sys.exit(7)); print(flush=True); time.sleep(60)"


@pytest.mark.parametrize(("pid", "status"), [("", 0), ("0", 1)])
def test_the_process_of_the_container_gets_the_signal_and_none_where_there_is_none(
    pid: str, status: int, tmp_path: Path
) -> None:
    (handler,) = yaml.safe_load((ROLES / "ssh_mesh/handlers/main.yml").read_text())
    argv = handler["ansible.builtin.command"]["argv"]
    argv = [Templar(loader=DataLoader()).template(trust_as_template(word)) for word in argv]
    with subprocess.Popen([sys.executable, "-c", SSHD], stdout=-1) as sshd:
        assert sshd.stdout is not None and sshd.stdout.readline()
        docker = tmp_path / "docker"
        docker.write_text(
            f'#!/bin/sh\n[ "$*" = "inspect --format {{{{.State.Pid}}}} gpustead-mesh" ] && echo {pid or sshd.pid}\n'
        )
        docker.chmod(0o755)
        done = subprocess.run(argv, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}, check=False)
        assert done.returncode == status
        if status:
            sshd.kill()
        assert sshd.wait(10) == (7 if not status else -9)


def test_no_role_signals_a_container_through_docker() -> None:
    tasks = [path for path in ROLES.rglob("*.yml") if path.parent.name in ("tasks", "handlers")]
    assert [path for path in tasks if "docker, kill" in path.read_text()] == []
