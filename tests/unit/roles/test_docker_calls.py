"""Who is root in a container can have Docker wait for ever: each command of a role for it has a limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[3] / "roles"
# The lab's containers are the tests' own, on their machine.
FILES = sorted(
    path for path in ROLES.glob("*/*/*.yml") if path.parts[-2] in ("tasks", "handlers") and path.parts[-3] != "lab"
)


def tasks(nodes: Any) -> Iterator[dict[str, Any]]:
    for node in nodes or ():
        yield node
        for part in ("block", "rescue", "always"):
            yield from tasks(node.get(part))


def waits(task: dict[str, Any]) -> bool:
    """Whether it runs Docker's own client, or has the daemon start, which may wait for a container.

    The modules of community.docker that speak to its API have a limit themselves (`timeout`).
    """
    argv = (task.get("ansible.builtin.command") or {}).get("argv") or ""
    return (
        argv[:1] == ["docker"]
        or str(argv).startswith("{{ ['docker'")
        or "$(docker " in str(argv)
        or "community.docker.docker_compose_v2" in task
        or "gpustead.cluster.compose_project" in task
        or "gpustead.cluster.docker_service" in task
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROLES)))
def test_each_command_of_dockers_has_a_limit(path: Path) -> None:
    found = [task["name"] for task in tasks(yaml.safe_load(path.read_text())) if waits(task) and "timeout" not in task]
    assert found == []


def test_such_commands_are_found() -> None:
    assert sum(waits(task) for path in FILES for task in tasks(yaml.safe_load(path.read_text()))) >= 19
