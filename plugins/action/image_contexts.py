# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring files of the controller to the builder; documented in plugins/modules/image_contexts.py."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_contexts import KEPT_MODE

MODULE = "gpustead.cluster.image_contexts"
ARGUMENTS = {
    "directory": {"type": "path", "required": True},
    "known": {"type": "bool", "default": False},
    "contexts": {"type": "list", "elements": "dict", "default": []},
    "files": {"type": "list", "elements": "dict", "default": []},
    "keep": {"type": "list", "elements": "path", "default": []},
}


@dataclass
class Brought:
    """What the controller has, by its path on the builder: files with their own path and mode."""

    files: dict[str, tuple[str, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        _first, args = self.validate_argument_spec(ARGUMENTS)
        result: dict[str, Any] = super().run(tmp, task_vars)
        brought = Brought()
        for context in args["contexts"]:
            self._collect(context["source"], context["destination"], brought)
        for one in args["files"]:
            brought.files[one["destination"]] = self._real(self._find_needle("files", one["source"])), 0o644
        asked = {name: args[name] for name in ("directory", "known", "keep")}
        asked |= {"links": brought.links, "directories": brought.directories}
        asked["files"] = [
            {"path": path, "digest": _digest(source), "mode": mode} for path, (source, mode) in brought.files.items()
        ]
        answer = self._on_host(asked, task_vars)
        if not answer.get("failed") and answer["missing"] and not self._task.check_mode:
            sources = [brought.files[path][0] for path in answer["missing"]]
            answer = self._on_host({**asked, "archive": self._send(sources)}, task_vars)
        return {**result, **answer}

    def _on_host(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        return answer

    def _collect(self, source: str, destination: str, brought: Brought) -> None:
        """All that is in a directory. A link to a file in there is that file, another one a link, as Docker has it."""
        top = self._find_needle("files", source.rstrip("/"))
        brought.directories.append(destination)
        for folder, folders, names in os.walk(top):
            place = os.path.normpath(os.path.join(destination, os.path.relpath(folder, top)))
            for name in sorted((*folders, *names)):
                path, goal = os.path.join(folder, name), os.path.join(place, name)
                if os.path.isfile(path) and _lies_in(path, top):
                    real = os.path.realpath(path)
                    brought.files[goal] = self._real(real), stat.S_IMODE(os.stat(real).st_mode) & KEPT_MODE
                elif os.path.islink(path):
                    brought.links[goal] = os.readlink(path)
                elif os.path.isdir(path):
                    brought.directories.append(goal)

    def _real(self, path: str) -> str:
        """Where the content of a file stands in clear, should it be vaulted."""
        real: str = self._loader.get_real_file(path)
        return real

    def _send(self, sources: Sequence[str]) -> str:
        """Has files on the host in one archive, each named by its number; returns where."""
        if self._connection._shell.tmpdir is None:
            self._make_tmp_path()
        there: str = self._connection._shell.join_path(self._connection._shell.tmpdir, "contexts.tar")
        with tempfile.NamedTemporaryFile(dir=constants.DEFAULT_LOCAL_TMP, suffix=".tar") as here:
            _pack(here.name, sources)
            self._transfer_file(here.name, there)
        self._fixup_perms2((self._connection._shell.tmpdir, there))
        return there


def _lies_in(path: str, top: str) -> bool:
    """Whether a file of a context lies in there. What others wrote may lead to the controller's keys, and everybody who
    has the image would have them."""
    return os.path.commonpath([os.path.realpath(path), os.path.realpath(top)]) == os.path.realpath(top)


def _pack(archive: str, sources: Iterable[str]) -> None:
    with tarfile.open(archive, "w", dereference=True) as opened:
        for number, source in enumerate(sources):
            opened.add(source, arcname=str(number))


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
