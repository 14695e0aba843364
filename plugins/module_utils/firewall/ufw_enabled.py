# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ufw as a whole: whether it is on, what it does with traffic that no rule is for, what it logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_live import setting
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

POLICIES = {"allow": "ACCEPT", "deny": "DROP", "reject": "REJECT"}
LEVELS = ("off", "low", "medium", "high", "full")


@dataclass(frozen=True)
class UfwState:
    """Policies are ufw's words; `active`: the kernel filters by it now, and will at boot."""

    active: bool
    incoming: str
    outgoing: str
    logging: str

    def __str__(self) -> str:
        on = "active" if self.active else "inactive"
        return f"{on}\ndefault {self.incoming} incoming\ndefault {self.outgoing} outgoing\nlogging {self.logging}\n"


def observe(conf: str, defaults: str, status: str) -> UfwState:
    """What is there.

    Args:
        conf: text of /etc/ufw/ufw.conf.
        defaults: text of /etc/default/ufw.
        status: output of `ufw status`.
    """
    words = {policy: word for word, policy in POLICIES.items()}
    incoming, outgoing = (setting(defaults, f"DEFAULT_{way}_POLICY") for way in ("INPUT", "OUTPUT"))
    on = setting(conf, "ENABLED").lower() == "yes" and status.startswith("Status: active")
    return UfwState(on, words.get(incoming, incoming), words.get(outgoing, outgoing), setting(conf, "LOGLEVEL"))


def plan(before: UfwState, after: UfwState) -> list[list[str]]:
    """The commands from one to the other. First all is let out, and it is enabled at last."""
    todo: list[list[str]] = []
    for way in ("outgoing", "incoming"):
        if getattr(before, way) != getattr(after, way):
            todo.append(["ufw", "default", getattr(after, way), way])
    if before.logging != after.logging:
        todo.append(["ufw", "logging", after.logging])
    if before.active != after.active:
        todo.append(["ufw", "--force", "enable" if after.active else "disable"])
    return todo


def apply(run: Run, todo: Sequence[Sequence[str]]) -> None:
    for argv in todo:
        must(run, argv)
