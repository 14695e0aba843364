# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who is at work with what, so that two controllers do not do it at the same time: <nas>/.cluster/leases/<name>.json.

A lease ends by itself: a controller that was switched off keeps nobody from the work for ever.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.apply_nas_files import apply_all, is_mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.layout import LEASES
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import ShareEntry
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

SIZE = 1 << 14
LONGEST = 8 * 86400  # seconds; the share is no place of root's, and what ends later nobody has taken
_TURNS = 10


@dataclass(frozen=True)
class Lease:
    """One.

    Attributes:
        token: of the process that has it, which no other has.
        by: who that is, and where.
        what: is being done.
        until: seconds since the epoch, from which on anybody may take it.
    """

    token: str
    by: str
    what: str
    until: float

    @classmethod
    def of(cls, text: str) -> Lease:
        """What a file holds; one that is damaged is nobody's."""
        try:
            raw = json.loads(text)
            until = float(raw["until"])
            if math.isfinite(until):  # what is no number is not even itself
                return cls(shown(raw["token"]), shown(raw["by"]), shown(raw["what"]), until)
        except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
            pass
        return cls("", "", "", 0.0)


def take(root: str, layout: Identity, name: str, wanted: Lease, *, gone: str = "", timeout: float = 30) -> Lease | None:
    """Take it, or keep it for longer; returns who else has it, or None.

    Args:
        root: where the share is mounted.
        layout: the account, which nobody logs in as, that the layout belongs to.
        name: of what is leased.
        wanted: the lease.
        gone: token of a process that is known to have ended.
        timeout: seconds.

    Raises:
        GpusteadError: the share cannot be written.
    """
    is_mounted(root, False)
    directory = ShareEntry(LEASES, "directory", layout.uid, layout.gid, 0o755)
    apply_all(root, [directory], False, trusted=(layout.uid, layout.gid))
    said = _on_share(root, layout, name, lambda at, file: _take(at, file, wanted, gone), timeout)
    return Lease(**said) if said else None


def release(root: str, layout: Identity, name: str, token: str, timeout: float = 30) -> None:
    """Give it back; one that is another's stays. Raises as `take` does."""
    _on_share(root, layout, name, lambda at, file: _release(at, file, token), timeout)


def _on_share(
    root: str, layout: Identity, name: str, work: Callable[[int, str], Any], timeout: float
) -> Mapping[str, Any] | None:
    """Do it in the directory of the leases, as the account that it belongs to."""
    file, place = f"{name}.json", os.path.join(root, LEASES)

    def beneath() -> Any:
        try:
            directory = as_account.open_beneath(root, LEASES, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            return work(directory, file)
        finally:
            os.close(directory)

    try:
        found: Mapping[str, Any] | None = as_account.run(beneath, layout, timeout=timeout, place=place)
        return found
    except PermissionError as error:
        what = f"{place} cannot be written by uid {layout.uid} ({error.strerror})"
        raise GpusteadError(what, "it to be", "Give it to that account, with mode 0755.") from error


def _take(directory: int, file: str, wanted: Lease, gone: str) -> Mapping[str, Any] | None:
    for _turn in range(_TURNS):
        with contextlib.suppress(FileExistsError):
            as_account.put(directory, file, json.dumps(asdict(wanted)).encode(), 0o644, exclusive=True)
            return None
        found = _read(directory, file)
        now = time.time()
        if found and found.token not in (wanted.token, gone) and now < found.until < now + LONGEST:
            return asdict(found)
        if found:
            _put_aside(directory, file, found)
    raise GpusteadError(f"the lease {file}", "it to be free or somebody's", "See who writes there, and run again.")


def _put_aside(directory: int, file: str, found: Lease) -> None:
    """What was read, and nothing that another has put there since."""
    aside = f".{file}.{secrets.token_hex(6)}.tmp"
    with contextlib.suppress(FileNotFoundError):
        os.rename(file, aside, src_dir_fd=directory, dst_dir_fd=directory)
        moved = _read(directory, aside)
        if moved != found:
            with contextlib.suppress(FileExistsError):
                os.link(aside, file, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.unlink(aside, dir_fd=directory)


def _release(directory: int, file: str, token: str) -> None:
    found = _read(directory, file)
    if found and found.token == token:
        _put_aside(directory, file, found)


def _read(directory: int, file: str) -> Lease | None:
    try:
        opened = as_account.open_beneath(directory, file)
    except FileNotFoundError:
        return None
    try:
        as_account.regular(opened, file)
        return Lease.of(as_account.contents(opened, file, SIZE).decode("utf-8", "replace"))
    finally:
        os.close(opened)
