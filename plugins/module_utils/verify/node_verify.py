# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host of the cluster compared with what is declared for it. Nothing is changed, and no problem hides another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import (
    GivenGpus,
    given_uuids,
    parse_given,
    share,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_proof import prove
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.network import find_openings
from ansible_collections.gpustead.cluster.plugins.module_utils.run import TIMED_OUT, TOO_MUCH, Run
from ansible_collections.gpustead.cluster.plugins.module_utils.verify import share as share_verify

MESH = ("gpustead-mesh", "mesh")
SERVICE = Identity(941, 941)
FIRST_USER_ID = 1000
# What a node asks of others at the same time: each sshd has all nodes as guests, and refuses a crowd.
PEERS_AT_ONCE = 8


@dataclass(frozen=True)
class Problem:
    """What is wrong: the thing, its value and what was declared, what to do."""

    subject: str
    what: str
    remedy: str


@dataclass(frozen=True)
class Account:
    name: str
    uid: int
    gid: int

    @property
    def ids(self) -> str:
        return f"{self.uid}:{self.gid}"


@dataclass(frozen=True)
class Project:
    """A compose project.

    Attributes:
        services: its services, with the port that each publishes on the host, or 0.
        owner: account that its containers are used by.
        image: where it is not the node's.
        gpus: positions or UUIDs of those of the node that it has; None: all.
    """

    name: str
    services: Mapping[str, int]
    owner: str
    image: str = ""
    gpus: Sequence[Any] | None = None


@dataclass(frozen=True)
class Wanted:
    """What is declared for a host. `node`: it is a GPU node; else only its ports and its firewall are looked at.

    `networks` are those from which the ports in `listening` are called (none: any that is not the host itself);
    `firewall_policy` is what the probe `openings` is given.
    """

    host: str
    node: bool = False
    owner: str = ""
    accounts: tuple[Account, ...] = ()
    service: Identity = SERVICE  # whose the layout of the share is
    nas_path: str = "/mnt/nas"
    nas_source: str = ""
    nas_fstype: str = "nfs4"
    nodes: tuple[str, ...] = ()
    image_file: str = "/etc/gpustead/image"
    projects: tuple[Project, ...] = ()
    listening: Mapping[str, int] = field(default_factory=dict)  # what listens on a port of the host itself
    networks: Sequence[str] = ()
    firewall: bool = True
    firewall_policy: Mapping[str, Any] = field(default_factory=dict)
    gpus_file: str = "/etc/gpustead/gpus.json"
    gpus_required: bool = True  # every GPU on the PCI bus must be usable
    gpu_info: Mapping[str, Any] = field(default_factory=dict)  # the GPUs now; without `state`, they were not asked

    @property
    def again(self) -> str:
        return f"Run site.yml --limit {self.host}."


@dataclass
class Findings:
    """What was seen, for the comparison with other hosts, and what is wrong."""

    seen: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, subject: str, what: str, remedy: str) -> None:
        self.problems.append(Problem(subject, what, remedy))


def examine(wanted: Wanted, run: Run, look_at_share: Share = share_verify.look, root: str = "/") -> Findings:
    """Look at the host. `root` stands before the paths of files that the probes read."""
    findings = Findings()
    host = Host(root, run=lambda argv, _timeout: run(argv))
    if wanted.node:
        findings.seen["hostname"] = run(["hostname"])[1].strip()
        _accounts(wanted, run, findings)
        if _mounted(wanted, run, findings):
            _share(wanted, look_at_share, findings)
        _docker(wanted, _gpus(wanted, run, findings), run, findings)
    _listening(wanted, host, findings)
    if wanted.firewall:
        _firewall(wanted, host, findings)
    return findings


def _accounts(wanted: Wanted, run: Run, findings: Findings) -> None:
    _, out, _ = run(["getent", "passwd", *(account.name for account in wanted.accounts)])
    entries = [line.split(":") for line in out.split("\n") if line.count(":") >= 6]
    found = {entry[0]: f"{entry[2]}:{entry[3]}" for entry in entries}
    findings.seen["accounts"] = {account.name: found.get(account.name, "") for account in wanted.accounts}
    for account in wanted.accounts:
        ids = found.get(account.name)
        if ids is None:
            findings.add(f"account {account.name}", "is missing", wanted.again)
        elif ids != account.ids:
            findings.add(f"account {account.name}", f"has the ids {ids}, declared are {account.ids}", wanted.again)


def _mounted(wanted: Wanted, run: Run, findings: Findings) -> bool:
    path = wanted.nas_path
    run(["stat", f"{path}/."])  # an automount mounts when it is asked for
    _, out, _ = run(["findmnt", "--kernel", "--list", "--json", "--output", "TARGET,SOURCE,FSTYPE"])
    mount = find_mount(out, path)
    if mount is None:
        findings.add(f"NAS {path}", "nothing is mounted there", f"mount {path}, and see systemctl status for its unit.")
        return False
    findings.seen["nas"] = dict(zip(("source", "fstype"), mount))
    source, fstype = mount
    if _kind(fstype) != _kind(wanted.nas_fstype):
        findings.add(f"NAS {path}", f"is of type {fstype}, declared is {wanted.nas_fstype}", wanted.again)
    if ":" in wanted.nas_source and _place(source) != _place(wanted.nas_source):
        findings.add(f"NAS {path}", f"is {source}, declared is {wanted.nas_source}", wanted.again)
    return True


def find_mount(findmnt: str, path: str) -> tuple[str, str] | None:
    """Source and type of what is mounted on a path, from findmnt's JSON; the last one covers those before."""
    try:
        entries = json.loads(findmnt)["filesystems"]
    except (ValueError, KeyError):
        return None
    found = [entry for entry in entries if entry["target"] == path and entry["fstype"] != "autofs"]
    return (found[-1]["source"], found[-1]["fstype"]) if found else None


def _kind(fstype: str) -> str:
    return re.sub(r"^fuse\.|\d$", "", fstype)


def _place(source: str) -> str:
    return re.sub(r":/?", ":", source).rstrip("/")


Share = Callable[[str, Identity, Sequence[str]], share_verify.Seen]


def _share(wanted: Wanted, look: Share, findings: Findings) -> None:
    """Whose the shared files are, as this host sees them, and the hostfile."""
    accounts = {account.name: account.ids for account in wanted.accounts}
    homes = {account.name: account.ids for account in wanted.accounts if account.uid >= FIRST_USER_ID}
    owner = (wanted.owner, accounts[wanted.owner]) if wanted.owner in accounts else None
    hosts = [wanted.host, *(name for name in wanted.nodes if name != wanted.host)]
    everything = share_verify.expected(wanted.service, owner, homes, hosts)
    seen = look(wanted.nas_path, wanted.service, [one.path for one in everything])
    findings.seen["files"] = share_verify.owners(seen)
    # The records of others are for them to miss.
    others = {f".cluster/nodes/{name}.json" for name in hosts[1:]}
    ours = [one for one in everything if one.path not in others]
    for subject, what, remedy in share_verify.problems(wanted.service, ours, seen):
        findings.add(subject, what, remedy or wanted.again)
    _hostfile(wanted, seen, findings)


def parse_hostfile(text: str) -> list[tuple[str, int]]:
    """Hosts and slots; a line that is none has 0 slots."""
    entries = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        match = re.match(r"slots=(\d+)\Z", words[1]) if len(words) == 2 else None
        if words:
            entries.append((words[0], int(match.group(1)) if match else 0))
    return entries


def _hostfile(wanted: Wanted, seen: share_verify.Seen, findings: Findings) -> None:
    if seen.problem:
        findings.add("hostfile", f"cannot be read ({seen.problem})", wanted.again)
        return
    entries = parse_hostfile(seen.hostfile)
    findings.seen["hostfile"] = dict(entries)
    names = [name for name, _ in entries]
    for name, slots in entries:
        if name not in wanted.nodes:
            findings.add("hostfile", f"names {name}, which is not in gpu_nodes", wanted.again)
        if slots < 1:
            findings.add("hostfile", f"gives {name} no slots", f"Run site.yml --limit {name}.")
        if names.count(name) > 1:
            findings.add("hostfile", f"names {name} more than once", wanted.again)
    for name in wanted.nodes:
        if name not in names:
            findings.add("hostfile", f"lacks {name}", f"Run site.yml --limit {name}.")


def _gpus(wanted: Wanted, run: Run, findings: Findings) -> dict[str, Sequence[str]]:
    """The GPUs as they are now, and against what role nvidia left. Returns those that each project should see."""
    findings.problems.extend(judge_gpus(wanted))
    _, text, err = run(["cat", wanted.gpus_file])
    try:
        given = parse_given(text, wanted.gpus_file)
    except GpusteadError as error:
        findings.add("GPUs", f"for containers are not known ({error.what if text else _last(err)})", wanted.again)
        return {}
    findings.problems.extend(judge_given(given, wanted))
    uuids: dict[str, Sequence[str]] = {}
    for project in wanted.projects:
        try:
            uuids[project.name] = (
                given.uuids if project.gpus is None else share(json.loads(text), project.gpus)["uuids"]
            )
        except GpusteadError as error:
            findings.add(f"GPUs of {project.name}", f"have one that is not there ({error.what})", error.remedy)
    return uuids


def judge_gpus(wanted: Wanted) -> Iterator[Problem]:
    """What is wrong with the GPUs of the host."""
    info, remedy = wanted.gpu_info, f"See nvidia-smi on {wanted.host}."
    if "state" not in info:
        yield Problem("GPUs", f"cannot be asked ({info.get('msg') or 'no result'})", remedy)
    elif info["state"] in ("unusable", "degraded") and wanted.gpus_required:
        sentences = [problem for gpu in info["gpus"] for problem in gpu["problems"]] or [info["detail"]]
        details = " ".join(sentences).rstrip(".")
        yield Problem("GPUs", f"are {info['state']}, {info['reason']} ({details})", info["remedy"] or remedy)


def judge_given(given: GivenGpus, wanted: Wanted) -> Iterator[Problem]:
    """What has changed since role nvidia looked, and whether containers have what there is."""
    state = wanted.gpu_info.get("state")
    now = given_uuids(wanted.gpu_info) if state else []
    remedy = f"Run site.yml --tags nvidia,workspace,ssh_mesh --limit {wanted.host}."
    if state and state != given.state:
        yield Problem("GPUs", f"are {state} now, role nvidia found them {given.state}", remedy)
    if given.driver is None and now and wanted.gpus_required:
        yield Problem("GPUs", "are not given to containers", remedy)
    if state and given.driver and set(now) != set(given.uuids):
        was, are = (", ".join(sorted(uuids)) or "none" for uuids in (given.uuids, now))
        yield Problem("GPUs", f"are {are} now, containers were given {was}", remedy)


def _docker(wanted: Wanted, uuids: Mapping[str, Sequence[str]], run: Run, findings: Findings) -> None:
    state = run(["systemctl", "is-active", "docker.service"])[1].strip()
    if state != "active":
        findings.add("docker", f"is {state or 'not there'}", "systemctl status docker says why; start it.")
        return
    image = run(["cat", wanted.image_file])[1].strip()
    findings.seen["image"] = image.partition("/")[2] or image  # nodes may have it through different caches
    if not image and not all(project.image for project in wanted.projects):
        findings.add("image", f"{wanted.image_file} does not name one", wanted.again)
    _, ids, _ = run(["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", "label=com.docker.compose.project"])
    code, out, err = run(["docker", "inspect", "--type", "container", *ids.split()]) if ids.split() else (0, "[]", "")
    if code in (TIMED_OUT, TOO_MUCH):  # 1: one of them went away meanwhile
        findings.add("docker", f"does not tell about its containers: {err}", "See journalctl -u docker on the host.")
        return
    containers = {(item.project, item.service): item for item in parse_containers(out)}
    for project in wanted.projects:
        for service in project.services:
            container = containers.get((project.name, service))
            findings.problems.extend(judge(container, project, service, image, wanted))
            if uuids.get(project.name) and container and container.state == "running":
                findings.problems.extend(_proof(container, project, uuids[project.name], wanted, run))
    mesh = containers.get(MESH)
    if mesh and mesh.state == "running":
        findings.seen["peers"] = _peers(wanted, mesh.id, run, findings)


@dataclass(frozen=True)
class Container:
    id: str
    project: str
    service: str
    state: str
    health: str
    image: str
    ports: tuple[int, ...]


def parse_containers(inspect: str) -> Iterator[Container]:
    """Containers of compose projects in the output of `docker inspect`; those of `compose run` left out."""
    for item in json.loads(inspect or "[]"):
        labels = item["Config"].get("Labels") or {}
        bindings = (item.get("NetworkSettings") or {}).get("Ports") or {}
        if labels.get("com.docker.compose.oneoff", "False") == "True":
            continue
        yield Container(
            item["Id"],
            labels.get("com.docker.compose.project", ""),
            labels.get("com.docker.compose.service", ""),
            item["State"]["Status"],
            (item["State"].get("Health") or {}).get("Status", ""),
            item["Config"]["Image"],
            tuple(sorted({int(binding["HostPort"]) for bound in bindings.values() for binding in bound or ()})),
        )


def judge(found: Container | None, project: Project, service: str, image: str, wanted: Wanted) -> Iterator[Problem]:
    """What is wrong with the container of a service. `image`: the node's."""
    subject, image = f"service {project.name}/{service}", project.image or image
    if found is None:
        yield Problem(subject, "has no container", wanted.again)
        return
    logs = f"docker compose -p {project.name} logs {service} says why."
    if found.state != "running":
        yield Problem(subject, f"is {found.state}", f"{logs} {wanted.again}")
    elif found.health not in ("", "healthy"):
        yield Problem(subject, f"is {found.health}", logs)
    if image and found.image != image:
        yield Problem(subject, f"runs the image {found.image}, the node's is {image}", wanted.again)
    port = project.services[service]
    if port and found.state == "running" and port not in found.ports:
        actual = ", ".join(map(str, found.ports)) or "nothing"
        yield Problem(subject, f"publishes {actual}, declared is port {port}", wanted.again)


def _proof(container: Container, project: Project, uuids: Sequence[str], wanted: Wanted, run: Run) -> Iterator[Problem]:
    """Whether the container sees the GPUs that are meant for it."""
    proof = prove(container.service, ["docker", "exec", "--user", project.owner, container.id], uuids, run)
    if not proof.ok:
        role = "ssh_mesh" if container.project == MESH[0] else "workspace"
        remedy = f"Run site.yml --tags {role} --limit {wanted.host}: it creates the container anew."
        yield Problem(f"GPUs in {container.project}/{container.service}", f"are not the node's: {proof}", remedy)


def _peers(wanted: Wanted, container: str, run: Run, findings: Findings) -> dict[str, str]:
    """What every other node says to be called, asked over SSH from the mesh."""
    place = wanted.nodes.index(wanted.host) if wanted.host in wanted.nodes else 0
    # Each node begins with its neighbour, so that not all ask the same one at the same time.
    peers = [name for name in (*wanted.nodes[place:], *wanted.nodes[:place]) if name != wanted.host]
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"]

    def ask(peer: str) -> tuple[int, str, str]:
        return run(["docker", "exec", "--user", wanted.owner, container, "ssh", *options, peer, "hostname"])

    with ThreadPoolExecutor(PEERS_AT_ONCE) as pool:
        answers = dict(zip(peers, pool.map(ask, peers)))
    for peer, (code, _, err) in answers.items():
        if code:
            findings.add(
                f"SSH to {peer} in the mesh",
                f"fails ({_last(err)})",
                f"See the mesh of {peer}; run site.yml --limit {peer}.",
            )
    return {peer: out.strip() for peer, (code, out, _) in answers.items() if code == 0}


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no answer"


def _listening(wanted: Wanted, host: Host, findings: Findings) -> None:
    specs: list[tuple[str, dict[str, Any]]] = [
        ("listener", {"name": str(port), "networks": wanted.networks}) for port in wanted.listening.values()
    ]
    seen = observe(specs, host)
    findings.seen["listening"] = sorted(port for port in wanted.listening.values() if seen[f"listener {port}"])
    for what, port in wanted.listening.items():
        value = seen[f"listener {port}"]
        if value is None:
            findings.add(f"port {port}", f"nothing listens there, declared is {what}", wanted.again)
        elif "error" in value:
            findings.add(f"port {port}", f"cannot be looked at ({value['error']})", wanted.again)
        elif not value["heard"]:
            callers = ", ".join(wanted.networks) or "other hosts"
            findings.add(
                f"port {port}",
                f"{what} listens at {', '.join(value['at'])} alone, where {callers} cannot reach it",
                f"Correct the address in its configuration, or: {wanted.again}",
            )


def _firewall(wanted: Wanted, host: Host, findings: Findings) -> None:
    """What the receipt of role firewall looks at, by the same probes."""
    specs: list[tuple[str, dict[str, Any]]] = [
        ("ufw", {"name": "status"}),
        ("chain", {"name": "DOCKER-USER", "forwarded": True}),
    ]
    status, chain = observe(specs, host).values()
    if status is None or "error" in status or not status["enabled"]:
        reason = "" if status and "error" not in status else f" ({status['error'] if status else 'it is not there'})"
        findings.add("ufw", f"is not active{reason}", wanted.again)
    elif status["default_incoming"] not in ("deny", "reject"):
        findings.add("ufw", f"lets in by default ({status['default_incoming']})", wanted.again)
    if wanted.node:
        for problem in judge_chain(chain, wanted):
            findings.problems.append(problem)
    if not wanted.firewall_policy:
        return
    try:
        found, closed = find_openings(wanted.firewall_policy, host)
    except Exception as error:
        findings.add("firewall", f"its rules cannot be looked at ({error})", wanted.again)
        return
    for one in found:
        remedy = wanted.again
        if one.remedy:
            remedy = f"Undo it ({one.remedy}), declare it in firewall_extra_rules, or set firewall_exclusive: true."
        findings.add("firewall", str(one), remedy)
    for shut in closed:
        findings.add(
            "firewall", str(shut), f"See the rules of others in front of it (iptables -S, ufw status). {wanted.again}"
        )


def judge_chain(chain: Mapping[str, Any] | None, wanted: Wanted) -> Iterator[Problem]:
    """Whether role firewall's chain governs what Docker publishes. None: there is no DOCKER-USER at all."""
    remedy = f"ufw reload, or: {wanted.again}"
    if chain and "error" in chain:
        yield Problem("chain DOCKER-USER", f"cannot be looked at ({chain['error']})", remedy)
        return
    for family, command in (("v4", "iptables"), ("v6", "ip6tables")):
        if "-j gpustead-forward" not in ((chain or {}).get(family) or ()):
            yield Problem(f"{command} chain DOCKER-USER", "does not govern published ports", remedy)
        elif family in (chain or {})["bypassed"]:
            yield Problem(f"{command} chain DOCKER-USER", "is not what forwarded packets pass first", remedy)
