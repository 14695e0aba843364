# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Docker's unit, brought up so that Docker runs: where it cannot with its daemon.json, with the former one.

The former one is what Docker last started with. It is kept beside the file from the moment at which that is replaced,
so that it is the same however many runs died before Docker was restarted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials import secret_settings
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import dockerd
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_daemon_config import DAEMON_JSON
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT, Run
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

UNIT = "docker.service"
_SOCKET = "docker.socket"  # it fails with its service when that has met systemd's limit
# For one start, in seconds: twice of it is within what roles give to the whole.
SECONDS = 280
VERBS = {"started": "start", "restarted": "restart", "reloaded": "reload-or-restart"}
PID = "/run/docker.pid"  # dockerd writes it when it starts
KEPT = ".started.bak"
_LONGEST = 1000  # characters of what Docker says
# dockerd reloads after systemctl has returned, and says so with log-level info or below.
_RELOADED = "Reloaded configuration"
_PATIENCE, _PAUSE = 15, 0.2  # how often it is asked, and seconds in between
_MOMENT = 2.0  # seconds; systemd itself waits as long before it tries again
_GRAVE = re.compile(r'level=(error|fatal|panic)|"level":"(error|fatal|panic)"')
_MINOR = re.compile(r'level=(info|warning|debug|trace)|"level":"(info|warning|debug|trace)"')
_LAST = re.compile(r"failed|unable|error|panic|fatal", re.IGNORECASE)
_FIELD = re.compile(r'\b(msg|error)="((?:[^"\\]|\\.)*)"')
_OF_SYSTEMD = re.compile(r"exited|[Ff]ailed|repeated too quickly|timed out|refused|not found")


@dataclass(frozen=True)
class Unit:
    """What systemd tells of the unit."""

    active: bool
    enabled: bool


def observe(run: Run) -> Unit:
    _code, out, _err = run(["systemctl", "show", UNIT, "-p", "ActiveState", "-p", "UnitFileState"])
    told = dict(line.partition("=")[::2] for line in out.splitlines())
    return Unit(told.get("ActiveState") == "active", told.get("UnitFileState") == "enabled")


def keep(path: str = DAEMON_JSON) -> None:
    """Keep the file, if Docker has started with it, for the case that it does not start with what replaces it."""
    file = Path(path).resolve()  # a link stays a link
    kept = Path(f"{file}{KEPT}")
    now = file.read_bytes() if file.exists() else b""
    if not kept.exists() or (_is_started_with(file) and kept.read_bytes() != now):
        _write(kept, now)


def bring(run: Run, state: str, path: str = DAEMON_JSON) -> str:
    """Start, restart or reload Docker, at the second attempt if need be, else with the former daemon.json.

    Args:
        run: runs commands; each has SECONDS.
        state: of VERBS.
        path: of daemon.json.

    Returns:
        What Docker had said where it started at the second attempt alone; else nothing.

    Raises:
        GpusteadError: it does not start, or did so with the former file alone. With Docker's own words.
    """
    secrets = _secrets(path)  # which dockerd may quote
    is_reload = state == "reloaded"
    what = "take over" if is_reload else "start with"
    why, is_over = _attempt(run, VERBS[state])
    said = why
    if why and not is_over and not is_reload:
        # What is in its way is often gone a moment later: rules of the firewall, containerd.
        time.sleep(_MOMENT)
        why, is_over = _attempt(run, "restart")
        said = why or said
    said = _shown(said, secrets)
    if not why:
        keep(path)
        return said
    refused = _put_back(path)
    if not refused:
        raise GpusteadError(
            f"Docker does not {what} its {path}: {said}",
            "it to run",
            "The file is as when Docker last started: see systemctl cat docker, journalctl -u docker.",
        )
    again, _is_over = _attempt(run, VERBS[state] if is_reload else "restart")
    if again:
        remedy = f"It does not with the former one either, which was put back: {_shown(again, secrets)}."
    else:
        remedy = "The former one was put back, and Docker runs with it."
    raise GpusteadError(
        f"Docker does not {what} its new {path}: {said}",
        "one that it takes",
        f"{remedy} The refused one is {refused}. Correct the settings; journalctl -u docker has more.",
    )


def _attempt(run: Run, verb: str) -> tuple[str, bool]:
    """Why it failed, empty where Docker runs, and whether the time was over.

    After some failed starts systemd refuses further ones, whatever has been mended, until its counters are reset.
    """
    since = time.time()
    run(["systemctl", "reset-failed", UNIT, _SOCKET])
    code, out, err = run(["systemctl", verb, UNIT])
    if code == TIMED_OUT:
        return f"systemctl {verb}: {err}", True
    if code:
        said = words(_journal(run, since)) or " ".join((err or out).split())
        return said or f"systemctl {verb} ended with {code}", False
    return (_refusal(run, since) if verb == VERBS["reloaded"] else ""), False


def _refusal(run: Run, since: float) -> str:
    """Why dockerd did not take its settings over on a reload; empty where it did, or does not tell."""
    said = ""
    for _again in range(_PATIENCE):
        journal = _journal(run, since)
        if any(_RELOADED in message for message, _second in _messages(journal)):
            return ""
        grave = [message for message, _second in _messages(journal) if _GRAVE.search(message)]
        said = _plain(grave[-1]) if grave else ""
        if run(["systemctl", "is-active", "--quiet", UNIT])[0]:
            return said or words(journal) or "it has ended"
        time.sleep(_PAUSE)
    return said


def _journal(run: Run, since: float) -> str:
    """What dockerd and systemd say of the unit. With log driver journald or syslog it is the unit, too, that says what
    containers do (https://github.com/docker/for-linux/issues/1151); dockerd's own words come by its standard error.
    """
    run(["journalctl", "--sync"])
    whose = [f"_SYSTEMD_UNIT={UNIT}", "_TRANSPORT=stdout", "+", f"UNIT={UNIT}", "_UID=0"]
    argv = ["journalctl", *whose, f"--since=@{since:.6f}", "--output=json", "--lines=200", "--no-pager"]
    return run(argv)[1]


def words(journal: str) -> str:
    """Why Docker did not start: its own last words, or systemd's, in a journal as `journalctl -o json` prints it."""
    messages = list(_messages(journal))
    own = [message for message, of_systemd in messages if not of_systemd and not _MINOR.search(message)]
    named = [message for message in own if _GRAVE.search(message) or _LAST.match(message)]
    if named or own:
        return _plain((named or own)[-1])
    return " ".join(dict.fromkeys(message for message, _second in messages if _OF_SYSTEMD.search(message)))


def _messages(journal: str) -> Iterator[tuple[str, bool]]:
    """The messages, and of each whether it is systemd's."""
    for line in journal.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        message = entry.get("MESSAGE") if isinstance(entry, dict) else None
        if isinstance(message, str):  # else it is no text
            yield message, entry.get("SYSLOG_IDENTIFIER") == "systemd"


def _plain(message: str) -> str:
    """A line of dockerd's log without its fields."""
    fields = [text.replace('\\"', '"') for _name, text in _FIELD.findall(message)]
    return ": ".join(fields) or " ".join(message.split())


def _secrets(path: str) -> list[str]:
    """Passwords and tokens in the file and in the former one."""
    found: list[str] = []
    for file in (path, f"{Path(path).resolve()}{KEPT}"):
        try:
            settings = json.loads(dockerd.read(file) or "{}")
        except (ValueError, GpusteadError):
            continue
        if isinstance(settings, dict):
            found += secret_settings.texts(secret_settings.split(settings)["secret"])
    return found


def _shown(text: str, secrets: list[str]) -> str:
    return shown(dockerd.shown(secret_settings.without(text, secrets)), _LONGEST)


def _is_started_with(file: Path) -> bool:
    """Whether the Docker that runs has read the file as it is, when it started."""
    try:
        started = Path(PID).stat().st_mtime
    except FileNotFoundError:
        return False
    try:
        status = file.stat()
    except FileNotFoundError:
        return True
    return max(status.st_mtime, status.st_ctime) <= started


def _put_back(path: str) -> str:
    """Put the former file back, and keep what was there: its name. Empty where there is no former one, or no other."""
    file = Path(path).resolve()
    kept = Path(f"{file}{KEPT}")
    now = file.read_bytes() if file.exists() else b""
    if not kept.exists() or kept.read_bytes() == now:
        return ""
    refused = f"{file}.{time.strftime('%Y-%m-%d@%H:%M:%S')}.bak"
    _write(Path(refused), now)
    former = kept.read_bytes()
    if former:
        _write(file, former)
    else:  # Docker had started without any
        file.unlink()
    return refused


def _write(path: Path, data: bytes) -> None:
    """At once, for root alone: passwords may stand in it."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        as_account.put(folder, path.name, data, 0o600)
    finally:
        os.close(folder)
