# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What remove.yml does on the node that leaves is the other nodes' affair, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PLAYBOOK = Path(__file__).parents[3] / "playbooks/remove.yml"


def tasks(found: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in found:
        yield task
        yield from tasks(task.get("block", []))


OF_THE_NODE = [
    task
    for play in yaml.safe_load(PLAYBOOK.read_text())
    for task in tasks(play["tasks"])
    if task.get("when") == "inventory_hostname == __removal.node"
]


@pytest.mark.parametrize("task", OF_THE_NODE, ids=lambda task: task["name"])
def test_where_it_fails_or_does_not_answer_there_the_others_do_not_go_on(task: dict[str, Any]) -> None:
    assert task.get("any_errors_fatal") is True


def test_there_are_such_tasks() -> None:
    assert len(OF_THE_NODE) == 4
