# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All places of a set mounted, and no others; what is refused stops none of the rest."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY, NAME, Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.declared import (
    DECLARED,
    covered,
    kept,
    read,
    write_covered,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.mount_place import (
    cover_place,
    is_still_its_owners,
    mount_place,
    size_of_block,
    thaw,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS

WAIT = 60  # seconds for another run to end
_LOOKING = 900  # seconds to look through a place that is covered for the first time
_ROOT = as_account.Identity(0, 0)


@dataclass
class Outcome:
    """What was done, or would be.

    Attributes:
        changes: (name, before, after) in words.
        refused: what is not as it must be, each with `name`, `what`, `expected` and `remedy`.
        replaced: names of mounts that stand for another place than before.
        mounted: names of those that are there now. A refused one stays while what it shows is its owner's.
        kept: places that stay covered, although containers are not to write there any more.
    """

    changes: list[tuple[str, str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    mounted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


@dataclass
class _Set:
    """A set while it is mounted.

    `silent`: roots that did not answer; `slow`: those of which a place did not; `covered`: places that were looked
    through when they were covered.
    """

    folder: str
    check: bool
    timeout: float
    covered: frozenset[str] = frozenset()
    silent: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    outcome: Outcome = field(default_factory=Outcome)

    def target(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def drop_undeclared(self, declared: set[str]) -> None:
        seen = mounts.mounted()
        there = set(os.listdir(self.folder)) if os.path.isdir(self.folder) else set()
        for name in sorted(there):
            target = self.target(name)
            if name not in declared:
                before = "a place that is not declared" if target in seen else "an empty directory"
                self.outcome.changes.append((name, before, ""))
            if not self.check and (name not in declared or target not in seen):
                mounts.detach(target)

    def mount(self, bind: Bind) -> None:
        target = self.target(bind.name)
        try:
            if bind.root in self.silent:
                raise GpusteadError(f"{bind.root} did not answer", "an answer", "Look at the NAS and its mount.")
            known = not bind.cover or bind.source in self.covered
            work = partial(mount_place, bind, target, self.check, known)
            # Who keeps us waiting must not take the time of all others.
            timeout = self.timeout / 4 if bind.root in self.slow else self.timeout
            timeout = timeout if known else max(timeout, _LOOKING)
            state = as_account.run(work, _ROOT, timeout=timeout, place=bind.source)
        except PermissionError as denied:
            remedy = "Let root pass through the directories above it, or put back what was there."
            self.refuse(bind, GpusteadError(f"{bind.source} cannot be reached: {denied.strerror}", "it to be", remedy))
        except GpusteadError as error:
            self.refuse(bind, error)
        else:
            if state != "same":
                before = "another place, or with other flags" if state == "replaced" else ""
                self.outcome.changes.append((bind.name, before, bind.source))
            self.outcome.replaced += [bind.name] * (state == "replaced")

    def refuse(self, bind: Bind, error: GpusteadError) -> None:
        target = self.target(bind.name)
        self.outcome.refused.append(vars(Refusal.of(bind.name, error)))
        if "did not answer" in error.what:
            if bind.cover and bind.source not in self.covered and not self.check:
                with contextlib.suppress(GpusteadError, PermissionError):
                    as_account.run(partial(thaw, bind), _ROOT, timeout=self.timeout, place=bind.source)
            self.slow.add(bind.root)
            if bind.root not in self.silent and not self.answers(bind.root):
                self.silent.add(bind.root)
        elif target in mounts.mounted() and not self.may_stay(bind, target):
            self.outcome.changes.append((bind.name, "what is no longer its owner's", ""))
            if not self.check:
                mounts.detach(target)

    def answers(self, root: str) -> bool:
        """Whether it is the place alone that does not."""
        try:
            work = partial(size_of_block, root)
            return bool(as_account.run(work, _ROOT, timeout=self.timeout / 4, place=root))
        except (GpusteadError, PermissionError):
            return False

    def may_stay(self, bind: Bind, target: str) -> bool:
        try:
            work = partial(is_still_its_owners, bind, target)
            return bool(as_account.run(work, _ROOT, timeout=self.timeout, place=target))
        except (GpusteadError, PermissionError):
            return False


def apply(
    name: str,
    binds: Sequence[Bind],
    check: bool = False,
    *,
    directory: str = DIRECTORY,
    declared: str = DECLARED,
    timeout: float = 20,
) -> Outcome:
    """Have exactly these places mounted for a set. What is refused is named, and stops none of the others.

    Args:
        name: of the set.
        binds: its places.
        check: whether to only look.
        directory: root's, on a file system of its own in memory; made where it is not there.
        declared: root's, with the list of what was covered.
        timeout: seconds for each place; a quarter for those that follow one that did not answer, and none where the
            root of them does not answer either.
    """
    if not NAME.match(name):
        raise GpusteadError(f"set {name!r} of binds", "letters, digits, '.', '_' and '-'", "Correct it.")
    places = _Set(os.path.join(directory, name), check, timeout)
    with _locked(directory, check):
        places.covered = covered(declared)
        if not check:
            os.makedirs(places.folder, 0o700, exist_ok=True)
        places.drop_undeclared({bind.name for bind in binds})
        for bind in binds:
            places.mount(bind)
        seen = mounts.mounted()
        places.outcome.mounted = [bind.name for bind in binds if places.target(bind.name) in seen]
        refused = {one["name"] for one in places.outcome.refused}
        new = {bind.source for bind in binds if bind.cover and bind.name not in refused} - places.covered
        if new and not check:
            write_covered(places.covered | new, declared)
        # One that is damaged is written anew by its own role; what it covers stays covered meanwhile.
        sets = read(declared, damaged=True)
        others = [bind for other, several in sets.items() if other != name for bind in several]
        left = kept([*binds, *others], declared)
        places.outcome.kept = [bind.source for bind in left]
        if not check:
            cover(left)
    return places.outcome


def release(directory: str = DIRECTORY, paths: Sequence[str] = (), check: bool = False) -> list[str]:
    """Let go of all places, or of those on the file systems that are mounted on `paths`; returns where they were.

    A mount that is kept keeps a share alive after it was unmounted. What was declared stays declared.
    """
    for path in map(os.path.normpath, paths):
        _ask_automount(path)
    seen = mounts.mounted()
    devices = {seen[path].device for path in map(os.path.normpath, paths) if path in seen}
    gone: list[str] = []
    if directory not in seen:
        return gone
    targets = [path for path in seen if re.fullmatch(rf"{re.escape(directory)}/[^/]+/[^/]+", path)]
    with _locked(directory, check):
        for target in sorted(targets):
            if not paths or seen[target].device in devices:
                gone.append(target)
                if not check:
                    mounts.detach(target)
    return gone


def _ask_automount(path: str, timeout: float = 90) -> None:
    """Have an automount mount that nobody has used for long: by what it mounts its places are known."""
    found = mounts.mounted().get(path)
    if found and found.fstype == AUTOFS:
        with contextlib.suppress(GpusteadError, PermissionError):
            as_account.run(partial(size_of_block, path), _ROOT, timeout=timeout, place=path)


def cover(binds: Iterable[Bind], timeout: float = 10) -> None:
    """Take setuid programs and devices from the places that must not have them, as far as they are there: early in a
    boot, before anybody could run what root has left there in a container. What is refused, `apply` names."""
    for bind in binds:
        if bind.cover:
            with contextlib.suppress(GpusteadError, PermissionError):
                as_account.run(partial(cover_place, bind), _ROOT, timeout=timeout, place=bind.source)


@contextlib.contextmanager
def _locked(directory: str, check: bool = False) -> Iterator[None]:
    """Alone at it, with the directory there: in memory, root's, and its mounts seen by nobody else's namespace."""
    above = os.path.dirname(directory)
    if check and not os.path.isdir(above):
        yield
        return
    os.makedirs(above, 0o755, exist_ok=True)
    lock = os.open(f"{directory}.lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, f"{directory}.lock")
        if not check:
            os.makedirs(directory, 0o700, exist_ok=True)
            if directory not in mounts.mounted():
                mounts.mount_memory(directory)
        yield
    finally:
        os.close(lock)


def _take(lock: int, name: str) -> None:
    """Take the lock, within a time. It is the process's alone: a child that hangs in the kernel does not keep it."""
    end = time.monotonic() + WAIT
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        if time.monotonic() > end:
            remedy = f"See who has it (fuser -v {name}) and what that waits for, then run again."
            raise GpusteadError(f"{name} was held by another run for {WAIT} s", "it to end", remedy)
        time.sleep(0.1)
