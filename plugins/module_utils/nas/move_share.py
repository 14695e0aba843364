# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of a single node, moved from its own disk to a share: kept still, and left where they were."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.binds import apply_binds, declared
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY, Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel import mounts, processes
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS, Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.copy_tree import LAYOUT
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mountpoint import Mountpoint
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import DeclaredMount, mismatch
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

STAGE = "/run/gpustead/move"  # where the share is mounted meanwhile, for root alone
SET = "share"  # of the binds, as role nas names it
_SEARCH = 60  # seconds to look through what processes have open
# What fstab and systemd read, and no mount helper.
_OF_FSTAB = ("_netdev", "nofail", "auto", "noauto", "user", "nouser", "defaults")


def where(mount: DeclaredMount, sets: Mapping[str, Sequence[Bind]], seen: Mapping[str, Mounted]) -> str:
    """Where the files are.

    Args:
        mount: the share, as it is declared.
        sets: the binds that are declared.
        seen: what is mounted.

    Returns:
        `local`: in the place of the share on the own disk; `shared`: on the share, and the place is still declared;
        empty: there is no such place.

    Raises:
        GpusteadError: the share is declared there, and cannot be seen: its automount waits.
    """
    if mount.place not in {bind.source for bind in sets.get(SET, ()) if bind.own}:
        return ""
    if mount.place in seen and seen[mount.place].fstype == AUTOFS:
        remedy = f"mount {mount.place} says why. When it is mounted, run again."
        raise GpusteadError(f"on {mount.place} nothing is mounted but its automount", mount.source, remedy)
    return "local" if mismatch(mount, seen) else "shared"


def awaken(mount: DeclaredMount, run: Run) -> None:
    """Have an automount that waits mount the share; without one nothing happens."""
    if mount.place in mounts.mounted():
        run(["stat", "--", f"{mount.place}/."])


def helper_options(options: str) -> str:
    """Those of a line of fstab that the one who mounts it by hand gives."""
    kept = [
        one for one in options.split(",") if one and one not in _OF_FSTAB and not one.startswith(("x-", "comment="))
    ]
    return ",".join(kept)


@contextlib.contextmanager
def alone(path: str = f"{STAGE}.lock", wait: float = 30) -> Iterator[None]:
    """Waits until no other move is at it: one goes on after the run that started it was killed.

    Raises:
        GpusteadError: it does not end in time.
    """
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + wait
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    remedy = f"Wait until it has ended, or end it (fuser -v {path}), then run again."
                    raise GpusteadError("another run still moves files", "none", remedy) from None
            time.sleep(0.5)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def staged(mount: DeclaredMount, run: Run, stage: str = STAGE) -> Iterator[str]:
    """The share, mounted where root alone comes, and never from what is remembered of an earlier look.

    Raises:
        GpusteadError: it cannot be mounted.
    """
    os.makedirs(stage, 0o700, exist_ok=True)
    while stage in mounts.mounted():  # of a run that was killed
        must(run, ["umount", stage], remedy=f"End what uses it (fuser -vm {stage}), then run again.")
    os.chmod(stage, 0o700)
    options = helper_options(mount.options)
    must(
        run,
        ["mount", "-t", mount.fstype, *(["-o", options] if options else []), mount.source, stage],
        remedy="See what the NAS says, and whether it exports this to this host.",
    )
    try:
        yield stage
    finally:
        run(["umount", stage])


def freeze(place: str, sets: Mapping[str, Sequence[Bind]], run: Run, check: bool = False) -> None:
    """Let nobody write any more.

    Raises:
        GpusteadError: containers have it, or processes are in there. Nothing was changed.
    """
    using = [*containers(place, sets, run), *inside(place)]
    if using:
        some = "; ".join(using[:10]) + (f"; and {len(using) - 10} more" if len(using) > 10 else "")
        remedy = "Stop them (docker stop NAME; log out, or kill PID), then run again: what was copied stays."
        raise GpusteadError(f"{place} is in use: {some}", "nobody in there while it is moved", remedy)
    if check:
        return
    if place not in mounts.mounted():
        thaw(place, sets, run)
    try:
        mounts.set_read_only(place, True)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        remedy = f"See who has them (fuser -vm {place}) and end that, then run again: what was copied stays."
        raise GpusteadError(f"files in {place} are open to be written", "none while it is moved", remedy) from error


def thaw(place: str, sets: Mapping[str, Sequence[Bind]], run: Run) -> None:
    """Let it be written again; where it was closed already and the share could not be mounted, open it again."""
    if place not in mounts.mounted():
        run(["chattr", "-i", "--", place])
        layout = os.stat(f"{place}/{LAYOUT}", follow_symlinks=False)  # the owner of one is that of the other
        os.chown(place, layout.st_uid, layout.st_gid)
        os.chmod(place, 0o1775)
        apply_binds.cover(sets[SET])
    mounts.set_read_only(place, False)


def containers(place: str, sets: Mapping[str, Sequence[Bind]], run: Run) -> list[str]:
    """Running containers that bind something of it, in words."""
    shown = {f"{DIRECTORY}/{name}/{bind.name}" for name, binds in sets.items() for bind in binds if bind.root == place}
    out = must(run, ["docker", "ps", "--no-trunc", "--format", "{{.Names}}\t{{.Mounts}}"])
    found = []
    for line in out.splitlines():
        name, _tab, sources = line.partition("\t")
        if any(one in shown or _is_in(one, place) for one in sources.split(",")):
            found.append(f"container {name}")
    return found


def inside(place: str) -> list[str]:
    """Processes of the host that are in there or have something of it open, in words.

    Raises:
        GpusteadError: they have more open than can be looked through.
    """
    found, patience = [], processes.Patience(_SEARCH)
    try:
        for pid in processes.numbers():
            with contextlib.suppress(OSError):  # it has ended
                path = next((one for one in _held(pid, patience) if _is_in(one, place)), "")
                if path and pid != os.getpid():
                    found.append(f"process {pid} of uid {max(processes.uids(pid))} ({path})")
    except processes.OutOfTime as error:
        what = f"{error}, for who is in {place}"
        raise GpusteadError(what, "fewer", "End that process, then run again.") from None
    return found


def _held(pid: int, patience: processes.Patience) -> Iterable[str]:
    """Paths of what a process has, as it sees them."""
    for link in processes.held(pid, patience):
        with contextlib.suppress(OSError):
            yield os.readlink(link)


def _is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def settle(mount: DeclaredMount, run: Run, check: bool = False, *, directory: str = DIRECTORY, sets: str = "") -> bool:
    """Forget that there was a place on the own disk, once the share hides it. The files stay in it.

    Args:
        mount: the share.
        run: runs commands.
        check: only say whether there is something to do.
        directory, sets: of the binds.

    Raises:
        GpusteadError: the share is not mounted, or the directory beneath is open to accounts.
    """
    awaken(mount, run)
    wrong = mismatch(mount, mounts.mounted())
    if wrong:
        raise wrong
    bare = Mountpoint(mount.place, run).observe()
    # Setuid programs that containers have left there: while the share is away, nobody else may reach them.
    if int(bare.mode or "0", 8) & 0o077:
        remedy = "Run playbooks/move_to_nas.yml again."
        raise GpusteadError(f"the directory beneath {mount.place} has mode {bare.mode}", "root alone in it", remedy)
    folder = sets or declared.DECLARED
    kept = mount.place in declared.covered(folder)
    if check:
        return kept or bool(declared.read(folder).get(SET))
    if kept:
        declared.uncover(mount.place, folder)
    _release_former(mount.place, directory, folder)
    changed = declared.write(SET, [], declared=folder)
    apply_binds.apply(SET, [], directory=directory, declared=folder)
    return kept or changed


def _release_former(place: str, directory: str, folder: str) -> None:
    """Let go of what containers would still see of the own disk. Role workspace has it mounted from the share."""
    seen = mounts.mounted()
    for name, binds in declared.read(folder).items():
        for target in (f"{directory}/{name}/{bind.name}" for bind in binds if bind.root == place):
            if target in seen and seen[target].device != seen[place].device:
                mounts.detach(target)
