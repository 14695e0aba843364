# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node sees of the share, and whether it belongs to whom it should. The receipts' own probes look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import root_problems
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe

HOSTFILE = ".cluster/mesh/hostfile"


@dataclass(frozen=True)
class ExpectedFile:
    """One file or directory: `mode` is None where its owner decides it."""

    path: str
    kind: str
    ids: str
    mode: str | None


@dataclass(frozen=True)
class ObservedShare:
    """What was there: of each path what the probe `file` says, and the text of the hostfile, or why there is none."""

    root: Any
    files: Mapping[str, Any]
    hostfile: str
    problem: str = ""


def expected_files(
    service: Identity, owner: tuple[str, str] | None, accounts: Mapping[str, str], hosts: Sequence[str]
) -> list[ExpectedFile]:
    """What should be there.

    Args:
        service: the account that the layout belongs to.
        owner: name and ids (`1500:1500`) of the cluster's owner.
        accounts: ids of those with a directory, by name.
        hosts: those whose records should be there.
    """
    ours = str(service)
    found = [
        ExpectedFile(".cluster", "directory", ours, "0755"),
        ExpectedFile(".cluster/nodes", "directory", ours, "0755"),
        ExpectedFile(".cluster/mesh", "directory", ours, "1775"),
        ExpectedFile("users", "directory", ours, "1775"),
        ExpectedFile(".cluster/images.json", "file", ours, "0644"),
        *(ExpectedFile(f".cluster/nodes/{host}.json", "file", ours, "0644") for host in hosts),
        *(ExpectedFile(f"users/{name}", "directory", ids, None) for name, ids in accounts.items()),
    ]
    if owner:
        found.append(ExpectedFile(".cluster/mesh/id_ed25519", "file", owner[1], "0600"))
        found.append(ExpectedFile("shared", "directory", owner[1], None))
    return found


def observe_share(nas_path: str, service: Identity, paths: Sequence[str], timeout: float = 20) -> ObservedShare:
    """What is there, as the service account sees it; whatever lies there, it takes no longer."""
    places = {path: f"{nas_path}/{path}" if path else nas_path for path in ("", *paths)}
    specs = [("file", {"name": place, "content": False, "as": str(service)}) for place in places.values()]
    values = observe(specs, Host(), timeout)
    found = {path: values[f"file {place}"] for path, place in places.items()}
    try:
        data = as_account.read(nas_path, HOSTFILE, service, timeout=timeout, owner=service.uid)
        text, problem = (data or b"").decode("utf-8", "replace"), "" if data is not None else "it is not there"
    except GpusteadError as error:
        text, problem = "", error.what
    return ObservedShare(found.pop(""), found, text, problem)


def problems(service: Identity, wanted: Sequence[ExpectedFile], seen: ObservedShare) -> Iterator[tuple[str, str, str]]:
    """(subject, what is wrong, what to do): the path, what is there and what should be; the remedy may be empty."""
    root = seen.root or {"error": "it is not there"}
    if "error" in root:
        yield "root of the share", f"cannot be looked at ({root['error']})", ""
    else:
        uid, gid = map(int, root["owner"].split(":"))
        for bad in root_problems(service, uid, gid, int(root["mode"], 8)):
            yield "root of the share", f"{bad.what}; declared is {bad.expected}", bad.remedy
    for one in wanted:
        value = seen.files.get(one.path)
        if value is None:
            yield f"file {one.path}", "cannot be seen on the NAS", ""
        elif "error" in value:
            yield f"file {one.path}", f"cannot be looked at ({value['error']})", ""
        elif value["type"] != one.kind:
            remedy = "Move it out of the way, on the NAS server or as its owner."
            yield f"file {one.path}", f"is a {value['type']}, declared is a {one.kind}", remedy
        elif value["owner"] != one.ids:
            remedy = f"See idmapping of the NAS, and who wrote it; there: chown {one.ids} {one.path}"
            yield f"file {one.path}", f"belongs to {value['owner']}, declared is {one.ids}", remedy
        elif one.mode is not None and value["mode"] != one.mode:
            yield f"file {one.path}", f"has mode {value['mode']}, declared is {one.mode}", ""


def owners(seen: ObservedShare) -> dict[str, str]:
    """Ids of what is there, for the comparison with other hosts."""
    return {path: value["owner"] for path, value in seen.files.items() if value and "owner" in value}
