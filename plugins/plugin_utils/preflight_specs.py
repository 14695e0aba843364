# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a value by its argument spec, in words, with the part of it that is wrong.

Ansible's validator says whether a text or a number will do. It also takes a text for a list, or a list for a text, and
changes them; roles see values as they are written, so these are refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import is_secret, masked
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.names import did_you_mean
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_places import is_vaulted
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import COLLECTION

Spec = Mapping[str, Any]
_KINDS = {
    "str": "a text",
    "path": "a path",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "list": "a list",
    "dict": "a dictionary",
}
# Roles read these names of an entry to tell it from the others.
_TITLES = ("name", "owner", "path")
_LONGEST = 80


@dataclass(frozen=True)
class Mistake:
    """What is wrong, what to do, and the key or value that it is.

    Attributes:
        unusable: nothing that reads the whole value can make sense of it.
    """

    what: str
    remedy: str
    spot: Any = None
    unusable: bool = False


@cache
def load(root: Path = COLLECTION) -> dict[str, dict[str, Spec]]:
    """The options of each role, and below "" those that are of no role.

    No role refuses an account for a key that another reads: all keys stand in the spec of cluster_users, and hold for
    every list of accounts.
    """

    def options(path: Path, *entries: str) -> dict[str, Spec]:
        specs = yaml_load(path.read_text(encoding="utf-8"))["argument_specs"]
        return {name: spec for entry in entries for name, spec in specs[entry].get("options", {}).items()}

    shared = options(root / "meta" / "argument_specs.yml", "main")
    of_run = options(root / "meta" / "argument_specs.yml", "run")
    shared |= {name: {**spec, "of_run": True} for name, spec in of_run.items()}
    accounts = shared["cluster_users"]

    def whole(name: str, spec: Spec) -> Spec:
        return {**accounts, **spec} if name.endswith("_users") and spec.get("elements") == "dict" else spec

    roles = {
        path.parents[1].name: options(path, "main") for path in sorted(root.glob("roles/*/meta/argument_specs.yml"))
    }
    return {"": shared, **{role: {name: whole(name, of[name]) for name in of} for role, of in roles.items()}}


def findings(name: str, spec: Spec, value: Any, secret: bool = False) -> Iterator[Mistake]:
    """All that is wrong with the value of an option. What is secret is not shown."""
    if value is None:
        yield Mistake("is empty", "Give it a value, or take the line away.", unusable=True)
    else:
        yield from _walk("", name, spec, value, secret)


def _walk(where: str, name: str, spec: Spec, value: Any, secret: bool) -> Iterator[Mistake]:
    """`where` is the part of the option that the value is, with a blank behind it; the whole option: nothing."""
    secret = secret or bool(spec.get("no_log")) or is_secret(name, None) or is_vaulted(value)
    kind = spec.get("type", "str")
    shown = hidden(value) if secret else show(value)
    if not _is_kind(kind, value, spec):
        remedy = f"Write it as {_KINDS[kind]}{_example(kind, value)}."
        yield Mistake(f"{where}is {shown}, not {_KINDS[kind]}", remedy, value, unusable=True)
    elif kind == "list":
        element = {**spec, "type": spec.get("elements", "raw")}
        for number, entry in enumerate(value, 1):
            title = _title(entry) or f"entry {number}"
            inside = f"{title} " if not where else f"{title} of {where}"
            yield from _walk(inside, "", element, entry, secret)
    elif kind == "dict":
        yield from _keys(where, spec, value, secret)
    elif "choices" in spec and value not in spec["choices"]:
        choices = [str(choice) for choice in spec["choices"]]
        remedy = did_you_mean(str(value), choices, "Choose one of these.")
        yield Mistake(f"{where}is {shown}, none of {', '.join(choices)}", remedy, value)


def _keys(where: str, spec: Spec, value: Mapping[str, Any], secret: bool) -> Iterator[Mistake]:
    options = spec.get("options") or {}
    if not options:
        return
    for key in value:
        if key not in options:
            remedy = did_you_mean(str(key), options, "Take it away.")
            what = f"{where}has the key {show(str(key))}, known are {', '.join(options)}"
            yield Mistake(what, remedy, key)
    for key, inner in options.items():
        if inner.get("required") and value.get(key) is None:
            yield Mistake(f"{where}has no {key}", f"Give it one: {key}.", value, unusable=True)
        elif value.get(key) is not None:
            inside = f"{key} of {where}" if where else f"{key} "
            yield from _walk(inside, key, inner, value[key], secret)


def _is_kind(kind: str, value: Any, spec: Spec) -> bool:
    if kind in ("raw", "list", "dict"):
        return kind == "raw" or isinstance(value, (list, tuple) if kind == "list" else Mapping)
    if isinstance(value, (list, tuple, Mapping)):
        return False
    # YAML has made true of yes and 2.1 of 2.10.
    if kind in ("str", "path"):
        return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))
    # A text is true in a condition, whatever it says. What single runs are given on the command line is made one there.
    if isinstance(value, bool) or (kind == "bool" and not spec.get("of_run")):
        return isinstance(value, bool) and kind == "bool"
    return not ArgumentSpecValidator({"value": {"type": kind}}).validate({"value": value}).error_messages


def _example(kind: str, value: Any) -> str:
    if kind in ("str", "path") and not isinstance(value, (list, tuple, Mapping)):
        return ", in quotes"
    if kind == "list" and not isinstance(value, Mapping):
        return ": [...]"
    if kind == "bool" and isinstance(value, str):
        return ", without quotes; in an INI file with a capital letter, with -e as JSON"
    return ""


def _title(entry: Any) -> str:
    found = (entry.get(key) for key in _TITLES) if isinstance(entry, Mapping) else ()
    return next((str(title) for title in found if isinstance(title, str) and title), "")


def show(value: Any) -> str:
    """A value as a person wrote it; of what has parts only what it is."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, Mapping):
        return "a dictionary" if value else "an empty dictionary"
    text = masked(repr(str(value) if isinstance(value, str) else value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def hidden(value: Any) -> str:
    """What kind of value it is, and nothing of it."""
    kinds = {bool: "bool", int: "int", float: "float", str: "str", list: "list", Mapping: "dict"}
    kind = next((name for of, name in kinds.items() if isinstance(value, of)), "")
    return f"{_KINDS.get(kind, 'something else')} (not shown)"
