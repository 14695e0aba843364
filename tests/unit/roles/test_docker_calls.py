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


def starts(task: dict[str, Any]) -> bool:
    """Whether it has Docker start, or read its file, by other means than docker_service."""
    services = [task.get(f"ansible.builtin.{module}") or {} for module in ("systemd_service", "systemd", "service")]
    argv = (task.get("ansible.builtin.command") or {}).get("argv") or []
    words = [service.get("name") for service in services] + (list(argv) if argv[:1] == ["systemctl"] else [])
    return not {"docker", "docker.service", "docker.socket"}.isdisjoint(map(str, words))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROLES)))
def test_nothing_starts_docker_but_the_module_that_puts_the_former_file_back(path: Path) -> None:
    assert [task["name"] for task in tasks(yaml.safe_load(path.read_text())) if starts(task)] == []


def test_such_commands_are_found() -> None:
    assert sum(waits(task) for path in FILES for task in tasks(yaml.safe_load(path.read_text()))) >= 19


def test_a_saved_container_brings_nothing_by_which_compose_or_we_know_our_own() -> None:
    play = yaml.safe_load((ROLES.parent / "playbooks/commit.yml").read_text())[0]
    saves = next(task for task in tasks(play["tasks"]) if task["name"] == "Save the container as an image")
    assert {"com.docker.compose.project", "org.gpustead.key"} <= set(saves["vars"]["__commit_labels"])
    assert "__commit_labels | map('regex_replace', '^(.*)$', '--change=LABEL " in saves["vars"]["__commit_changes"]
