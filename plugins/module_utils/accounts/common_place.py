# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What accounts have in common on the share: its groups, their places, data sets, and caches of hubs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.names import FORM, is_name, reserved
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import layout

SHARED, DATASETS, GROUPS = "shared", "datasets", "groups"
UMASK = "0002"  # of who has a group in common with others: what they make is the group's to change
_CACHES = "shared/.cache"
# Of each hub, the variables that say where it keeps what it has fetched. Tokens stay in the home.
CACHES: Mapping[str, Mapping[str, str]] = {
    "huggingface": {"HF_HUB_CACHE": "huggingface/hub", "HF_DATASETS_CACHE": "huggingface/datasets"},
    "pip": {"PIP_CACHE_DIR": "pip"},
    "uv": {"UV_CACHE_DIR": "uv"},
}
_IDS = range(1000, 60000)


@dataclass(frozen=True)
class ClusterGroup:
    """A group that has the same gid on all hosts; `members` None: all accounts of the cluster but system accounts."""

    name: str
    gid: int
    members: tuple[str, ...] | None = None

    def has(self, account: str) -> bool:
        return self.members is None or account in self.members


@dataclass(frozen=True)
class Common:
    """What is declared.

    Attributes:
        group: of all accounts; None: `shared` is its owner's.
        directories: groups with a place of their own, `groups/<name>`.
        datasets: who may write in `datasets`; None: there are none.
        caches: names of the hubs of which there is one cache for all.
    """

    group: ClusterGroup | None = None
    directories: tuple[ClusterGroup, ...] = ()
    datasets: ClusterGroup | None = None
    caches: tuple[str, ...] = ()

    @property
    def groups(self) -> tuple[ClusterGroup, ...]:
        return tuple(filter(None, (self.group, *self.directories, self.datasets)))


def parse(raw: Mapping[str, Any]) -> Common:
    """From `group`, `directories`, `datasets` and `caches`, as cluster_group, cluster_group_dirs, cluster_datasets and
    cluster_caches have them.

    Raises:
        GpusteadError: a group that cannot be, or caches in common where there is no group for them.
    """
    group = _group(raw.get("group") or {}, "cluster_group", everybody=True)
    directories = tuple(_group(one, "cluster_group_dirs") for one in raw.get("directories") or ())
    datasets = _group(raw.get("datasets") or {}, "cluster_datasets")
    chosen = raw.get("caches") or {}
    unknown = [f"{name}: {value}" for name, value in chosen.items() if name not in CACHES or value not in _CHOICES]
    if unknown:
        expected = f"{', '.join(CACHES)}, each own or common"
        raise GpusteadError(f"cluster_caches has {', '.join(unknown)}", expected, "Correct it.")
    caches = tuple(name for name in CACHES if chosen.get(name) == "common")
    if caches and not group:
        what = f"cluster_caches has {', '.join(caches)} in common"
        raise GpusteadError(what, "a group that they belong to", "Set cluster_group.")
    found = Common(group, tuple(filter(None, directories)), datasets, caches)
    _refuse_twice(found.groups)
    return found


_CHOICES = ("own", "common")


def _group(raw: Mapping[str, Any], variable: str, *, everybody: bool = False) -> ClusterGroup | None:
    if not raw:
        return None
    name, gid = str(raw.get("name", "")), str(raw.get("gid", ""))
    if not is_name(name) or reserved(name):
        raise GpusteadError(
            f"{variable}: group {name!r}", f"a name of {FORM} that the system does not have", "Rename it."
        )
    if not gid.isdigit() or int(gid) not in _IDS:
        what = f"{variable}: gid {gid or '(none)'} of group {name}"
        raise GpusteadError(what, f"{_IDS[0]} to {_IDS[-1]}, of nobody else", "Choose one.")
    members = None if everybody else tuple(str(one) for one in raw.get("members") or ())
    return ClusterGroup(name, int(gid), members)


def _refuse_twice(groups: Sequence[ClusterGroup]) -> None:
    for key in ("name", "gid"):
        values = [getattr(group, key) for group in groups]
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            where = "cluster_group, cluster_group_dirs and cluster_datasets"
            raise GpusteadError(f"{where}: {key} {', '.join(twice)} twice", "one for each group", "Choose another one.")


def entries(
    common: Common, owner: Mapping[str, Any], service: layout.Owner, former: Iterable[int]
) -> list[dict[str, Any]]:
    """The places on the share, as module nas_files takes them: new files there are of the group, too.

    Args:
        owner: uid and gid of the account that owns `shared`; without a uid there is none.
        service: whose the layout is.
        former: uids that may have had something of it.
    """
    kept = {"owner": service.uid, "former": list(former)}
    found: list[dict[str, Any]] = []
    if owner.get("uid") is not None:
        gid = owner["uid"] if owner.get("gid") is None else owner["gid"]
        shared = {"owner": int(owner["uid"]), "group": common.group.gid if common.group else int(gid)}
        found.append(_directory(SHARED, "2775", shared, bool(common.group), through=service.gid))
        places = dict.fromkeys(path.split("/")[0] for name in common.caches for path in CACHES[name].values())
        for path in (_CACHES, *(f"{_CACHES}/{place}" for place in places)) if places else ():
            found.append(_directory(path, "2775", shared, True, once=True))
    if common.datasets:
        datasets = {**kept, "group": common.datasets.gid}
        found.append(_directory(DATASETS, "2775", datasets, True, through=service.gid))
    if common.directories:
        found.append(_directory(GROUPS, "0755", {**kept, "group": service.gid}, False))
    for group in common.directories:
        found.append(_directory(f"{GROUPS}/{group.name}", "2770", {**kept, "group": group.gid}, True))
    return found


def _directory(path: str, mode: str, ids: Mapping[str, Any], inherit: bool, **more: Any) -> dict[str, Any]:
    inherits = {"inherit": True} if inherit else {}
    return {"path": path, "state": "directory", "mode": mode, **ids, **inherits, **more}


def environment(caches: Iterable[str]) -> dict[str, str]:
    """What programs in containers are told of the caches in common."""
    return {variable: f"/{_CACHES}/{place}" for name in caches for variable, place in CACHES[name].items()}
