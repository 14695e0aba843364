# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much each account may have on the share: limits per user of the file system that is exported.

They are the kernel's, which NFS servers ask as they write as the account. A file system without them is nobody's to
change but its owner's: it has to be unmounted for that, and is named with what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import Mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mounts import mounted
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.quota_report import (
    AccountQuota,
    command,
    parse,
    place_of,
    sized,
    state,
    state_command,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

_SIZE = re.compile(r"([1-9]\d*)([KMGT])", re.ASCII | re.IGNORECASE)
_SHIFTS = {"K": 0, "M": 10, "G": 20, "T": 30}
_NONE = AccountQuota(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class Observed:
    """The file system that holds the export.

    Attributes:
        place: where it is mounted.
        fstype, device: its kind and device.
        state: of user quotas, `enforced`, `accounting` or `off`.
        quotas: what accounts have there, and may have, by uid.
        said: what quotaon complained of.
    """

    place: str
    fstype: str
    device: str
    state: str
    quotas: Mapping[int, AccountQuota]
    said: str = ""


@dataclass(frozen=True)
class Change:
    """Of an account: what it has now, with the limit before, and the limit (KiB) that it is given."""

    uid: int
    before: AccountQuota
    limit: int

    def __str__(self) -> str:
        return f"uid {self.uid}: {_limit(self.before.hard)}, now {_limit(self.limit)}"


def _limit(kib: int) -> str:
    return sized(kib) if kib else "no limit"


def kib_of(size: Any, whose: str) -> int:
    """A limit in KiB; raises GpusteadError for what is none. 0: no limit."""
    text = str(size).strip()
    match = _SIZE.fullmatch(text)
    if not match and text != "0":
        raise GpusteadError(f"{whose} is {text!r}", "a size with its unit", "Write it as 500G, or 0 for no limit.")
    return int(match[1]) << _SHIFTS[match[2].upper()] if match else 0


def limits(quota: Any, users: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The limits of accounts in KiB, by uid.

    Args:
        quota: what each account may have (`500G`); empty: nobody has a limit.
        users: the declared accounts; `quota` is another limit of one.

    Raises:
        GpusteadError: a limit is none, or an account has no uid.
    """
    usual = kib_of(quota, "nas_quota") if str(quota).strip() else None
    if usual is None:
        return {}
    found = {}
    for user in users:
        name = user.get("name")
        own = user.get("quota")
        limit = usual if own is None or own == "" else kib_of(own, f"quota of {name} in cluster_users")
        if user.get("uid") is None:
            raise GpusteadError(f"{name} in cluster_users has no uid", "one, for its quota", "Write it there.")
        found[str(user["uid"])] = limit
    return found


def observe(path: str, run: Run, seen: Mapping[str, Mounted] | None = None) -> Observed:
    """Look at the file system of a directory.

    Args:
        run: runs commands.
        seen: what is mounted.

    Raises:
        OSError: there is no such directory.
    """
    place = place_of(path)
    found = (mounted() if seen is None else seen).get(place)
    _code, out, said = run(state_command(place))
    quotas = parse(must(run, command(place), remedy="See what it says of the disk.")) if state(out) != "off" else {}
    kind, device = (found.fstype, found.source) if found else ("?", "?")
    return Observed(place, kind, device, state(out), quotas, " ".join(said.split()))


def without_quotas(path: str, seen: Observed) -> GpusteadError:
    """That a file system has none, and how who owns it turns them on."""
    what = f"{path} lies on {seen.place} ({seen.fstype}, {seen.device}), which has no user quotas"
    place, accounting = seen.place, seen.state == "accounting"
    if seen.fstype == "xfs":
        rest = f"umount {place} && mount {place}"
        remedy = f"Give it the option uquota in /etc/fstab, for / rootflags=uquota to the kernel, then: {rest}"
    elif seen.fstype in ("ext4", "ext3") and accounting:
        remedy = f"It counts already: quotaon {place}, and usrquota among its options in /etc/fstab"
    elif seen.fstype in ("ext4", "ext3"):
        turn_on = f"umount {place}, tune2fs -O quota {seen.device}, usrquota among its options in /etc/fstab"
        remedy = f"Turn them on, once, while nobody uses it: {turn_on}, mount {place}"
    else:
        remedy = "Export a directory of an ext4 or xfs file system, or take nas_quota out"
    what += " that are enforced" * accounting + f" ({seen.said})" * bool(seen.said)
    return GpusteadError(what, "them, for nas_quota", f"{remedy}. This role changes no file system of yours.")


def plan(wanted: Mapping[int, int], seen: Observed) -> list[Change]:
    """What is to be set: `wanted` are limits in KiB, by uid; 0 takes one away. Other accounts keep what they have."""
    found = {uid: seen.quotas.get(uid, _NONE) for uid in wanted}
    return [
        Change(uid, found[uid], limit)
        for uid, limit in sorted(wanted.items())
        if (found[uid].soft, found[uid].hard) != (limit, limit)
    ]


def apply(changes: Iterable[Change], place: str, run: Run) -> None:
    """Set limits. That of files stays; who has more than a limit keeps it, and writes no more. Raises GpusteadError."""
    for one in changes:
        files = (one.before.files_soft, one.before.files_hard)
        blocks = map(str, (one.limit, one.limit, *files))
        must(run, ["setquota", "--user", "--", str(one.uid), *blocks, place], remedy="See what it says of the disk.")
