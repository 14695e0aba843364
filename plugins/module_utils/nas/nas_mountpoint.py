# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The bare directory beneath a mount: seen, and closed to writing, whether or not something is mounted on it."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

# In a mount namespace of its own, the parent is bound to /run without what is mounted in it: there the bare
# directory is in sight, nobody else notices, and a NAS that hangs is not touched.
_BENEATH = 'mount --bind -- "$1" /run && cd /run && shift && exec "$@"'


@dataclass(frozen=True)
class Bare:
    """The bare directory: `mode` in octal as stat prints it, empty where there is none."""

    mode: str
    immutable: bool = False
    entries: int = 0

    @property
    def protected(self) -> bool:
        # Mode 0 is what remains where the file system has no immutable flag.
        return self.immutable or self.mode == "0"


class Mountpoint:
    def __init__(self, path: str, run: Run) -> None:
        if not posixpath.isabs(path) or posixpath.normpath(path) != path or path == "/":
            raise GpusteadError(f"mountpoint {path!r}", "an absolute path without a trailing slash", "Correct it.")
        self.path = path
        self.parent, self.name = posixpath.split(path)
        self._run = run

    def beneath(self, *argv: str) -> tuple[int, str, str]:
        return self._run(["unshare", "--mount", "sh", "-c", _BENEATH, "sh", self.parent, *argv])

    def _must(self, *argv: str) -> str:
        return must(lambda command: self.beneath(*command), argv, remedy=f"Run it in {self.parent}, see what it says.")

    def observe(self) -> Bare:
        # The parent, too, may not be there yet.
        if self._run(["test", "-d", self.parent])[0] or self.beneath("test", "-e", self.name)[0]:
            return Bare("")
        mode, kind = self._must("stat", "-c", "%a %F", "--", self.name).split(" ", 1)
        if kind.strip() != "directory":
            raise GpusteadError(f"mountpoint {self.path}", "a directory", f"It is a {kind.strip()}: move it away.")
        code, out, _err = self.beneath("lsattr", "-d", "--", self.name)
        entries = len(self._must("find", self.name, "-mindepth", "1", "-maxdepth", "1", "-printf", "x"))
        return Bare(mode, code == 0 and "i" in out.split()[0], entries)

    def protect(self, bare: Bare) -> Bare:
        """Make the bare directory refuse writes, root's too where the file system can do that."""
        if not bare.mode:
            if self._run(["test", "-d", self.parent])[0]:  # whatever the umask, accounts have to get to the share
                self._run(["install", "-d", "-m", "0755", "--", self.parent])
            self._must("mkdir", "-m", "0755", "--", self.name)
        elif bare.entries:
            # What lies there is not what accounts are to find, and setuid programs may be among it.
            self._must("chown", "root:root", "--", self.name)
            self._must("chmod", "0700", "--", self.name)
        if self.beneath("chattr", "+i", "--", self.name)[0]:
            self._must("chown", "root:root", "--", self.name)
            self._must("chmod", "0000", "--", self.name)
        return self.observe()
