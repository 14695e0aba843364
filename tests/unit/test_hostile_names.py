"""What others chose comes out of every module as Ansible takes it, and as a terminal may show it.

Ansible refuses a module's whole answer for one name in it that is no UTF-8; escape sequences reach whoever reads it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Account, Process
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import HostAccounts as Accounts
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.apply_binds import Outcome
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_users import users
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.copy_tree import Outcome as Copied
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_prune import Deletion, Pruned
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Finding, Findings

ROOT = Path(__file__).parents[2]
MODULES = "ansible_collections.gpustead.cluster.plugins.modules"
UID = 61500
BYTES = b"\xff \x1b]0;owned\x07\x1b[2J \r \x0b \xc2\x85 \xe2\x80\xae \xe2\x80\xa8 \n {{ 7*7 }}"
HOSTILE = os.fsdecode(BYTES)
KEY = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'B' * 43} ada@desk"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")

Answer = Callable[..., dict[str, Any]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory to which nobody but root can change the way."""
    path = Path(f"/var/lib/gpustead-test-{os.getpid()}")
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def answer(capfd: pytest.CaptureFixture[str]) -> Answer:
    """Runs a module; its answer as Ansible reads it."""

    def run(name: str, /, **arguments: Any) -> dict[str, Any]:
        capfd.readouterr()
        with patch_module_args({**arguments, "_ansible_diff": True}), pytest.raises(SystemExit):
            import_module(f"{MODULES}.{name}").main()
        out, err = capfd.readouterr()
        read = {"stdout": out, "stdout_lines": out.splitlines(), "stderr": err, "stderr_lines": [], "rc": 0}
        found = ActionBase._parse_returned_data(SimpleNamespace(_used_interpreter=None), read, "legacy")
        return found if isinstance(found, dict) else dict(found.as_result_dict())

    return run


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts(inner)


def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/said\nexit {code}\n")
    program.chmod(0o755)
    (tmp_path / "said").write_bytes(BYTES + b"\n" + BYTES)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def given(path: Path) -> Path:
    for one in (path, *path.rglob("*")):
        os.chown(one, UID, UID, follow_symlinks=False)
    return path


def all_there(_root: str, _check: bool) -> bool:
    return True


Case = Callable[[Answer, Path, Path, pytest.MonkeyPatch], dict[str, Any]]
CASES: dict[str, Case] = {}


def case(do: Case) -> Case:
    CASES[do.__name__] = do
    return do


@case
def local_place(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    settings = place / "homes/ada/.config"
    (settings / HOSTILE).mkdir(parents=True)
    (settings / HOSTILE / HOSTILE).write_text("x")
    os.mkfifo(settings / f"fifo {HOSTILE}")
    given(place / "homes/ada")
    about = {"name": "ada", "uid": UID, "gid": UID, "directories": ["cache"], "homes": str(place / "homes")}
    settled = [".config", f".config/{os.fsdecode(BYTES[1:])}"]
    first = answer("local_place", top=str(place / "top"), places=[{**about, "settings": settled}])
    (settings / f"fifo {HOSTILE}").unlink()
    second = answer("local_place", top=str(place / "top"), places=[{**about, "settings": settled}])
    assert "owned" in second["diff"]["after"]
    # A copy that goes is named, too.
    shutil.rmtree(settings)
    third = answer("local_place", top=str(place / "top"), places=[{**about, "settings": settled}])
    assert "owned" in third["diff"]["before"]
    return {"first": first, "second": second, "third": third}


@case
def authorized_keys(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    home = place / "ada"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/authorized_keys").write_bytes(b"ssh-ed25519 " + BYTES)
    given(home)
    about = {"name": "ada", "uid": UID, "gid": UID, "home": str(home), "keys": [KEY], "exclusive": True}
    found = answer("authorized_keys", accounts=[about])
    assert "owned" in found["diff"][0]["before"]
    return found


@case
def binds(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    library = "ansible_collections.gpustead.cluster.plugins.module_utils.binds.apply_binds"
    refused = vars(Refusal.of("a", GpusteadError(HOSTILE, HOSTILE, HOSTILE)))
    outcome = Outcome([("a", HOSTILE, HOSTILE)], [refused], ["a"], ["a"])
    monkeypatch.setattr(f"{MODULES}.binds.write", lambda *_arguments: False)
    monkeypatch.setattr(f"{library}.apply", lambda *_arguments: outcome)
    monkeypatch.setattr(f"{library}.release", lambda **_arguments: [f"/run/gpustead/binds/x/{HOSTILE}"])
    found = {"present": answer("binds", set="x", binds=[])}
    return {**found, "released": answer("binds", state="released", paths=["/x"])}


@case
def nas_files(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (place / "own").mkdir()
    (place / "own/file").write_bytes(BYTES)
    (place / "own/text").write_text(BYTES[1:].decode())
    given(place / "own")
    ids = {"owner": UID, "group": UID, "mode": "0644", "state": "file", "content": "x"}
    entries = [{"path": f"own/{name}", **ids} for name in ("file", "text")]
    found = answer("nas_files", root=str(place), require_mount=False, keep_going=True, entries=entries)
    assert any("owned" in text for text in texts(found))
    return found


@case
def mesh_share(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(
        "ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_share.is_mounted", all_there
    )
    nodes = place / ".cluster/nodes"
    nodes.mkdir(parents=True)
    (place / ".cluster/mesh").mkdir()
    (place / ".cluster/mesh/hostfile").write_bytes(BYTES)
    record = {"schema": 1, "address": "10.0.0.1", "slots": 1, "interface": HOSTILE, "ssh_mesh_port": 2222}
    record |= {"machine_id": "", "gpus": [HOSTILE]}
    for name in ("a", "b"):
        (nodes / f"{name}.json").write_text(json.dumps({**record, "host": HOSTILE}))
    given(place)
    ids = {"owner": UID, "group": UID, "mode": "0644", "state": "file"}
    layout = {"uid": UID, "gid": UID}
    hostfile = {"path": ".cluster/mesh/hostfile", **ids}
    found = answer("mesh_share", root=str(place), layout_owner=layout, hostfile=hostfile, hosts=["a", "b"])
    assert len(found["damaged"]) == 2
    return found


@case
def share_read_info(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (place / "file").write_bytes(BYTES)
    os.symlink(HOSTILE, place / "link")
    given(place)
    ids = {"uid": UID, "gid": UID}
    return {name: answer("share_read_info", root=str(place), path=name, **ids) for name in ("file", "link")}


@case
def uid_match(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    accounts = tuple(Account(name, UID, UID, HOSTILE, "/home/a", "/bin/sh") for name in ("ada", "eve"))
    host = Accounts(accounts, processes=(Process(1, HOSTILE, (UID,)),))
    monkeypatch.setattr(f"{MODULES}.uid_match.observe", lambda *_first, **_more: host)
    users = [{"name": "ada", "uid": UID + 1, "home": "/home/ada"}]
    found = answer("uid_match", users=users, absent=["eve"], keep_going=True, _ansible_check_mode=True)
    assert any("owned" in text for text in texts(found))
    return found


@case
def container_command(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    docker(tmp_path, monkeypatch, 3)
    return answer("container_command", project="p", service="s", user="ada", argv=["true"])


@case
def gpu_proof(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    docker(tmp_path, monkeypatch, 3)
    return answer("gpu_proof", project="p", services=["s"], uuids=["GPU-1"])


@case
def port_holders(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    listen = (
        "import os, socket, sys; open('/proc/self/comm', 'wb').write(bytes.fromhex(sys.argv[1])[:15]);"
        f"os.setuid({UID}); one = socket.create_server(('127.0.0.1', 0));"
        "print(one.getsockname()[1], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", listen, BYTES.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        found = answer("port_holders", ports={"mesh": int(process.stdout.readline())}, remedy="move it")
        process.stdin.close()
    assert str(process.pid) in found["msg"]
    return found


@case
def gpu_users_info(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    hold = (
        "import os, sys; open('/proc/self/comm', 'wb').write(bytes.fromhex(sys.argv[1])[:15]);"
        f"os.setuid({UID}); kept = open('/dev/full', 'rb'); print(flush=True); sys.stdin.read()"
    )
    monkeypatch.setattr(f"{MODULES}.gpu_users_info.users", partial(users, "/dev/full"))
    command = [sys.executable, "-c", hold, BYTES.hex()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdin and one.stdout
        one.stdout.readline()
        found = answer("gpu_users_info")
        one.stdin.close()
    assert [user["pid"] for user in found["users"]] == [one.pid]
    return found


@case
def node_verify(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen = {"nas": {"source": HOSTILE}, "hostfile": {HOSTILE: 1}}
    findings = Findings(seen, [Finding(HOSTILE, HOSTILE, HOSTILE)])
    monkeypatch.setattr(f"{MODULES}.node_verify.examine", lambda *_arguments: findings)
    found = answer("node_verify", host="gpu01", state_dir=str(place))
    assert "owned" in found["problems"][0]["what"]
    return found


@case
def registry_prune(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    pruned = Pruned([Deletion(HOSTILE, "sha256:0", [HOSTILE])], HOSTILE, [HOSTILE])
    monkeypatch.setattr(f"{MODULES}.registry_prune.prune", lambda *_arguments: pruned)
    return answer("registry_prune", registry="r:5000", repository="a", keep=["a@sha256:0"])


@case
def move_share(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    left = Copied(left=[Refusal(HOSTILE, HOSTILE, "the same on the share", "Move it.")], left_count=1)
    module = f"{MODULES}.move_share"
    monkeypatch.setattr(f"{module}.move_share.where", lambda *_arguments: "local")
    monkeypatch.setattr(f"{module}.move_share.alone", nullcontext)
    monkeypatch.setattr(f"{module}.move_share.staged", lambda *_arguments: nullcontext("/stage"))
    monkeypatch.setattr(f"{module}.copy_tree.copy", lambda *_arguments: left)
    found = answer("move_share", state="copied", path=str(place), source="nas:/export", fstype="nfs4")
    assert "owned" in found["left"][0]
    return found


@case
def lease(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    library = "ansible_collections.gpustead.cluster.plugins.module_utils.nodes.lease"
    monkeypatch.setattr(f"{library}.is_mounted", all_there)
    (place / ".cluster/leases").mkdir(parents=True)
    taken = {"token": HOSTILE, "by": HOSTILE, "what": HOSTILE, "until": time.time() + 100}
    (place / ".cluster/leases/gpu02.json").write_text(json.dumps(taken))
    given(place)
    holder = {"token": "t", "by": "ops@desk"}
    found = answer("lease", root=str(place), layout_owner={"uid": UID, "gid": UID}, name="gpu02", holder=holder)
    assert "owned" in found["msg"] and "owned" in found["holder"]["by"]
    return found


@case
def node_drain(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    library = "ansible_collections.gpustead.cluster.plugins.module_utils.mesh.node_drain"
    monkeypatch.setattr(f"{library}.is_mounted", all_there)
    drained = place / ".cluster/mesh/drained"
    drained.mkdir(parents=True)
    record = dict.fromkeys(("since", "by", "reason", "until"), HOSTILE)
    (drained / "gpu02.json").write_text(json.dumps({"schema": 1, "node": "gpu02", **record}))
    (drained.parent / "hostfile").write_bytes(BYTES)
    given(place)
    about = {"root": str(place), "layout_owner": {"uid": UID, "gid": UID}, "node": "gpu02", "hosts": ["gpu02"]}
    found = {"drained": answer("node_drain", **about), "undrained": answer("node_drain", **about, state="undrained")}
    assert "owned" in found["drained"]["before"]["reason"]
    return found


@case
def node_removal(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    library = "ansible_collections.gpustead.cluster.plugins.module_utils.mesh.node_removal"
    monkeypatch.setattr(f"{library}.is_mounted", all_there)
    mesh = place / ".cluster/mesh"
    mesh.mkdir(parents=True)
    (mesh / "hostfile").write_bytes(BYTES)
    (mesh / "nodes.json").write_text(json.dumps({"schema": 1, "nodes": {"gpu02": {}, HOSTILE: {HOSTILE: HOSTILE}}}))
    given(place)
    about = {"layout_owner": {"uid": UID, "gid": UID}, "node": "gpu02", "hosts": ["gpu01"], "revoked": ""}
    found = answer("node_removal", root=str(place), **about)
    assert any("owned" in text for text in texts(found))
    return found


def at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node where an account runs what it has named."""
    docker(tmp_path, monkeypatch, 0)
    one = {"id": HOSTILE, "account": HOSTILE, "nodes": [HOSTILE], "command": [HOSTILE]}
    lines = (one, {"account": HOSTILE, "error": HOSTILE}, {"end": True})
    (tmp_path / "said").write_text("\n".join(map(json.dumps, lines)))
    for module in ("node_work_info", "node_work"):
        monkeypatch.setattr(f"{MODULES}.{module}.users", tuple)


@case
def node_work_info(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    at_work(tmp_path, monkeypatch)
    found = answer("node_work_info")
    assert len(found["lines"]) == 2 and all("owned" in line for line in found["lines"])
    return found


@case
def node_work(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    at_work(tmp_path, monkeypatch)
    found = answer("node_work")
    assert len(found["ended"]) == len(found["left"]) == 2
    return found


@case
def node_wipe(answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    docker(tmp_path, monkeypatch, 0)
    (tmp_path / "said").write_bytes(b"gpustead-mesh\ngpustead-" + BYTES)
    found = answer("node_wipe", config_dir=str(place), state_dir=str(place))
    assert [line for line in found["gone"] if "containers" in line] == ["containers of gpustead-mesh"]
    return found


ROOTS = "all that it returns is root's, or declared"
CHECKED = "what accounts could choose of it is matched by a regular expression before"
NO_ANSWER = "an action of the controller, whose findings are shown: test_receipt_check"
OTHERS: dict[str, str] = {
    **dict.fromkeys(
        ("apt_conflicts", "base_info", "firewall_setup_info", "host_files", "nas_info", "trust_store"), ROOTS
    ),
    **dict.fromkeys(("image_contexts", "mesh_authority", "node_images_info", "ssh_host_key"), ROOTS),
    **dict.fromkeys(
        ("cdi_spec", "docker_daemon_config", "docker_service", "gpu_info", "image_squash", "image_stack"), ROOTS
    ),
    **dict.fromkeys(("mesh_certificate", "mig_layout", "nas_mountpoint", "nas_mounts", "nas_quotas"), ROOTS),
    **dict.fromkeys(("node_offer_info", "nvidia_device_nodes"), ROOTS),
    **dict.fromkeys(("leftovers", "nvidia_containers_info", "nvidia_settings", "pinned_file"), ROOTS),
    **dict.fromkeys(("ufw_enabled", "ufw_live", "foreign_openings", "ufw_rules", "ufw_trial"), ROOTS),
    **dict.fromkeys(("mesh_rotation", "terminals"), ROOTS),
    **dict.fromkeys(("closed_directories", "docker_setup_info", "mesh_revocation"), CHECKED),
    "compose_project": "an action of the controller: what it returns is docker_compose_v2's or of modules of ours",
    "preflight": "an action of the controller, on the inventory alone",
    **dict.fromkeys(("receipt_check", "receipt_survey", "receipt_write"), NO_ANSWER),
}


def test_every_module_is_here() -> None:
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    assert sorted(modules - CASES.keys() - OTHERS.keys()) == [], "say whose what it returns is, or add a case"
    assert sorted((CASES.keys() | OTHERS.keys()) - modules) == []
    assert sorted(CASES.keys() & OTHERS.keys()) == []


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_taken_and_shown(
    name: str, answer: Answer, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = CASES[name](answer, place, tmp_path, monkeypatch)
    said = [text for text in texts(found) if text]
    assert said and not any("deserializ" in text for text in said), said
    for text in said:
        assert all(line.isprintable() for line in text.split("\n")), repr(text)
