# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one error of the library: what is wrong, what was expected, what to do; and the system's errors as one."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_LONGEST = 4000  # characters of each part: the last words of a build are some lines


class GpusteadError(Exception):
    """A problem that the person who runs the playbook can solve.

    Args:
        what: the thing and its value, for example ``uid 1500 belongs to 'bob'``.
        expected: what should have been there.
        remedy: what to do next, one sentence.

    All of them may quote what an account or a container made up, so each is one line without control characters.
    """

    def __init__(self, what: str, expected: str, remedy: str) -> None:
        self.what, self.expected, self.remedy = (shown(text, _LONGEST) for text in (what, expected, remedy))
        super().__init__(f"{self.what}: expected {self.expected}. {self.remedy}")


@dataclass(frozen=True)
class Refusal:
    """One of several things that is left as it is, while the others are done; `name` is which."""

    name: str
    what: str
    expected: str
    remedy: str

    @classmethod
    def of(cls, name: str, error: GpusteadError) -> Refusal:
        return cls(name, error.what, error.expected, error.remedy)

    def __str__(self) -> str:
        return f"{self.what}: expected {self.expected}. {self.remedy}"


_REMEDIES = {
    errno.EACCES: "It needs root: set become.",
    errno.EPERM: "It needs root: set become. Root is refused, too, where the file is immutable (lsattr).",
    errno.ENOSPC: "The file system is full, or has no inodes left: see df and df -i, make room there, and run again.",
    errno.EDQUOT: "The quota there is used up: make room, or raise it, and run again.",
    errno.EROFS: "It is mounted read-only: see in dmesg why, and mount it anew.",
    errno.EIO: "The disk fails, or the share is gone: see dmesg.",
    errno.ESTALE: "The share was exported anew: mount it again.",
    errno.EMFILE: "Too many files are open: see what holds them.",
    errno.ENFILE: "Too many files are open on the host: see what holds them.",
    errno.ENOMEM: "The memory is used up: see what takes it.",
}


def of_system(error: OSError, doing: str, remedy: str = "See what lies there.") -> GpusteadError:
    """What the system said, as an error with what really is to be done.

    Args:
        error: the system's.
        doing: what was being done, for example ``the receipts in /var/lib/gpustead``.
        remedy: where the error is none that says by itself what to do.
    """
    name = f" ({error.filename})" if error.filename and str(error.filename) not in doing else ""
    said = f"{doing}: {error.strerror or error}{name}"
    return GpusteadError(said, "it to work", _REMEDIES.get(error.errno or 0, remedy))
