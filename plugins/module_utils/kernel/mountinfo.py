# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kernel's list of what is mounted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

PATH = "/proc/self/mountinfo"
# With these options setuid programs and devices do nothing.
HARMLESS = ("nosuid", "nodev")
# What waits to mount something when it is asked for.
AUTOFS = "autofs"
# How the kinds of network file systems begin.
REMOTE = (
    *("nfs", "fuse", "glusterfs", "ceph", "cifs", "smb", "9p", "virtiofs", "lustre", "beegfs", "gpfs", "wekafs"),
    *("panfs", "pvfs2", "afs"),
    *("efs", "aznfs"),  # in fstab alone: the kernel lists NFS
)


class Mounted(NamedTuple):
    """A line of the kernel's list: the device, the directory of it that is seen, and how; `of_all` are the options of
    all mounts of the file system."""

    path: str
    device: str
    subtree: str
    options: tuple[str, ...]
    tags: tuple[str, ...]
    fstype: str
    source: str
    of_all: tuple[str, ...] = ()

    @property
    def holder(self) -> int:
        """The uid that answers for what is there: an account's, which need not answer, where that has mounted it by
        `fusermount`; else 0."""
        uid = next((one for one in self.of_all if one.startswith("user_id=")), "")[len("user_id=") :]
        return int(uid) if self.fstype.startswith("fuse") and uid.isdecimal() else 0

    @property
    def is_harmless(self) -> bool:
        return set(HARMLESS) <= set(self.options)

    @property
    def is_read_only(self) -> bool:
        return "ro" in (*self.options, *self.of_all)

    @property
    def propagation(self) -> str:
        """shared, slave or private."""
        kinds = {tag.partition(":")[0] for tag in self.tags}
        return "shared" if "shared" in kinds else "slave" if "master" in kinds else "private"


def parse(text: str) -> dict[str, Mounted]:
    """What is mounted, by path; of several on top of each other the one that is seen."""
    stacks: dict[str, dict[str, tuple[str, Mounted]]] = {}
    for number, above, seen in each(text):
        stacks.setdefault(seen.path, {})[number] = (above, seen)
    found = {}
    for path, stack in stacks.items():
        # Not the last one of the list: propagation also puts mounts beneath others.
        covered = {above for above, _second in stack.values()}
        found[path] = next(seen for number, (_first, seen) in reversed(list(stack.items())) if number not in covered)
    return found


def each(text: str) -> Iterator[tuple[str, str, Mounted]]:
    """(number, number of the mount beneath, mount)"""
    # Accounts mount, too (FUSE), and choose the path; the kernel escapes blanks, tabs and \n in it, nothing else.
    for line in filter(None, text.split("\n")):
        before, _separator, after = line.partition(" - ")
        number, above, device, subtree, path, options, *tags = before.split(" ")
        fstype, source, everywhere = [*after.split(" "), "", ""][:3]
        path, subtree, source = unescape(path), unescape(subtree), unescape(source)
        here, of_all = tuple(options.split(",")), tuple(everywhere.split(","))
        seen = Mounted(path, device, subtree, here, tuple(tags), fstype, source, of_all)
        yield number, above, seen


def unescape(text: str) -> str:
    """Blanks as the kernel and fstab write them: \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)
