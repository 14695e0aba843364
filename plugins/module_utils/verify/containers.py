# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Docker and the containers of the compose projects: what runs, the GPUs inside, and SSH through the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_proof import prove
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import needs_uvm
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import TORCH_LABEL
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import MESH_PROJECT
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, docker, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import Unreadable
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.blocked_projects import (
    REMEDY,
    inspect_all,
    other_labels,
    passes,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import (
    Desired,
    Finding,
    Findings,
    Project,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.gpus import judge_kernels
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.host import last_line, read
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.runtime import judge_runtime

MESH = (MESH_PROJECT, "mesh")
# What a node asks of others at the same time: each sshd has all nodes as guests, and refuses a crowd.
PEERS_AT_ONCE = 8
LONGEST_NAME, LONGEST = 255, 1000  # characters of what they answer, and of why they do not


def examine_containers(
    desired: Desired, uuids: Mapping[str, Sequence[str]], run: Run, host: Host, findings: Findings
) -> None:
    unit = observe([("unit", {"name": "docker.service"})], host)["unit docker.service"]
    state = "not there" if unit is None else f"not to be asked ({unit['error']})" if "error" in unit else unit["active"]
    if state != "active":
        findings.add("docker", f"is {state}", "systemctl status docker says why; start it.")
        return
    image = read(desired.image_file, host)[0].strip()
    # Nodes of a variant have another one, rightly.
    findings.seen["variant" if desired.variant else "image"] = (
        image.partition("/")[2] or image
    )  # nodes may have it through different caches
    if not image and not all(project.image for project in desired.projects):
        findings.add("image", f"{desired.image_file} does not name one", desired.again)
    try:
        findings.notices.extend(judge_runtime(docker.components(host)))
        containers = _containers(desired, host, findings)
    except Unreadable as error:
        findings.add("docker", f"does not tell about its containers: {error}", "See journalctl -u docker on the host.")
        return
    for project in desired.projects:
        for service in project.services:
            container = containers.get((project.name, service))
            if isinstance(container, str):
                findings.add(f"service {project.name}/{service}", f"cannot be asked: {container}", REMEDY)
                continue
            findings.problems.extend(judge(container, project, service, image, desired))
            if uuids.get(project.name) and container and container.state == "running":
                uvm = needs_uvm(Path(host.path("/dev")))
                findings.problems.extend(_proof(container, project, uuids[project.name], desired, run, uvm=uvm))
    found = [one for one in containers.values() if isinstance(one, Container)]
    findings.problems.extend(judge_kernels(sorted({one.torch for one in found if one.torch}), desired))
    mesh = containers.get(MESH)
    if isinstance(mesh, Container) and mesh.state == "running":
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
    torch: str = ""  # release of PyTorch in its image, and the index that it is from


def _containers(desired: Desired, host: Host, findings: Findings) -> dict[tuple[str, str], Container | str]:
    """The first container of each service, or why Docker does not answer for it. Others that pass for one are found.

    Raises:
        Unreadable: Docker does not answer at all.
    """
    ids, pretenders = docker.compose_containers(host)
    wanted = [(project.name, service) for project in desired.projects for service in project.services]
    first = {each: ids["/".join(each)][0] for each in wanted if ids.get("/".join(each))}
    for service, names in sorted(pretenders.items()):
        if service.partition("/")[0] in {project.name for project in desired.projects}:
            findings.add(f"service {service}", passes(names), other_labels(names))
    said = inspect_all(list(first.values()), host)
    found: dict[tuple[str, str], Container | str] = {}
    for each, container in first.items():
        inspected = said[container]
        if inspected:
            found[each] = inspected if isinstance(inspected, str) else parse_container(inspected, *each)
    return found


def parse_container(inspected: Mapping[str, Any], project: str, service: str) -> Container:
    """A container of a service, as Docker describes it."""
    state, bindings = inspected["State"], (inspected.get("NetworkSettings") or {}).get("Ports") or {}
    # In some modes of a network a port has none of the host.
    ports = [str(binding.get("HostPort") or "") for bound in bindings.values() for binding in bound or ()]
    return Container(
        inspected["Id"],
        project,
        service,
        state["Status"],
        (state.get("Health") or {}).get("Status", ""),
        inspected["Config"]["Image"],
        tuple(sorted({int(port) for port in ports if port.isdecimal() and int(port)})),
        str((inspected["Config"].get("Labels") or {}).get(TORCH_LABEL, "")),
    )


def judge(found: Container | None, project: Project, service: str, image: str, desired: Desired) -> Iterator[Finding]:
    """What is wrong with the container of a service. `image`: the node's."""
    subject, image = f"service {project.name}/{service}", project.image or image
    if found is None:
        yield Finding(subject, "has no container", desired.again)
        return
    # What an account had it say may have escape sequences.
    logs = f"docker compose -p {project.name} logs {service} | cat -v says why."
    if found.state != "running":
        yield Finding(subject, f"is {found.state}", f"{logs} {desired.again}")
    elif found.health not in ("", "healthy"):
        yield Finding(subject, f"is {found.health}", logs)
    if image and found.image != image:
        yield Finding(subject, f"runs the image {found.image}, the node's is {image}", desired.again)
    port = project.services[service]
    if port and found.state == "running" and port not in found.ports:
        actual = ", ".join(map(str, found.ports)) or "nothing"
        yield Finding(subject, f"publishes {actual}, declared is port {port}", desired.again)


def _proof(
    container: Container, project: Project, uuids: Sequence[str], desired: Desired, run: Run, *, uvm: bool
) -> Iterator[Finding]:
    """Whether the container sees the GPUs that are meant for it."""
    inside = ["docker", "exec", "--user", project.owner, container.id]
    proof = prove(container.service, inside, uuids, run, uvm)
    if not proof.ok:
        role = "ssh_mesh" if container.project == MESH[0] else "workspace"
        remedy = f"Run site.yml --tags {role} --limit {desired.host}: it creates the container anew."
        yield Finding(f"GPUs in {container.project}/{container.service}", f"are not the node's: {proof}", remedy)


def _peers(desired: Desired, container: str, run: Run, findings: Findings) -> dict[str, str]:
    """What every other node says to be called, asked over SSH from the mesh."""
    place = desired.nodes.index(desired.host) if desired.host in desired.nodes else 0
    # Each node begins with its neighbour, so that not all ask the same one at the same time.
    peers = [name for name in (*desired.nodes[place:], *desired.nodes[:place]) if name != desired.host]
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"]

    def ask(peer: str) -> tuple[int, str, str]:
        code, out, err = run(["docker", "exec", "--user", desired.owner, container, "ssh", *options, peer, "hostname"])
        # The shell of its user says what it likes, on each of hundreds of nodes.
        return code, out.strip()[:LONGEST_NAME], last_line(err)[:LONGEST]

    with ThreadPoolExecutor(PEERS_AT_ONCE) as pool:
        answers = dict(zip(peers, pool.map(ask, peers)))
    for peer, (code, _second, err) in answers.items():
        if code:
            findings.add(
                f"SSH to {peer} in the mesh",
                f"fails ({err})",
                f"See the mesh of {peer}; run site.yml --limit {peer}.",
            )
    return {peer: out for peer, (code, out, _third) in answers.items() if code == 0}
