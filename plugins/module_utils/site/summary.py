# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the cluster offers to whom: from the inventory, and from what verify saw when it last ran. No host is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.firewall_plan import Settings
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.reach import (
    OfferedPort,
    Reach,
    merged,
    reach,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import (
    WORKSPACE_SERVICES,
    WorkspaceService,
    listening,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import address_of, owner_of, setting
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.last_report import LastReport
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import (
    Workspace,
    defaults_of,
    of_host,
)

EXAMPLE = "/opt/gpustead/examples/train.py"  # in the image
NOBODY = "OWNER"  # stands for the owner's name where there are no accounts
_SERVICES: Mapping[str, WorkspaceService] = {service.name: service for service in WORKSPACE_SERVICES}


@dataclass(frozen=True)
class ServiceOffer:
    """A service of a workspace.

    Attributes:
        title: what people call it.
        where: a URL, or a command that logs in.
        is_http: which of these.
        local: whether it is reached on the node alone.
    """

    title: str
    where: str
    is_http: bool
    local: bool


@dataclass(frozen=True)
class WorkspaceOffer:
    """A workspace. `owner` is empty where that need not be said."""

    owner: str
    services: list[ServiceOffer]


@dataclass(frozen=True)
class NodeOffer:
    """A node.

    Attributes:
        gpus: as verify saw them; empty: not known.
        state: well, ill or unknown, likewise.
    """

    name: str
    gpus: str
    state: str
    workspaces: list[WorkspaceOffer]


@dataclass(frozen=True)
class Summary:
    """What the pages say.

    Attributes:
        facts: what there is, in numbers.
        nodes: each with its workspaces.
        owner: of the cluster.
        secret: of the owner's JupyterLab: password, token (both as the site declares them) or file (a token made once).
        of_others: whether others have workspaces, too.
        read_token: command that shows the token that was made, on a node.
        log_in: command that logs in to a node.
        train: command that trains over all nodes, in a workspace.
        reach: who reaches which ports of which hosts.
        networks: of the callers that `reach` names, `nodes` and `clients`.
        verified: what it found.
    """

    facts: list[str]
    nodes: list[NodeOffer]
    owner: str
    secret: str
    of_others: bool
    read_token: str
    log_in: str
    train: str
    reach: list[Reach]
    networks: dict[str, list[str]]
    verified: LastReport


@dataclass(frozen=True)
class FirewallOfHost:
    """A host with a firewall: what role firewall declares there, its port for SSH, and the host's variables."""

    settings: Settings
    ssh_port: int
    variables: Mapping[str, Any] = field(default_factory=dict)


def summary(
    hosts: Mapping[str, Mapping[str, Any]],
    example: str,
    firewalls: Mapping[str, FirewallOfHost] | None = None,
    verified: LastReport | None = None,
) -> Summary:
    """The pages of a cluster.

    Args:
        hosts: variables of each GPU node, as far as they are set.
        example: the node whose settings stand for those of all.
        firewalls: of all hosts that have one.
        verified: what verify saw, if it ever ran.

    Raises:
        GpusteadError: workspaces cannot be as they are declared.
    """
    verified, variables = verified or LastReport(), hosts[example]
    workspaces = {host: of_host(values) for host, values in hosts.items()}
    owner = owner_of(variables) or NOBODY
    token = f"{setting(variables, 'cluster_nas_path')}/users/{owner}/.config/gpustead/jupyter_token"
    settings = [firewall.settings for firewall in (firewalls or {}).values()]
    gpus = sum(verified.gpus[host].count for host in hosts if host in verified.gpus)
    return Summary(
        facts=[
            _counted(len(hosts), "node"),
            *([_counted(gpus, "GPU")] if gpus else []),
            _counted(sum(map(len, workspaces.values())), "workspace"),
        ],
        nodes=[
            NodeOffer(
                name=host,
                gpus=verified.gpus[host].text if host in verified.gpus else "",
                state=verified.state(host),
                workspaces=[
                    WorkspaceOffer(
                        one.owner if len(found) > 1 or one.owner != owner else "", [*_services(one, host, hosts[host])]
                    )
                    for one in found
                ],
            )
            for host, found in workspaces.items()
        ],
        owner=owner,
        secret=_secret(variables),
        of_others={one.owner for found in workspaces.values() for one in found} != {owner},
        read_token=f"sudo -u {owner} cat {token}",
        log_in=_log_in(variables, example),
        train=f"mesh-run {EXAMPLE}",
        reach=merged(
            {host: _reach(firewall, workspaces.get(host, ())) for host, firewall in (firewalls or {}).items()}
        ),
        networks={
            "nodes": _all([one.network for one in settings]),
            "clients": _all([one.clients for one in settings]),
        },
        verified=verified,
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _all(lists: Sequence[Sequence[str]]) -> list[str]:
    return [*dict.fromkeys(str(one) for values in lists for one in values)]


def _services(workspace: Workspace, host: str, variables: Mapping[str, Any]) -> Iterator[ServiceOffer]:
    address = address_of(variables, host)
    for name, port in workspace.ports.items():
        service, local = _SERVICES[name], _is_local(variables, name)
        at = "127.0.0.1" if local else address
        ours = workspace.owner == (variables.get("client_user") or owner_of(variables))
        key = variables.get("client_identity_file") if ours else ""
        where = f"{_ssh(variables, key) if key else 'ssh'} -p {port} {workspace.owner}@{at}"
        if service.is_http:
            where = f"http://[{at}]:{port}/" if ":" in at else f"http://{quote(at, safe='')}:{port}/"
        yield ServiceOffer(service.title, where, service.is_http, local)


def _is_local(variables: Mapping[str, Any], service: str) -> bool:
    binds = setting(variables, "workspace_service_bind").get(service, setting(variables, "workspace_bind"))
    return all(bind == "::1" or bind.startswith("127.") for bind in binds)


def _reach(firewall: FirewallOfHost, workspaces: Sequence[Workspace]) -> list[Reach]:
    variables = firewall.variables
    groups: Sequence[str] = variables.get("group_names", ())
    # The usual ports have their titles also where nobody has a workspace with them.
    tables = [defaults_of(variables).ports, *(one.ports for one in workspaces)]
    ports = dict.fromkeys((name, int(port)) for table in tables for name, port in table.items())
    offered = [OfferedPort(_title(_SERVICES[name]), port, _is_local(variables, name)) for name, port in ports]
    return reach(firewall.settings, groups, firewall.ssh_port, offered, listening(groups, variables))


def _title(service: WorkspaceService) -> str:
    """Among the ports of the host, which has an sshd of its own."""
    return service.title if service.is_http else f"workspace {service.title}"


def _secret(variables: Mapping[str, Any]) -> str:
    if setting(variables, "workspace_jupyter_password_hash"):
        return "password"
    return "token" if setting(variables, "workspace_jupyter_token") else "file"


def _log_in(variables: Mapping[str, Any], host: str) -> str:
    user = f"{variables['ansible_user']}@" if "ansible_user" in variables else ""
    port = f"-p {variables['ansible_port']} " if "ansible_port" in variables else ""
    ssh = _ssh(variables, variables.get("ansible_ssh_private_key_file"))
    return f"{ssh} {port}{user}{variables.get('ansible_host', host)}"


def _ssh(variables: Mapping[str, Any], key: str | None) -> str:
    """The command with this key, and with Ansible's way to the node: its jump host, the file of its host keys."""
    return " ".join(filter(None, ["ssh", f"-i {key}" if key else "", variables.get("ansible_ssh_common_args", "")]))
