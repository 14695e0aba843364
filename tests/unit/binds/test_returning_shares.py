"""A share that was away at a boot: mounted when it can be; then what Docker could not start is, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.binds import program, returning_shares
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.declared import write

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="mounts"), pytest.mark.usefixtures("namespace")]
ADA = 61500
# Fails twice, as a mount unit does while the server is away.
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{log}
cat {folder}/motd.d/* >>{folder}/notices
[ "$(wc -l <{log})" -gt 2 ] && mount -t tmpfs nas "$3" && mkdir -p "$3/users/ada" && chown {uid} "$3/users/ada"
"""
DOCKER = """#!/bin/sh
case "$*" in
  "ps --all"*) echo refused stopped other hangs ;;
  "inspect "*refused) echo '/lab-ada lstat {run}/w/ada: no such file or directory' ;;
  "inspect "*other) echo '/lab-other driver failed: address already in use' ;;
  "inspect "*hangs) exec sleep 100 ;;
  "start "*) echo "$2" >>{log} ;;
esac
"""


def program_of(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_it_is_waited_for_and_what_could_not_start_without_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    share, run, commands = tmp_path / "nas", tmp_path / "run/binds", tmp_path / "bin"
    share.mkdir()
    commands.mkdir()
    program_of(commands, "systemctl", SYSTEMCTL.format(log=tmp_path / "mounts", uid=ADA, folder=tmp_path))
    program_of(commands, "docker", DOCKER.format(log=tmp_path / "starts", run=run))
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setattr(returning_shares, "PAUSE", 0.01)
    notice = tmp_path / "motd.d/gpustead-shares"
    monkeypatch.setattr(returning_shares, "NOTICE", str(notice))
    monkeypatch.setattr(returning_shares, "_ANSWERING", 1.0)
    places = {"directory": str(run), "declared": f"{run}.d"}
    write("w", [Bind("ada", str(share), "users/ada", owner=ADA, mounted=True)], declared=places["declared"])
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        assert program.main(["wait"], **places) == 0
        said = [manager.recv(1000).decode() for _message in range(4)]
    words = [f"waiting for {share}", "all shares are mounted", "starting lab-ada", "all shares are mounted"]
    assert said == [f"STATUS={word}" for word in words]
    # Whoever logged in between its first attempt and the last was told.
    told = f"The NAS does not answer for {share}. What needs it here, workspaces too, starts when it does.\n"
    assert (tmp_path / "notices").read_text() == told * 3
    assert not notice.exists()
    assert (tmp_path / "mounts").read_text() == f"start -- {share}\n" * 3
    assert (tmp_path / "starts").read_text() == "refused\n"
    assert subprocess.run(["mountpoint", "-q", run / "w/ada"], check=False).returncode == 0
    assert capfd.readouterr().err == "".join(f"{word}\n" for word in words)


def test_nothing_is_asked_where_no_share_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # without Docker, too
    assert program.main(["wait"], directory=str(tmp_path / "run"), declared=str(tmp_path / "binds.d")) == 0
    assert capfd.readouterr().err == ""
