# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is observed of dockerd: the options of its unit, what `docker info` tells, its verdict on a new daemon.json."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import SECRET_NAME, masked
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.daemon_json_editor import decode
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

Read = Callable[[str], str]
ROOT_ALONE = "0600 0:0"

# Flags whose key in daemon.json is not simply their name.
FLAG_KEYS = {
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "cdi-spec-dir": "cdi-spec-dirs",
    "default-address-pool": "default-address-pools",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "feature": "features",
    "graph": "data-root",
    "host": "hosts",
    "http-proxy": "proxies",
    "https-proxy": "proxies",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "no-proxy": "proxies",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
    "default-network-opt": "default-network-opts",
}
SHORT_FLAGS = {
    "-D": "debug",
    "-G": "group",
    "-H": "hosts",
    "-b": "bridge",
    "-g": "data-root",
    "-l": "log-level",
    "-p": "pidfile",
    "-s": "storage-driver",
}


@dataclass(frozen=True)
class Flag:
    """An option that dockerd gets on its command line, and the file that says so."""

    key: str
    text: str
    path: str


def _lines(unit: str) -> list[str]:
    """The lines without remarks, which end no line that goes on behind a backslash."""
    kept = [line for line in unit.split("\n") if line.lstrip()[:1] not in ("#", ";")]
    joined = "\n".join(kept).replace("\\\n", " ")
    return [line.strip() for line in joined.split("\n") if line.strip()]


def _environment(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in _lines(text) if "=" in line)
    return {name.strip(): " ".join(_words(value)) for name, _second, value in pairs}


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quotation mark without its fellow
        return text.split()


def _flag(argument: str) -> str | None:
    name = argument.partition("=")[0]
    if name.startswith("--"):
        return FLAG_KEYS.get(name[2:], name[2:])
    return SHORT_FLAGS.get(argument[:2]) if argument.startswith("-") else None


def flags(units: Sequence[str], read: Read) -> tuple[Flag, ...]:
    """The options that a unit and its drop-ins give to dockerd, variables from EnvironmentFile= resolved."""
    command: list[tuple[str, str]] = []
    variables: dict[str, tuple[str, str]] = {}
    for path in units:
        for line in _lines(read(path)):
            name, _separator, value = (part.strip() for part in line.partition("="))
            if name == "ExecStart":
                command = [(path, word) for word in _words(value)]
            elif name == "Environment":
                pairs = (setting.partition("=") for setting in _words(value))
                variables.update({variable: (path, text) for variable, _second, text in pairs})
            elif name == "EnvironmentFile" and value:
                source = value.lstrip("-")
                variables.update({k: (source, v) for k, v in _environment(read(source)).items()})
    words: list[tuple[str, str]] = []
    for path, word in command:
        variable = re.fullmatch(r"\$\{?(\w+)\}?", word)
        source, value = variables.get(variable[1], (path, "")) if variable else (path, word)
        words += [(source, part) for part in (_words(value) if variable else [value])]
    found = ((_flag(word), word, path) for path, word in words)
    return tuple(Flag(key, word, path) for key, word, path in found if key)


_NAMED = re.compile(rf'("[^"]*(?:{SECRET_NAME})[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE)


def shown(text: str) -> str:
    """The text without its passwords and tokens, as those of proxies and log drivers: for a diff."""
    return masked(_NAMED.sub(r'\1"***"', text))


def read(path: str) -> str:
    """A file with settings or options of dockerd; nothing where there is none."""
    file = Path(path)
    return decode(file.read_bytes(), path) if file.exists() else ""


def exposed(path: str) -> dict[str, str]:
    """The file and its earlier copies where they are not root's alone, each with its mode and ids.

    A proxy's password may stand in them.
    """
    file = Path(path).resolve()  # a link stays a link
    copies = sorted(copy for copy in file.parent.glob(f"{file.name}.*.bak") if not copy.is_symlink())
    found = {str(each): each.stat() for each in (file, *copies) if each.is_file()}
    access = {name: f"{status.st_mode & 0o7777:04o} {status.st_uid}:{status.st_gid}" for name, status in found.items()}
    return {name: text for name, text in access.items() if text != ROOT_ALONE}


def observe_flags(run: Run, read: Read) -> tuple[Flag, ...]:
    """What systemd would start dockerd with; nothing where there is no such unit."""
    rc, out, _err = run(["systemctl", "show", "docker.service", "-p", "FragmentPath", "-p", "DropInPaths"])
    values = dict(line.partition("=")[::2] for line in out.splitlines())
    if rc != 0 or not values.get("FragmentPath"):
        return ()
    return flags([values["FragmentPath"], *values.get("DropInPaths", "").split()], read)


def observe_info(run: Run) -> dict[str, Any]:
    """What the daemon says of itself; nothing where none runs. The question must not start one."""
    if run(["systemctl", "is-active", "docker.service"])[0]:
        return {}
    code, out, _err = run(["timeout", "30", "docker", "info", "--format", "{{json .}}"])
    try:
        info = json.loads(out) if code == 0 else {}
    except ValueError:
        return {}
    return info if isinstance(info, dict) and "LoggingDriver" in info else {}


def observe_swarm(info: Mapping[str, Any], data_root: str) -> str:
    """The state in which the host is in a swarm; empty where it is in none.

    Args:
        info: what the daemon says of itself; empty where none runs, and then its own note of a swarm counts.
        data_root: where the daemon keeps its data.
    """
    if not info:
        return "its state is not known" if (Path(data_root) / "swarm/docker-state.json").exists() else ""
    state = str((info.get("Swarm") or {}).get("LocalNodeState") or "inactive")
    return "" if state == "inactive" else state


def observe_forwarding() -> bool:
    """Whether the kernel forwards IPv4 now."""
    file = Path("/proc/sys/net/ipv4/ip_forward")
    return not file.exists() or file.read_text().strip() != "0"


def validate(run: Run, dockerd: str, candidate: str, path: str) -> bool:
    """Let dockerd itself judge the file; False where it is too old (before Docker 23) to do that."""
    rc, out, err = run([dockerd, "--validate", "--config-file", candidate])
    if rc == 0:
        return True
    said = shown(" ".join((err or out).split()))
    if "unknown flag: --validate" in said:
        return False
    raise GpusteadError(
        f"{path} as it would be: {said.replace(candidate, path)}",
        "what dockerd --validate accepts",
        "Correct the settings; Docker was left as it is.",
    )
