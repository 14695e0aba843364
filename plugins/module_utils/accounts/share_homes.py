# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Homes on a share that squashes root: root makes none there, and gives no file away. The kernel asks the server."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mounts import mounted

_ROOT = as_account.Identity(0, 0)
_SECONDS = 30  # that a share has to answer


def closed_homes(homes: Sequence[str]) -> dict[str, str]:
    """Of these homes those that are not there and that root cannot make.

    Returns:
        By path, what is mounted there, in words.

    Raises:
        GpusteadError: a share does not answer in time.
    """
    return _within_time(homes, _is_closed_home)


def closed_roots(roots: Sequence[str]) -> dict[str, str]:
    """Of these directories those in which root may write nothing, although they can be written; as above."""
    return _within_time(roots, _is_closed_root)


def _within_time(paths: Sequence[str], closed: Callable[[str], str]) -> dict[str, str]:
    def look() -> dict[str, str]:
        return {path: there for path in paths if (there := closed(path))}

    if not paths:
        return {}
    found: dict[str, str] = as_account.run(look, _ROOT, timeout=_SECONDS, place=", ".join(paths)[:200])
    return found


def _is_closed_home(home: str) -> str:
    if os.path.lexists(home):
        return ""
    above = os.path.dirname(home)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    mount = _mount_of(above)
    # What an automounter (autofs) shows is its own map: nobody makes a directory there.
    return "" if _may_write(above) and mount.fstype != "autofs" else _shown(mount)


def _is_closed_root(root: str) -> str:
    if not os.path.isdir(root):
        return ""
    mount = _mount_of(root)
    return "" if _may_write(root) or mount.is_read_only else _shown(mount)


def _may_write(directory: str) -> bool:
    return os.access(directory, os.W_OK | os.X_OK)


def _shown(mount: Mounted) -> str:
    return f"{mount.source} ({mount.fstype}) on {mount.path}"


def _mount_of(directory: str) -> Mounted:
    seen, path = mounted(), os.path.realpath(directory)
    while path not in seen and path != "/":
        path = os.path.dirname(path)
    return seen[path]


def no_home(home: str, name: str, ids: tuple[int, int], there: str) -> GpusteadError:
    """That a home cannot be made, as an error."""
    return GpusteadError(
        f"home {home} of '{name}' is not there, and root cannot make it on {there}",
        "a home that is there, or a place where root may write",
        f"Make it on the server (mkdir {home}; chown {ids[0]}:{ids[1]} {home}; chmod 700 {home}), export it with"
        " no_root_squash, or declare another home of the account.",
    )
