# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All that role workspace makes on a node, from its settings and from what was found there."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import common_place
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.containers import ContainerBind, to_recreate
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_offer import (
    NO_GPUS,
    offered_image,
    refuse_held,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import container_gpus, none_by_itself
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import torch_wheel
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_places
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import (
    Available,
    Binds,
    HostLayout,
    available,
    receipt,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_binds import plan as plan_binds
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import (
    NEAR,
    SERVICES,
    UNITS,
    Workspace,
)

# What programs keep on the node in profile local, by the name of its directory in the owner's place.
CACHES = ("cache", "vscode-server")
LOCAL = "/local"
SETTINGS = "/etc/gpustead/settings"
# What compose files of a check say on a fresh host.
NO_IMAGE = "not-pulled-yet"
# In the owner's home on the share, with their modes.
_DIRECTORIES = {"runs": "0755", ".config": "0700", ".config/gpustead": "0700"}
_NAMED = re.compile(r"(?!.*\.\.)[^/\s]\S*")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")
_HASHED = re.compile(r"(argon2|sha1|sha256):")


@dataclass(frozen=True)
class Settings:
    """The variables of role workspace, without its name before each.

    Attributes:
        owner, owner_uid: of the cluster.
        user_names: all accounts, for messages.
        image, image_file: the image to run, and where it stands where that is empty.
        common: what accounts have in common, as module common_place takes it.
        config_dir: the directory above that of the workspaces, where root's files for containers lie.
        proxy_env, environment: more variables for the containers.
        vouches: whether this node vouches for what the cluster's owner has on the share.
    """

    owner: str
    owner_uid: int | None
    user_names: str = ""
    image: str = ""
    image_file: str = "/etc/gpustead/image"
    nas_path: str = "/mnt/nas"
    common: Mapping[str, Any] = field(default_factory=dict)
    config_dir: str = "/etc/gpustead"
    local_dir: str = "/var/lib/gpustead/workspace"
    local_homes: str = "/home"
    local_settings: Sequence[str] = ()
    local_state: Sequence[str] = ()
    mounts: Sequence[Mapping[str, Any]] = ()
    propagation: str = "rslave"
    display: str = ""
    driver_capabilities: str = ""
    authorized_keys: Sequence[str] = ()
    jupyter_token: str = field(default="", repr=False)
    jupyter_password_hash: str = field(default="", repr=False)
    tensorboard_logdir: str = ""
    gradio_app: str = ""
    repositories: Sequence[Mapping[str, Any]] = ()
    torch_version: str = ""
    torch_index: str = ""
    proxy_env: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    vouches: bool = False

    @property
    def places(self) -> tuple[str, ...]:
        """Directories in the place of each workspace on the node."""
        return (*CACHES, *map(_place_of, self.local_state))

    @property
    def layout(self) -> HostLayout:
        return HostLayout(
            nas=self.nas_path,
            local_dir=self.local_dir,
            config_dir=self.config_dir,
            owner_uid=self.owner_uid,
            propagation=self.propagation,
            display=bool(self.display),
            places=self.places,
            common=common_place.parse(self.common),
            homes=self.local_homes,
            settings=self.local_settings,
        )


@dataclass(frozen=True)
class Observed:
    """What was found on the node, and what was done there before containers are started; nothing, before that.

    Attributes:
        offer: what module node_offer_info returned; empty before that.
        mounted, placed: what modules binds and local_place returned.
        drifted: what was found to have drifted, as a receipt names it.
        blocked: compose projects that must be left alone, as module node_offer_info returned them.
        cgroup_driver: of Docker, where a workspace has limits; empty: not asked.
        check: whether it is a check, in which other roles have left nothing yet on a fresh host.
    """

    offer: Mapping[str, Any] = field(default_factory=dict)
    mounted: Mapping[str, Any] = field(default_factory=dict)
    placed: Mapping[str, Any] = field(default_factory=dict)
    drifted: Sequence[str] = ()
    blocked: Sequence[Mapping[str, str]] = ()
    check: bool = False
    cgroup_driver: str = ""


@dataclass(frozen=True)
class Containers:
    """Of one workspace, what its containers are made of.

    Attributes:
        refused: why it is left as it is, as a module has said, or empty; in a check not for what is not mounted.
        problem: why its containers cannot be made, or empty.
        binds: in both profiles.
        local_binds: in profile local besides.
        environment: what the entrypoint of the image reads, see role images.
        local_environment: in profile local besides.
        gpus: its share of the node's, as compose takes them; see `gpu_offer.container_gpus`.
        cpus: CPUs as compose takes them, or empty.
        secret_digest: of a secret that is set; a part of it, so that a new one recreates JupyterLab.
        recreate: services whose containers run otherwise than the role had left them.
    """

    refused: str
    problem: str
    binds: tuple[ContainerBind, ...]
    local_binds: tuple[ContainerBind, ...]
    environment: Mapping[str, Any]
    local_environment: Mapping[str, str]
    gpus: Mapping[str, Any]
    cpus: str
    secret_digest: str
    recreate: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """All that the role makes.

    Attributes:
        places: for module local_place.
        binds: for module binds.
        image: what all containers are made of.
        ports: all on which they listen on the node.
        of: by owner, what its containers are made of.
        host_files: by owner, root's directories and the keys with which each account logs in, for module host_files.
        nas_files, nas_links: by owner, entries for module nas_files; of the files, one may hold a secret.
        receipt: subjects of what only this plan knows: settings that it `reads`; outputs of the kinds `bind`, `file`,
            `tree` and `container`; `shared`, files on the share.
    """

    places: Sequence[Mapping[str, Any]]
    binds: Sequence[Mapping[str, Any]]
    image: str
    ports: Sequence[int]
    of: Mapping[str, Containers]
    host_files: Mapping[str, Sequence[Mapping[str, Any]]]
    nas_files: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    nas_links: Mapping[str, Sequence[Mapping[str, Any]]]
    receipt: Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class _Secret:
    """What JupyterLab asks for: `kind`, and what is set; without that one is made. In the owner's home on the share."""

    kind: str
    content: str = field(repr=False)

    @property
    def file(self) -> str:
        return f".config/gpustead/jupyter_{self.kind}"


def _place_of(path: str) -> str:
    """The name of the directory on the node for a path in the home: `.config/opencode` is `state-config-opencode`."""
    return f"state-{path.strip('./').replace('/', '-')}"


def plan(workspaces: Sequence[Workspace], settings: Settings, observed: Observed) -> Plan:
    """All that the role makes for the workspaces of a node.

    Raises:
        GpusteadError: a setting cannot be meant, or there is no image.
    """
    if settings.owner_uid is None:
        what = f"workspace_owner {settings.owner!r} is not an account with a uid"
        expected = f"one of cluster_users ({settings.user_names or 'none'})"
        raise GpusteadError(what, expected, "Add it there with its uid, or set cluster_owner.")
    offer, check = observed.offer, observed.check
    image = offered_image(settings.image, settings.image_file, offer, "workspace_image", check=check)
    binds = plan_binds(workspaces, settings.mounts, settings.layout)
    for workspace in workspaces:
        _check_paths(workspace, binds)
    _check_home(settings)
    _check_secret(settings)
    subjects = receipt(workspaces, binds, settings.layout)
    return Plan(
        places=[_place(workspace, settings) for workspace in workspaces],
        binds=binds.places,
        image=image or NO_IMAGE,
        ports=[port for workspace in workspaces for _service, port in workspace.all_ports],
        of={workspace.owner: _containers(workspace, binds, settings, observed) for workspace in workspaces},
        host_files={workspace.owner: _host_files(workspace, settings) for workspace in workspaces},
        nas_files={workspace.owner: _nas_files(workspace, settings) for workspace in workspaces},
        nas_links={
            workspace.owner: _links(
                workspace, settings, (observed.placed.get("settings") or {}).get(workspace.owner) or ()
            )
            for workspace in workspaces
        },
        receipt={
            **subjects,
            "container": [
                {"name": f"{workspace.project}/{service}", "account": workspace.owner}
                for workspace in workspaces
                for service in SERVICES
            ],
            "shared": [
                subject
                for workspace in workspaces
                if settings.vouches or workspace.owner != settings.owner
                for subject in _shared(workspace, settings)
            ],
        },
    )


# What cannot be meant


def _check_paths(workspace: Workspace, binds: Binds) -> None:
    paths = [re.sub(r"(?<=.)/+$", "", bind.path) for bind in binds.common[workspace.owner]]
    paths += [path.rstrip("/") for path in workspace.volumes.values()]
    taken = [LOCAL, SETTINGS, *paths]
    if len(set(taken)) < len(taken) or not all(re.match("/.", path) for path in taken):
        raise GpusteadError(
            f"workspace_mounts and volumes: the paths in the containers of {workspace.owner} are {', '.join(paths)}",
            f"absolute and different ones; /home/{workspace.owner}, /shared, {LOCAL} and {SETTINGS} are taken",
            "Choose others.",
        )


def _check_home(settings: Settings) -> None:
    """What lies in the home is named from there, and PyTorch by a version."""
    named = [str(path) for path in (*settings.local_settings, *settings.local_state)]
    if len({*settings.places}) < len(settings.places):
        what = f"workspace_local_state has {', '.join(map(str, settings.local_state))}"
        raise GpusteadError(what, "each path once, and none that reads like another with - for /", "Leave one out.")
    named += [str(entry.get("path", "")) for entry in settings.repositories]
    if not all(_NAMED.fullmatch(path) for path in named):
        raise GpusteadError(
            "workspace_local_settings, workspace_local_state and paths of workspace_repositories are "
            f"{', '.join(named)}",
            "that they are relative to the home, without blanks and '..'",
            "Correct them.",
        )
    for entry in settings.repositories:
        if not re.fullmatch(r"\S+", str(entry.get("url", ""))):
            what = f"the url of {entry.get('path')} in workspace_repositories (not shown)"
            raise GpusteadError(what, "that a repository has a url, without blanks", "Correct it.")
    if settings.torch_version:
        torch_wheel({"driver": None, "compute_capabilities": []}, settings.torch_version)


def _check_secret(settings: Settings) -> None:
    """JupyterLab has one secret, and a strong one. It is never shown."""
    token, password_hash = str(settings.jupyter_token or ""), str(settings.jupyter_password_hash or "")
    weak = token and not _TOKEN.fullmatch(token)
    if (token and password_hash) or weak or (password_hash and not _HASHED.match(password_hash)):
        raise GpusteadError(
            "workspace_jupyter_token and workspace_jupyter_password_hash (not shown)",
            "one of them and not both: a token of at least 16 letters, digits, - or _; or a hash (argon2:…)",
            "Correct it, or leave both empty to have a token made on the NAS.",
        )


# On the share, written as the owner


def _secret(workspace: Workspace, settings: Settings) -> _Secret:
    """What the site decides is the secret of one account, not of all."""
    ours = workspace.owner == settings.owner
    if ours and settings.jupyter_password_hash:
        return _Secret("password", str(settings.jupyter_password_hash))
    return _Secret("token", str(settings.jupyter_token or "") if ours else "")


def _nas_files(workspace: Workspace, settings: Settings) -> list[dict[str, Any]]:
    owned = {"owner": workspace.account.uid, "group": workspace.account.gid}
    home = f"users/{workspace.owner}"
    directories = [
        {"path": f"{home}/{name}", "state": "directory", **owned, "mode": mode} for name, mode in _DIRECTORIES.items()
    ]
    secret = _secret(workspace, settings)
    content = {"content": secret.content} if secret.content else {"generate": 32}
    file = {"path": f"{home}/{secret.file}", "state": "file", **owned, "mode": "0600", **content, "secret": True}
    return [*directories, file]


def _shared(workspace: Workspace, settings: Settings) -> list[dict[str, Any]]:
    """The same for a receipt, which looks at each as its owner."""
    home, own = (
        f"{settings.nas_path}/users/{workspace.owner}",
        {"as": workspace.account.uid, "account": workspace.owner},
    )
    directories = [{"name": f"{home}/{name}", **own, "keep": True} for name in _DIRECTORIES]
    file = f"{home}/{_secret(workspace, settings).file}"
    return [*directories, {"name": file, **own, "secret": True, "varies": True, "keep": True}]


def _links(workspace: Workspace, settings: Settings, copied: Iterable[str]) -> list[dict[str, Any]]:
    """From the home on the share to what containers of profile local see elsewhere: nothing is bound inside of the
    home, where its owner could put a link."""
    targets = {".vscode-server": f"{LOCAL}/vscode-server", **{path: f"{SETTINGS}/{path}" for path in copied}}
    targets.update({path: f"{LOCAL}/{_place_of(path)}" for path in settings.local_state})
    owned = {"state": "link", "owner": workspace.account.uid, "group": workspace.account.gid}
    return [{"path": f"users/{workspace.owner}/{path}", "target": targets[path], **owned} for path in targets]


# On the node


def _place(workspace: Workspace, settings: Settings) -> dict[str, Any]:
    account = workspace.account
    return {
        **{"name": account.name, "uid": account.uid, "gid": account.gid, "directories": list(settings.places)},
        **{"homes": settings.local_homes, "settings": list(settings.local_settings)},
    }


def _host_files(workspace: Workspace, settings: Settings) -> list[dict[str, Any]]:
    """Of the keys the directory is bound, not the files: the running container sees a changed list.

    Guests that the workspace had before have theirs there, too.
    """
    more = {settings.owner: settings.authorized_keys}
    directories: list[dict[str, Any]] = [
        {"path": path, "state": "directory", "mode": "0755"} for path in workspace.directories
    ]
    directories[-1]["exclusive"] = True
    files = []
    for account in workspace.accounts:
        keys = dict.fromkeys([*account.ssh_keys, *more.get(account.name, ())])
        content = "".join(f"{line}\n" for line in ("# Written by role workspace.", *keys))
        path = f"{workspace.directories[-1]}/{account.name}"
        files.append({"path": path, "state": "file", "mode": "0644", "content": content})
    if workspace.slice:
        unit = {"path": f"{UNITS}/{workspace.slice}", "state": "file", "mode": "0644", "content": workspace.slice_unit}
        files.append(unit)
    return [*directories, *files]


def _containers(workspace: Workspace, binds: Binds, settings: Settings, observed: Observed) -> Containers:
    left = available(workspace, binds, observed.mounted, observed.placed.get("refused") or ())
    found = observed.offer.get("gpus")
    offered, problem, index = found or NO_GPUS, "", ""
    gpus = container_gpus(NO_GPUS, [])
    try:
        gpus = container_gpus(offered, [] if observed.check and found is None else workspace.gpus)
        index = _torch_index(offered, settings)
        if workspace.limits and observed.cgroup_driver not in ("", "systemd"):
            what = f"limits of {workspace.owner}: Docker's cgroup driver is {observed.cgroup_driver}"
            remedy = "Set docker_daemon_settings: {exec-opts: [native.cgroupdriver=systemd]}, or leave limits out."
            raise GpusteadError(what, "systemd, whose slice holds them", remedy)
        refuse_held(
            {name: port for name, port in workspace.all_ports if name != "publish"},
            observed.offer,
            "choose other ports in workspace_ports or workspace_instances",
        )
    except GpusteadError as error:
        problem = str(error)
    copies = ContainerBind("", f"{settings.local_dir}/.settings/{workspace.owner}", SETTINGS, read_only=True)
    local = binds.local[workspace.owner]
    bound = [bind.name for bind in (*left.binds, *local)]
    replaced = observed.mounted.get("replaced") or ()
    secret = _secret(workspace, settings).content
    hangs = " ".join(str(Refusal(**one)) for one in observed.blocked if one["name"] == workspace.project)
    return Containers(
        refused=hangs or ("" if observed.check else left.refused),
        problem=problem,
        binds=(*left.binds, *mesh_places.binds(own_door=False)),
        local_binds=(*local, copies),
        environment={**none_by_itself(gpus), **_environment(workspace, left, index, settings)},
        local_environment=_local_environment(workspace, settings),
        gpus=gpus,
        cpus=(gpus["cpus"] or "") if workspace.cpus == NEAR else workspace.cpus,
        secret_digest=hashlib.sha256(secret.encode()).hexdigest()[:8],
        recreate=to_recreate(workspace.project, SERVICES, observed.drifted, bound, replaced),
    )


def _torch_index(offered: Mapping[str, Any], settings: Settings) -> str:
    """The index of wheels that fits the driver and the GPUs of the node."""
    if not settings.torch_version:
        return ""
    host = {
        "driver_version": offered["driver_version"],
        "machine": offered.get("machine"),
        "gpus": offered["gpus"],
    }
    return f"{settings.torch_index}/{torch_wheel(host, settings.torch_version)}"


def _environment(workspace: Workspace, left: Available, torch_index: str, settings: Settings) -> dict[str, Any]:
    """What is empty is left out."""
    account, secret = workspace.account, _secret(workspace, settings)
    guests = [one for one in workspace.accounts[1:] if one.name not in left.missing_guests]
    own = {
        "GPUSTEAD_USER": account.name,
        "GPUSTEAD_UID": str(account.uid),
        "GPUSTEAD_GID": str(account.gid),
        "GPUSTEAD_ACCOUNTS": " ".join(f"{guest.name}:{guest.uid}:{guest.gid}" for guest in guests),
        "GPUSTEAD_SUDO": "1" if workspace.sudo else "0",
        f"GPUSTEAD_JUPYTER_{secret.kind.upper()}_FILE": f"/home/{account.name}/{secret.file}",
        "GPUSTEAD_TENSORBOARD_LOGDIR": settings.tensorboard_logdir,
        "GPUSTEAD_GRADIO_APP": settings.gradio_app,
        "GPUSTEAD_REPOSITORIES": "\n".join(f"{entry['url']} {entry['path']}" for entry in settings.repositories),
        # A volume is root's until somebody gives it away.
        "GPUSTEAD_CACHES": " ".join(workspace.volumes.values()),
        "GPUSTEAD_TORCH": settings.torch_version,
        "GPUSTEAD_TORCH_INDEX": torch_index,
        "GPUSTEAD_TORCH_CPU_INDEX": f"{settings.torch_index}/cpu" if settings.torch_version else "",
    }
    common = settings.layout.common
    theirs = [account.name, *(guest.name for guest in guests)]
    own["GPUSTEAD_GROUPS"] = " ".join(
        f"{group.name}:{group.gid}:{','.join(name for name in theirs if group.has(name))}"
        for group in common.groups
        if any(group.has(name) for name in theirs)
    )
    own["GPUSTEAD_UMASK"] = common_place.UMASK if own["GPUSTEAD_GROUPS"] else ""
    caches = common_place.environment(common.caches)
    return {**_filled(own), **caches, **settings.proxy_env, **settings.environment}


def _local_environment(workspace: Workspace, settings: Settings) -> dict[str, str]:
    return _filled(
        {
            "GPUSTEAD_CACHES": " ".join(
                [*(f"{LOCAL}/{name}" for name in settings.places), *workspace.volumes.values()]
            ),
            "XDG_CACHE_HOME": f"{LOCAL}/cache",
            "HISTFILE": f"{LOCAL}/shell_history",
            "NVIDIA_DRIVER_CAPABILITIES": settings.driver_capabilities,
            "DISPLAY": settings.display,
        }
    )


def _filled(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
