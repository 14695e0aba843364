# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which modules the action has a host run, by what they answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.action.compose_project import COMPOSE, HOLDERS, PROOF, ActionModule

Answer = dict[str, Any]
UP: Answer = {"changed": False, "actions": []}
MADE: Answer = {"changed": True, "actions": [{"what": "container", "id": "mesh", "status": "Recreate"}]}
SEEN: Answer = {"changed": False, "ok": True, "lacking": []}
LOST: Answer = {"changed": False, "ok": False, "lacking": ["mesh"]}
BROKEN: Answer = {"failed": True, "msg": "it did not come up", "rc": 1}


class Here(ActionModule):
    """Is given the answers of the modules, and keeps what they were asked."""

    def __init__(self, answers: list[Answer], check: bool, **arguments: Any) -> None:
        given = {"project": "gpustead-mesh", "directory": "/d", "services": ["mesh"], "user": "ada", **arguments}
        self._task = SimpleNamespace(args=given, check_mode=check, async_val=0)
        self._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp"))
        self.answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def _execute_module(self, module_name: str, module_args: Answer, task_vars: Any) -> Answer:
        what = ["recreate"] * ("recreate" in module_args) + ["orphans"] * ("remove_orphans" in module_args)
        what += ["must"] * module_args.get("required", False)
        self.asked.append((module_name, module_args.get("services", module_args.get("ports")), *what))
        return self.answers.pop(0)


STARTED, RECREATED = (COMPOSE, None, "orphans"), (COMPOSE, ["mesh"], "recreate")
ASKED, PROVED = (PROOF, ["mesh"]), (PROOF, ["mesh"], "must")
GPU = {"uuids": ["GPU-1"]}
PORTS = {"ports": {"ssh": 2222}}
HELD: Answer = {"failed": True, "msg": "port 2222 (ssh) is taken by process 7 (nc) of account 'eve'"}
LOOKED = (HOLDERS, {"ssh": 2222})
CASES: dict[str, tuple[dict[str, Any], list[Answer], list[tuple[Any, ...]], Answer]] = {
    "nothing to do": ({}, [UP], [STARTED], {"changed": False}),
    "with GPUs": (GPU, [UP, SEEN], [STARTED, ASKED], {"changed": False}),
    "lost GPUs": (GPU, [UP, LOST, MADE, SEEN], [STARTED, ASKED, RECREATED, PROVED], {"changed": True, **MADE}),
    "GPUs that stay lost": (
        GPU,
        [UP, LOST, MADE, BROKEN],
        [STARTED, ASKED, RECREATED, PROVED],
        {"changed": True, "failed": True, "msg": "it did not come up"},
    ),
    "drifted": ({"recreate": ["mesh"]}, [MADE, UP], [RECREATED, STARTED], {"changed": True, **MADE}),
    "drifted, in a check": ({"recreate": ["mesh"], **GPU, "check": True}, [MADE], [STARTED], {"changed": True}),
    "recreation that fails": ({"recreate": ["mesh"]}, [BROKEN], [RECREATED], {"failed": True}),
    "start that fails": (GPU, [BROKEN], [STARTED], {"failed": True, "msg": "it did not come up"}),
    "a port that somebody got meanwhile": (
        PORTS,
        [BROKEN, HELD],
        [STARTED, LOOKED],
        {"failed": True, "msg": f"it did not come up {HELD['msg']}"},
    ),
    "a recreation without its port": (
        {**PORTS, "recreate": ["mesh"]},
        [BROKEN, HELD],
        [RECREATED, LOOKED],
        {"failed": True, "msg": f"it did not come up {HELD['msg']}"},
    ),
    "ports that nobody has": (PORTS, [BROKEN, UP], [STARTED, LOOKED], {"failed": True, "msg": "it did not come up"}),
    "ports, in a check": ({**PORTS, "check": True}, [BROKEN], [STARTED], {"failed": True}),
    "ports of a project that is up": (PORTS, [UP], [STARTED], {"changed": False}),
    "a proof that is none": (GPU, [UP, BROKEN], [STARTED, ASKED], {"failed": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_asked(case: str) -> None:
    arguments, answers, asked, expected = CASES[case]
    action = Here([*answers], arguments.get("check", False), **{k: v for k, v in arguments.items() if k != "check"})
    result = action.run(task_vars={})
    assert action.asked == asked
    assert {name: result[name] for name in expected} == expected
    assert ("failed" in result) is ("failed" in expected)
