# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node sees of the share, and whether it belongs to whom it should. The receipts' own probes look."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.declared import DECLARED, kept, read
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import AUTOFS, HARMLESS
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import Drained, read_drained
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_files import root_problems
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_mounts import is_kind, is_source, what_is_wrong
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import mountpoints
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Desired, Finding, Findings

HOSTFILE = ".cluster/mesh/hostfile"
FIRST_USER_ID = 1000


@dataclass(frozen=True)
class ExpectedFile:
    """One file or directory: `mode` is None where its owner decides it; `theirs` is the remedy for another's."""

    path: str
    kind: str
    ids: str
    mode: str | None
    theirs: str = ""


@dataclass(frozen=True)
class ObservedShare:
    """What was there: of each path what the probe `file` says, the text of the hostfile, or why there is none, and the
    nodes that take no new runs."""

    root: Any
    files: Mapping[str, Any]
    hostfile: str
    problem: str = ""
    drained: Mapping[str, Drained] = field(default_factory=dict)


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
        ExpectedFile(".cluster/accounts", "directory", ours, "0755"),
        ExpectedFile(".cluster/accounts/accounts.json", "file", ours, "0644"),
        ExpectedFile(".cluster/mesh", "directory", ours, "1775"),
        ExpectedFile("users", "directory", ours, "1775"),
        ExpectedFile(".cluster/images.json", "file", ours, "0644"),
        *(ExpectedFile(f".cluster/nodes/{host}.json", "file", ours, "0644") for host in hosts),
        *(ExpectedFile(f"users/{name}", "directory", ids, None) for name, ids in accounts.items()),
    ]
    if owner:
        # Whoever had the mesh before has a copy of it.
        anew = "Do not hand it on: run site.yml, which says how it is put aside for a new one."
        found.append(ExpectedFile(".cluster/mesh/id_ed25519", "file", owner[1], "0600", anew))
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
        drained = read_drained(nas_path, service, timeout)
    except GpusteadError as error:
        text, problem, drained = "", error.what, {}
    return ObservedShare(found.pop(""), found, text, problem, drained)


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
            remedy = one.theirs or f"See idmapping of the NAS, and who wrote it; there: chown {one.ids} {one.path}"
            yield f"file {one.path}", f"belongs to {value['owner']}, declared is {one.ids}", remedy
        elif one.mode is not None and value["mode"] != one.mode:
            yield f"file {one.path}", f"has mode {value['mode']}, declared is {one.mode}", ""


def owners(seen: ObservedShare) -> dict[str, str]:
    """Ids of what is there, for the comparison with other hosts."""
    return {path: value["owner"] for path, value in seen.files.items() if value and "owner" in value}


Observe = Callable[[str, Identity, Sequence[str]], ObservedShare]


def examine_mount(desired: Desired, run: Run, host: Host, findings: Findings) -> bool:
    path = desired.nas_path
    status, _out, said = run(["stat", f"{path}/."])  # an automount mounts when it is asked for
    value = observe([("mount", {"name": path})], host)[f"mount {path}"]
    if value and "error" in value:
        findings.add(f"NAS {path}", f"cannot be looked at ({value['error']})", desired.again)
        return False
    source, fstype = (value["source"], value["fstype"]) if value else (None, None)
    local = not desired.nas_source.strip()
    if local and value is None:
        findings.add(f"NAS {path}", "is not mounted on itself, as the place of a single node is", desired.again)
        return False
    # Of an automount the probe says what it will mount.
    waits = getattr(mountpoints(host.afresh()).get(path), "fstype", AUTOFS) == AUTOFS
    if source is None or fstype is None or waits:
        findings.add(f"NAS {path}", "nothing is mounted there", f"mount {path}, and see systemctl status for its unit.")
        return False
    silent = what_is_wrong(path, status, said)
    if silent:
        findings.add(f"NAS {path}", *silent)
        return False
    findings.seen["nas"] = {"source": source, "fstype": fstype}
    if not local and not is_kind(fstype, desired.nas_fstype):
        findings.add(f"NAS {path}", f"is of type {fstype}, declared is {desired.nas_fstype}", desired.again)
    if not local and not is_source(source, desired.nas_source, desired.nas_fstype):
        findings.add(f"NAS {path}", f"is {source}, declared is {desired.nas_source}", desired.again)
    lacking = [flag for flag in HARMLESS if not value[flag]]
    if lacking:
        findings.add(f"NAS {path}", f"is mounted without {','.join(lacking)}", desired.again)
    return True


def examine_covers(desired: Desired, host: Host, findings: Findings) -> None:
    """Whether setuid programs and devices do nothing where containers of this host write."""
    declared = host.path(DECLARED)
    try:
        everything = [bind for several in read(declared).values() for bind in several]
        places = {bind.source for bind in (*everything, *kept(everything, declared)) if bind.cover}
    except (GpusteadError, OSError) as error:
        findings.add("places that containers write", f"cannot be looked at ({error})", desired.again)
        return
    seen = observe([("cover", {"name": place}) for place in sorted(places)], host)
    for place in sorted(places):
        if seen[f"cover {place}"] != {"covered": True}:
            findings.add(place, "lets setuid programs that containers leave there work on the host", desired.again)


def examine_share(desired: Desired, look: Observe, findings: Findings) -> None:
    """Whose the shared files are, as this host sees them, and the hostfile."""
    accounts = {account.name: account.ids for account in desired.accounts}
    homes = {account.name: account.ids for account in desired.accounts if account.uid >= FIRST_USER_ID}
    owner = (desired.owner, accounts[desired.owner]) if desired.owner in accounts else None
    hosts = [desired.host, *(name for name in desired.nodes if name != desired.host)]
    everything = expected_files(desired.service, owner, homes, hosts)
    seen = look(desired.nas_path, desired.service, [one.path for one in everything])
    findings.seen["files"] = owners(seen)
    # The records of others are for them to miss.
    others = {f".cluster/nodes/{name}.json" for name in hosts[1:]}
    ours = [one for one in everything if one.path not in others]
    for subject, what, remedy in problems(desired.service, ours, seen):
        findings.add(subject, what, remedy or desired.again)
    _hostfile(desired, seen, findings)


def parse_hostfile(text: str) -> list[tuple[str, int]]:
    """Hosts and slots; a line that is none has 0 slots."""
    entries = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        match = re.match(r"slots=(\d+)\Z", words[1]) if len(words) == 2 else None
        if words:
            entries.append((words[0], int(match.group(1)) if match else 0))
    return entries


def _hostfile(desired: Desired, seen: ObservedShare, findings: Findings) -> None:
    if seen.problem:
        findings.add("hostfile", f"cannot be read ({seen.problem})", desired.again)
        return
    entries = parse_hostfile(seen.hostfile)
    findings.seen["hostfile"] = dict(entries)
    names = [name for name, _second in entries]
    for name, slots in entries:
        if name not in desired.nodes:
            findings.add("hostfile", f"names {name}, which is not in gpu_nodes", desired.again)
        if slots < 1:
            findings.add("hostfile", f"gives {name} no slots", f"Run site.yml --limit {name}.")
        if names.count(name) > 1:
            findings.add("hostfile", f"names {name} more than once", desired.again)
    for name in desired.nodes:
        drained = seen.drained.get(name)
        if drained and name == desired.host:
            remedy = f"undrain.yml -e node={name} has it take runs again."
            findings.notices.append(Finding("node", str(drained).partition(" ")[2], remedy))
        if drained and name in names:
            remedy = f"Run drain.yml -e node={name} again, or undrain.yml."
            findings.add("hostfile", f"names {name}, which is drained", remedy)
        if not drained and name not in names:
            findings.add("hostfile", f"lacks {name}", f"Run site.yml --limit {name}.")
