# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The CDI specification by which containers get GPUs: whether it is of the GPUs that are there, and making it anew.

NVIDIA's toolkit names each GPU, also one that is divided, and each MIG device by number and by UUID. Since 1.18 a unit
of its own makes the specification at boot and after the driver's modules change; not after a change of MIG
(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

Read = Callable[[str], str]

SPEC_DIR = "/var/run/cdi"
PATH = f"{SPEC_DIR}/nvidia.yaml"
UNIT = "nvidia-cdi-refresh.service"
KIND = "nvidia.com/gpu"

_NAME = re.compile(rf"{re.escape(KIND)}=(\S+)\Z")
_DRIVER = re.compile(r"libcuda\.so\.(\d+(?:\.\d+)+)", re.ASCII)


@dataclass(frozen=True)
class Outcome:
    """`devices` are the names after it; `reason` says why it was made anew; `problem` why containers get none."""

    changed: bool
    devices: tuple[str, ...]
    reason: str
    problem: str


@dataclass(frozen=True)
class Wanted:
    """What the specification must be of.

    `uuids`: what the driver shows, GPUs without MIG and MIG devices; `needed`: those of them that containers must get;
    `driver`: its version, empty where it is not known; `divided`: GPUs with MIG, which it names beside their devices.
    """

    uuids: Collection[str]
    needed: Collection[str]
    driver: str = ""
    divided: Collection[str] = ()


def parse_list(text: str) -> tuple[str, ...]:
    """The names (without ``nvidia.com/gpu=``) that `nvidia-ctk cdi list` prints, whatever it logs beside them."""
    return tuple(sorted({match[1] for match in map(_NAME.match, map(str.strip, text.splitlines())) if match}))


def outdated(names: Collection[str], text: str, wanted: Wanted) -> str:
    """Why the specification is not of these GPUs and this driver; empty where it is."""
    if not text:
        return f"there is no {PATH}"
    named = {name for name in names if name.startswith(("GPU-", "MIG-"))}
    missing, more = sorted(set(wanted.uuids) - named), sorted(named - set(wanted.uuids) - set(wanted.divided))
    made_for = sorted(set(_DRIVER.findall(text)))
    if missing:
        return f"it does not name {', '.join(missing)}"
    if more:
        return f"it names {', '.join(more)}"
    if wanted.driver and made_for and wanted.driver not in made_for:
        return f"it is of driver {', '.join(made_for)}, and {wanted.driver} runs"
    return ""


def _names(run: Run, ctk: str) -> tuple[str, ...]:
    """Those of our directory: Docker prefers it to /etc/cdi, where an administrator may keep specifications."""
    return parse_list(run([ctk, "cdi", "list", f"--spec-dir={SPEC_DIR}"])[1])


def settle(run: Run, read: Read, ctk: str, wanted: Wanted, check_mode: bool) -> Outcome:
    """Make the specification anew where it is not of these GPUs; `ctk` is the command nvidia-ctk."""
    names, before = _names(run, ctk), read(PATH)
    reason = outdated(names, before, wanted)
    said = ""
    if reason and not check_mode:
        # The unit passes over hosts whose modules it does not find; then by hand.
        if run(["systemctl", "cat", UNIT])[0] == 0:
            run(["systemctl", "restart", UNIT])
            names = _names(run, ctk)
        if outdated(names, read(PATH), wanted):
            answer = run([ctk, "cdi", "generate", f"--output={PATH}"])
            said = " ".join(f"{answer[1]} {answer[2]}".split())[-300:] if answer[0] else ""
            names = _names(run, ctk)
    after = read(PATH)
    lacking = [] if reason and check_mode else sorted(set(wanted.needed) - set(names))
    problem = ""
    if lacking:
        problem = f"the CDI specification does not name {', '.join(lacking)}"
        problem += f": nvidia-ctk cdi generate said {said!r}" if said else ""
        problem += f". Run nvidia-ctk cdi generate --output={PATH} on the host and repair what it names."
    return Outcome(bool(reason) if check_mode else after != before, names, reason, problem)
