# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host of the cluster compared with what is declared for it. Nothing is changed, and no problem hides another.

What a receipt looks at, too, is looked at by its probe.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import given_uuids, share
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_proof import (
    GivenGpus,
    parse_given,
    prove,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, docker, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.files import Unreadable, reason
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.network import find_openings
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.site.services import MESH_PROJECT
from ansible_collections.gpustead.cluster.plugins.module_utils.site.settings import DEFAULTS, SERVICE_ACCOUNT
from ansible_collections.gpustead.cluster.plugins.module_utils.verify import share as share_verify

MESH = (MESH_PROJECT, "mesh")
SERVICE = Identity(SERVICE_ACCOUNT["uid"], SERVICE_ACCOUNT["gid"])
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
class DeclaredAccount:
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
class Desired:
    """What is declared for a host. `node`: it is a GPU node; else only its ports and its firewall are looked at.

    `networks` are those from which the ports in `listening` are called (none: any that is not the host itself);
    `firewall_policy` is what the probe `openings` is given.
    """

    host: str
    node: bool = False
    owner: str = ""
    accounts: tuple[DeclaredAccount, ...] = ()
    service: Identity = SERVICE  # whose the layout of the share is
    nas_path: str = DEFAULTS["cluster_nas_path"]
    nas_source: str = DEFAULTS["nas_source"]
    nas_fstype: str = DEFAULTS["nas_fstype"]
    nodes: tuple[str, ...] = ()
    image_file: str = f"{DEFAULTS['cluster_config_dir']}/image"
    projects: tuple[Project, ...] = ()
    listening: Mapping[str, int] = field(default_factory=dict)  # what listens on a port of the host itself
    networks: Sequence[str] = ()
    firewall: bool = True
    firewall_policy: Mapping[str, Any] = field(default_factory=dict)
    gpus_file: str = f"{DEFAULTS['cluster_config_dir']}/gpus.json"
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


def host_of(run: Run, root: str = "/", docker_socket: str = "/run/docker.sock") -> Host:
    """The host as the probes see it. What they digest is compared with nothing here: any salt will do.

    Args:
        run: runs every command, with its own limits.
        root: stands before the paths of files.
        docker_socket: where Docker answers.
    """

    def limited(argv: Sequence[str], _timeout: float) -> tuple[int, str, str]:
        return run(argv)

    return Host(root, os.urandom(16), limited, docker_socket)


def examine(desired: Desired, run: Run, host: Host, observe_share: Share = share_verify.observe_share) -> Findings:
    """Look at the host.

    Args:
        desired: what is declared for it.
        run: for what verify alone asks: other containers and nodes.
        host: for the probes.
        observe_share: looks at the share as its owner.
    """
    findings = Findings()
    if desired.node:
        findings.seen["hostname"] = run(["hostname"])[1].strip()
        _accounts(desired, host, findings)
        if _mounted(desired, run, host, findings):
            _share(desired, observe_share, findings)
        _docker(desired, _gpus(desired, host, findings), run, host, findings)
    _listening(desired, host, findings)
    if desired.firewall:
        _firewall(desired, host, findings)
    return findings


def _accounts(desired: Desired, host: Host, findings: Findings) -> None:
    seen = observe([("user", {"name": account.name, "fields": ["uid", "gid"]}) for account in desired.accounts], host)
    ids = {}
    for account in desired.accounts:
        value, subject = seen[f"user {account.name}"], f"account {account.name}"
        ids[account.name] = "{uid}:{gid}".format(**value) if value and "error" not in value else ""
        if value is None:
            findings.add(subject, "is missing", desired.again)
        elif "error" in value:
            findings.add(subject, f"cannot be looked at ({value['error']})", desired.again)
        elif ids[account.name] != account.ids:
            findings.add(subject, f"has the ids {ids[account.name]}, declared are {account.ids}", desired.again)
    findings.seen["accounts"] = ids


def _mounted(desired: Desired, run: Run, host: Host, findings: Findings) -> bool:
    path = desired.nas_path
    run(["stat", f"{path}/."])  # an automount mounts when it is asked for
    (value,) = observe([("mount", {"name": path})], host).values()
    if value and "error" in value:
        findings.add(f"NAS {path}", f"cannot be looked at ({value['error']})", desired.again)
        return False
    source, fstype = (value["source"], value["fstype"]) if value else (None, None)
    if source is None or fstype in (None, "autofs"):
        findings.add(f"NAS {path}", "nothing is mounted there", f"mount {path}, and see systemctl status for its unit.")
        return False
    findings.seen["nas"] = {"source": source, "fstype": fstype}
    if _kind(fstype) != _kind(desired.nas_fstype):
        findings.add(f"NAS {path}", f"is of type {fstype}, declared is {desired.nas_fstype}", desired.again)
    if ":" in desired.nas_source and _place(source) != _place(desired.nas_source):
        findings.add(f"NAS {path}", f"is {source}, declared is {desired.nas_source}", desired.again)
    return True


def _kind(fstype: str) -> str:
    return re.sub(r"^fuse\.|\d$", "", fstype)


def _place(source: str) -> str:
    return re.sub(r":/?", ":", source).rstrip("/")


Share = Callable[[str, Identity, Sequence[str]], share_verify.ObservedShare]


def _share(desired: Desired, observe_share: Share, findings: Findings) -> None:
    """Whose the shared files are, as this host sees them, and the hostfile."""
    accounts = {account.name: account.ids for account in desired.accounts}
    homes = {account.name: account.ids for account in desired.accounts if account.uid >= FIRST_USER_ID}
    owner = (desired.owner, accounts[desired.owner]) if desired.owner in accounts else None
    hosts = [desired.host, *(name for name in desired.nodes if name != desired.host)]
    everything = share_verify.expected_files(desired.service, owner, homes, hosts)
    seen = observe_share(desired.nas_path, desired.service, [one.path for one in everything])
    findings.seen["files"] = share_verify.owners(seen)
    # The records of others are for them to miss.
    others = {f".cluster/nodes/{name}.json" for name in hosts[1:]}
    ours = [one for one in everything if one.path not in others]
    for subject, what, remedy in share_verify.problems(desired.service, ours, seen):
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


def _hostfile(desired: Desired, seen: share_verify.ObservedShare, findings: Findings) -> None:
    if seen.problem:
        findings.add("hostfile", f"cannot be read ({seen.problem})", desired.again)
        return
    entries = parse_hostfile(seen.hostfile)
    findings.seen["hostfile"] = dict(entries)
    names = [name for name, _ in entries]
    for name, slots in entries:
        if name not in desired.nodes:
            findings.add("hostfile", f"names {name}, which is not in gpu_nodes", desired.again)
        if slots < 1:
            findings.add("hostfile", f"gives {name} no slots", f"Run site.yml --limit {name}.")
        if names.count(name) > 1:
            findings.add("hostfile", f"names {name} more than once", desired.again)
    for name in desired.nodes:
        if name not in names:
            findings.add("hostfile", f"lacks {name}", f"Run site.yml --limit {name}.")


def _read(path: str, host: Host) -> tuple[str, str]:
    """The text of a file of root's, and why there is none."""
    try:
        text = host.text(path)
    except (OSError, Unreadable) as error:
        return "", str(reason(error)["error"])
    return text or "", "" if text is not None else f"{path} is not there"


def _gpus(desired: Desired, host: Host, findings: Findings) -> dict[str, Sequence[str]]:
    """The GPUs as they are now, and against what role nvidia left. Returns those that each project should see."""
    findings.problems.extend(judge_gpus(desired))
    text, missing = _read(desired.gpus_file, host)
    try:
        given = parse_given(text, desired.gpus_file)
    except GpusteadError as error:
        findings.add("GPUs", f"for containers are not known ({missing or error.what})", desired.again)
        return {}
    findings.problems.extend(judge_given(given, desired))
    uuids: dict[str, Sequence[str]] = {}
    for project in desired.projects:
        try:
            uuids[project.name] = (
                given.uuids if project.gpus is None else share(json.loads(text), project.gpus)["uuids"]
            )
        except GpusteadError as error:
            findings.add(f"GPUs of {project.name}", f"have one that is not there ({error.what})", error.remedy)
    return uuids


def judge_gpus(desired: Desired) -> Iterator[Problem]:
    """What is wrong with the GPUs of the host."""
    info, remedy = desired.gpu_info, f"See nvidia-smi on {desired.host}."
    if "state" not in info:
        yield Problem("GPUs", f"cannot be asked ({info.get('msg') or 'no result'})", remedy)
    elif info["state"] in ("unusable", "degraded") and desired.gpus_required:
        sentences = [problem for gpu in info["gpus"] for problem in gpu["problems"]] or [info["detail"]]
        details = " ".join(sentences).rstrip(".")
        yield Problem("GPUs", f"are {info['state']}, {info['reason']} ({details})", info["remedy"] or remedy)


def judge_given(given: GivenGpus, desired: Desired) -> Iterator[Problem]:
    """What has changed since role nvidia looked, and whether containers have what there is."""
    state = desired.gpu_info.get("state")
    now = given_uuids(desired.gpu_info) if state else []
    remedy = f"Run site.yml --tags nvidia,workspace,ssh_mesh --limit {desired.host}."
    if state and state != given.state:
        yield Problem("GPUs", f"are {state} now, role nvidia found them {given.state}", remedy)
    if given.driver is None and now and desired.gpus_required:
        yield Problem("GPUs", "are not given to containers", remedy)
    if state and given.driver and set(now) != set(given.uuids):
        was, are = (", ".join(sorted(uuids)) or "none" for uuids in (given.uuids, now))
        yield Problem("GPUs", f"are {are} now, containers were given {was}", remedy)


def _docker(desired: Desired, uuids: Mapping[str, Sequence[str]], run: Run, host: Host, findings: Findings) -> None:
    (unit,) = observe([("unit", {"name": "docker.service"})], host).values()
    state = "not there" if unit is None else f"not to be asked ({unit['error']})" if "error" in unit else unit["active"]
    if state != "active":
        findings.add("docker", f"is {state}", "systemctl status docker says why; start it.")
        return
    image = _read(desired.image_file, host)[0].strip()
    findings.seen["image"] = image.partition("/")[2] or image  # nodes may have it through different caches
    if not image and not all(project.image for project in desired.projects):
        findings.add("image", f"{desired.image_file} does not name one", desired.again)
    try:
        containers = _containers(desired, host)
    except Unreadable as error:
        findings.add("docker", f"does not tell about its containers: {error}", "See journalctl -u docker on the host.")
        return
    for project in desired.projects:
        for service in project.services:
            container = containers.get((project.name, service))
            findings.problems.extend(judge(container, project, service, image, desired))
            if uuids.get(project.name) and container and container.state == "running":
                findings.problems.extend(_proof(container, project, uuids[project.name], desired, run))
    mesh = containers.get(MESH)
    if mesh and mesh.state == "running":
        findings.seen["peers"] = _peers(desired, mesh.id, run, findings)


@dataclass(frozen=True)
class Container:
    id: str
    project: str
    service: str
    state: str
    health: str
    image: str
    ports: tuple[int, ...]


def _containers(desired: Desired, host: Host) -> dict[tuple[str, str], Container]:
    """The first container of each service.

    Raises:
        Unreadable: Docker does not answer.
    """
    ids = docker.compose_services(host)
    found = {}
    for project in desired.projects:
        for service in project.services:
            names = ids.get(f"{project.name}/{service}")
            inspected = docker.inspect(names[0], host) if names else None
            if inspected:
                found[project.name, service] = parse_container(inspected, project.name, service)
    return found


def parse_container(inspected: Mapping[str, Any], project: str, service: str) -> Container:
    """A container of a service, as Docker describes it."""
    state, bindings = inspected["State"], (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    return Container(
        inspected["Id"],
        project,
        service,
        state["Status"],
        (state.get("Health") or {}).get("Status", ""),
        inspected["Config"]["Image"],
        tuple(sorted({int(binding["HostPort"]) for bound in bindings.values() for binding in bound or ()})),
    )


def judge(found: Container | None, project: Project, service: str, image: str, desired: Desired) -> Iterator[Problem]:
    """What is wrong with the container of a service. `image`: the node's."""
    subject, image = f"service {project.name}/{service}", project.image or image
    if found is None:
        yield Problem(subject, "has no container", desired.again)
        return
    logs = f"docker compose -p {project.name} logs {service} says why."
    if found.state != "running":
        yield Problem(subject, f"is {found.state}", f"{logs} {desired.again}")
    elif found.health not in ("", "healthy"):
        yield Problem(subject, f"is {found.health}", logs)
    if image and found.image != image:
        yield Problem(subject, f"runs the image {found.image}, the node's is {image}", desired.again)
    port = project.services[service]
    if port and found.state == "running" and port not in found.ports:
        actual = ", ".join(map(str, found.ports)) or "nothing"
        yield Problem(subject, f"publishes {actual}, declared is port {port}", desired.again)


def _proof(
    container: Container, project: Project, uuids: Sequence[str], desired: Desired, run: Run
) -> Iterator[Problem]:
    """Whether the container sees the GPUs that are meant for it."""
    proof = prove(container.service, ["docker", "exec", "--user", project.owner, container.id], uuids, run)
    if not proof.ok:
        role = "ssh_mesh" if container.project == MESH[0] else "workspace"
        remedy = f"Run site.yml --tags {role} --limit {desired.host}: it creates the container anew."
        yield Problem(f"GPUs in {container.project}/{container.service}", f"are not the node's: {proof}", remedy)


def _peers(desired: Desired, container: str, run: Run, findings: Findings) -> dict[str, str]:
    """What every other node says to be called, asked over SSH from the mesh."""
    place = desired.nodes.index(desired.host) if desired.host in desired.nodes else 0
    # Each node begins with its neighbour, so that not all ask the same one at the same time.
    peers = [name for name in (*desired.nodes[place:], *desired.nodes[:place]) if name != desired.host]
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"]

    def ask(peer: str) -> tuple[int, str, str]:
        return run(["docker", "exec", "--user", desired.owner, container, "ssh", *options, peer, "hostname"])

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


def _listening(desired: Desired, host: Host, findings: Findings) -> None:
    specs: list[tuple[str, dict[str, Any]]] = [
        ("listener", {"name": str(port), "networks": desired.networks}) for port in desired.listening.values()
    ]
    seen = observe(specs, host)
    findings.seen["listening"] = sorted(port for port in desired.listening.values() if seen[f"listener {port}"])
    for what, port in desired.listening.items():
        value = seen[f"listener {port}"]
        if value is None:
            findings.add(f"port {port}", f"nothing listens there, declared is {what}", desired.again)
        elif "error" in value:
            findings.add(f"port {port}", f"cannot be looked at ({value['error']})", desired.again)
        elif not value["heard"]:
            callers = ", ".join(desired.networks) or "other hosts"
            findings.add(
                f"port {port}",
                f"{what} listens at {', '.join(value['at'])} alone, where {callers} cannot reach it",
                f"Correct the address in its configuration, or: {desired.again}",
            )


def _firewall(desired: Desired, host: Host, findings: Findings) -> None:
    """What the receipt of role firewall looks at, by the same probes."""
    specs: list[tuple[str, dict[str, Any]]] = [
        ("ufw", {"name": "status"}),
        ("chain", {"name": "DOCKER-USER", "forwarded": True}),
    ]
    status, chain = observe(specs, host).values()
    if status is None or "error" in status or not status["enabled"]:
        reason = "" if status and "error" not in status else f" ({status['error'] if status else 'it is not there'})"
        findings.add("ufw", f"is not active{reason}", desired.again)
    elif status["default_incoming"] not in ("deny", "reject"):
        findings.add("ufw", f"lets in by default ({status['default_incoming']})", desired.again)
    if desired.node:
        for problem in judge_chain(chain, desired):
            findings.problems.append(problem)
    if not desired.firewall_policy:
        return
    try:
        found, closed = find_openings(desired.firewall_policy, host)
    except Exception as error:
        findings.add("firewall", f"its rules cannot be looked at ({error})", desired.again)
        return
    for one in found:
        remedy = desired.again
        if one.remedy:
            remedy = f"Undo it ({one.remedy}), declare it in firewall_extra_rules, or set firewall_exclusive: true."
        findings.add("firewall", str(one), remedy)
    for shut in closed:
        findings.add(
            "firewall", str(shut), f"See the rules of others in front of it (iptables -S, ufw status). {desired.again}"
        )


def judge_chain(chain: Mapping[str, Any] | None, desired: Desired) -> Iterator[Problem]:
    """Whether role firewall's chain governs what Docker publishes. None: there is no DOCKER-USER at all."""
    remedy = f"ufw reload, or: {desired.again}"
    if chain and "error" in chain:
        yield Problem("chain DOCKER-USER", f"cannot be looked at ({chain['error']})", remedy)
        return
    for family, command in (("v4", "iptables"), ("v6", "ip6tables")):
        if "-j gpustead-forward" not in ((chain or {}).get(family) or ()):
            yield Problem(f"{command} chain DOCKER-USER", "does not govern published ports", remedy)
        elif family in (chain or {})["bypassed"]:
            yield Problem(f"{command} chain DOCKER-USER", "is not what forwarded packets pass first", remedy)
