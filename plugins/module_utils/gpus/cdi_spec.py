# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The CDI specification by which containers get GPUs: whether it is of the GPUs that are there, and making it anew.

NVIDIA's toolkit names each GPU, also one that is divided, and each MIG device by number and by UUID, and of the
driver's control nodes those that are there. Since 1.18 a unit of its own makes the specification at boot and after the
driver's modules change; not after a change of MIG, nor when /dev/nvidia-uvm comes later or with another number
(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html,
NVIDIA/nvidia-container-toolkit #50 and #1934).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import UVM
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

Read = Callable[[str], str]

SPEC_DIR = "/var/run/cdi"
PATH = f"{SPEC_DIR}/nvidia.yaml"
UNIT = "nvidia-cdi-refresh.service"
KIND = "nvidia.com/gpu"

_NAME = re.compile(rf"{re.escape(KIND)}=(\S+)\Z")
_UVM = re.compile(rf"\bpath: \"?{UVM}\"?\s*$(?:\s+major: ([0-9]{{1,9}})$)?", re.MULTILINE)
_DRIVER = re.compile(r"libcuda\.so\.(\d+(?:\.\d+)+)", re.ASCII)


@dataclass(frozen=True)
class Outcome:
    """`devices` are the names after it; `reason` says why it was made anew; `problem` why containers get none."""

    changed: bool
    devices: tuple[str, ...]
    reason: str
    problem: str


@dataclass(frozen=True)
class Desired:
    """What the specification must be of.

    Attributes:
        uuids: what the driver shows, GPUs without MIG and MIG devices.
        needed: those of them that containers must get.
        driver: its version, empty where it is not known.
        divided: GPUs with MIG, which the toolkit names beside their devices.
        uvm: major number of /dev/nvidia-uvm, None where that is not there.
    """

    uuids: Collection[str]
    needed: Collection[str]
    driver: str = ""
    divided: Collection[str] = ()
    uvm: int | None = None


def parse_list(text: str) -> tuple[str, ...]:
    """The names (without ``nvidia.com/gpu=``) that `nvidia-ctk cdi list` prints, whatever it logs beside them."""
    return tuple(sorted({match[1] for match in map(_NAME.match, map(str.strip, text.splitlines())) if match}))


def outdated(names: Collection[str], text: str, desired: Desired) -> str:
    """Why the specification is not of these GPUs and this driver; empty where it is."""
    if not text:
        return f"there is no {PATH}"
    named = {name for name in names if name.startswith(("GPU-", "MIG-"))}
    missing, more = sorted(set(desired.uuids) - named), sorted(named - set(desired.uuids) - set(desired.divided))
    made_for = sorted(set(_DRIVER.findall(text)))
    if missing:
        return f"it does not name {', '.join(missing)}"
    if more:
        return f"it names {', '.join(more)}"
    if desired.driver and made_for and desired.driver not in made_for:
        return f"it is of driver {', '.join(made_for)}, and {desired.driver} runs"
    return "" if desired.uvm is None else _outdated_uvm(text, desired.uvm)


def _outdated_uvm(text: str, major: int) -> str:
    """The kernel gives its number anew whenever the module is loaded."""
    given = _UVM.search(text)
    if not given:
        return f"it does not give {UVM}"
    if given[1] and int(given[1]) != major:
        return f"it gives {UVM} the number {given[1]}, which is {major} now"
    return ""


def _names(run: Run, ctk: str) -> tuple[str, ...]:
    """Those of our directory: Docker prefers it to /etc/cdi, where an administrator may keep specifications."""
    return parse_list(run([ctk, "cdi", "list", f"--spec-dir={SPEC_DIR}"])[1])


def apply(run: Run, read: Read, ctk: str, desired: Desired, check_mode: bool) -> Outcome:
    """Make the specification anew where it is not of these GPUs; `ctk` is the command nvidia-ctk."""
    names, before = _names(run, ctk), read(PATH)
    reason = outdated(names, before, desired)
    said = ""
    if reason and not check_mode:
        # The unit passes over hosts whose modules it does not find; then by hand.
        if run(["systemctl", "cat", UNIT])[0] == 0:
            run(["systemctl", "restart", UNIT])
            names = _names(run, ctk)
        if outdated(names, read(PATH), desired):
            answer = run([ctk, "cdi", "generate", f"--output={PATH}"])
            said = " ".join(f"{answer[1]} {answer[2]}".split())[-300:] if answer[0] else ""
            names = _names(run, ctk)
    after = read(PATH)
    lacking = [] if reason and check_mode else sorted(set(desired.needed) - set(names))
    problem = ""
    if lacking:
        problem = f"the CDI specification does not name {', '.join(lacking)}"
        problem += f": nvidia-ctk cdi generate said {said!r}" if said else ""
        problem += f". Run nvidia-ctk cdi generate --output={PATH} on the host and repair what it names."
    elif wrong := "" if check_mode or desired.uvm is None else _outdated_uvm(after, desired.uvm):
        problem = (
            f"the CDI specification is not right: {wrong}, and CUDA ends with error 999 in containers. Run nvidia-ctk "
            f"cdi generate --output={PATH} on the host and read what it says."
        )
    return Outcome(bool(reason) if check_mode else after != before, names, reason, problem)
