# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one change of the inventory costs on converged hosts: ours, pyinfra with the same change, and a forced run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import counts
import yaml
from contestants import Contestant, detected, operations_changed, pyinfra, site, something_changed
from lab import Lab, call, inside, step
from report import Block
from timing import Failed

Settings = Mapping[str, Any]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8jMSaqJdbGp9vEcZtbZ7KvuZx1pjWlKXYOBLTVZ3Uw bench"


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
        settings: from the variables of a node to those that the change sets.
        leftovers: paths on each host that stay when the change is taken back. What stays on the share was there for all
            contestants alike.
    """

    name: str
    title: str
    settings: Callable[[Settings], Settings]
    leftovers: Sequence[str] = ()


def with_user(variables: Settings) -> Settings:
    user = {"name": "newcomer", "uid": 1590, "groups": ["ml"], "ssh_keys": [KEY]}
    return {"cluster_users": [*variables["cluster_users"], user]}


def with_other_key(variables: Settings) -> Settings:
    first, *others = variables["cluster_users"]
    return {"cluster_users": [{**first, "ssh_keys": [KEY]}, *others]}


def with_rule(variables: Settings) -> Settings:
    rule = {"from_ip": ["198.51.100.0/24"], "to_port": "9100", "proto": "tcp"}
    return {"firewall_extra_rules": [*variables.get("firewall_extra_rules", []), rule]}


def with_shm_size(_: Settings) -> Settings:
    return {"workspace_shm_size": "96mb"}


CHANGES: Mapping[str, Change] = {
    change.name: change
    for change in (
        Change("add_user", "one account more", with_user, ["/home/newcomer"]),
        Change("changed_key", "one changed key of an account", with_other_key),
        Change("firewall_rule", "one firewall rule more", with_rule),
        Change("shm_size", "another `workspace_shm_size`", with_shm_size),
    )
}


@dataclass
class Result:
    """Runs of all contestants over the same hosts, and the tasks of each run of Ansible's for each host."""

    change: Change
    block: Block
    tasks: dict[str, list[float]] = field(default_factory=dict)


class Changing:
    """A change on the nodes of a converged lab, made and taken back."""

    def __init__(self, lab: Lab, change: Change) -> None:
        self.lab, self.change, self.hosts = lab, change, lab.hosts
        text = call("ansible-inventory", "-i", str(lab.inventory), "--host", lab.hosts[0].name)
        self.variables: Settings = json.loads(text[text.index("{") :])
        self.file = lab.inventory / "group_vars/all/zz_change.yml"
        self.counts = lab.work / "counts.json"
        self.desired = Lab(lab.work, lab.nodes)
        self.desired.inventory = lab.inventory
        self.desired.state = lab.work / f"state-{change.name}"

    def __enter__(self) -> Changing:
        """Make it once, for the state that the others are to reach."""
        self._declare()
        self._site()
        self.desired.capture()
        self.back()
        return self

    def __exit__(self, *_: object) -> None:
        self.back()
        self.lab.capture()  # containers that were made anew

    def ours(self) -> Contestant:
        ours = site(self.change.name, self.hosts, self.lab.inventory)
        return counts.counting(replace(ours, check=something_changed), self.counts)

    def forced(self) -> Contestant:
        return counts.counting(site("forced", self.hosts, self.lab.inventory, "-e", "site_force=true"), self.counts)

    def pyinfra(self) -> Contestant:
        return replace(pyinfra(self.desired, self.hosts), check=operations_changed)

    def measure(self, rounds: int, forced: bool) -> Result:
        block = Block(f"{self.change.name}_{len(self.hosts)}", self.change.title, len(self.hosts))
        result = Result(self.change, block)
        for number in range(rounds):
            ways = [("ours", self._ours), ("pyinfra", self._theirs), *([("forced", self._forced)] if forced else [])]
            for name, way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                way(name, result)
                run = block.runs[name][-1]
                print(f"    {name:15} {run.seconds:8.2f} s, {run.cpu:7.2f} s of CPU", flush=True)
        return result

    def _ours(self, name: str, result: Result) -> None:
        self._declare()
        result.block.add(name, self.ours().run())
        self._count(name, result)
        self.reached()
        self.back()

    def _theirs(self, name: str, result: Result) -> None:
        result.block.add(name, self.pyinfra().run())
        self.reached()
        # Our roles take back what they know of: an account that they did not make is somebody else's.
        self._declare()
        self._site()
        self.back()

    def _forced(self, name: str, result: Result) -> None:
        result.block.add(name, self.forced().run())
        self._count(name, result)

    def _count(self, name: str, result: Result) -> None:
        tasks = counts.executed(counts.read(self.counts), [host.name for host in self.hosts])
        result.tasks.setdefault(name, []).append(tasks / len(self.hosts))

    def reached(self) -> None:
        """Raises Failed where pyinfra, asked for the changed state, would still change something on the last host."""
        seen = detected(pyinfra(self.desired, self.hosts[-1:], "--dry").start().output)
        # A container made anew has another name of its own in its settings.
        missed = {operation for operation in seen if not operation.startswith("container ")}
        if missed:
            raise Failed(f"{self.hosts[-1].name} after {self.change.title}: not so: {', '.join(sorted(missed))}")

    def _declare(self) -> None:
        self.file.write_text(yaml.safe_dump(dict(self.change.settings(self.variables))))

    def back(self) -> None:
        """As before the change, by our own roles, and what they leave of it."""
        self.file.unlink(missing_ok=True)
        self._site()
        for host in self.hosts if self.change.leftovers else []:
            inside(host, ["rm", "-rf", "--", *self.change.leftovers])

    def _site(self) -> None:
        limit = ",".join(host.name for host in self.hosts)
        call("ansible-playbook", "-i", str(self.lab.inventory), "site.yml", "--limit", limit)


def measure(lab: Lab, name: str, rounds: int) -> Result:
    change = CHANGES[name]
    step(f"{change.title} on {len(lab.hosts)} hosts, {rounds} rounds")
    with Changing(lab, change) as changing:
        return changing.measure(rounds, forced=name == "add_user")


def figures(result: Result) -> dict[str, float]:
    name, block = result.change.name, result.block
    found = {f"{name}_tasks_per_host": median(result.tasks["ours"])}
    for contestant in block.runs:
        found[f"{name}_{contestant}_seconds_{block.hosts}"] = block.seconds(contestant)
        if contestant != "ours":
            found[f"{name}_vs_{contestant}_{block.hosts}"] = block.ratio("ours", contestant)
    return found


HEAD = ("a change on converged hosts", "ours, s", "tasks for each host", "pyinfra, s", "to pyinfra", "to a forced run")


def row(result: Result) -> list[str]:
    block = result.block
    forced = f"{block.ratio('ours', 'forced'):.3f}" if "forced" in block.runs else ""
    return [
        f"{result.change.title}, {block.hosts} hosts",
        f"{block.seconds('ours'):.2f}",
        f"{median(result.tasks['ours']):.1f}",
        f"{block.seconds('pyinfra'):.2f}",
        f"{block.ratio('ours', 'pyinfra'):.2f}",
        forced,
    ]
