# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Other descriptions of a repository that apt is given anew: apt refuses one repository with two keys.

Whole files are put aside; of files with other entries just the lines, or the stanzas, are commented out.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

_SOURCES = ("etc/apt", "etc/apt/sources.list.d")
_KEYS = ("etc/apt/trusted.gpg.d", "usr/share/keyrings")
ASIDE = ".bak"  # which apt passes over
_MAIN = "sources.list"  # apt's own stays, whatever is in it
_ENTRY = r"\s*deb(-src)?\s"


@dataclass(frozen=True)
class Plan:
    """What is in the way.

    Attributes:
        aside: files that are put aside as they are.
        commented: files in which lines are commented out, with their text afterwards.
    """

    aside: list[str]
    commented: dict[str, str]


def plan(files: Mapping[str, str], keys: Sequence[str], pattern: str) -> Plan:
    """What becomes of apt's files.

    Args:
        files: texts of lists (``*.list``) and descriptions (``*.sources``), by path.
        keys: files with keys of the repository.
        pattern: regular expression that its URLs match.
    """
    uses = re.compile(rf"[^#]*(?:{pattern})")
    aside, commented = [], {}
    for path, text in files.items():
        entries = (_lines if path.endswith(".list") else _stanzas)(text)
        if not any(uses.match(line) for _is_entry, lines in entries for line in lines):
            continue
        ours = [entry for entry in entries if entry[0] and any(map(uses.match, entry[1]))]
        if path.endswith(f"/{_MAIN}") or any(entry[0] and entry not in ours for entry in entries):
            lines = [f"# {line}" if entry in ours else line for entry in entries for line in entry[1]]
            commented[path] = "".join(lines)
        else:
            aside.append(path)
    return Plan([*aside, *keys], {path: text for path, text in commented.items() if text != files[path]})


def _lines(text: str) -> list[tuple[bool, list[str]]]:
    """The lines of a list, and whether each is an entry."""
    return [(bool(re.match(_ENTRY, line)), [line]) for line in text.splitlines(keepends=True)]


def _stanzas(text: str) -> list[tuple[bool, list[str]]]:
    """The stanzas of descriptions in deb822, parted by empty lines, and whether each describes something."""
    found: list[tuple[bool, list[str]]] = []
    for is_text, lines in groupby(text.splitlines(keepends=True), lambda line: bool(line.strip())):
        stanza = list(lines)
        found.append((is_text and any(not line.startswith("#") for line in stanza), stanza))
    return found


def observe(own: str, names: Sequence[str], root: Path = Path("/")) -> tuple[dict[str, str], list[str]]:
    """The texts of apt's lists and descriptions but for our own, by path, and the keys of these names.

    Args:
        own: path of the description that is to stay.
        names: shell patterns of the keys' names.
        root: stands before each path that is looked at.
    """
    files = [path for path in _regular(root, _SOURCES, ("*.list", "*.sources")) if path.name != Path(own).name]
    keys = [path for path in _regular(root, _KEYS, names) if path.suffix != ASIDE]
    return {str(path): path.read_text(errors="surrogateescape") for path in files}, [str(path) for path in keys]


def _regular(root: Path, folders: Sequence[str], patterns: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        found = {path for pattern in patterns for path in (root / folder).glob(pattern)}
        yield from (path for path in sorted(found) if stat.S_ISREG(path.lstat().st_mode))
