"""What role workspace writes on a node, written by Ansible itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import ports
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspaces import Defaults, plan
from jinja2 import Template

ROOT = Path(__file__).parents[3]
KEYS = ["ssh-ed25519 AAAA1 ada@laptop", "ssh-ed25519 AAAA2 ada@desk"]
EXTRA = "ssh-ed25519 AAAA3 ada@phone"
TOKEN = "a-token-that-nobody-guesses"
SERVICES = {*ports()}
IMAGE = "registry.example.org/gpustead/workspace@sha256:0123"
USERS = [
    {"name": "ada", "uid": 1500, "gid": 1600, "ssh_keys": KEYS},
    {"name": "bob", "uid": 1501, "ssh_keys": ["ssh-ed25519 AAAA4 bob"]},
    {"name": "carol", "uid": 1502, "ssh_keys": ["ssh-ed25519 AAAA5 carol"]},
]
GPUS = {
    **{"schema": 1, "state": "ready", "driver": "cdi", "device_nodes": [], "driver_version": "590.48.01"},
    "device_ids": ["nvidia.com/gpu=GPU-0", "nvidia.com/gpu=GPU-1"],
    "uuids": ["GPU-0", "GPU-1"],
    "gpus": [
        {**{"index": index, "uuid": uuid, "devices": [uuid], "node": f"/dev/nvidia{index}", "numa_nodes": [index]},
         **{"cpus": cpus, "compute_capability": "9.0"}}
        for index, uuid, cpus in ((0, "GPU-0", "0-7"), (1, "GPU-1", "8-15"))
    ],
}  # fmt: skip

# What the role does without NAS and Docker.
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars_files: ["{{ test_role }}/defaults/main.yml", "{{ test_role }}/vars/main.yml"]
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
    __workspace_placed: {settings: {ada: [.gitconfig], bob: []}, refused: []}
    __workspace_mounted: "{{ test_mounted | default({'refused': [], 'missing': [], 'replaced': []}) }}"
    __workspace_begun: {previous: "{{ test_previous | default([]) }}", drifted: []}
  tasks:
    - gpustead.cluster.node_offer_info:
        image_file: "{{ workspace_image_file }}"
        gpus_file: "{{ workspace_gpus_file }}"
        ports: "{{ [] if __workspace_plan.ports else omit }}"
      register: __workspace_offer
    - ansible.builtin.include_tasks: one.yml
      loop: "{{ __workspace_all }}"
      loop_control: {loop_var: __workspace_instance}
    - ansible.builtin.copy:
        content: "{{ __workspace_receipt_parts | to_json }}"
        dest: "{{ workspace_config_dir }}/receipt.json"
        mode: "0600"
      vars:
        __workspace_receipt_parts:
          containers: "{{ __workspace_plan.receipt.container }}"
          files: "{{ __workspace_host_files + __workspace_host_keys }}"
          shared: "{{ __workspace_plan.receipt.shared | map(attribute='name') }}"
          bound: "{{ __workspace_plan.receipt }}"
          former_projects: "{{ __workspace_former_projects }}"
          former_files: "{{ __workspace_former_files }}"
"""
ONE = """
- gpustead.cluster.host_files:
    entries: "{{ __workspace_entries | map('combine', {'validate': []}) }}"
- gpustead.cluster.ssh_host_key:
    path: "{{ __workspace_instance.host_key }}"
    comment: workspace
  when: not __workspace_containers.refused
- ansible.builtin.copy:
    content: "{{ __workspace_plan.nas_links[__workspace_instance.owner] | to_json }}"
    dest: "{{ __workspace_instance.directory }}/links.json"
    mode: "0600"
  when: not __workspace_containers.refused
"""


class Refused(Exception):
    """What the playbook said when it failed."""


def write(tmp_path: Path, **settings: Any) -> Path:
    """The directory that the role fills with these settings."""
    variables = {
        "cluster_users": USERS,
        "workspace_image": IMAGE,
        "workspace_config_dir": str(tmp_path / "workspace"),
        "test_role": str(ROOT / "roles/workspace"),
        "workspace_gpus_file": str(tmp_path / "gpus.json"),
        "__workspace_receipt": {"previous": settings.get("test_previous", []), "drifted": []},
        **settings,
    }
    (tmp_path / "templates").symlink_to(ROOT / "roles/workspace/templates")
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "one.yml").write_text(ONE)
    (tmp_path / "vars.json").write_text(json.dumps(variables))
    (tmp_path / "hosts.yml").write_text("gpu_nodes: {hosts: {first: , localhost: }}")
    ansible = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [ansible, "-i", tmp_path / "hosts.yml", "-e", f"@{tmp_path}/vars.json", tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise Refused(" ".join((done.stdout + done.stderr).split()))
    return tmp_path / "workspace"


def services(folder: Path, file: str = "compose.yml") -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load((folder / file).read_text())["services"]
    return compose


def published(service: dict[str, Any]) -> set[tuple[str, str, int]]:
    return {(port["host_ip"], port["published"], port["target"]) for port in service["ports"]}


# Of the mesh, root's, and read-only: what mesh-run is, and the sockets that let it in. Place inside: place outside.
OF_MESH = {
    "/usr/local/lib/gpustead/mesh": "/usr/local/lib/gpustead/mesh",
    "/run/gpustead/door": "/var/lib/gpustead-mesh",
}


def keys(folder: Path, name: str) -> list[str]:
    return (folder / "ssh/authorized_keys.d" / name).read_text().splitlines()[1:]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("usual"))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three workspaces, of which that of bob has everything set."""
    root = tmp_path_factory.mktemp("several")
    (root / "gpus.json").write_text(json.dumps(GPUS))
    bob = {"owner": "bob", "profile": "local", "gpus": [1], "cpus": "near", "memory": "64gb", "accounts": ["carol"]}
    folder = root / "workspace"
    left = [f"{folder}/{path}" for path in ("users/dan", "users/dan/compose.yml", "ssh/authorized_keys", "ssh")]
    previous: list[list[Any]] = [["file", {"name": name}] for name in left]
    previous.append(["file", {"name": "/mnt/nas/x", "keep": True}])
    return write(
        root,
        workspace_instances=[{"owner": "ada"}, bob, {"owner": "carol", "cpus": "0-3", "gpus": []}],
        workspace_repositories=[
            {"url": "https://example.org/a.git", "path": "src/a"},
            {"url": "ssh://b/b", "path": "b"},
        ],
        workspace_torch_version="2.13.0",
        workspace_jupyter_token=TOKEN,
        workspace_display=":0",
        test_previous=[*previous, ["container", {"name": "gpustead-workspace-dan/ssh"}]],
    )


def test_by_default(usual: Path) -> None:
    every = services(usual)
    assert set(every) == {*SERVICES, "root"}
    assert published(every["jupyter"]) == {("0.0.0.0", "18888", 8888), ("::", "18888", 8888)}
    for name, service in every.items():
        assert service["environment"]["GPUSTEAD_UID"] == "1500"
        assert service["environment"]["GPUSTEAD_GID"] == "1600"
        assert {bind["target"] for bind in service["volumes"]} == {
            "/home/ada",
            "/shared",
            "/etc/gpustead/ssh",
            *OF_MESH,
        }
        assert not any(bind["bind"]["create_host_path"] for bind in service["volumes"])
        assert service["image"] == f"${{GPUSTEAD_IMAGE:-{IMAGE}}}"
        assert not {"deploy", "cpuset", "mem_limit"} & set(service)
        # Who has a process in a container reaches its root from the host, and what is a device there.
        assert service["cap_drop"] == ["MKNOD"]
        assert service["profiles"] == (["root"] if name == "root" else ["server", "local"])
    assert "ports" not in every["root"]
    assert keys(usual, "ada") == KEYS
    assert (usual / "ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    # What is empty is not in the environment.
    assert set(every["ssh"]["environment"]) == {
        *("GPUSTEAD_USER", "GPUSTEAD_UID", "GPUSTEAD_GID", "GPUSTEAD_SUDO"),
        *("GPUSTEAD_JUPYTER_TOKEN_FILE", "GPUSTEAD_GRADIO_APP", "NVIDIA_VISIBLE_DEVICES"),
    }


OPTIONS = {
    *(
        "image",
        "pull_policy",
        "restart",
        "init",
        "cap_drop",
        "security_opt",
        "sysctls",
        "hostname",
        "shm_size",
        "ulimits",
    ),
    *("cpuset", "mem_limit", "environment", "volumes", "devices", "deploy", "profiles", "command", "ports"),
    *("healthcheck", "labels", "user", "entrypoint"),
}


def test_no_container_has_a_way_to_the_host_that_is_not_declared(several: Path) -> None:
    """Neither its namespaces nor its devices, and nothing of its file system but what only root can exchange."""
    for folder in (several, several / "users/bob", several / "users/carol"):
        for service in services(folder).values():
            assert set(service) <= OPTIONS
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "1024"}
            assert service.get("user", "root") == "root" and set(service.get("devices", [])) == set()
            for bind in [*service["volumes"], *services(folder, "compose.local.yml")["ssh"]["volumes"]]:
                own = (f"{folder}/ssh", "/run/gpustead/binds/workspace/", "/var/lib/gpustead/workspace/.settings/")
                of_mesh = OF_MESH.get(bind["target"]) == bind["source"] and bind["read_only"]
                assert of_mesh or bind["source"].startswith(own), bind
                assert bind["bind"].get("propagation", "rprivate") in ("rprivate", "rslave", "private")


def test_of_workspaces_that_are_refused_only_the_makefile_is_written(tmp_path: Path) -> None:
    """Without it nobody could see to them, or end what still runs of them."""
    refused = {"name": "home-ada", "what": "it hangs", "expected": "an answer", "remedy": "Look."}
    folder = write(tmp_path, test_mounted={"refused": [refused], "missing": ["home-ada"], "replaced": []})
    assert sorted(path.name for path in folder.rglob("*")) == ["Makefile", "receipt.json"]


def test_the_profile_local_goes_over_the_other(usual: Path) -> None:
    base, over = services(usual), services(usual, "compose.local.yml")
    assert set(over) == SERVICES
    for name, service in over.items():
        assert set(service) == {"environment", "volumes"}
        assert {bind["target"]: (bind["source"], bind["read_only"]) for bind in service["volumes"]} == {
            "/local": ("/run/gpustead/binds/workspace/local-ada", False),
            "/etc/gpustead/settings": ("/var/lib/gpustead/workspace/.settings/ada", True),
        }
        assert not {bind["target"] for bind in base[name]["volumes"]} & {bind["target"] for bind in service["volumes"]}
        assert service["environment"] == {
            "GPUSTEAD_CACHES": "/local/cache /local/vscode-server",
            "XDG_CACHE_HOME": "/local/cache",
            "HISTFILE": "/local/shell_history",
            "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        }
    assert [(link["path"], link["target"]) for link in json.loads((usual / "links.json").read_text())] == [
        ("users/ada/.vscode-server", "/local/vscode-server"),
        ("users/ada/.gitconfig", "/etc/gpustead/settings/.gitconfig"),
    ]


def test_with_everything_set(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        workspace_service_bind={"jupyter": ["127.0.0.1"]},
        workspace_mounts=[{"host": "/data/set", "path": "/dataset", "read_only": True}],
        workspace_environment={"PRICE": "5$ ${HOME}"},
        workspace_authorized_keys=[EXTRA, KEYS[0]],
        workspace_jupyter_token=TOKEN,
    )
    every = services(folder)
    assert published(every["jupyter"]) == {("127.0.0.1", "18888", 8888)}
    assert published(every["ssh"]) == {("0.0.0.0", "10022", 22), ("::", "10022", 22)}
    for service in every.values():
        dataset = next(bind for bind in service["volumes"] if bind["target"] == "/dataset")
        assert re.fullmatch(r"/run/gpustead/binds/workspace/mount-data-set-[0-9a-f]{8}", dataset["source"])
        assert dataset["read_only"] is True
        # Else any guest speaks to an NFS server as root would.
        assert service["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": "1024"}
        assert service["environment"]["PRICE"] == "5$$ $${HOME}"  # as compose wants a $ written
    assert keys(folder, "ada") == [*KEYS, EXTRA]
    assert TOKEN not in (folder / "compose.yml").read_text()


def test_several_workspaces(several: Path) -> None:
    ada, bob, carol = (services(several / path) for path in (".", "users/bob", "users/carol"))
    assert [published(compose["ssh"]) for compose in (ada, bob, carol)] == [
        {(address, port, 22) for address in ("0.0.0.0", "::")} for port in ("10022", "19007", "19011")
    ]
    names = [yaml.safe_load((several / path / "compose.yml").read_text())["name"] for path in (".", "users/bob")]
    assert names == ["gpustead-workspace", "gpustead-workspace-bob"]

    service = bob["jupyter"]
    assert (service["cpuset"], service["mem_limit"]) == ("8-15", "64gb")
    assert {bind["target"]: bind["source"] for bind in service["volumes"]} == {
        "/home/bob": "/run/gpustead/binds/workspace/home-bob",
        "/home/carol": "/run/gpustead/binds/workspace/home-carol",
        "/shared": "/run/gpustead/binds/workspace/shared",
        "/etc/gpustead/ssh": f"{several}/users/bob/ssh",
        **OF_MESH,
    }
    environment = service["environment"]
    assert (environment["GPUSTEAD_USER"], environment["GPUSTEAD_ACCOUNTS"]) == ("bob", "carol:1502:1502")
    assert environment["GPUSTEAD_REPOSITORIES"] == "https://example.org/a.git src/a\nssh://b/b b"
    assert environment["GPUSTEAD_TORCH"] == "2.13.0"
    assert environment["GPUSTEAD_TORCH_INDEX"] == "https://download.pytorch.org/whl/cu130"
    assert environment["GPUSTEAD_TORCH_CPU_INDEX"] == "https://download.pytorch.org/whl/cpu"
    over = services(several / "users/bob", "compose.local.yml")["ssh"]
    assert over["environment"]["DISPLAY"] == ":0"
    assert "/tmp/.X11-unix" in {bind["target"] for bind in over["volumes"]}

    given = [
        compose["ssh"].get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [{}])[0]
        for compose in (ada, bob, carol)
    ]
    assert [devices.get("device_ids") for devices in given] == [GPUS["device_ids"], ["nvidia.com/gpu=GPU-1"], None]
    assert carol["ssh"]["cpuset"] == "0-3"

    assert keys(several, "ada") == KEYS
    assert keys(several / "users/bob", "bob") == ["ssh-ed25519 AAAA4 bob"]
    assert keys(several / "users/bob", "carol") == ["ssh-ed25519 AAAA5 carol"]
    assert not (several / "users/carol/ssh/authorized_keys.d/bob").exists()


def test_the_secret_of_one_is_not_that_of_all(several: Path) -> None:
    def label(compose: dict[str, Any]) -> str:
        secret: str = compose["jupyter"]["labels"]["org.gpustead.secret"]
        return secret

    assert label(services(several)) != label(services(several / "users/bob"))
    assert label(services(several / "users/bob")) == label(services(several / "users/carol"))


def test_the_receipt_vouches_for_all_of_them_and_takes_back_the_others(several: Path) -> None:
    receipt = json.loads((several / "receipt.json").read_text())
    containers = {one["name"]: one["account"] for one in receipt["containers"]}
    assert len(receipt["containers"]) == len(containers) == 12
    assert containers["gpustead-workspace-bob/ssh"] == "bob"
    written = {str(path) for path in several.rglob("*") if path.name not in ("receipt.json", "links.json")}
    assert {*receipt["files"], *(f"{name}.pub" for name in receipt["files"] if name.endswith("_key"))} == {
        str(several),
        *written,
    }
    assert "/mnt/nas/users/bob/.config/gpustead/jupyter_token" in receipt["shared"]
    assert "/mnt/nas/users/ada/.config/gpustead/jupyter_token" not in receipt["shared"]  # the first node vouches for it
    files = {file["name"]: file["expect"] for file in receipt["bound"]["file"]}
    assert files["/var/lib/gpustead/workspace"] == {"type": "directory", "owner": "0:0", "mode": "0700"}
    assert files["/var/lib/gpustead/workspace/carol/cache"]["owner"] == "1502:1502"
    assert "/run/gpustead/binds/workspace/home-carol" in {bind["name"] for bind in receipt["bound"]["bind"]}
    assert receipt["bound"]["reads"][1]["as"] == "1501:1501"
    assert receipt["former_projects"] == ["gpustead-workspace-dan"]
    assert set(receipt["former_files"]) == {
        f"{several}/{path}" for path in ("users/dan", "users/dan/compose.yml", "ssh/authorized_keys")
    }


def make(folder: Path, *arguments: str) -> list[str]:
    """The commands of Docker that a verb would run."""
    done = subprocess.run(
        ["make", "--just-print", "--no-print-directory", "-C", folder, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    lines = [line.replace(f"{folder}/", "") for line in done.stdout.splitlines()]
    return [line for line in lines if re.match(r"(GPUSTEAD_IMAGE=\S+ )?docker ", line)]


SERVER = "docker compose --file compose.yml --profile server"
BOB = "docker compose --file users/bob/compose.yml --file users/bob/compose.local.yml --profile local"
ROOT_ = "docker compose --file compose.yml --profile root"
MESH = "docker compose --file /etc/gpustead/ssh_mesh/compose.yml"
LOCAL = "docker compose --file compose.yml --file compose.local.yml --profile local"
PRUNE = "docker {} prune --force --filter label={}={}"
BUILD = (
    f"docker buildx build --load --build-context parent=docker-image://{IMAGE}"
    " --label org.gpustead.project={} --tag gpustead-local/{} './x'"
)
MADE: dict[str, tuple[list[str], list[str]]] = {
    "up": (["up"], [f"{SERVER} up --detach --wait"]),
    "up, local": (["up", "PROFILE=local"], [f"{LOCAL} up --detach --wait"]),
    "up, as declared": (["up", "OWNER=bob"], [f"{BOB} up --detach --wait"]),
    "up, an image": (["up", "IMAGE=x/y"], [f"GPUSTEAD_IMAGE=x/y {SERVER} up --detach --wait"]),
    "up, root": (["up", "PROFILE=root"], [f"{ROOT_} up --detach --wait"]),
    "down, mesh": (["down", "PROFILE=multinode"], [f"{MESH} down"]),
    "shell": (["shell"], [f"{SERVER} exec --user ada ssh bash"]),
    "shell, bob": (["shell", "OWNER=bob"], [f"{BOB} exec --user bob ssh bash"]),
    "shell, root": (["shell", "PROFILE=root"], [f"{ROOT_} exec --user root root bash"]),
    "shell, mesh": (["shell", "PROFILE=multinode", "OWNER=bob"], [f"{MESH} exec --user ada mesh bash"]),
    "logs": (["logs"], [f"{SERVER} logs --follow --tail 100 | LC_ALL=C.UTF-8 sed -u 's/[^[:print:][:blank:]]/?/g'"]),
    "run": (["run", "CMD=python x.py"], [f'{SERVER} run --rm ssh bash -c "$CMD"']),
    "run, root": (["run", "CMD=id", "PROFILE=root"], [f'{ROOT_} run --rm --entrypoint bash root -c "$CMD"']),
    "run, mesh": (["run", "CMD=id", "PROFILE=multinode"], [f'{MESH} exec --user ada mesh bash -c "$CMD"']),
    "start": (["start"], [f"{SERVER} start"]),
    "stop": (["stop", "OWNER=bob"], [f"{BOB} stop"]),
    "build": (["build", "DIR=./x"], [BUILD.format("gpustead-workspace", "ada")]),
    "rebuild": (
        ["rebuild", "DIR=./x", "OWNER=bob"],
        [
            BUILD.format("gpustead-workspace-bob", "bob"),
            f"GPUSTEAD_IMAGE=gpustead-local/bob {BOB} up --detach --wait",
        ],
    ),
    "prune": (
        ["prune", "OWNER=bob"],
        [
            PRUNE.format("container", "com.docker.compose.project", "gpustead-workspace-bob"),
            PRUNE.format("image", "org.gpustead.project", "gpustead-workspace-bob"),
        ],
    ),
    "help": ([], []),
}


@pytest.mark.parametrize("case", MADE)
def test_the_verbs(several: Path, case: str) -> None:
    arguments, expected = MADE[case]
    assert make(several, *arguments) == expected


@pytest.mark.parametrize("owner", ["ada.lovelace", "Ada", "2.ada-_"])
def test_the_verbs_of_a_name_that_docker_does_not_take(tmp_path: Path, owner: str) -> None:
    defaults = Defaults([{"name": owner, "uid": 1600}], "ada", ports(), "19000:19999", directory=str(tmp_path))
    (one,) = plan([{"owner": owner}], defaults)
    template = Template((ROOT / "roles/workspace/templates/Makefile.j2").read_text())
    variables = {"__workspace_all": [one.described()], "__workspace_plan": {"image": IMAGE}, "workspace_owner": "ada"}
    (tmp_path / "Makefile").write_text(template.render(**variables, workspace_mesh_dir="/m", workspace_config_dir="/c"))
    compose = f"docker compose --file users/{owner}/compose.yml --profile server"
    built = BUILD.format(one.project, one.own_image.partition("/")[2])
    assert make(tmp_path, "shell", f"OWNER={owner}") == [f"{compose} exec --user {owner} ssh bash"]
    assert make(tmp_path, "rebuild", "DIR=./x") == [
        built,
        f"GPUSTEAD_IMAGE={one.own_image} {compose} up --detach --wait",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["up", "PROFILE=x"], "PROFILE is 'x': choose server, local, root or multinode"),
        (["up", "OWNER=dan"], "OWNER is 'dan': choose one of ada, bob, carol"),
    ],
)
def test_verbs_that_cannot_be_meant(several: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(Refused, match=words):
        make(several, *arguments)


def test_what_a_container_says_reaches_no_terminal_as_it_is(several: Path, tmp_path: Path) -> None:
    said = "ssh-1  | \x1b]0;owned\x07\x1b[2J\x9b2J\r ü\t→ 10\n"
    (tmp_path / "docker").write_text(f"#!/bin/sh\ncat <<'X'\n{said}X\n")
    (tmp_path / "docker").chmod(0o755)
    words = ["make", "--silent", "-C", str(several), "logs"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    shown = subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout
    assert shown == "ssh-1  | ?]0;owned??[2J?2J? ü\t→ 10\n"


def test_make_alone_lists_the_verbs(several: Path) -> None:
    listed = subprocess.run(["make", "-C", several], capture_output=True, text=True, check=True).stdout
    verbs = ["help", "build", "up", "down", "shell", "logs", "run", "start", "stop", "prune", "rebuild"]
    assert re.findall(r"^  make (\w+) +\S", listed, re.MULTILINE) == verbs
    assert "OWNER=ada|bob|carol" in listed


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a port published twice": (
        {"workspace_ports": {**ports(), "tensorboard": 18888}},
        "port 18888 is published twice",
    ),
    "a short token": ({"workspace_jupyter_token": "abc"}, "at least 16"),
    "a token with an end of line": ({"workspace_jupyter_token": TOKEN + "\n"}, "at least 16"),
    "two secrets": (
        {"workspace_jupyter_token": TOKEN, "workspace_jupyter_password_hash": "argon2:x"},
        "not both",
    ),
    "a password that is not hashed": ({"workspace_jupyter_password_hash": "correct horse"}, "argon2"),
    "an owner without an account": ({"workspace_owner": "dan"}, "'dan' is no account"),
    "a path bound twice": ({"workspace_mounts": [{"host": "/x", "path": "/shared/"}]}, "are taken"),
    "the path of the settings": ({"workspace_mounts": [{"host": "/x", "path": "/etc/gpustead/settings"}]}, "are taken"),
    "the path of another account": (
        {
            "workspace_mounts": [{"host": "/x", "path": "/home/carol"}],
            "workspace_instances": [{"owner": "bob", "accounts": ["carol"]}],
        },
        "are taken",
    ),
    "a path that is root's": ({"workspace_mounts": [{"host": "/x/../etc", "path": "/x"}]}, "is the system's own"),
    "a workspace without an account": ({"workspace_instances": [{"owner": "dan"}]}, "'dan' is no account"),
    "a setting outside of the home": ({"workspace_local_settings": ["../x"]}, "are relative to the home"),
    "a repository with a blank": (
        {"workspace_repositories": [{"url": "https://x/y z", "path": "a"}]},
        "a repository has a url",
    ),
    "a version of PyTorch that is not known": ({"workspace_torch_version": "1.0"}, "a release that is known here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    settings, reason = REFUSED[case]
    with pytest.raises(Refused, match=reason):
        write(tmp_path, **settings)
    assert not (tmp_path / "workspace").exists()
