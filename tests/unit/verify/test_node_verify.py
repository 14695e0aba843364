# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A sound host has no problem; each thing that is broken on it is named, and hides nothing else."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.drained import Drained
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import docker
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.containers import parse_container
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import (
    DeclaredAccount,
    Desired,
    Findings,
    Project,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.host import host_of
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.node_verify import examine
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.share import (
    ObservedShare,
    expected_files,
    observe_share,
    owners,
    parse_hostfile,
    problems,
)
from ansible_collections.gpustead.cluster.tests.unit import docker_engine

IMAGE_FILE, GPUS_FILE = "/etc/gpustead/image", "/etc/gpustead/gpus.json"
IMAGE = "10.0.0.5:5000/gpustead/workspace@sha256:ad75"
DESIRED = Desired(
    host="gpu02",
    node=True,
    owner="ada",
    accounts=(DeclaredAccount("ada", 1500, 1500), DeclaredAccount("grace", 1501, 1501)),
    nas_source="10.0.0.5:/nas",
    nas_fstype="glusterfs",
    nodes=("gpu01", "gpu02", "gpu03"),
    projects=(
        Project("gpustead-workspace", {"jupyter": 18888, "ssh": 10022}, "ada"),
        Project("gpustead-mesh", {"mesh": 0}, "ada"),
    ),
    listening={"the mesh's sshd": 2222},
    networks=["10.214.10.0/24"],
    firewall_policy={
        "rules": [{"from_ip": ["10.214.10.0/24", "fd00:214:10::/64"], "to_port": "2222", "proto": "tcp"}],
        "ssh_sources": ["any"],
        "protected": ["10.214.10.0/24"],
    },
    gpu_info={"state": "none", "gpus": []},
)
NO_GPUS = {"schema": 1, "state": "none", "driver": None, "uuids": []}
PROBED = Path(__file__).parents[1] / "fixtures" / "probes"
RULES = {command: (PROBED / f"{command}.txt").read_text() for command in ("iptables-save", "ip6tables-save")}
MOUNT = "40 30 0:60 / /mnt/nas rw,nosuid,nodev,relatime shared:1 - fuse.glusterfs 10.0.0.5:/nas rw"
PASSWD = "ada:x:1500:1500:::/bin/bash\ngrace:x:1501:1501:::/bin/bash\n"
UNIT = "\n".join(
    f"{name}={value}"
    for name, value in {
        "LoadState": "loaded",
        "UnitFileState": "enabled",
        "ActiveState": "active",
        "FragmentPath": "/usr/lib/systemd/system/docker.service",
        "DropInPaths": "/etc/systemd/system/docker.service.d/proxy.conf",  # an administrator's: its digest needs a salt
        "NeedDaemonReload": "no",
    }.items()
)
# Files of a sound host.
FILES: dict[str, str] = {
    "/etc/passwd": PASSWD,
    "/proc/self/mountinfo": f"30 1 8:1 / / rw - ext4 /dev/sda1 rw\n{MOUNT}\n",
    IMAGE_FILE: f"{IMAGE}\n",
    GPUS_FILE: json.dumps(NO_GPUS),
    "/etc/systemd/system/docker.service.d/proxy.conf": "[Service]\n",
    "/run/docker.pid": "77",
    "/proc/77/status": "Name:\tdockerd\nUmask:\t0022\nUid:\t0\t0\t0\t0\n",
    "/proc/net/if_inet6": "",
    "/etc/ufw/ufw.conf": "ENABLED=yes\nLOGLEVEL=low\n",
    "/etc/default/ufw": 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\n',
    **{f"/etc/ufw/{name}": (PROBED / name).read_text() for name in ("user.rules", "user6.rules")},
}
SSH = "docker exec --user ada id-mesh ssh"


def container(project: str, service: str, **more: Any) -> dict[str, Any]:
    port = {"jupyter": "18888", "ssh": "10022"}.get(service)
    return {
        "Id": f"id-{service}",
        "Name": more.get("name", f"{project}-{service}-1"),
        "State": {"Status": more.get("status", "running"), "Health": {"Status": more.get("health", "healthy")}},
        "Config": {
            "Image": more.get("image", IMAGE),
            "Labels": {
                "com.docker.compose.project": project,
                "com.docker.compose.service": service,
                "com.docker.compose.oneoff": more.get("oneoff", "False"),
            },
        },
        "NetworkSettings": {
            "Ports": {"1/tcp": [{"HostIp": "0.0.0.0", "HostPort": more.get("port", port)}], "2/tcp": None}
            if port
            else {}
        },
    }


@pytest.mark.parametrize(("port", "ports"), [("18888", (18888,)), ("", ()), ("0", ()), (None, ()), ("8091-8093", ())])
def test_a_port_that_is_none_of_the_hosts_is_passed_over(port: str | None, ports: tuple[int, ...]) -> None:
    """As of networks that route (gateway_mode_ipv4), and as others have met it: moby 29961, OpenBot 390, wolf 340."""
    inspected = container("gpustead-workspace", "jupyter", port=port)
    assert parse_container(inspected, "gpustead-workspace", "jupyter").ports == ports


SOUND_CONTAINERS = [
    container("gpustead-workspace", "jupyter"),
    container("gpustead-workspace", "ssh"),
    container("gpustead-mesh", "mesh"),
    container("somebody-else", "db", status="exited"),
]
# What commands answer on a sound host, by how they begin.
SOUND: dict[str, tuple[int, str, str]] = {
    "hostname": (0, "gpu02\n", ""),
    "getent -- passwd": (2, "", ""),
    "stat": (0, "", ""),
    "systemctl show": (0, UNIT, ""),
    SSH: (0, "a-name\n", ""),
    "ss": (0, "LISTEN 0 128 *:2222 *:*\nLISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n", ""),
    **{command: (0, text, "") for command, text in RULES.items()},
}


def entry(kind: str, ids: str, mode: str) -> dict[str, str]:
    """What the probe `file` says."""
    return {"type": kind, "owner": ids, "mode": mode}


SHARE = ObservedShare(
    entry("directory", "941:941", "1775"),
    {
        ".cluster": entry("directory", "941:941", "0755"),
        ".cluster/nodes": entry("directory", "941:941", "0755"),
        ".cluster/accounts": entry("directory", "941:941", "0755"),
        ".cluster/accounts/accounts.json": entry("file", "941:941", "0644"),
        ".cluster/mesh": entry("directory", "941:941", "1775"),
        ".cluster/mesh/id_ed25519": entry("file", "1500:1500", "0600"),
        ".cluster/images.json": entry("file", "941:941", "0644"),
        ".cluster/nodes/gpu02.json": entry("file", "941:941", "0644"),
        "users": entry("directory", "941:941", "1775"),
        "users/ada": entry("directory", "1500:1500", "0700"),
        "users/grace": entry("directory", "1501:1501", "0750"),
        "shared": entry("directory", "1500:1500", "2775"),
    },
    "gpu01 slots=2\ngpu02 slots=2\ngpu03 slots=8\n",
)


# What is changed on the sound host: a command's answer, a file (None: it is not there), its "containers", or which of
# these are "silent".
Changes = dict[str, Any]


def look(changes: Changes, desired: Desired = DESIRED, seen: ObservedShare = SHARE) -> Findings:
    answers: dict[str, tuple[int, str, str]] = {
        **SOUND,
        **{name: value for name, value in changes.items() if not name.startswith("/")},
    }
    files = {**FILES, **{name: text for name, text in changes.items() if name.startswith("/")}}

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        command = " ".join(argv)
        return answers[max((start for start in answers if command.startswith(start)), key=len)]

    def share(_path: object, _service: object, paths: Sequence[str]) -> ObservedShare:
        return replace(seen, files={path: seen.files.get(path) for path in paths})

    found = changes.get("containers", SOUND_CONTAINERS)
    listed = [{"Id": one["Id"], "Names": [f"/{one['Name']}"], "Labels": one["Config"]["Labels"]} for one in found]
    documents = {"/containers/json?all=1": listed, **{f"/containers/{one['Id']}/json": one for one in found}}
    documents.update({f"/containers/{one}/json": docker_engine.SILENT for one in changes.get("silent", ())})
    with tempfile.TemporaryDirectory() as root:
        for name, text in files.items():
            if text is not None:
                path = Path(root + name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        with docker_engine.engine(Path(root, "docker.sock"), documents):
            return examine(desired, run, host_of(run, root, f"{root}/docker.sock"), share)


def saved(command: str, old: str, new: str) -> Changes:
    """The kernel's rules with something else in them."""
    assert old in RULES[command]
    return {command: (0, RULES[command].replace(old, new, 1), "")}


def containers(*others: dict[str, Any]) -> Changes:
    return {"containers": [*others]}


def instead(**more: Any) -> Changes:
    return containers(container("gpustead-workspace", "jupyter", **more), *SOUND_CONTAINERS[1:])


def mounted(line: str) -> Changes:
    return {"/proc/self/mountinfo": f"30 1 8:1 / / rw - ext4 /dev/sda1 rw\n{line}\n"}


BROKEN: dict[str, tuple[Changes, list[str]]] = {
    "an account with other ids": (
        {"/etc/passwd": PASSWD.replace("1501:1501", "1777:1501")},
        ["account grace has the ids 1777:1501, declared are 1501:1501"],
    ),
    "a missing account": ({"/etc/passwd": PASSWD.partition("grace")[0]}, ["account grace is missing"]),
    "a directory that does not answer": (
        {"/etc/passwd": PASSWD.partition("grace")[0], "getent -- passwd": (124, "", "no answer within 30 s")},
        [
            "account ada cannot be looked at (getent: no answer within 30 s)",
            "account grace cannot be looked at (getent: no answer within 30 s)",
        ],
    ),
    "a place of containers that is not covered any more": (
        {"/etc/gpustead/binds.d/covered": '{"places": ["/srv/data"]}'},
        ["/srv/data lets setuid programs that containers leave there work on the host"],
    ),
    "a damaged list of such places": (
        {"/etc/gpustead/binds.d/covered": "[]"},
        ["places that containers write cannot be looked at"],
    ),
    "with setuid programs": (
        mounted(MOUNT.replace("nosuid,nodev,", "nodev,")),
        ["NAS /mnt/nas is mounted without nosuid"],
    ),
    "with setuid programs and devices": (
        mounted(MOUNT.replace("nosuid,nodev,", "")),
        ["NAS /mnt/nas is mounted without nosuid,nodev"],
    ),
    "nothing mounted": (mounted(""), ["NAS /mnt/nas nothing is mounted there"]),
    "an automount that does not mount": (
        mounted("40 30 0:60 / /mnt/nas rw - autofs systemd-1 rw"),
        ["NAS /mnt/nas nothing is mounted there"],
    ),
    "a share whose export was exchanged": (
        {"stat": (1, "", "stat: cannot statx '/mnt/nas/.': Stale file handle")},
        ["NAS /mnt/nas is stale: its export was exchanged"],
    ),
    "a share that hangs": (
        {"stat": (124, "", "no answer within 60 s, and was killed")},
        ["NAS /mnt/nas does not answer (no answer within 60 s, and was killed)"],
    ),
    "something over the share": (
        mounted(f"{MOUNT}\n41 40 0:61 / /mnt/nas rw,nosuid,nodev - tmpfs tmpfs rw"),
        ["NAS /mnt/nas is of type tmpfs"],
    ),
    "another share": (
        mounted(MOUNT.replace("10.0.0.5", "10.0.0.6")),
        ["NAS /mnt/nas is 10.0.0.6:/nas, declared is 10.0.0.5:/nas"],
    ),
    "another file system": (
        mounted(MOUNT.replace("fuse.glusterfs", "nfs4")),
        ["NAS /mnt/nas is of type nfs4, declared is glusterfs"],
    ),
    "no Docker": ({"systemctl show": (0, UNIT.replace("=active", "=inactive"), "")}, ["docker is inactive"]),
    "no systemd": (
        {"systemctl show": (1, "", "no bus")},
        ["docker is not to be asked (systemctl: no bus)"],
    ),
    "a Docker that does not answer": (
        {"/run/docker.pid": None, "/proc/77/status": None},
        ["docker does not tell about its containers: Docker does not run"],
    ),
    "no word of role nvidia": (
        {GPUS_FILE: None},
        ["GPUs for containers are not known (/etc/gpustead/gpus.json is not there)"],
    ),
    "a damaged one": (
        {GPUS_FILE: "{"},
        ["GPUs for containers are not known (/etc/gpustead/gpus.json is damaged)"],
    ),
    "no image": ({IMAGE_FILE: None}, ["image /etc/gpustead/image does not name one"]),
    "a service that is missing": (
        containers(*SOUND_CONTAINERS[1:]),
        ["service gpustead-workspace/jupyter has no container"],
    ),
    "a container that has the labels of a service from its image": (
        containers(
            *SOUND_CONTAINERS,
            {**container("gpustead-workspace", "jupyter", name="somebodys"), "Id": "id-0", "State": {}},
        ),
        [
            "service gpustead-workspace/jupyter container somebodys passes for one of it: its image has the labels",
        ],
    ),
    "a container of compose run": (instead(oneoff="True"), ["service gpustead-workspace/jupyter has no container"]),
    "a stopped service": (instead(status="exited"), ["service gpustead-workspace/jupyter is exited"]),
    "an unhealthy service": (instead(health="unhealthy"), ["service gpustead-workspace/jupyter is unhealthy"]),
    "an old image": (
        instead(image="old@sha256:00"),
        ["service gpustead-workspace/jupyter runs the image old@sha256:00"],
    ),
    "another port": (instead(port="18889"), ["publishes 18889, declared is port 18888"]),
    "a mesh that is down": (
        containers(*SOUND_CONTAINERS[:2], container("gpustead-mesh", "mesh", status="exited")),
        ["service gpustead-mesh/mesh is exited"],
    ),
    "a peer that refuses": (
        {
            f"{SSH} -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 gpu03": (
                255,
                "",
                "No ED25519 host key is known\nHost key verification failed.\n",
            )
        },
        ["SSH to gpu03 in the mesh fails (Host key verification failed.)"],
    ),
    "a port without a listener": (
        {"ss": (0, "", "")},
        ["port 2222 nothing listens there, declared is the mesh's sshd"],
    ),
    "a listener of the host alone": (
        {"ss": (0, "LISTEN 0 128 127.0.0.1:2222 0.0.0.0:*\nLISTEN 0 128 [::1]:2222 [::]:*\n", "")},
        ["port 2222 the mesh's sshd listens at 127.0.0.1, ::1 alone, where 10.214.10.0/24 cannot reach it"],
    ),
    "a listener in another network": (
        {"ss": (0, "LISTEN 0 128 192.0.2.1:2222 0.0.0.0:*\n", "")},
        ["port 2222 the mesh's sshd listens at 192.0.2.1 alone"],
    ),
    "a listener for IPv6 alone": (
        {"ss": (0, "LISTEN 0 128 [::]:2222 [::]:*\n", "")},
        ["port 2222 the mesh's sshd listens at :: alone"],
    ),
    "no ss": ({"ss": (127, "", "ss: No such file")}, ["port 2222 cannot be looked at (ss: ss: No such file)"]),
    "no iptables": (
        {"iptables-save": (127, "", "no such file"), "ip6tables-save": (127, "", "no such file")},
        [
            "ufw is not active (iptables-save: no such file)",
            "chain DOCKER-USER cannot be looked at (iptables-save: no such file)",
            "firewall its rules cannot be looked at (iptables-save: no such file)",
        ],
    ),
    "a flushed chain": (
        saved("ip6tables-save", "-A DOCKER-USER -j gpustead-forward\n", ""),
        ["ip6tables chain DOCKER-USER does not govern"],
    ),
    "a chain that is passed by": (
        saved("iptables-save", "-A FORWARD -j DOCKER-USER\n", ""),
        ["iptables chain DOCKER-USER is not what forwarded packets pass first"],
    ),
    "somebody's rule in front": (
        saved("iptables-save", "-A INPUT", "-A INPUT -p tcp -m tcp --dport 2222 -j ACCEPT\n-A INPUT"),
        ["firewall tcp port 2222 (v4) is open to any but 10.214.10.0/24 by iptables: -A INPUT -p tcp"],
    ),
    "a node that is shut out": (
        saved("iptables-save", "-A INPUT", "-A INPUT -s 10.214.10.12/32 -j DROP\n-A INPUT"),
        ["firewall tcp ports 22,2222 (v4) are closed to 10.214.10.12"],
    ),
    "a policy that lets in": (
        saved("ip6tables-save", ":INPUT DROP", ":INPUT ACCEPT"),
        ["firewall tcp port 2222 (v6) is open to any but fd00:214:10::/64 by the policy of ip6tables's INPUT"],
    ),
}
# Of ufw's files.
UFW: dict[str, tuple[dict[str, str], list[str]]] = {
    "off": ({"/etc/ufw/ufw.conf": "ENABLED=no\n"}, ["ufw is not active"]),
    "not there": ({"/etc/ufw/ufw.conf": ""}, ["ufw is not active (it is not there)"]),
    "lets in": (
        {"/etc/default/ufw": 'DEFAULT_INPUT_POLICY="ACCEPT"\nIPV6=yes\n'},
        ["ufw lets in by default (allow)"],
    ),
}


@pytest.mark.parametrize("case", UFW)
def test_a_ufw_that_does_not_keep_out_is_named(case: str) -> None:
    files, expected = UFW[case]
    assert [f"{problem.subject} {problem.what}" for problem in look(files).problems] == expected


def test_whoever_opens_our_ports_to_more_is_told_what_to_do() -> None:
    (problem,) = look(BROKEN["somebody's rule in front"][0]).problems
    assert "iptables -D INPUT -p tcp -m tcp --dport 2222 -j ACCEPT" in problem.remedy
    assert "firewall_extra_rules" in problem.remedy
    assert "firewall_exclusive" in problem.remedy


def test_a_sound_host_has_no_problem() -> None:
    findings = look({})
    assert findings.problems == []
    assert findings.seen["peers"] == {"gpu03": "a-name", "gpu01": "a-name"}
    assert findings.seen["accounts"] == {"ada": "1500:1500", "grace": "1501:1501"}
    assert findings.seen["files"]["users/grace"] == "1501:1501"


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_named(case: str) -> None:
    changes, expected = BROKEN[case]
    lines = [f"{problem.subject} {problem.what}" for problem in look(changes).problems]
    assert len(lines) == len(expected), lines
    assert [text for line, text in zip(lines, expected) if text not in line] == [], lines


OWN_DISK = "40 30 8:1 /mnt/nas /mnt/nas rw,nosuid,nodev,relatime master:1 - ext4 /dev/sda1 rw"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (OWN_DISK, []),
        ("", ["is not mounted on itself, as the place of a single node is"]),
        (OWN_DISK.replace("nosuid,", ""), ["is mounted without nosuid"]),
    ],
)
def test_the_places_of_a_single_node_are_on_its_own_disk(line: str, expected: list[str]) -> None:
    found = look(mounted(line), replace(DESIRED, nas_source="", nas_fstype="nfs4"))
    assert [problem.what for problem in found.problems] == expected


def test_a_container_for_which_docker_does_not_answer_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "_TIMEOUT", 0.5)
    found = look({**instead(status="exited"), "silent": ["id-ssh"]}).problems
    assert [f"{problem.subject} {problem.what}" for problem in found] == [
        "service gpustead-workspace/jupyter is exited",
        "service gpustead-workspace/ssh cannot be asked: Docker does not answer: timed out",
    ]
    assert "FIFO" in found[1].remedy


def test_what_a_shell_in_the_mesh_says_beside_the_name_fills_no_report() -> None:
    said = look({SSH: (0, "x" * (4 << 20), "")}).seen["peers"]
    assert {peer: len(name) for peer, name in said.items()} == {"gpu01": 255, "gpu03": 255}
    (first, *_others) = look({SSH: (255, "", "\n".join(["a" * (4 << 20)] * 2))}).problems
    assert len(first.what) < 2000


def test_a_bridge_that_passes_for_one_of_dockers_fails_as_it_is_drift() -> None:
    net = "/sys/class/net/br-lan"
    changes = {f"{net}/bridge/bridge_id": "8000", f"{net}/brif/veth1": "", "/sys/class/net/veth1/uevent": ""}
    policy = {**DESIRED.firewall_policy, "published": [], "published_to": [], "bridges": ["docker0", "br-+"]}
    found = [
        problem
        for problem in look(changes, replace(DESIRED, firewall_policy=policy)).problems
        if "the bridge br-lan" in problem.what
    ]
    assert ["firewall_docker_bridges" in problem.remedy for problem in found] == [True]


GPU1 = {"uuid": "GPU-1", "health": "ok", "problems": [], "mig": {"current": None, "instances": []}}
GPU2 = {**GPU1, "uuid": "GPU-2"}
SICK = {**GPU2, "health": "bad", "problems": ["GPU 1 has a row remapping that failed.", "It must be replaced."]}
READY = {"state": "ready", "reason": None, "remedy": None, "detail": "2 GPUs answer", "gpus": [GPU1, GPU2]}
DEGRADED = {**READY, "state": "degraded", "reason": "unhealthy", "gpus": [GPU1, SICK]}
MISMATCH = {
    "state": "unusable",
    "reason": "version_mismatch",
    "remedy": "Reboot.",
    "detail": "Failed to initialize NVML: Driver/library version mismatch",
    "gpus": [],
}
BOTH = {"schema": 1, "state": "ready", "driver": "cdi", "uuids": ["GPU-1", "GPU-2"]}
LISTED = "GPU 0: NVIDIA L40S (UUID: GPU-1)\nGPU 1: NVIDIA L40S (UUID: GPU-2)\n"
LOST = (255, "Failed to initialize NVML: Unknown Error\n", "")
# What gpu_info says, what role nvidia left, what nvidia-smi -L answers in some containers: what is wrong.
GPU_CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, tuple[int, str, str]], list[str]]] = {
    "sound": (READY, BOTH, {}, []),
    "lost in one container": (
        READY,
        BOTH,
        {"ssh": LOST},
        ["GPUs in gpustead-workspace/ssh are not the node's: nvidia-smi fails (Failed to initialize NVML:"],
    ),
    "another GPU in the mesh": (
        READY,
        BOTH,
        {"mesh": (0, LISTED.replace("GPU-2", "GPU-3"), "")},
        ["GPUs in gpustead-mesh/mesh are not the node's: does not see GPU-2 and sees GPU-3"],
    ),
    "a driver that no longer answers": (
        MISMATCH,
        BOTH,
        dict.fromkeys(("jupyter", "ssh", "mesh"), LOST),
        [
            "GPUs are unusable, version_mismatch (Failed to initialize NVML: Driver/library version mismatch)",
            "GPUs are unusable now, role nvidia found them ready",
            "GPUs are none now, containers were given GPU-1, GPU-2",
            "GPUs in gpustead-workspace/jupyter",
            "GPUs in gpustead-workspace/ssh",
            "GPUs in gpustead-mesh/mesh",
        ],
    ),
    "a sick one, known": (
        DEGRADED,
        {**BOTH, "state": "degraded", "uuids": ["GPU-1"]},
        dict.fromkeys(("jupyter", "ssh", "mesh"), (0, LISTED.splitlines()[0], "")),
        ["GPUs are degraded, unhealthy (GPU 1 has a row remapping that failed. It must be replaced)"],
    ),
    "MIG instances made anew": (
        {**READY, "gpus": [GPU1, {**GPU2, "mig": {"current": True, "instances": [{"uuid": "MIG-3"}]}}]},
        BOTH,
        {},
        ["GPUs are GPU-1, MIG-3 now, containers were given GPU-1, GPU-2"],
    ),
    "ready, and not for containers": (
        READY,
        {**NO_GPUS, "state": "ready"},
        {},
        ["GPUs are not given to containers"],
    ),
    "not asked": ({"msg": "no Python"}, BOTH, {}, ["GPUs cannot be asked (no Python)"]),
}


def test_the_gpus_that_answer_are_in_the_report() -> None:
    named = {**READY, "gpus": [{**GPU1, "name": "NVIDIA L40S"}, {**GPU2, "name": "NVIDIA L40S"}, GPU1]}
    seen = look({}, replace(DESIRED, gpu_info=named)).seen["gpus"]
    assert seen == {"state": "ready", "models": {"NVIDIA L40S": 2, "GPU": 1}}
    assert "gpus" not in look({}, replace(DESIRED, gpu_info={"msg": "no nvidia-smi"})).seen


def look_at_gpus(case: str, required: bool) -> list[str]:
    info, left, inside, _ = GPU_CASES[case]
    changes: Changes = {GPUS_FILE: json.dumps(left)}
    for service in ("jupyter", "ssh", "mesh"):
        changes[f"docker exec --user ada id-{service} nvidia-smi -L"] = inside.get(service, (0, LISTED, ""))
    desired = Desired(**{**DESIRED.__dict__, "gpu_info": info, "gpus_required": required})
    return [f"{problem.subject} {problem.what}" for problem in look(changes, desired).problems]


@pytest.mark.parametrize("case", GPU_CASES)
def test_gpus(case: str) -> None:
    lines, expected = look_at_gpus(case, True), GPU_CASES[case][3]
    assert len(lines) == len(expected), lines
    assert [text for line, text in zip(lines, expected) if not line.startswith(text)] == [], lines


@pytest.mark.parametrize(
    ("nodes", "lines"),
    [
        (["/dev/nvidiactl"], ["GPUs in gpustead-workspace/ssh are not the node's: may not open /dev/nvidia-uvm"]),
        (["/dev/nvidiactl", "/dev/nvidia-uvm"], ["GPUs in gpustead-workspace/ssh are not the node's: may not open"]),
        (["/dev/dxg"], []),
    ],
    ids=["a host that lost it", "a container that lost it", "WSL"],
)
def test_a_container_without_uvm(nodes: list[str], lines: list[str]) -> None:
    """nvidia-smi works there, and CUDA does not."""
    changes: Changes = {GPUS_FILE: json.dumps(BOTH), **dict.fromkeys(nodes, "")}
    for service in ("jupyter", "ssh", "mesh"):
        changes[f"docker exec --user ada id-{service} nvidia-smi -L"] = (0, LISTED, "")
        changes[f"docker exec --user ada id-{service} test -w /dev/nvidia-uvm"] = (int(service == "ssh"), "", "")
    desired = Desired(**{**DESIRED.__dict__, "gpu_info": READY})
    found = [f"{problem.subject} {problem.what}" for problem in look(changes, desired).problems]
    assert len(found) == len(lines), found
    assert all(line.startswith(words) for line, words in zip(found, lines))


@pytest.mark.parametrize("case", ["a sick one, known", "ready, and not for containers"])
def test_gpus_that_are_not_required_may_be_unusable(case: str) -> None:
    assert look_at_gpus(case, False) == []


def test_a_workspace_of_another_owner_with_a_gpu_of_its_own() -> None:
    offer = {**BOTH, "device_ids": ["GPU-1", "GPU-2"], "device_nodes": []}
    bob = container("gpustead-workspace-bob", "ssh", port="19007")
    bob["Id"] = "id-bob"
    changes = {
        **containers(*SOUND_CONTAINERS, bob),
        GPUS_FILE: json.dumps(offer),
        **dict.fromkeys(
            (f"docker exec --user ada id-{name} nvidia" for name in ("jupyter", "ssh", "mesh")), (0, LISTED, "")
        ),
        "docker exec --user bob id-bob nvidia-smi -L": (0, LISTED.splitlines()[1], ""),
    }

    def lines(ports: dict[str, int], gpus: list[Any]) -> list[str]:
        projects = (*DESIRED.projects, Project("gpustead-workspace-bob", ports, "bob", gpus=gpus))
        desired = Desired(**{**DESIRED.__dict__, "gpu_info": READY, "projects": projects})
        return [f"{problem.subject} {problem.what}" for problem in look(changes, desired).problems]

    assert lines({"ssh": 19007}, [1]) == []
    assert lines({"ssh": 19007}, []) == []
    assert lines({"ssh": 19007, "jupyter": 19004}, [1]) == ["service gpustead-workspace-bob/jupyter has no container"]
    (port, gpu) = lines({"ssh": 19003}, [0])
    assert port == "service gpustead-workspace-bob/ssh publishes 19007, declared is port 19003"
    assert gpu.startswith("GPUs in gpustead-workspace-bob/ssh")
    (gone,) = lines({"ssh": 19007}, ["GPU-9"])
    assert gone == "GPUs of gpustead-workspace-bob have one that is not there (GPU GPU-9)"


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("2.13.0 cu126", ["image has torch 2.13.0 from cu126, without code for GPUs of compute capability 12.0"]),
        ("2.13.0 cu130", []),
        ("", []),
    ],
)
def test_an_image_without_code_for_a_gpu_is_named_once(label: str, lines: list[str]) -> None:
    found = [container("gpustead-workspace", name) for name in ("jupyter", "ssh")]
    for one in (*found, mesh := container("gpustead-mesh", "mesh")):
        one["Config"]["Labels"]["org.gpustead.torch"] = label
    gpus = [{"uuid": "GPU-1", "health": "ok", "compute_capability": "12.0"}]
    withheld = {"uuid": "GPU-2", "health": "ok", "compute_capability": "3.5", "withheld": "excluded"}
    info = {"state": "none", "machine": "x86_64", "gpus": [*gpus, withheld]}
    left = {GPUS_FILE: json.dumps({**NO_GPUS, "gpus": gpus})}
    desired = Desired(**{**DESIRED.__dict__, "gpu_info": info})
    problems = look({**containers(*found, mesh), **left}, desired).problems
    assert [f"{problem.subject} {problem.what}" for problem in problems if problem.subject == "image"] == lines


def test_an_image_of_some_nodes_is_not_compared_with_that_of_the_others() -> None:
    seen = look({}, Desired(**{**DESIRED.__dict__, "variant": "volta"})).seen
    assert (seen.get("image"), seen["variant"]) == (None, IMAGE.partition("/")[2])


def test_without_gpus_no_container_is_asked() -> None:
    refused = {"docker exec --user ada id-jupyter nvidia-smi": (1, "", "asked")}
    assert look(refused).problems == []


def on_share(path: str, value: Any) -> ObservedShare:
    return replace(SHARE, files={**SHARE.files, path: value})


SHARES: dict[str, tuple[ObservedShare, list[str]]] = {
    "a foreign owner": (
        on_share("users/grace", entry("directory", "0:0", "0700")),
        ["file users/grace belongs to 0:0, declared is 1501:1501"],
    ),
    "a record that is not there": (
        on_share(".cluster/nodes/gpu02.json", None),
        ["file .cluster/nodes/gpu02.json cannot be seen"],
    ),
    "a link": (
        on_share("users/ada", {**entry("link", "1500:1500", "0777"), "target": "/"}),
        ["file users/ada is a link, declared is a directory"],
    ),
    "a layout that all may write in": (
        on_share("users", entry("directory", "941:941", "1777")),
        ["file users has mode 1777, declared is 1775"],
    ),
    "a layout that is an account's": (
        on_share(".cluster", entry("directory", "1500:1500", "0755")),
        ["file .cluster belongs to 1500:1500, declared is 941:941"],
    ),
    "a root that is an account's": (
        replace(SHARE, root=entry("directory", "1500:1500", "0755")),
        ["root of the share belongs to uid 1500"],
    ),
    "a share that hangs": (
        replace(SHARE, root={"error": "no answer"}, problem="no answer"),
        ["root of the share cannot be looked at (no answer)", "hostfile cannot be read (no answer)"],
    ),
    "a hostfile that lacks a node": (
        replace(SHARE, hostfile="gpu01 slots=2\ngpu02 slots=2\n"),
        ["hostfile lacks gpu03"],
    ),
    "a drained node that stands in the hostfile": (
        replace(SHARE, drained={"gpu03": Drained("gpu03", "noon", "ops", "disk")}),
        ["hostfile names gpu03, which is drained"],
    ),
    "a drained node that does not, as it should be": (
        replace(SHARE, hostfile="gpu01 slots=2\ngpu02 slots=2\n", drained={"gpu03": Drained("gpu03", "a", "b", "c")}),
        [],
    ),
    "a hostfile with everything wrong": (
        replace(SHARE, hostfile="gpu01\ngpu02 slots=2\ngpu02 slots=2\ngpu03 slots=0\nold slots=1\n"),
        [
            "hostfile gives gpu01 no slots",
            "hostfile names gpu02 more than once",
            "hostfile names gpu02 more than once",
            "hostfile gives gpu03 no slots",
            "hostfile names old, which is not in gpu_nodes",
        ],
    ),
}


@pytest.mark.parametrize("case", SHARES)
def test_what_is_wrong_on_the_share_is_named(case: str) -> None:
    seen, lines = SHARES[case]
    found = [f"{problem.subject} {problem.what}" for problem in look({}, seen=seen).problems]
    assert [text[: len(line)] for text, line in zip(found, lines)] == lines
    assert len(found) == len(lines)


def test_a_drained_node_says_so_of_itself() -> None:
    drained = {"gpu02": Drained("gpu02", "noon", "ops@here", "disk"), "gpu03": Drained("gpu03", "a", "b", "c")}
    found = look({}, seen=replace(SHARE, hostfile="gpu01 slots=2\n", drained=drained))
    (notice,) = [one for one in found.notices if one.subject == "node"]
    assert notice.what == "is drained since noon by ops@here: disk" and "undrain.yml -e node=gpu02" in notice.remedy


def test_the_key_of_a_former_user_of_the_mesh_is_not_to_be_handed_on() -> None:
    files = {**SHARE.files, ".cluster/mesh/id_ed25519": entry("file", "1501:1501", "0600")}
    (problem,) = look({}, seen=replace(SHARE, files=files)).problems
    assert problem.what == "belongs to 1501:1501, declared is 1500:1500"
    assert "chown" not in problem.remedy and "Do not hand it on" in problem.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="looks as another account")
def test_a_real_share_is_looked_at_as_the_service_account() -> None:
    service = Identity(61941, 61941)
    desired = expected_files(service, ("ada", "61500:61500"), {"ada": "61500:61500", "eve": "61501:61501"}, ["a"])
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o1775)
        for one in desired:
            place = Path(top, one.path)
            place.mkdir(exist_ok=True, parents=True) if one.kind == "directory" else place.touch()
        for one in desired:
            os.chown(Path(top, one.path), *map(int, one.ids.split(":")))
            Path(top, one.path).chmod(int(one.mode or "0700", 8))
        os.chown(top, service.uid, service.gid)
        Path(top, "users/eve").rmdir()
        Path(top, "users/eve").symlink_to("/")
        os.mkfifo(Path(top, ".cluster/mesh/hostfile"))
        began = time.monotonic()
        seen = observe_share(top, service, [one.path for one in desired])
    assert time.monotonic() - began < 10
    assert [what for _, what, _ in problems(service, desired, seen)] == ["is a link, declared is a directory"]
    assert "no regular file" in seen.problem
    assert owners(seen)["users/ada"] == "61500:61500"


def test_every_problem_is_found_at_once() -> None:
    changes = {"ss": (0, "", ""), **mounted(""), **instead(health="bad"), **UFW["off"][0]}
    assert len(look(changes).problems) == 4


def test_an_image_of_its_own_is_what_a_stack_runs() -> None:
    workspace, mesh = DESIRED.projects
    desired = Desired(**{**DESIRED.__dict__, "projects": (replace(workspace, image="own"), mesh)})
    subjects = [problem.subject for problem in look({}, desired).problems]
    assert subjects == ["service gpustead-workspace/jupyter", "service gpustead-workspace/ssh"]


def test_of_other_hosts_only_ports_and_firewall_are_looked_at() -> None:
    desired = Desired(host="nas", listening={"the registry": 5000, "SSH": 22})
    findings = look({**saved("iptables-save", "-j gpustead-forward", "-j RETURN"), "docker": (1, "", "")}, desired)
    assert [problem.subject for problem in findings.problems] == ["port 5000"]
    assert look({"iptables-save": (1, "", "")}, Desired(host="nas", firewall=False)).problems == []


def test_hostfile_lines() -> None:
    text = "# made by hand\n\na slots=2\nb slots=x\nc\nd slots=1 # last\n"
    assert parse_hostfile(text) == [("a", 2), ("b", 0), ("c", 0), ("d", 1)]
