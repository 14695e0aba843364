# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Docker's daemon.json: read strictly, change key by key, leave every other byte as it is."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, NoReturn

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.site.credentials import (
    SECRET_NAME,
    has_credentials,
    masked,
)

Read = Callable[[str], str]

# What dockerd takes over on SIGHUP (https://docs.docker.com/reference/cli/dockerd/#configuration-reload-behavior).
RELOADED = frozenset(
    {
        "allow-nondistributable-artifacts",
        "authorization-plugins",
        "debug",
        "default-runtime",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
# Of these, the ones that go back to their default when they are gone: the others keep their last value until a
# restart (moby, daemon/reload.go).
RESET = frozenset({"max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts"})
# A reload takes over the object "features" (moby, daemon/reload.go), but only these are looked at again afterwards.
RELOADED_FEATURES = frozenset({"buildkit"})

# What Docker itself holds to be insecure.
OWN_INSECURE = {"127.0.0.0/8", "::1/128"}

# Keys that dockerd no longer knows: it does not start with them.
LEGACY = {
    "graph": 'Rename it to "data-root"',
    "cluster-store": "Remove it: Docker 23 dropped external stores for overlay networks",
    "cluster-store-opts": "Remove it: Docker 23 dropped external stores for overlay networks",
    "cluster-advertise": "Remove it: Docker 23 dropped external stores for overlay networks",
    "disable-legacy-registry": "Remove it: Docker no longer speaks to version 1 registries",
}

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

SPACE = " \t\r\n"
HINTS = {
    "\ufeff": "Save it as UTF-8 without a byte-order mark",
    "/": "Remove the comment: JSON has none",
    "#": "Remove the comment: JSON has none",
    "'": 'Use straight double quotes (")',
    **dict.fromkeys(
        "\u201c\u201d\u201e\u201f\u2018\u2019\u00ab\u00bb", 'Replace the typographic quotes by straight ones (")'
    ),
}


@dataclass(frozen=True)
class Node:
    """A value and where it stands: text[start:end]."""

    value: Any
    start: int
    end: int
    members: tuple[Member, ...] = ()
    tail: str = ""


@dataclass(frozen=True)
class Member:
    """A key of an object: `lead` is the white space before it, `head` reaches from the key to its value."""

    key: str
    lead: str
    head: str
    node: Node
    trail: str


@dataclass(frozen=True)
class Flag:
    """An option that dockerd gets on its command line, and the file that says so."""

    key: str
    text: str
    path: str


@dataclass(frozen=True)
class Plan:
    """What would be written, and what dockerd must do to notice."""

    before: str
    after: str
    changed_keys: tuple[str, ...]
    reload_required: bool
    restart_required: bool
    wanted: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def changed(self) -> bool:
        return self.before != self.after


class _Parser:
    """A strict reader of JSON that knows where everything stands."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.scalars = json.JSONDecoder(parse_constant=self.constant)

    def fail(self, at: int, expected: str, remedy: str = "") -> NoReturn:
        line, column = self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)
        found = self.text[at : at + 1]
        seen = repr(found) if found else "the end of the file"
        advice = remedy or HINTS.get(found, "Correct it there")
        raise GpusteadError(
            f"{self.path} line {line} column {column}: {seen}", expected, f"{advice}; Docker was left as it is."
        )

    def constant(self, name: str) -> NoReturn:
        raise ValueError(name)

    def skip(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in SPACE:
            at += 1
        return at

    def document(self) -> Node:
        start = self.skip(0)
        if start == len(self.text):  # to dockerd, an empty file says nothing
            return Node({}, start, start)
        if self.text[start] != "{":
            self.fail(start, 'an object, which begins with "{"')
        node = self.value(start)
        rest = self.skip(node.end)
        if rest < len(self.text):
            found = self.text[rest]
            advice = (
                "Merge the second document into the first"
                if found == "{"
                else f"Remove the {found!r} that is too many, here or before"
                if found in ",}]"
                else ""
            )
            self.fail(rest, "nothing after the end of the object", advice)
        return node

    def value(self, at: int) -> Node:
        if self.text[at : at + 1] == "{":
            return self.object(at)
        if self.text[at : at + 1] == "[":
            return self.array(at)
        try:
            value, end = self.scalars.raw_decode(self.text, at)
        except json.JSONDecodeError as error:
            self.fail(error.pos, "a value" if error.pos == at else f"a valid string ({error.msg})")
        except ValueError:
            self.fail(at, "a value that JSON knows", "NaN and Infinity are none: correct it there")
        return Node(value, at, end)

    def string(self, at: int) -> tuple[str, int]:
        if self.text[at : at + 1] != '"':
            self.fail(at, 'a key in double quotes (")')
        node = self.value(at)
        return str(node.value), node.end

    def object(self, start: int) -> Node:
        members: list[Member] = []
        values: dict[str, Any] = {}
        at = start + 1
        while True:
            begin = self.skip(at)
            if self.text[begin : begin + 1] == "}" and not members:
                return Node(values, start, begin + 1, (), self.text[at:begin])
            if self.text[begin : begin + 1] == "}":
                self.fail(begin, "another key after the comma", "Remove the comma before it")
            key, end = self.string(begin)
            if key in values:
                self.fail(
                    begin,
                    f"each key once, and {key!r} stood there before",
                    "Remove one of the two: dockerd takes the last",
                )
            colon = self.skip(end)
            if self.text[colon : colon + 1] != ":":
                self.fail(colon, f'":" after the key {key!r}')
            node = self.value(self.skip(colon + 1))
            after = self.skip(node.end)
            values[key] = node.value
            members.append(
                Member(key, self.text[at:begin], self.text[begin : node.start], node, self.text[node.end : after])
            )
            at = after + 1
            if self.text[after : after + 1] == "}":
                return Node(values, start, at, tuple(members), self.text[node.end : after])
            if self.text[after : after + 1] != ",":
                self.fail(after, f'"," or "}}" after the value of {key!r}')

    def array(self, start: int) -> Node:
        values: list[Any] = []
        at = self.skip(start + 1)
        if self.text[at : at + 1] == "]":
            return Node(values, start, at + 1)
        while True:
            node = self.value(at)
            values.append(node.value)
            after = self.skip(node.end)
            if self.text[after : after + 1] == "]":
                return Node(values, start, after + 1)
            if self.text[after : after + 1] != ",":
                self.fail(after, '"," or "]" after a value in a list')
            at = self.skip(after + 1)


def decode(raw: bytes, path: str) -> str:
    """The text of the file, which must be UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise GpusteadError(
            f"{path} line {line} column {column}: byte 0x{raw[error.start]:02x}",
            "UTF-8",
            "Save it as UTF-8; Docker was left as it is.",
        ) from None


def parse(text: str, path: str) -> Node:
    """Read the file, or say what is wrong with it and where."""
    return _Parser(text, path).document()


def same(left: Any, right: Any) -> bool:
    """Equal also in type: to dockerd, true is not 1 and "5" is not 5."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)


def merge(current: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings put into what is there: objects key by key, everything else (lists too) replaced."""
    merged = dict(current)
    for key, value in settings.items():
        there = merged.get(key)
        merged[key] = merge(there if isinstance(there, dict) else {}, value) if isinstance(value, dict) else value
    return merged


def _dump(value: Any, unit: str, margin: str) -> str:
    if not unit:
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", "\n" + margin)


def _edit(text: str, node: Node, wanted: Any, unit: str, margin: str) -> str:
    """The text of `node` with the least changes that make it say `wanted`."""
    if same(node.value, wanted):
        return text[node.start : node.end]
    if not (isinstance(node.value, dict) and isinstance(wanted, dict) and wanted):
        return _dump(wanted, unit, margin)
    members = node.members
    # What stands on one line stays on one line.
    style = unit if not members or "\n" in members[-1].lead else ""
    lead = (members[-1].lead or " ") if members else f"\n{margin}{unit}" if unit else " "
    inner = lead.rpartition("\n")[2] if style else ""
    parts: list[str] = []
    for member in members:
        if member.key in wanted:
            value = _edit(text, member.node, wanted[member.key], style, inner)
            before = member.lead if parts else members[0].lead
            parts.append(before + member.head + value + ("" if member is members[-1] else member.trail))
    for key, value in wanted.items():
        if key not in node.value:
            before = members[0].lead if members and not parts else lead
            parts.append(f"{before}{json.dumps(key, ensure_ascii=False)}: {_dump(value, style, inner)}")
    tail = node.tail if members else f"\n{margin}" if unit else " "
    return "{" + ",".join(parts) + tail + "}"


def render(text: str, node: Node, wanted: Mapping[str, Any]) -> str:
    """The whole file with the wanted content, in the style that it has."""
    if node.start == node.end:
        return _dump(dict(wanted), "  ", "") + "\n"
    lead = node.members[0].lead if node.members else "\n  "
    unit = lead.rpartition("\n")[2] if "\n" in lead else ""
    return text[: node.start] + _edit(text, node, dict(wanted), unit, "") + text[node.end :]


def _reloads(key: str, before: Any, after: Any, gone: bool) -> bool:
    if key == "features":
        old, new = (value if isinstance(value, dict) else {} for value in (before, after))
        return all(name in RELOADED_FEATURES for name in {*old, *new} if old.get(name) != new.get(name))
    return key in (RESET if gone else RELOADED)


def _without(key: str, value: Any, absent: Sequence[str]) -> Any:
    """An object without its keys that are named in `absent` as object.key."""
    gone = {name.partition(".")[2] for name in absent if name.startswith(f"{key}.")}
    return {name: one for name, one in value.items() if name not in gone} if gone and isinstance(value, dict) else value


def plan(text: str, settings: Mapping[str, Any], absent: Sequence[str], path: str) -> Plan:
    """What becomes of the file."""
    both = sorted(set(settings) & set(absent))
    if both:
        raise GpusteadError(
            f"key {both[0]!r} is in settings and in absent", "it in one of them", "Take it out of the other."
        )
    node = parse(text, path)
    current: dict[str, Any] = node.value
    wanted = {key: _without(key, value, absent) for key, value in merge(current, settings).items() if key not in absent}
    for key in wanted:
        if key in LEGACY:
            raise GpusteadError(
                f"{path} {_where(text, node, key)}key {key!r}",
                "no key that dockerd no longer knows",
                f"{LEGACY[key]}; Docker was left as it is.",
            )
    if any(has_credentials(str(mirror)) for mirror in wanted.get("registry-mirrors") or ()):
        raise GpusteadError(
            "a registry mirror has a user or password in its URL (not shown)",
            "mirrors without: dockerd does not start with them",
            "Let the mirror admit the hosts by their addresses; Docker was left as it is.",
        )
    names = [*current, *(key for key in wanted if key not in current)]
    changed = [
        key for key in names if (key in current) != (key in wanted) or not same(current.get(key), wanted.get(key))
    ]
    reloads = [key for key in changed if _reloads(key, current.get(key), wanted.get(key), key not in wanted)]
    return Plan(
        before=text,
        after=render(text, node, wanted) if changed else text,
        changed_keys=tuple(changed),
        reload_required=bool(reloads),
        restart_required=len(reloads) < len(changed),
        wanted=wanted,
    )


def _where(text: str, node: Node, key: str) -> str:
    for member in node.members:
        if member.key == key:
            at = member.node.start - len(member.head)
            return f"line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}: "
    return ""


_NAMED = re.compile(rf'("[^"]*(?:{SECRET_NAME})[^"]*"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE)


def shown(text: str) -> str:
    """The text without its passwords and tokens, as those of proxies and log drivers: for a diff."""
    return masked(_NAMED.sub(r'\1"***"', text))


def _lines(unit: str) -> list[str]:
    joined = re.sub(r"\\\n", " ", unit)
    return [line.strip() for line in joined.splitlines() if line.strip() and line.strip()[0] not in "#;"]


def _environment(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in _lines(text) if "=" in line)
    return {name.strip(): " ".join(_words(value)) for name, _, value in pairs}


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
            name, _, value = (part.strip() for part in line.partition("="))
            if name == "ExecStart":
                command = [(path, word) for word in _words(value)]
            elif name == "Environment":
                pairs = (setting.partition("=") for setting in _words(value))
                variables.update({variable: (path, text) for variable, _, text in pairs})
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


def docker_flags(run: Run, read: Read) -> tuple[Flag, ...]:
    """What systemd would start dockerd with; nothing where there is no such unit."""
    rc, out, _ = run(["systemctl", "show", "docker.service", "-p", "FragmentPath", "-p", "DropInPaths"])
    values = dict(line.partition("=")[::2] for line in out.splitlines())
    if rc != 0 or not values.get("FragmentPath"):
        return ()
    return flags([values["FragmentPath"], *values.get("DropInPaths", "").split()], read)


def check_flags(keys: Sequence[str], given: Sequence[Flag], path: str) -> None:
    """Refuse a key that dockerd also gets as an option: it would not start."""
    for flag in given:
        if flag.key in keys:
            raise GpusteadError(
                f"{flag.path} starts dockerd with {shown(flag.text)!r}, and {path} is to hold {flag.key!r}",
                "it in one of the two: dockerd does not start with both",
                f"Remove the option from {flag.path} and run systemctl daemon-reload.",
            )


def running(info: Mapping[str, Any]) -> dict[str, Any]:
    """What `docker info` tells of the settings with which the daemon runs, in the words of daemon.json."""
    registries = info.get("RegistryConfig") or {}
    insecure = {name for name, index in (registries.get("IndexConfigs") or {}).items() if not index.get("Secure", True)}
    insecure |= set(registries.get("InsecureRegistryCIDRs") or []) - OWN_INSECURE
    return {
        "insecure-registries": sorted(insecure),
        "live-restore": info.get("LiveRestoreEnabled"),
        "log-driver": info.get("LoggingDriver"),
        "registry-mirrors": sorted(registries.get("Mirrors") or []),
    }


def ought(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same, as it would be told with these settings."""
    return {
        "insecure-registries": sorted({_registry(name) for name in settings.get("insecure-registries") or []}),
        "live-restore": settings.get("live-restore", False),
        "log-driver": settings.get("log-driver", "json-file"),
        "registry-mirrors": sorted({f"{mirror.rstrip('/')}/" for mirror in settings.get("registry-mirrors") or []}),
    }


def _registry(name: str) -> str:
    name = name.rpartition("://")[2]
    try:
        return str(ipaddress.ip_network(name, strict=False)) if "/" in name else name
    except ValueError:
        return name


def not_taken_over(plan: Plan, info: Mapping[str, Any], given: Sequence[Flag]) -> tuple[str, ...]:
    """The keys with which Docker does not run as its file says, although the file needs no change in them.

    Somebody put the file back, or a run was killed before Docker read it.
    """
    if not info:
        return ()
    there, wanted = running(info), ought(plan.wanted)
    elsewhere = {*plan.changed_keys, *(flag.key for flag in given)}
    return tuple(key for key in wanted if there[key] != wanted[key] and key not in elsewhere)


def reloadable(plan: Plan, keys: Sequence[str]) -> tuple[str, ...]:
    """Those that a reload takes over. It keeps what was set before of a key that the file does not have."""
    return tuple(key for key in keys if key in RELOADED and key in plan.wanted)


def docker_info(run: Run) -> dict[str, Any]:
    """What the daemon says of itself; nothing where none runs. The question must not start one."""
    if run(["systemctl", "is-active", "docker.service"])[0]:
        return {}
    code, out, _ = run(["timeout", "30", "docker", "info", "--format", "{{json .}}"])
    try:
        info = json.loads(out) if code == 0 else {}
    except ValueError:
        return {}
    return info if isinstance(info, dict) and "LoggingDriver" in info else {}


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
