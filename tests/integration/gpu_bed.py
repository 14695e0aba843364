"""What the tests of GPUs ask of their lab (tests/nvidia): what role nvidia left, and what containers see."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from conftest import PROJECT, Host, Lab

KINDS = PROJECT / "tests/nvidia/kinds"
SMI_STATE = "/usr/lib/nvidia-standin/state.json"
DAEMON = "/etc/docker/daemon.json"
WORKSPACE = ("gpustead-workspace", "jupyter")
MESH = ("gpustead-mesh", "mesh")

H100 = re.findall(r"<uuid>(GPU-[^<]+)<", (KINDS / "h100/smi.xml").read_text())
A100 = re.findall(r"<uuid>(GPU-[^<]+)<", (KINDS / "a100/smi.xml").read_text())
MIXED = re.findall(r"<uuid>(GPU-[^<]+)<", (KINDS / "mixed/smi.xml").read_text())
SMI_LOG = "/usr/lib/nvidia-standin/smi.xml"
FAN = "<fan_speed>{}</fan_speed>"


def mig_uuids() -> list[str]:
    """The instances that the A100 node begins with, in the order of their GPU instances."""
    state = json.loads((KINDS / "a100/state.json").read_text())
    return [one["uuid"] for one in state["gpus"][A100[0]]["instances"]]


def given(host: Host) -> dict[str, Any]:
    """gpus.json, as role nvidia leaves it for the roles that start containers."""
    content: dict[str, Any] = json.loads(host.check_output("cat /etc/gpustead/gpus.json"))
    return content


def gpu_info(host: Host, **options: str) -> dict[str, Any]:
    roots = {name: host.variables[f"nvidia_{name}"] for name in ("sysfs_root", "proc_root")}
    return host.module("gpustead.cluster.gpu_info", {**roots, **options})


def listed(text: str) -> list[str]:
    """The UUIDs of nvidia-smi -L; a GPU below which instances stand counts as those."""
    found: list[str] = []
    for line in text.splitlines():
        uuid = re.search(r"\(UUID: (\S+)\)", line)
        assert uuid, text
        if line.startswith("  MIG ") and found[-1].startswith("GPU-"):
            found.pop()
        found.append(uuid[1])
    return found


def seen(host: Host, project: str, service: str) -> list[str]:
    """What a user sees in a container that the roles started."""
    result = host.compose(project, service, "nvidia-smi -L")
    assert result.rc == 0, f"{host.name}: {result.stdout}{result.stderr}"
    return listed(result.stdout)


def has_cuda(host: Host, project: str, service: str) -> bool:
    """Whether a user of a container may open UVM, without which CUDA ends with error 999 though nvidia-smi works."""
    return bool(host.compose(project, service, "test -w /dev/nvidia-uvm").rc == 0)


def stack(host: Host, project: str) -> dict[str, Any]:
    """The compose file of a stack, and in it the one service whose GPUs are looked at."""
    folder, service = {WORKSPACE[0]: ("workspace", "jupyter"), MESH[0]: ("ssh_mesh", "mesh")}[project]
    content = yaml.safe_load(host.check_output(f"cat /etc/gpustead/{folder}/compose.yml"))
    found: dict[str, Any] = content["services"][service]
    return found


def reserved(host: Host, project: str) -> list[dict[str, Any]]:
    resources = stack(host, project).get("deploy", {}).get("resources", {})
    devices: list[dict[str, Any]] = resources.get("reservations", {}).get("devices", [])
    return devices


def results(text: str) -> dict[str, dict[str, int]]:
    """The recap of a run: host to ok, changed, failed …"""
    found = re.findall(r"^(\S+) +: (ok=.*)$", text, re.MULTILINE)
    return {host: {name: int(n) for name, n in re.findall(r"(\w+)=(\d+)", line)} for host, line in found}


def failed(lab: Lab, *args: str) -> tuple[set[str], str]:
    """A run of site.yml that is to fail: on which hosts it did, and what it printed."""
    done = lab.playbook("site.yml", *args)
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    return {host for host, counts in results(output).items() if counts["failed"]}, output


def vary(lab: Lab, host: Host, **settings: Any) -> None:
    """Give a host settings of its own in the inventory."""
    folder = lab.inventory / "host_vars"
    folder.mkdir(exist_ok=True)
    (folder / f"{host.name}.yml").write_text(yaml.safe_dump(settings))


@contextmanager
def replaced(host: Host, path: str, content: str) -> Iterator[None]:
    """A file with other content, for a while; one that was not there goes again."""
    host.check_output(f"if [ -e {path} ]; then cp -p {path} {path}.kept; fi; mkdir -p $(dirname {path})")
    write(host, path, content)
    try:
        yield
    finally:
        host.check_output(f"if [ -e {path}.kept ]; then mv {path}.kept {path}; else rm {path}; fi")


def write(host: Host, path: str, content: str) -> None:
    host.check_output(f"cat > {path} <<'GPU_BED_END'\n{content.rstrip(chr(10))}\nGPU_BED_END")


@contextmanager
def at_work(host: Host, gpu: str) -> Iterator[None]:
    """A process on a GPU, as the driver shows it."""
    before = host.check_output(f"cat {SMI_STATE}")
    state = json.loads(before)
    state["gpus"][gpu]["processes"] = [{"pid": 4711, "name": "python3", "used_mib": 512}]
    write(host, SMI_STATE, json.dumps(state, indent=1))
    try:
        yield
    finally:
        write(host, SMI_STATE, before)


def become(host: Host, kind: str) -> None:
    """Take the GPUs out of a host, or put others in."""
    host.check_output(f"python3 /srv/bed/standins/host.py /srv/bed/kinds/{kind} /")


def connect(host: Host) -> list[str]:
    """Give a host one more network, for its management, say. Returns those of a cluster that both of its belong to.

    They begin where the new one does: the way to their first address is not the one to the other nodes.
    """
    first, *others = host.variables["cluster_network"]
    wide = ipaddress.ip_network(first).supernet(new_prefix=20)
    made = "ip link add name lab0 type veth peer name lab1 && ip link set lab1 up && ip link set lab0 up"
    host.check_output(f"[ -e /sys/class/net/lab0 ] || ({made} && ip address add {wide[7]}/22 dev lab0)")
    return [str(wide), *others]


@contextmanager
def fan_fails(host: Host) -> Iterator[None]:
    """Of the first GPU, which has none: what the driver then says."""
    well, ill = FAN.format("N/A"), FAN.format("ERR!")
    host.check_output(f"sed -i '0,\\,{well},s,,{ill},' {SMI_LOG} && grep -q '{ill}' {SMI_LOG}")
    try:
        yield
    finally:
        host.check_output(f"sed -i 's,{ill},{well},' {SMI_LOG}")
