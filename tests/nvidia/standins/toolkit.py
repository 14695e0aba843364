#!/usr/bin/env python3
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Stand-ins for the programs of the NVIDIA Container Toolkit, one file under their names.

nvidia-ctk writes CDI specifications of what nvidia-smi shows, and edits daemon.json as the real one does (it sorts the
keys). nvidia-container-runtime-hook, which Docker's driver "nvidia" has runc call, puts device nodes and the tool into
a container and allows them in its cgroup, behind systemd's back: so a `systemctl daemon-reload` takes them away where
systemd manages the cgroup, as it does with the real one. nvidia-container-runtime puts the same into the specification
of the container before it calls runc.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, NoReturn

VERSION = "@VERSION@"
CONFIG = Path("/etc/nvidia-container-runtime/config.toml")
SPEC_DIRS = ("/etc/cdi", "/var/run/cdi")
KIND = "nvidia.com/gpu"
SMI = os.environ.get("NVIDIA_STANDIN_SMI", "/usr/bin/nvidia-smi")
STATE = Path(os.environ.get("NVIDIA_STANDIN", "/usr/lib/nvidia-standin")) / "state.json"
DEV = Path(os.environ.get("NVIDIA_STANDIN_DEV", "/dev"))
# What libnvidia-ml.so and its friends are to the real tool.
DRIVER_FILES = ("/usr/lib/nvidia-standin",)
CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
MOUNT = {"options": ["ro", "nosuid", "nodev", "rbind", "rprivate"]}
CDI_MODE = (
    "invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker --gpus flag) is not supported. "
    "Please use the NVIDIA Container Runtime (e.g. specify the --runtime=nvidia flag) instead."
)
DEFAULT_CONFIG = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
#accept-nvidia-visible-devices-envvar-when-unprivileged = true
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
#swarm-resource = "DOCKER_RESOURCE_GPU"

[nvidia-container-cli]
#debug = "/var/log/nvidia-container-toolkit.log"
environment = []
#ldcache = "/etc/ld.so.cache"
ldconfig = "@/sbin/ldconfig"
load-kmods = true
#no-cgroups = false
#path = "/usr/bin/nvidia-container-cli"
#root = "/run/nvidia/driver"
#user = "root:video"

[nvidia-container-runtime]
#debug = "/var/log/nvidia-container-runtime.log"
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]

[nvidia-container-runtime-hook]
path = "nvidia-container-runtime-hook"
skip-mode-detection = false

[nvidia-ctk]
path = "nvidia-ctk"
"""


def log(level: str, text: str) -> None:
    print(f'time="2026-11-24T12:00:00Z" level={level} msg={json.dumps(text)}', file=sys.stderr)


def fail(text: str) -> NoReturn:
    log("error", text)
    sys.exit(1)


# The devices


def cap(gpu: int, gi: int, ci: int | None = None) -> str:
    """The node that opens an instance, numbered as /proc/driver/nvidia-caps/mig-minors numbers them."""
    return f"/dev/nvidia-caps/nvidia-cap{3 + gpu * 135 + gi * 9 + (0 if ci is None else 1 + ci)}"


def ask(*argv: str) -> str:
    done = subprocess.run([SMI, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        fail(f"failed to generate CDI spec: failed to initialize NVML: {' '.join(done.stdout.split())}")
    return done.stdout


def devices() -> dict[str, list[str]]:
    """Each name under which a GPU or an instance is known, and the device nodes that it is made of."""
    listed = re.findall(r"\(UUID: (\S+)\)", ask("-L"))
    found: dict[str, list[str]] = {}
    everything: list[str] = []
    root = ET.fromstring(ask("-q", "-x").split("\n", 2)[2])
    for index, gpu in enumerate(root.findall("gpu")):
        minor = int(gpu.findtext("minor_number") or 0)
        uuid = listed.pop(0)
        node = f"/dev/nvidia{minor}"
        # As the real tool does, also where the GPU is divided (pkg/nvcdi/lib-nvml.go).
        found[str(index)] = found[uuid] = [node]
        for number, one in enumerate(gpu.findall("mig_devices/mig_device")):
            gi, ci = (int(one.findtext(name) or 0) for name in ("gpu_instance_id", "compute_instance_id"))
            nodes = [node, cap(minor, gi), cap(minor, gi, ci)]
            found[f"{index}:{number}"] = found[listed.pop(0)] = nodes
            everything += nodes
        everything.append(node)
    if found:
        found["all"] = list(dict.fromkeys(everything))
    return found


def control_nodes() -> list[str]:
    """Those that are there: a specification gives no others."""
    return [node for node in CONTROL if (DEV / os.path.basename(node)).exists()]


def make_control_nodes() -> None:
    """What is there once the module nvidia-uvm is loaded, which nvidia-smi does not do."""
    for name, number in json.loads(STATE.read_text())["later"].items():
        node = DEV / name
        if node.exists():
            continue
        if number is None:
            node.touch()
            continue
        os.mknod(node, 0o20666, os.makedev(*number))
        node.chmod(0o666)
        log("info", f"Creating device node /dev/{name}")


def specification() -> dict[str, Any]:
    mounts = [{"hostPath": path, "containerPath": path, **MOUNT} for path in (SMI, *DRIVER_FILES)]
    return {
        "cdiVersion": "0.5.0",
        "kind": KIND,
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": node} for node in nodes]}}
            for name, nodes in devices().items()
        ],
        "containerEdits": {
            "env": ["NVIDIA_VISIBLE_DEVICES=void"],
            "deviceNodes": [{"path": node} for node in control_nodes()],
            "mounts": mounts,
        },
    }


def yaml(value: Any, indent: int = 0) -> str:
    """The little of YAML that a specification needs, laid out as the real tool does."""
    pad = " " * indent
    lines = []
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, (dict, list)):
                lines.append(f"{pad}{key}:\n{yaml(inner, (indent // 4 + 1) * 4)}")
            else:
                lines.append(f"{pad}{key}: {scalar(inner)}")
    else:
        for inner in value:
            if isinstance(inner, dict):
                lines.append(f"{pad}- {yaml(inner, indent + 2).lstrip()}")
            else:
                lines.append(f"{pad}- {scalar(inner)}")
    return "\n".join(lines)


def scalar(value: str) -> str:
    return json.dumps(value) if re.fullmatch(r"[\d:.]+", value) and value != "0.5.0" else value


# nvidia-ctk


def cdi_generate(options: argparse.Namespace) -> None:
    spec = specification()
    text = json.dumps(spec) + "\n" if options.format == "json" else "---\n" + yaml(spec) + "\n"
    output = options.output or os.environ.get("NVIDIA_CTK_CDI_OUTPUT_FILE_PATH")
    if not output:
        print(text, end="")
        return
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)
    log("info", f"Generated CDI spec with version {spec['cdiVersion']}")


def cdi_list(options: argparse.Namespace) -> None:
    names = set()
    for folder in options.spec_dir or SPEC_DIRS:
        for path in Path(folder).glob("*.yaml"):
            text = path.read_text()
            kind = re.search(r"^kind: (\S+)$", text, re.MULTILINE)
            names |= {
                f"{kind[1]}={name}" for name in re.findall(r'^ +- name: "?([^"\n]+)"?$', text, re.MULTILINE) if kind
            }
    log("info", f"Found {len(names)} CDI devices")
    for name in sorted(names):
        print(name)


def create_device_nodes(options: argparse.Namespace) -> None:
    """Without the modules there are no numbers for the nodes."""
    if options.control_devices and options.load_kernel_modules:
        make_control_nodes()


def runtime_configure(options: argparse.Namespace) -> None:
    if options.runtime != "docker":
        fail(f"unrecognized runtime '{options.runtime}'")
    path = Path(options.config or "/etc/docker/daemon.json")
    text = path.read_text() if path.exists() else ""
    try:
        config = json.loads(text) if text.strip() else {}
    except ValueError as error:
        fail(f"unable to load config for runtime docker: unable to read config: {error}")
    config.setdefault("runtimes", {})["nvidia"] = {"args": [], "path": "nvidia-container-runtime"}
    if options.set_as_default:
        config["default-runtime"] = "nvidia"
    if options.cdi:
        config.setdefault("features", {})["cdi"] = True
    # Go writes the keys of a map in their order.
    made = json.dumps(config, indent=4, sort_keys=True)
    if options.dry_run:
        print(made)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made)
    log("info", f"Wrote updated config to {path}")
    log("info", "It is recommended that docker daemon be restarted.")


def config_text(path: Path) -> str:
    return path.read_text() if path.exists() else DEFAULT_CONFIG


def config_value(text: str, key: str) -> str | None:
    """The value of section.key; a line behind # does not count."""
    section, _, name = key.rpartition(".")
    body = text if not section else text.partition(f"[{section}]\n")[2]
    match = re.search(rf"^{re.escape(name)} *= *(.+)$", re.split(r"^\[", body, flags=re.MULTILINE)[0], re.MULTILINE)
    return match[1].strip().strip('"') if match else None


def config_set(text: str, key: str, value: str) -> str:
    section, _, name = key.rpartition(".")
    head, mark, body = text.partition(f"[{section}]\n") if section else ("", "", text)
    if section and not mark:
        head, mark, body = text.rstrip("\n") + "\n\n", f"[{section}]\n", ""
    line = f"{name} = {value if value in ('true', 'false') else json.dumps(value)}"
    following = re.search(r"^\[", body, re.MULTILINE)
    own, rest = (body[: following.start()], body[following.start() :]) if following else (body, "")
    own, count = re.subn(rf"^#?{re.escape(name)} *=.*$", lambda _: line, own, count=1, flags=re.MULTILINE)
    return f"{head}{mark}{own if count else line + chr(10) + own}{rest}"


def config(options: argparse.Namespace) -> None:
    path = Path(options.config_file or CONFIG)
    text = config_text(path)
    for item in options.set or []:
        key, _, value = item.partition("=")
        text = config_set(text, key, value or "true")
    if options.in_place:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elif options.output:
        Path(options.output).write_text(text)
    else:
        print(text, end="")


def ctk(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="nvidia-ctk", allow_abbrev=False)
    parser.add_argument("--quiet", "-q", action="store_true")
    parser.add_argument("--debug", "-d", action="store_true")
    commands = parser.add_subparsers(required=True)

    cdi = commands.add_parser("cdi").add_subparsers(required=True)
    generate = cdi.add_parser("generate")
    generate.add_argument("--output")
    generate.add_argument("--format", default="yaml")
    generate.add_argument("--mode", "--discovery-mode", default="auto")
    generate.add_argument("--device-name-strategy", action="append")
    generate.set_defaults(call=cdi_generate)
    listing = cdi.add_parser("list")
    listing.add_argument("--spec-dir", action="append")
    listing.set_defaults(call=cdi_list)

    configure = commands.add_parser("runtime").add_subparsers(required=True).add_parser("configure")
    configure.add_argument("--runtime", default="docker")
    configure.add_argument("--config")
    configure.add_argument("--dry-run", action="store_true")
    configure.add_argument("--set-as-default", "--nvidia-set-as-default", action="store_true")
    configure.add_argument("--cdi.enabled", "--cdi.enable", "--enable-cdi", dest="cdi", action="store_true")
    configure.set_defaults(call=runtime_configure)

    nodes = commands.add_parser("system").add_subparsers(required=True).add_parser("create-device-nodes")
    nodes.add_argument("--control-devices", action="store_true")
    nodes.add_argument("--load-kernel-modules", action="store_true")
    nodes.set_defaults(call=create_device_nodes)

    own = commands.add_parser("config")
    own.add_argument("--config-file", "--config", "-c")
    own.add_argument("--in-place", "-i", action="store_true")
    own.add_argument("--output", "-o")
    own.add_argument("--set", action="append")
    own.set_defaults(call=config)

    if argv in (["--version"], ["-v"]):
        print(f"NVIDIA Container Toolkit CLI version {VERSION}\ncommit: stand-in")
        return
    options = parser.parse_args(argv)
    options.call(options)


# In containers


def wanted_nodes(environment: list[str]) -> list[str]:
    """The nodes for NVIDIA_VISIBLE_DEVICES (indexes, UUIDs, MIG devices or all); [] where the container wants none."""
    visible = dict(item.split("=", 1) for item in environment if "=" in item).get("NVIDIA_VISIBLE_DEVICES", "")
    if visible in ("", "void", "none"):
        return []
    known = devices()
    nodes = control_nodes()
    for name in visible.replace(f"{KIND}=", "").split(","):
        if name not in known:
            fail(f"could not select device: device error: {name}: unknown device")
        nodes += known[name]
    return list(dict.fromkeys(nodes))


def numbers(node: str) -> tuple[int, int]:
    at = os.stat(node).st_rdev
    return os.major(at), os.minor(at)


def hook(argv: list[str]) -> None:
    """What runc calls before the container's own process starts; its state comes on standard input."""
    if argv[-1:] != ["prestart"]:
        return
    state = json.load(sys.stdin)
    spec = json.loads((Path(state["bundle"]) / "config.json").read_text())
    environment = spec["process"].get("env", [])
    if not wanted_nodes(environment):
        return
    make_control_nodes()  # load-kmods
    nodes = wanted_nodes(environment)
    settings = config_text(CONFIG)
    if config_value(settings, "nvidia-container-runtime.mode") in ("cdi", "jit-cdi", "csv"):
        print(CDI_MODE, file=sys.stderr)
        sys.exit(1)
    root = Path(spec["root"]["path"])
    root = root if root.is_absolute() else Path(state["bundle"]) / root
    enter(state["pid"], root, nodes)
    if config_value(settings, "nvidia-container-cli.no-cgroups") != "true":
        allow(state["pid"], nodes)


def enter(pid: int, root: Path, nodes: list[str]) -> None:
    """Put nodes and files under the root of a container that is being made, in its own mount namespace."""
    script = ["set -e"]
    for node in nodes:
        major, minor = numbers(node)
        # A node that is there already was given with --device.
        script.append(f"mkdir -p {root}{os.path.dirname(node)}")
        script.append(f"[ -e {root}{node} ] || mknod -m 666 {root}{node} c {major} {minor}")
    for path in DRIVER_FILES:
        script.append(f"mkdir -p {root}{path}; mount --bind -o ro {path} {root}{path}")
    script.append(f"mkdir -p {root}/usr/bin; touch {root}{SMI}; mount --bind {SMI} {root}{SMI}")
    subprocess.run(["nsenter", "--target", str(pid), "--mount", "sh", "-c", "\n".join(script)], check=True)


def allow(pid: int, nodes: list[str]) -> None:
    """Allow the nodes in the cgroup of a process, as libnvidia-container does: nobody else hears of it."""
    path = next(
        line.split(":", 2)[2]
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        if "devices" in line.split(":")[1].split(",")
    )
    for node in nodes:
        major, minor = numbers(node)
        Path(f"/sys/fs/cgroup/devices{path}/devices.allow").write_text(f"c {major}:{minor} rw\n")


def runtime(argv: list[str]) -> NoReturn:
    """runc, with the GPUs in the specification of the container that it creates."""
    if "create" in argv:
        bundle = next((value for name, value in zip(argv, argv[1:]) if name in ("--bundle", "-b")), os.getcwd())
        path = Path(bundle) / "config.json"
        spec = json.loads(path.read_text())
        nodes = wanted_nodes(spec["process"].get("env", []))
        if nodes:
            inject(spec, nodes)
            path.write_text(json.dumps(spec))
    os.execvp("runc", ["runc", *argv])


def inject(spec: dict[str, Any], nodes: list[str]) -> None:
    linux = spec["linux"]
    rules = linux.setdefault("resources", {}).setdefault("devices", [])
    given = {one["path"] for one in linux.setdefault("devices", [])}
    for node in nodes:
        major, minor = numbers(node)
        if node not in given:
            linux["devices"].append({"path": node, "type": "c", "major": major, "minor": minor, "fileMode": 0o666})
        rules.append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    for path in (SMI, *DRIVER_FILES):
        spec["mounts"].append(
            {"destination": path, "source": path, "type": "none", "options": ["ro", "rbind", "rprivate"]}
        )


def cli(argv: list[str]) -> None:
    """The modules are loaded before anything else, and all nodes made, those that open MIG instances too."""
    if argv != ["--load-kmods", "info"]:
        fail(f"nvidia-container-cli {' '.join(argv)} is not replayed")
    make_control_nodes()
    print(ask("-L"), end="")


PROGRAMS = {
    "nvidia-ctk": ctk,
    "nvidia-container-cli": cli,
    "nvidia-container-runtime-hook": hook,
    "nvidia-container-runtime": runtime,
}

if __name__ == "__main__":
    program = os.path.basename(sys.argv[0])
    if program not in PROGRAMS:
        sys.exit(f"{program}: not part of the stand-in")
    PROGRAMS[program](sys.argv[1:])
