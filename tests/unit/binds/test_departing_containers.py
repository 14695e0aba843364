"""Containers end with the host, and with nothing else; systemctl is a stand-in that says how the system is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import departing_containers, program

SYSTEMCTL = """#!/bin/sh
echo "$*" >>{log}
case "$*" in
  is-system-running) echo {state}; exit 1 ;;
  "stop "*) {stop} ;;
esac
"""
ASKED = "is-system-running"
ENDED = [ASKED, "stop -- docker-*.scope", "kill --signal=KILL -- docker-*.scope"]


@pytest.mark.parametrize(
    ("state", "stop", "told"),
    [
        ("running", "true", [ASKED]),
        ("degraded", "true", [ASKED]),
        ("starting", "true", [ASKED]),
        ("stopping", "true", ENDED),
        ("stopping", "exec sleep 100", ENDED),
    ],
)
def test_they_end_when_the_host_goes_down(
    state: str, stop: str, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    (tmp_path / "systemctl").write_text(SYSTEMCTL.format(log=log, state=state, stop=stop))
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(departing_containers, "_ENDING", 1.0)
    began = time.monotonic()
    assert program.main(["release"], directory=str(tmp_path / "binds"), declared=str(tmp_path / "binds.d")) == 0
    assert log.read_text().splitlines() == told
    assert time.monotonic() - began < 20
