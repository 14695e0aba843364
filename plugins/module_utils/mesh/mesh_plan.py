# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All that role ssh_mesh makes on a node and on the share, from its settings and from what was found there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import common_place
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import refuse_secrets
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.containers import ContainerBind, to_recreate
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_offer import (
    NO_GPUS,
    offered_image,
    refuse_held,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import none_by_itself
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nccl_env import nccl_env
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_places
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import layout
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.node_records import SCHEMA, NodeRecord

PROJECT, SERVICE = "gpustead-mesh", "mesh"
# These variables stand on the share and in the container's description, where all of a node, or of the site, read them.
SECRETS = (
    "Put it into ~/.deepspeed_env in the home on the share of who trains, with mode 0600: mesh-run reads it there."
)
SET = "ssh_mesh"
# The layout of the share. In that of the mesh its user owns the key, and can neither rename it nor put another entry
# there.
_DIRECTORIES = {path: layout.DIRECTORIES[path] for path in (".cluster", layout.NODES, layout.ACCOUNTS, layout.MESH)}
# Below the home of each account: the key that mesh-run makes it, and that lets in nobody but that account.
_ACCOUNT_KEY = ".config/gpustead/mesh_key.pub"
# Of the node's directory of the mesh, by the place in the container.
_OWN = {
    "/etc/gpustead/ssh": "ssh",
    "/etc/gpustead/mesh.env": "env",
    "/opt/gpustead/examples": "examples",
}


@dataclass(frozen=True)
class Settings:
    """The variables of role ssh_mesh, without its name before each.

    Attributes:
        host: name of the node in the inventory.
        members: the nodes of the mesh, as a table of them.
        user, account: name of the mesh's user, and its `uid` and `gid`.
        user_names: all accounts, for messages.
        image, image_file: the image to run, and where it stands where that is empty.
        former: ids of the accounts that may have something of the layout of the share.
        kex: how keys are exchanged, as OpenSSH names it.
        common_places: places on the share beside the homes and `shared`, each the service account's.
        umask, caches: of the runs; and of which hubs there is one cache for all, as cluster_caches has it.
        network: networks from which alone accounts come; empty: from anywhere.
        env, node_env: variables for programs in all containers of the mesh, and in this node's.
    """

    host: str
    members: Mapping[str, Any]
    user: str
    account: Mapping[str, Any]
    former: Sequence[int]
    service_account: Mapping[str, Any]
    address: str
    port: int
    user_names: str = ""
    image: str = ""
    image_file: str = "/etc/gpustead/image"
    kex: str = ""
    network: Sequence[str] = ()
    common_places: Sequence[str] = ()
    umask: str = ""
    caches: Mapping[str, str] = field(default_factory=dict)
    nas_path: str = "/mnt/nas"
    config_dir: str = "/etc/gpustead/ssh_mesh"
    interface: str = ""
    env: Mapping[str, Any] = field(default_factory=dict)
    node_env: Mapping[str, Any] = field(default_factory=dict)
    cpu_slots: int = 2
    propagation: str = "rslave"


@dataclass(frozen=True)
class Observed:
    """What was found on the node; nothing, before it was looked at.

    Attributes:
        offer: what module node_offer_info returned; empty before that.
        replaced: names of the mounts that stand for another place than before.
        drifted: what was found to have drifted, as a receipt names it.
        check: whether it is a check, in which other roles have left nothing yet on a fresh host.
    """

    offer: Mapping[str, Any] = field(default_factory=dict)
    replaced: Sequence[str] = ()
    drifted: Sequence[str] = ()
    check: bool = False


@dataclass(frozen=True)
class Plan:
    """All that the role makes.

    Attributes:
        uid, gid: of the mesh's user.
        layout_owner: `uid` and `gid` of the account that the layout of the share belongs to.
        owned: `owner`, `group` and `former` of what belongs to it, as module nas_files takes them.
        nas_layout: for module nas_files, the directories of the mesh and the record of this node.
        node_env: settings of this node for all programs in the container.
        environment: of the container.
        image: what the container is made of; empty where it is not known yet.
        gpus: `driver`, `device_ids` and `uuids` of the node's, as compose takes them.
        devices: to give to the container.
        places: for module binds.
        binds: what the container binds.
        recreate: services whose containers run otherwise than the role had left them.
    """

    uid: int
    gid: int
    layout_owner: Mapping[str, int]
    owned: Mapping[str, Any]
    nas_layout: Sequence[Mapping[str, Any]]
    node_env: Mapping[str, Any]
    environment: Mapping[str, Any]
    image: str
    gpus: Mapping[str, Any]
    devices: Sequence[str]
    places: Sequence[Mapping[str, Any]]
    binds: Sequence[ContainerBind]
    recreate: Sequence[str]


def plan(settings: Settings, observed: Observed) -> Plan:
    """All that the role makes on one node.

    Raises:
        GpusteadError: the mesh cannot be on this node: its user has no account, the node is none of the mesh, there is
            no image, an account has the port, Docker does not answer for its container or another one passes for it;
            the route is not what ip prints; or a variable is secret.
    """
    for name, variables in (("ssh_mesh_env", settings.env), ("ssh_mesh_node_env", settings.node_env)):
        refuse_secrets(name, variables, SECRETS)
    uid, gid = _ids(settings)
    if settings.host not in settings.members:
        what = f"{settings.host} is not in ssh_mesh_nodes {[*settings.members]}"
        raise GpusteadError(what, "each node of the mesh in there", "Add it to group gpu_nodes.")
    found = observed.offer
    image = offered_image(settings.image, settings.image_file, found, "ssh_mesh_image", check=observed.check)
    refuse_held({"the mesh's sshd": int(settings.port)}, found, "choose another one with ssh_mesh_port")
    for one in found.get("blocked", ()):
        raise GpusteadError(one["what"], one["expected"], one["remedy"])
    owner, group = int(settings.service_account["uid"]), int(settings.service_account["gid"])
    # Everything on the share is written as its owner: under root_squash, root is nobody there. Of the layout that is an
    # account that nobody logs in as; it takes what accounts had of it.
    owned = {"owner": owner, "group": group, "former": [int(one) for one in settings.former]}
    offered = found.get("gpus") or NO_GPUS
    nccl = nccl_env(offered, found.get("route", ""), settings.interface)
    node_env = {"GPUSTEAD_NODE": settings.host, **nccl, **settings.node_env}
    places = _places(settings, uid, owner)
    return Plan(
        uid=uid,
        gid=gid,
        layout_owner={"uid": owner, "gid": group},
        owned=owned,
        nas_layout=_nas_layout(settings, observed, nccl.get("GLOO_SOCKET_IFNAME", ""), owned),
        node_env=node_env,
        environment={
            **none_by_itself(offered),
            **node_env,
            "GPUSTEAD_USER": settings.user,
            "GPUSTEAD_UID": str(uid),
            "GPUSTEAD_GID": str(gid),
            "GPUSTEAD_SUDO": "0",
            "GPUSTEAD_SSH_PORT": str(settings.port),
            "GPUSTEAD_SSH_KEX": settings.kex,
            "GPUSTEAD_SSH_KEYS": _ACCOUNT_KEY,
            **({"GPUSTEAD_UMASK": settings.umask} if settings.umask else {}),
            **common_place.environment(name for name, whose in settings.caches.items() if whose == "common"),
            **({"GPUSTEAD_SSH_FROM": ",".join(settings.network)} if settings.network else {}),
        },
        image=image,
        gpus={"driver": offered["driver"], **{key: list(offered[key]) for key in ("device_ids", "uuids")}},
        devices=[*(["/dev/infiniband"] if found.get("infiniband") else []), *offered["device_nodes"]],
        places=places,
        binds=_binds(settings),
        recreate=to_recreate(
            PROJECT, [SERVICE], observed.drifted, [place["name"] for place in places], observed.replaced
        ),
    )


def _ids(settings: Settings) -> tuple[int, int]:
    if "uid" not in settings.account:
        what = f"ssh_mesh_user {settings.user!r} is not an account with a uid"
        expected = f"one of cluster_users ({settings.user_names or 'none'})"
        raise GpusteadError(what, expected, "Add it there with its uid, or set cluster_owner.")
    return int(settings.account["uid"]), int(settings.account.get("gid", settings.account["uid"]))


def _nas_layout(
    settings: Settings, observed: Observed, interface: str, owned: Mapping[str, Any]
) -> list[dict[str, Any]]:
    offered = observed.offer.get("gpus") or NO_GPUS
    record = NodeRecord(
        host=settings.host,
        address=settings.address,
        slots=int(offered["slots"] or settings.cpu_slots),
        gpus=tuple(offered["uuids"]),
        interface=interface,
        ssh_mesh_port=int(settings.port),
        machine_id=observed.offer.get("machine_id", ""),
    )
    text = json.dumps({"schema": SCHEMA, **asdict(record)}, indent=4) + "\n"
    directories = [{"path": path, "mode": mode, **owned, "state": "directory"} for path, mode in _DIRECTORIES.items()]
    file = {"path": f".cluster/nodes/{settings.host}.json", "state": "file", "mode": "0644", "content": text}
    return [*directories, {**owned, **file}]


def _places(settings: Settings, uid: int, owner: int) -> list[dict[str, Any]]:
    """Accounts may put links on the share, and Docker follows them: these are mounted where only root can."""
    common = {"root": settings.nas_path, "mounted": True, "propagation": settings.propagation}
    return [
        # All homes: nobody has sudo in there, and each is closed to all but its account.
        {"name": "homes", "path": layout.USERS, "owner": owner, **common},
        {"name": "shared", "path": "shared", "only_account": uid, **common},
        {"name": "mesh", "path": layout.MESH, "only_account": uid, "read_only": True, **common},
        *({"name": name, "path": name, "owner": owner, **common} for name in settings.common_places),
        {"name": "accounts", "path": layout.ACCOUNTS, "owner": owner, "read_only": True, **common},
    ]


def _binds(settings: Settings) -> list[ContainerBind]:
    def mounted(name: str, path: str, read_only: bool = False) -> ContainerBind:
        return ContainerBind(name, f"{DIRECTORY}/{SET}/{name}", path, read_only, propagation=settings.propagation)

    return [
        mounted("homes", "/home"),
        mounted("shared", "/shared"),
        *(mounted(name, f"/{name}") for name in settings.common_places),
        mounted("mesh", "/mesh", read_only=True),
        mounted("accounts", "/run/gpustead/accounts", read_only=True),
        *mesh_places.binds(own_door=True),
        *(ContainerBind("", f"{settings.config_dir}/{name}", path, read_only=True) for path, name in _OWN.items()),
    ]
