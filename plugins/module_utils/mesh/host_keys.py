# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which host keys an authority has certified, and which it has revoked: on the controller, beside its private key.

A node that is dead cannot be asked for its key any more, and one that is hostile would name another's. So the
controller keeps what it signs, `<authority>.hosts/<node>`, a line for each key. What was revoked stands in
`<authority>.revoked`, as lines of known_hosts, and nodes that were removed in `<authority>.removed`.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")
_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}\Z")


@dataclass(frozen=True)
class HostKeys:
    """Of one authority.

    Attributes:
        authority: path of its private key.
    """

    authority: Path

    @property
    def revoked_file(self) -> Path:
        return self.authority.with_name(f"{self.authority.name}.revoked")

    @property
    def removed_file(self) -> Path:
        return self.authority.with_name(f"{self.authority.name}.removed")

    def certified(self, node: str) -> list[str]:
        """The keys of a node, each as type and key."""
        return _lines(self._of(node))

    def note(self, node: str, public: str) -> None:
        """Note that a key is a node's, before it is certified.

        Raises:
            GpusteadError: it is no such key, was revoked, or is another node's.
        """
        key = key_of(public)
        known = self.certified(node)
        if key in self.revoked():
            what = f"{node} has a host key that was revoked"
            remedy = f"Have it make another: on {node}, remove the files ssh_host_ed25519_key* of the mesh. Run again."
            raise GpusteadError(what, "one of its own that is good", remedy)
        if key in known:
            return
        others = [path.name for path in self._nodes() if path.name != node and key in _lines(path)]
        if others:
            what = f"{node} has the host key of {', '.join(others)}"
            remedy = (
                f"One disk was copied from another: on {node}, remove ssh_host_ed25519_key* of the mesh, and run again."
            )
            raise GpusteadError(what, "one of its own", remedy)
        self._of(node).parent.mkdir(mode=0o700, exist_ok=True)
        _write(self._of(node), [*known, key])

    def revoked(self) -> list[str]:
        """The keys that were revoked."""
        return [" ".join(line.split()[2:4]) for line in _lines(self.revoked_file)]

    def revoked_of(self, node: str) -> list[str]:
        """Those of a node."""
        return [line for line in _lines(self.revoked_file) if line.split()[4:5] == [node]]

    def revoked_lines(self) -> str:
        """The same as lines of known_hosts."""
        return "".join(f"{line}\n" for line in _lines(self.revoked_file))

    def revoke(self, node: str, others: str = "") -> list[str]:
        """Revoke all keys of a node; returns those that are new.

        Args:
            others: lines with keys that it shows itself, which count where nothing was noted of it.
        """
        shows = [line for line in map(_key_or_none, others.splitlines()) if line]
        keys = self.certified(node) or [key for key in shows if not self._is_anothers(node, key)]
        before = self.revoked()
        new = [key for key in dict.fromkeys(keys) if key not in before]
        if new:
            _write(self.revoked_file, [*_lines(self.revoked_file), *(f"@revoked * {key} {node}" for key in new)])
        with contextlib.suppress(FileNotFoundError):
            self._of(node).unlink()
        return new

    def removed(self) -> dict[str, str]:
        """When and by whom nodes were removed, by their names."""
        return {line.split()[0]: shown(line.partition(" ")[2]) for line in _lines(self.removed_file)}

    def remove(self, node: str, words: str) -> bool:
        """Note that a node was removed, in words; returns whether that is new."""
        if node in self.removed():
            return False
        _write(self.removed_file, [*_lines(self.removed_file), f"{node} {shown(words)}"])
        return True

    def _of(self, node: str) -> Path:
        if not _NAME.match(node):
            raise GpusteadError(f"name {node!r}", "one of letters, digits, dots, dashes and underscores", "Rename it.")
        return self.authority.with_name(f"{self.authority.name}.hosts") / node

    def _nodes(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from sorted(self._of("x").parent.iterdir())

    def _is_anothers(self, node: str, key: str) -> bool:
        return any(key in _lines(path) for path in self._nodes() if path.name != node)


def key_of(public: str) -> str:
    """Type and key of a line of a .pub file, without its comment. Raises GpusteadError for another kind."""
    key = _key_or_none(public)
    if key is None:
        raise GpusteadError(f"host key {shown(public, 80)!r}", "an Ed25519 key", "Remove it: the next run makes one.")
    return key


def _key_or_none(line: str) -> str | None:
    key = " ".join(line.split()[:2])
    return key if _KEY.match(key) else None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and line[0] != "#"]
    except FileNotFoundError:
        return []


def _write(path: Path, lines: list[str]) -> None:
    replace_whole(path, "".join(f"{line}\n" for line in lines))


def replace_whole(path: Path, text: str) -> None:
    """Write a file on the controller as a whole, or not."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
