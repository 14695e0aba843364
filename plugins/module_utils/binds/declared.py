# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Root's files: the sets of places that are declared for the next boot, and the places that stay covered."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind, parse
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

DECLARED = "/etc/gpustead/binds.d"
VERSION = 1
_COVERED = "covered"  # root's list of places that containers have written


def write(name: str, binds: Sequence[Bind], check: bool = False, *, declared: str = DECLARED) -> bool:
    """Declare a set for the next boot; returns whether it was another one. No binds: no file."""
    path = os.path.join(declared, f"{name}.json")
    text = json.dumps({"version": VERSION, "binds": [asdict(bind) for bind in binds]}, indent=1, sort_keys=True) + "\n"
    try:
        with open(path, encoding="utf-8") as file:
            before: str | None = file.read()
    except FileNotFoundError:
        before = None
    if before == (text if binds else None):
        return False
    if not check:
        os.makedirs(declared, 0o755, exist_ok=True)
        os.chmod(declared, 0o700)
        folder = os.open(declared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if binds:
                as_account.put(folder, f"{name}.json", text.encode(), 0o600)
            else:
                os.unlink(f"{name}.json", dir_fd=folder)
        finally:
            os.close(folder)
    return True


def read(declared: str = DECLARED, damaged: bool = False) -> dict[str, list[Bind]]:
    """All sets that are declared; raises GpusteadError for a damaged file, unless these are to be left out."""
    found: dict[str, list[Bind]] = {}
    for entry in sorted(os.listdir(declared)) if os.path.isdir(declared) else []:
        if not entry.endswith(".json"):
            continue
        path = os.path.join(declared, entry)
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            if document["version"] != VERSION:
                raise ValueError(f"version {document['version']!r}")
            found[entry[: -len(".json")]] = [parse(raw) for raw in document["binds"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if damaged:
                continue
            raise GpusteadError(f"{path} is damaged ({error})", "what its role wrote", "Run site.yml.") from error
    return found


def covered(declared: str = DECLARED) -> frozenset[str]:
    """The places that containers were let write to. Setuid programs may lie there, so each is covered at every boot,
    declared or not, until somebody has looked and takes it off (`uncover`)."""
    try:
        with open(os.path.join(declared, _COVERED), encoding="utf-8") as file:
            return frozenset(json.load(file)["places"])
    except FileNotFoundError:
        return frozenset()
    except (ValueError, KeyError, TypeError) as error:
        what = f"{os.path.join(declared, _COVERED)} is damaged ({error})"
        raise GpusteadError(what, "a list of places", "Remove it, and run site.yml.") from error


def write_covered(places: Iterable[str], declared: str) -> None:
    os.makedirs(declared, 0o700, exist_ok=True)
    folder = os.open(declared, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        as_account.put(folder, _COVERED, (json.dumps({"places": sorted(places)}) + "\n").encode(), 0o600)
    finally:
        os.close(folder)


def kept(binds: Iterable[Bind], declared: str = DECLARED) -> list[Bind]:
    """Places that are covered although containers are not to write there any more."""
    left = covered(declared) - {bind.source for bind in binds if bind.cover}
    return [Bind("kept", "/", path.lstrip("/"), cover=True) for path in sorted(left)]


def uncover(path: str, declared: str = DECLARED) -> None:
    """Take a place off the list; its cover goes with the next boot. Raises GpusteadError where it is none of it."""
    there = covered(declared)
    if path not in there:
        raise GpusteadError(f"{path} is not kept covered", f"one of {', '.join(sorted(there)) or 'none'}", "Name one.")
    write_covered(there - {path}, declared)
