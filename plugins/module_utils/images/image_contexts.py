# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Dockerfiles take from, on the builder: what the controller has and nothing else, in directories of the role's.

A file that should not be there would count as part of a layer.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# What the role has in the builder's directory, and the file that says so.
OWN = ("stack", "sources", "wheelhouse")
MARK = ".gpustead-images"
# Permissions that a file keeps. It becomes root's on the builder and in the image: with its own setuid bit it would be
# everybody's way to root, and what others may write, everybody's way into the image.
KEPT_MODE = 0o755


@dataclass(frozen=True)
class File:
    """A file by the digest (sha256) of what it holds, and its permission bits."""

    digest: str
    mode: int


@dataclass(frozen=True)
class Desired:
    """What is to be there.

    Attributes:
        directory: the builder's, in which the role has its own.
        known: whether a receipt says that the role made these.
        files, links, directories: by their paths, all below the role's own; links with where they lead.
        keep: further paths there that somebody else brings.
    """

    directory: str
    known: bool
    files: Mapping[str, File] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Sequence[str] = ()
    keep: Sequence[str] = ()

    @property
    def own(self) -> list[str]:
        return [f"{self.directory}/{name}" for name in OWN]

    @property
    def folders(self) -> list[str]:
        """All directories below the role's own, those above before those in them."""
        paths = [*self.directories, *map(os.path.dirname, (*self.files, *self.links, *self.keep))]
        found = {above for path in paths for above in _way(path, self.own)}
        return sorted(found - {*self.own})


@dataclass(frozen=True)
class Observed:
    """What differs.

    Attributes:
        missing: files that are not there, or hold something else.
        strays: what should not be there, each directory as a whole.
    """

    missing: tuple[str, ...]
    strays: tuple[str, ...]


def observe(desired: Desired) -> Observed:
    """Look at the builder, where only root can change the way to the directories (`tops`).

    Raises:
        GpusteadError: directories by these names are there that the role did not make.
    """
    mark = os.path.join(desired.directory, MARK)
    theirs = [path for path in desired.own if os.path.lexists(path)]
    if theirs and not desired.known and not os.path.lexists(mark):
        what = f"{' and '.join(theirs)}, which role images did not make: it would remove there what is not of a layer"
        remedy = "Set images_build_dir to a directory that is empty or not there, move that away, or, if the role made"
        raise GpusteadError(what, "directories of its own", f"{remedy} it, make the file {mark}.")
    missing = tuple(path for path, file in desired.files.items() if _digest(path) != file.digest)
    return Observed(missing, tuple(_strays(desired)))


def tops(desired: Desired) -> list[dict[str, Any]]:
    """The role's own directories and the mark, as fields of entries of module host_files."""
    mark = {"path": os.path.join(desired.directory, MARK), "state": "file", "mode": 0o644, "content": _mark().encode()}
    return [
        {"path": desired.directory, "state": "directory", "mode": 0o755},
        mark,  # before the others: a run may be killed
        *({"path": path, "state": "directory", "mode": 0o755} for path in desired.own),
    ]


def entries(desired: Desired, contents: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """What is to be made, as fields of entries of module host_files.

    Of the files those for which there are contents, and those that are there and may only have another mode.
    """
    return [
        *tops(desired),
        *({"path": path, "state": "directory", "mode": 0o755, "once": True} for path in desired.folders),
        *(
            {"path": path, "state": "file", "mode": file.mode, "content": contents.get(path)}
            for path, file in desired.files.items()
            if path in contents or os.path.isfile(path)
        ),
    ]


def verify(desired: Desired, found: Observed, contents: Mapping[str, bytes]) -> None:
    """Raise GpusteadError where a content that was brought is not the one that was asked for."""
    for path in found.missing:
        if hashlib.sha256(contents.get(path, b"")).hexdigest() != desired.files[path].digest:
            raise GpusteadError(f"{path} was changed while it was copied", "it to stay", "Run again.")


def remove(found: Observed) -> None:
    """Remove what should not be there."""
    for path in found.strays:
        shutil.rmtree(path) if _kind(path) == "directory" else os.unlink(path)


def link(desired: Desired) -> None:
    """Make the links that are not there."""
    for path, target in desired.links.items():
        if not os.path.lexists(path):
            os.symlink(target, path)


def _mark() -> str:
    return (
        f"Written by role images of gpustead.cluster: {', '.join(OWN)} beside this file are its own.\n"
        "What does not belong to a layer of images_stack is removed there.\n"
    )


def _way(path: str, own: Sequence[str]) -> Iterator[str]:
    """A directory, and those above it up to one of the role's own."""
    top = next((one for one in own if path == one or path.startswith(f"{one}/")), None)
    if top is None:
        raise GpusteadError(f"{path} is in none of {', '.join(own)}", "it to be", "Report this.")
    while path != top:
        yield path
        path = os.path.dirname(path)
    yield top


def _kind(path: str) -> str:
    """Of what is there: directory, file, link, or other."""
    mode = stat.S_IFMT(os.lstat(path).st_mode)
    return {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "link"}.get(mode, "other")


def _digest(path: str) -> str:
    """Of a regular file; empty where there is none."""
    if not os.path.lexists(path) or _kind(path) != "file":
        return ""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _strays(desired: Desired) -> Iterator[str]:
    """What is not declared, or of another kind; of a directory not also what is in it."""
    kinds = dict.fromkeys((*desired.files, *desired.keep), "file") | dict.fromkeys(desired.links, "link")
    kinds |= dict.fromkeys(desired.folders, "directory")
    for top in desired.own:
        for folder, folders, files in os.walk(top):
            for name in sorted((*folders, *files)):
                path = os.path.join(folder, name)
                is_right = kinds.get(path) == _kind(path)
                if path in desired.links:
                    is_right = is_right and os.readlink(path) == desired.links[path]
                if not is_right:
                    yield path
            folders[:] = [name for name in folders if kinds.get(os.path.join(folder, name)) == "directory"]
