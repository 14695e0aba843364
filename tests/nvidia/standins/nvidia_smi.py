#!/usr/bin/env python3
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A replaying nvidia-smi: it answers from a capture of the real one and from a small state file beside it.

The directory (/usr/lib/nvidia-standin, or $NVIDIA_STANDIN) holds smi.xml (an answer to -q -x), topo.txt (to topo -m),
profiles.json (what -lgip and -lgipp know of a product) and state.json:
    fails   null, or {"text", "code"}: what the tool says in place of every answer
    gpus    by UUID: mig (null: the card has none), pending, instances, processes, persistence, power_limit

Like the real one it knows only the GPUs whose device nodes it can open, so a container sees what it was given: a node
that is there and has no driver behind it fails with ENXIO, one that the container's cgroup forbids with EPERM.
Exit codes are NVML's, as nvidia-smi(1) lists them.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, Callable, NoReturn

ROOT = Path(os.environ.get("NVIDIA_STANDIN", "/usr/lib/nvidia-standin"))
DEV = Path(os.environ.get("NVIDIA_STANDIN_DEV", "/dev"))
CAPS_MAJOR = 511
INVALID, NO_PERMISSION, NOT_FOUND, INSUFFICIENT_SIZE, IN_USE, INSUFFICIENT = 2, 4, 6, 7, 19, 23
NOT_SUPPORTED = 3
UNKNOWN = "Failed to initialize NVML: Unknown Error"


def on(value: bool | None) -> str:
    return "[N/A]" if value is None else "Enabled" if value else "Disabled"


def leave(code: int, text: str = "") -> NoReturn:
    if text:
        print(text)
    sys.exit(code)


def may_open(path: Path) -> bool:
    """Whether this process may use a device; there is no driver, so ENXIO is as good as it gets."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        return error.errno in (errno.ENXIO, errno.ENODEV)
    return True


def cap_minor(gpu: int, gi: int, ci: int | None = None) -> int:
    """Minor of the node that opens an instance, counted as /proc/driver/nvidia-caps/mig-minors counts them."""
    return 3 + gpu * 135 + gi * 9 + (0 if ci is None else 1 + ci)


class Gpu:
    """One GPU of the capture, with its state; `shown` is its number among those that are seen here."""

    def __init__(self, element: ET.Element, driver: str, index: int) -> None:
        self.element, self.driver, self.index = element, driver, index
        self.shown = index
        self.uuid = self.text("uuid")
        self.name = self.text("product_name")
        self.bus = element.get("id", "")
        self.minor = int(self.text("minor_number"))
        self.state: dict[str, Any] = {}

    def text(self, path: str) -> str:
        return (self.element.findtext(path) or "").strip()

    def instances(self) -> list[dict[str, Any]]:
        """The compute instances that this process may use, by their number on the GPU."""
        found = [one for one in self.state["instances"] if one["ci"] is not None]
        found.sort(key=lambda one: int(one["gi"]))
        caps = DEV / "nvidia-caps"
        return [
            one
            for one in found
            if may_open(caps / f"nvidia-cap{cap_minor(self.minor, one['gi'])}")
            and may_open(caps / f"nvidia-cap{cap_minor(self.minor, one['gi'], one['ci'])}")
        ]

    def is_used(self) -> bool:
        return bool(self.state["processes"])


CAPABILITIES = {"Hopper": "9.0", "Ampere": "8.0", "Turing": "7.5"}
QUERIES: dict[str, Callable[[Gpu], str]] = {
    "index": lambda gpu: str(gpu.shown),
    "uuid": lambda gpu: gpu.uuid,
    "gpu_uuid": lambda gpu: gpu.uuid,
    "name": lambda gpu: gpu.name,
    "gpu_name": lambda gpu: gpu.name,
    "driver_version": lambda gpu: gpu.driver,
    "compute_cap": lambda gpu: CAPABILITIES.get(gpu.text("product_architecture"), "[N/A]"),
    "pci.bus_id": lambda gpu: gpu.bus,
    "gpu_bus_id": lambda gpu: gpu.bus,
    "memory.total": lambda gpu: gpu.text("fb_memory_usage/total"),
    "persistence_mode": lambda gpu: on(gpu.state["persistence"]),
    "power.limit": lambda gpu: f"{gpu.state['power_limit']:.2f} W",
    "mig.mode.current": lambda gpu: on(gpu.state["mig"]),
    "mig.mode.pending": lambda gpu: on(gpu.state["pending"]),
}


class Standin:
    def __init__(self) -> None:
        self.state: dict[str, Any] = json.loads((ROOT / "state.json").read_text())
        if self.state.get("fails"):
            leave(self.state["fails"]["code"], self.state["fails"]["text"])
        self.log = ET.parse(ROOT / "smi.xml").getroot()
        self.driver = self.log.findtext("driver_version") or ""
        self.gpus = [Gpu(element, self.driver, n) for n, element in enumerate(self.log.findall("gpu"))]
        for gpu in self.gpus:
            gpu.state = self.state["gpus"][gpu.uuid]
        if not may_open(DEV / "nvidiactl"):
            leave(255, UNKNOWN)
        nodes = {gpu.uuid: DEV / f"nvidia{gpu.minor}" for gpu in self.gpus}
        if any(nodes[gpu.uuid].exists() and not may_open(nodes[gpu.uuid]) for gpu in self.gpus):
            leave(255, UNKNOWN)
        if os.geteuid() == 0 and os.access(ROOT, os.W_OK):
            self.make_caps()
        self.seen = [gpu for gpu in self.gpus if may_open(nodes[gpu.uuid])]
        for number, gpu in enumerate(self.seen):
            gpu.shown = number
        if not self.seen:
            leave(NOT_FOUND, "No devices were found")

    def save(self) -> None:
        """Write the state, and the nodes of the instances there are now, as the driver does."""
        if os.geteuid() != 0:
            leave(NO_PERMISSION, "Insufficient Permissions")
        fresh = ROOT / ".state.json"
        fresh.write_text(json.dumps(self.state, indent=1) + "\n")
        fresh.replace(ROOT / "state.json")
        self.make_caps()

    def make_caps(self) -> None:
        caps = DEV / "nvidia-caps"
        caps.mkdir(exist_ok=True)
        wanted = {
            cap_minor(gpu.minor, one["gi"], ci)
            for gpu in self.gpus
            for one in gpu.state["instances"]
            for ci in {None, one["ci"]}
        }
        for node in caps.glob("nvidia-cap*"):
            if int(node.name[len("nvidia-cap") :]) not in wanted:
                node.unlink()
        for minor in sorted(wanted):
            node = caps / f"nvidia-cap{minor}"
            if not node.exists():
                if not (DEV / "nvidiactl").is_char_device():
                    node.touch()
                    continue
                major = self.state.get("caps_major", CAPS_MAJOR)
                os.mknod(node, 0o20444, os.makedev(major, minor if major == CAPS_MAJOR else 3))
                node.chmod(0o444)

    def selected(self, wanted: str | None) -> list[Gpu]:
        """-i takes indexes, UUIDs and bus ids, by commas."""
        if wanted is None:
            return self.seen
        chosen = []
        for item in wanted.split(","):
            address = item.upper().zfill(len("00000000:00:00.0"))
            match = [gpu for gpu in self.seen if item in (str(gpu.shown), gpu.uuid) or gpu.bus == address]
            if len(match) != 1:
                leave(NOT_FOUND, "No devices were found")
            chosen += match
        return chosen


# What it tells


def say_list(smi: Standin, gpus: list[Gpu]) -> None:
    for gpu in gpus:
        print(f"GPU {gpu.shown}: {gpu.name} (UUID: {gpu.uuid})")
        for number, one in enumerate(gpu.instances()):
            print(f"  MIG {one['profile']:<11} Device {number:>2}: (UUID: {one['uuid']})")


def say_xml(smi: Standin, gpus: list[Gpu]) -> None:
    for element in smi.log.findall("gpu"):
        smi.log.remove(element)
    attached = smi.log.find("attached_gpus")
    if attached is not None:
        attached.text = str(len(gpus))
    for gpu in gpus:
        update(gpu)
        smi.log.append(gpu.element)
    # The real one writes names of processes as they are, whatever they do to the XML.
    names: list[str] = []
    for element in smi.log.iter("process_name"):
        names.append(element.text or "")
        element.text = f"@{len(names) - 1}@"
    doctype = re.search(r"<!DOCTYPE[^>]*>", (ROOT / "smi.xml").read_text())
    print('<?xml version="1.0" ?>')
    if doctype:
        print(doctype[0])
    ET.indent(smi.log, "\t")
    text = ET.tostring(smi.log, encoding="unicode")
    print(re.sub("(?<=<process_name>)@(\\d+)@(?=<)", lambda found: names[int(found[1])], text))


def put(element: ET.Element, path: str, value: str) -> None:
    found = element.find(path)
    if found is not None:
        found.text = value


def update(gpu: Gpu) -> None:
    """Bring the state into the capture."""
    element, state = gpu.element, gpu.state
    put(element, "persistence_mode", on(state["persistence"]))
    if state["mig"] is not None:
        put(element, "mig_mode/current_mig", on(state["mig"]))
        put(element, "mig_mode/pending_mig", on(state["pending"]))
        devices = element.find("mig_devices")
        if devices is not None:
            devices[:] = [migged(gpu, number, one) for number, one in enumerate(gpu.instances())]
            devices.text = None if len(devices) else "None"
    for path in ("power_readings/power_limit", "gpu_power_readings/current_power_limit"):
        put(element, path, f"{state['power_limit']:.2f} W")
    for path in ("power_readings/enforced_power_limit", "gpu_power_readings/requested_power_limit"):
        put(element, path, f"{state['power_limit']:.2f} W")
    processes = element.find("processes")
    if processes is not None:
        processes[:] = [process(one) for one in state["processes"]]


def tree(tag: str, content: str | dict[str, Any]) -> ET.Element:
    element = ET.Element(tag)
    if isinstance(content, str):
        element.text = content
    else:
        element.extend(tree(key, value) for key, value in content.items())
    return element


def migged(gpu: Gpu, number: int, one: dict[str, Any]) -> ET.Element:
    profile = profiles_of(gpu)[one["profile"]]
    return tree(
        "mig_device",
        {
            "index": str(number),
            "gpu_instance_id": str(one["gi"]),
            "compute_instance_id": str(one["ci"]),
            "device_attributes": {
                "shared": {
                    "multiprocessor_count": str(profile["sm"]),
                    "copy_engine_count": str(profile["ce"]),
                    "decoder_count": str(profile["dec"]),
                }
            },
            "ecc_error_count": {"volatile_count": {"sram_uncorrectable": "0"}},
            "fb_memory_usage": {
                "total": f"{profile['memory_mib']} MiB",
                "used": "19 MiB",
                "free": f"{profile['memory_mib'] - 19} MiB",
            },
        },
    )


def process(one: dict[str, Any]) -> ET.Element:
    return tree(
        "process_info",
        {
            "gpu_instance_id": str(one.get("gi", "N/A")),
            "compute_instance_id": str(one.get("ci", "N/A")),
            "pid": str(one["pid"]),
            "type": "C",
            "process_name": one["name"],
            "used_memory": f"{one['used_mib']} MiB",
        },
    )


def say_query(gpus: list[Gpu], fields: list[str], form: str) -> None:
    for name in fields:
        if name not in QUERIES:
            leave(INVALID, f'Field "{name}" is not a valid field to query.')
    if "noheader" not in form:
        print(", ".join(fields))
    for gpu in gpus:
        values = [QUERIES[name](gpu) for name in fields]
        if "nounits" in form:
            values = [re.sub(r" (MiB|W)$", "", value) for value in values]
        print(", ".join(values))


def say_apps(gpus: list[Gpu], fields: list[str], form: str) -> None:
    if "noheader" not in form:
        print(", ".join(fields))
    for gpu in gpus:
        for one in gpu.state["processes"]:
            known = {
                "gpu_uuid": gpu.uuid,
                "pid": str(one["pid"]),
                "process_name": one["name"],
                "name": one["name"],
                "used_memory": f"{one['used_mib']} MiB",
                "used_gpu_memory": f"{one['used_mib']} MiB",
            }
            print(", ".join(known.get(name, "[N/A]") for name in fields))


def say_table(smi: Standin, gpus: list[Gpu]) -> None:
    cuda = smi.log.findtext("cuda_version")
    print(f"| NVIDIA-SMI {smi.driver}    Driver Version: {smi.driver}    CUDA Version: {cuda} |")
    for gpu in gpus:
        print(f"|   {gpu.shown}  {gpu.name}  | {gpu.bus} |")


# What it changes


def set_persistence(smi: Standin, gpus: list[Gpu], value: str) -> None:
    wanted = value in ("1", "ENABLED")
    for gpu in gpus:
        was, gpu.state["persistence"] = gpu.state["persistence"], wanted
        if was == wanted:
            print(f"Persistence mode is already {on(wanted)} for GPU {gpu.bus}.")
        else:
            print(f"{on(wanted)} persistence mode for GPU {gpu.bus}.")
    smi.save()
    print("All done.")


def set_power_limit(smi: Standin, gpus: list[Gpu], value: str) -> None:
    for gpu in gpus:
        low, high = (
            float((gpu.text(f"power_readings/{end}") or gpu.text(f"gpu_power_readings/{end}")).split()[0])
            for end in ("min_power_limit", "max_power_limit")
        )
        if not low <= float(value) <= high:
            leave(
                INVALID,
                f"Provided power limit {float(value):.2f} W is not a valid power limit which should be between "
                f"{low:.2f} W and {high:.2f} W for GPU {gpu.bus}\nTerminating early due to previous errors.",
            )
        was, gpu.state["power_limit"] = gpu.state["power_limit"], float(value)
        print(f"Power limit for GPU {gpu.bus} was set to {float(value):.2f} W from {was:.2f} W.")
    smi.save()
    print("\nAll done.")


def set_mig(smi: Standin, gpus: list[Gpu], value: str) -> None:
    wanted = value in ("1", "ENABLED")
    for gpu in gpus:
        if gpu.state["mig"] is None:
            leave(
                NOT_SUPPORTED,
                f"Unable to {'enable' if wanted else 'disable'} MIG Mode for GPU {gpu.bus}: Not Supported",
            )
        if not wanted and gpu.state["instances"]:
            leave(IN_USE, f"Unable to disable MIG Mode for GPU {gpu.bus}: In use by another client")
        gpu.state["pending"] = wanted
        if gpu.is_used() and gpu.state["mig"] != wanted:
            print(
                f"Warning: MIG mode is in pending {'enable' if wanted else 'disable'} state for GPU {gpu.bus}:"
                f"In use by another client\n{gpu.bus} is currently being used by one or more other processes "
                "(e.g. CUDA application or a monitoring application such as another instance of nvidia-smi). Please "
                "first kill all processes using the device and retry the command or reboot the system to make MIG "
                "mode effective."
            )
            continue
        gpu.state["mig"] = wanted
        print(f"{on(wanted)} MIG Mode for GPU {gpu.bus}")
    smi.save()
    print("All done.")


def reset(smi: Standin, gpus: list[Gpu]) -> None:
    for gpu in gpus:
        if gpu.is_used():
            leave(
                IN_USE,
                f"GPU {gpu.bus} is currently in use by another process.\n\n1 device is currently being used by one or "
                "more other processes (e.g., Fabric Manager, CUDA application, graphics application such as an X "
                "server, or a monitoring application such as another instance of nvidia-smi). Please first kill all "
                "processes "
                "using this device and all compute applications running in the system.",
            )
        gpu.state["mig"] = gpu.state["pending"]
        print(f"GPU {gpu.bus} was successfully reset.")
    smi.save()
    print("All done.")


# MIG


def profiles_of(gpu: Gpu) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, dict[str, Any]]] = json.loads((ROOT / "profiles.json").read_text())
    return known.get(gpu.name, {})


def places(gpu: Gpu, profile: dict[str, Any]) -> list[int]:
    """Where another instance of the profile could begin; the seven compute slices count as well."""
    table = profiles_of(gpu)
    taken: set[int] = set()
    slices = 0
    for one in gpu.state["instances"]:
        has = table[one["profile"]]
        taken |= set(range(one["start"], one["start"] + has["size"]))
        slices += has["slices"]
    same = [one for one in gpu.state["instances"] if table[one["profile"]]["id"] == profile["id"]]
    full = len(same) >= profile.get("total", 8)
    if full or slices + profile["slices"] > 7:
        return []
    return [start for start in profile["starts"] if not taken & set(range(start, start + profile["size"]))]


def create(gpu: Gpu, wanted: str, with_compute: bool) -> None:
    """Make one GPU instance; the driver fills a card from its end."""
    item, _, place = wanted.partition(":")
    table = profiles_of(gpu)
    found = [(name, has) for name, has in table.items() if item.replace("MIG ", "") in (name, str(has["id"]))]
    if not found:
        leave(INVALID, f"Unable to find GPU instance profile {item} on GPU {gpu.shown:>2}: Invalid Argument")
    name, profile = found[0]
    free = places(gpu, profile)
    if (place and int(place) not in free) or not free:
        leave(
            INSUFFICIENT,
            f"Unable to create a GPU instance on GPU {gpu.shown:>2} using profile {profile['id']}: "
            "Insufficient Resources\nFailed to create GPU instances: Insufficient Resources",
        )
    used = {one["gi"] for one in gpu.state["instances"]}
    gi = next(number for number in profile["instance_ids"] if number not in used)
    made = {
        "gi": gi,
        "ci": 0 if with_compute else None,
        "profile": name,
        "start": int(place) if place else free[-1],
        "uuid": f"MIG-{uuid.uuid5(uuid.uuid4(), gpu.uuid)}" if with_compute else None,
    }
    gpu.state["instances"].append(made)
    print(
        f"Successfully created GPU instance ID {gi:>2} on GPU {gpu.shown:>2} "
        f"using profile MIG {name} (ID {profile['id']:>2})"
    )
    if with_compute:
        say_created(gpu, made, profile)


def compute_name(profile: str) -> str:
    """The name of a compute instance that has all of a GPU instance: without what follows the size."""
    return re.sub(r"[+-].*", "", profile)


def say_created(gpu: Gpu, one: dict[str, Any], profile: dict[str, Any]) -> None:
    print(
        f"Successfully created compute instance ID {one['ci']:>2} on GPU {gpu.shown:>2} GPU instance ID {one['gi']:>2} "
        f"using profile MIG {compute_name(one['profile'])} (ID {profile['ci_id']:>2})"
    )


def chosen_instances(gpu: Gpu, gi: str | None) -> list[dict[str, Any]]:
    ids = None if gi is None else {int(item) for item in gi.split(",")}
    return [one for one in gpu.state["instances"] if ids is None or one["gi"] in ids]


def create_compute(smi: Standin, gpus: list[Gpu], gi: str | None) -> None:
    for gpu in gpus:
        for one in chosen_instances(gpu, gi):
            if one["ci"] is None:
                one["ci"], one["uuid"] = 0, f"MIG-{uuid.uuid5(uuid.uuid4(), gpu.uuid)}"
                say_created(gpu, one, profiles_of(gpu)[one["profile"]])
    smi.save()


def destroy_compute(smi: Standin, gpus: list[Gpu], gi: str | None) -> None:
    found = [(gpu, one) for gpu in gpus for one in chosen_instances(gpu, gi) if one["ci"] is not None]
    if not found:
        leave(NOT_FOUND, "No compute instances found: Not Found")
    for gpu, one in found:
        if any(process.get("gi", one["gi"]) == one["gi"] for process in gpu.state["processes"]):
            print(
                f"Unable to destroy compute instance ID {one['ci']:>2} from GPU {gpu.shown:>2} GPU instance ID "
                f"{one['gi']:>2}: In use by another client"
            )
            smi.save()
            leave(IN_USE, "Failed to destroy compute instances: In use by another client")
        print(
            f"Successfully destroyed compute instance ID {one['ci']:>2} from GPU {gpu.shown:>2} "
            f"GPU instance ID {one['gi']:>2}"
        )
        one["ci"] = one["uuid"] = None
    smi.save()


def destroy(smi: Standin, gpus: list[Gpu], gi: str | None) -> None:
    found = [(gpu, one) for gpu in gpus for one in chosen_instances(gpu, gi)]
    if not found:
        leave(NOT_FOUND, "No GPU instances found: Not Found")
    for gpu, one in found:
        if one["ci"] is not None:
            print(f"Unable to destroy GPU instance ID {one['gi']:>2} from GPU {gpu.shown:>2}: In use by another client")
            smi.save()
            leave(IN_USE, "Failed to destroy GPU instances: In use by another client")
        gpu.state["instances"].remove(one)
        print(f"Successfully destroyed GPU instance ID {one['gi']:>2} from GPU {gpu.shown:>2}")
    smi.save()


def framed(width: int, heads: list[str], rows: list[str]) -> None:
    edge = "+" + "-" * width + "+"
    print(edge)
    for head in heads:
        print(f"|{head:<{width}}|")
    print("|" + "=" * width + "|")
    for row in rows:
        for line in row.split("\n"):
            print(f"|{line:<{width}}|")
        print(edge)


def list_profiles(gpus: list[Gpu]) -> None:
    rows = []
    for gpu in gpus:
        for name, has in profiles_of(gpu).items():
            total = has.get("total", len(has["starts"]))
            rows.append(
                f"   {gpu.shown}  MIG {name:<14}{has['id']:>2}     {min(total, len(places(gpu, has)))}/{total}"
                f"        {has['memory_mib'] / 1024:<7.2f}    No     {has['sm']:<6}{has['dec']:>2}     0\n"
                f"{has['ce']:>62}     {has['jpeg']}     {has['ofa']}"
            )
    framed(
        77,
        [
            " GPU instance profiles:",
            " GPU   Name             ID    Instances   Memory     P2P    SM    DEC   ENC",
            "                              Free/Total   GiB              CE    JPEG  OFA",
        ],
        rows,
    )


def list_placements(gpus: list[Gpu]) -> None:
    for gpu in gpus:
        for has in profiles_of(gpu).values():
            starts = ",".join(map(str, has["starts"]))
            word = "Placements" if "," in starts else "Placement"
            print(f"GPU {gpu.shown:>2} Profile ID {has['id']:>2} {word}: {{{starts}}}:{has['size']}")


def list_instances(gpus: list[Gpu]) -> None:
    rows = []
    for gpu in gpus:
        for one in sorted(gpu.state["instances"], key=lambda one: (profiles_of(gpu)[one["profile"]]["sm"], one["gi"])):
            has = profiles_of(gpu)[one["profile"]]
            place = f"{one['start']}:{has['size']}"
            rows.append(
                f"   {gpu.shown}  MIG {one['profile']:<14}  {has['id']:>2}       {one['gi']:>2}          {place}"
            )
    if not rows:
        leave(NOT_FOUND, "No GPU instances found: Not Found")
    framed(
        55,
        [
            " GPU instances:",
            " GPU   Name             Profile  Instance   Placement",
            "                          ID       ID       Start:Size",
        ],
        rows,
    )


def list_compute(gpus: list[Gpu]) -> None:
    rows = []
    for gpu in gpus:
        for one in sorted(gpu.state["instances"], key=lambda one: int(one["gi"])):
            if one["ci"] is not None:
                has, name = profiles_of(gpu)[one["profile"]], compute_name(one["profile"])
                rows.append(
                    f"   {gpu.shown}     {one['gi']:>2}       MIG {name:<14}   {has['ci_id']:>2}"
                    f"        {one['ci']:>2}          0:{has['slices']}"
                )
    if not rows:
        leave(NOT_FOUND, "No compute instances found: Not Found")
    framed(
        68,
        [
            " Compute instances:",
            " GPU     GPU       Name             Profile   Instance   Placement",
            "       Instance                       ID        ID       Start:Size",
            "         ID",
        ],
        rows,
    )


def mig(smi: Standin, argv: list[str]) -> None:
    """nvidia-smi mig …; it speaks of GPUs in MIG mode alone."""
    options = parse(argv, {"-i", "--id", "-gi", "-ci", "-cgi", "--create-gpu-instance", "-cci"})
    gpus = [gpu for gpu in smi.selected(options.get("-i") or options.get("--id")) if gpu.state["mig"]]
    if not gpus:
        leave(NOT_FOUND, "No MIG-enabled devices found.")
    for listing, show in LISTINGS.items():
        if listing in options:
            show(gpus)
            return
    wanted = options.get("-cgi") or options.get("--create-gpu-instance")
    if wanted:
        for gpu in gpus:
            for item in wanted.split(","):
                create(gpu, item, "-C" in options or "--default-compute-instance" in options)
        smi.save()
    elif "-cci" in options:
        create_compute(smi, gpus, options.get("-gi"))
    elif "-dci" in options or "--destroy-compute-instance" in options:
        destroy_compute(smi, gpus, options.get("-gi"))
    elif "-dgi" in options or "--destroy-gpu-instance" in options:
        destroy(smi, gpus, options.get("-gi"))
    else:
        leave(INVALID, f"Option {' '.join(argv)} is not recognized. Please run 'nvidia-smi mig -h'.")


LISTINGS = {
    "-lgip": list_profiles,
    "--list-gpu-instance-profiles": list_profiles,
    "-lgipp": list_placements,
    "--list-gpu-instance-possible-placements": list_placements,
    "-lgi": list_instances,
    "--list-gpu-instances": list_instances,
    "-lci": list_compute,
    "--list-compute-instances": list_compute,
}


def parse(argv: list[str], valued: set[str]) -> dict[str, str]:
    """Options by name; of those that take a value it stands behind = or is the next word."""
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and name in valued and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
        options[name] = value
    return options


def main(argv: list[str]) -> None:
    smi = Standin()
    if argv[:1] == ["mig"]:
        mig(smi, argv[1:])
        return
    if argv[:1] == ["topo"]:
        print((ROOT / "topo.txt").read_text(), end="")
        return
    valued = {"-i", "--id", "-pm", "--persistence-mode", "-pl", "--power-limit", "-mig", "--multi-instance-gpu"}
    options = parse(argv, {*valued, "--query-gpu", "--query-compute-apps", "--format"})
    gpus = smi.selected(options.get("-i") or options.get("--id"))
    form = options.get("--format", "")
    for names, change in CHANGES.items():
        value = next((options[name] for name in names if name in options), None)
        if value is not None:
            change(smi, gpus, value)
            return
    if "-L" in options or "--list-gpus" in options:
        say_list(smi, gpus)
    elif "--query-gpu" in options:
        say_query(gpus, options["--query-gpu"].split(","), form)
    elif "--query-compute-apps" in options:
        say_apps(gpus, options["--query-compute-apps"].split(","), form)
    elif "-q" in options and "-x" in options:
        say_xml(smi, gpus)
    elif "-r" in options or "--gpu-reset" in options:
        reset(smi, gpus)
    elif "--version" in options:
        print(f"NVIDIA-SMI version  : {smi.driver}\nDRIVER version      : {smi.driver}")
    elif set(options) <= {"-i", "--id"}:
        say_table(smi, gpus)
    else:
        leave(INVALID, f"Invalid combination of input arguments. {' '.join(argv)} is not replayed.")


CHANGES = {
    ("-pm", "--persistence-mode"): set_persistence,
    ("-pl", "--power-limit"): set_power_limit,
    ("-mig", "--multi-instance-gpu"): set_mig,
}

if __name__ == "__main__":
    main(sys.argv[1:])
