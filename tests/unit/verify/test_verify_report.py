# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What was found on all hosts becomes one report; what they see differently is told once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_report import report


def result(name: str, *problems: dict[str, str], **seen: Any) -> dict[str, Any]:
    sound = {"hostname": name, "accounts": {"ada": "1500:1500"}, "files": {"shared": "1500:1500"}, "image": "i"}
    return {"seen": {**sound, **seen}, "problems": list(problems)}


GRACE = {"subject": "account grace", "what": "is missing", "remedy": "Run site.yml."}
CASES: dict[str, tuple[dict[str, dict[str, Any]], list[str]]] = {
    "all is well": ({"a": result("a"), "b": result("b"), "nas": {"seen": {"listening": [5000]}, "problems": []}}, []),
    "a problem of a host": (
        {"a": result("a", GRACE), "b": result("b")},
        ["a: account grace is missing. Run site.yml."],
    ),
    "a host that cannot be reached": (
        {"a": result("a"), "b": {"unreachable": True, "msg": "No route\nto host"}},
        ["b: host cannot be reached (No route to host)."],
    ),
    "a host without Python": (
        {"a": result("a"), "b": {"failed": False, "rc": 127, "msg": "no interpreter", "module_stderr": "not found"}},
        ["b: host cannot be examined (no interpreter not found)."],
    ),
    "a host that dropped out": ({"a": {}}, ["a: host cannot be examined (no result)."]),
    "a file with two owners": (
        {"a": result("a"), "b": result("b", files={"shared": "0:0"}), "c": result("c")},
        ["b: file shared differs: 0:0 on b; 1500:1500 on a, c."],
    ),
    "a file that one does not see": (
        {"a": result("a"), "b": result("b", files={}), "c": result("c")},
        ["b: file shared differs: 1500:1500 on a, c; missing on b."],
    ),
    "a share that is not mounted": (
        {"a": result("a"), "b": {"seen": {"hostname": "b"}, "problems": [GRACE]}},
        ["b: acc"],
    ),
    "an image of its own": (
        {"a": result("a"), "b": result("b", image="old"), "c": result("c")},
        ["b: image differs: i on a, c; old on b."],
    ),
    "ids that differ, told by the host already": (
        {"a": result("a", {**GRACE, "subject": "account ada"}, accounts={"ada": "1:1"}), "b": result("b")},
        ["a: account ada is missing."],
    ),
    "a peer that is another host": (
        {"a": result("a", peers={"b": "c"}), "b": result("b", peers={"a": "a"})},
        ["a: SSH to b in the mesh reaches c, but b is called b."],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_reports(case: str) -> None:
    results, expected = CASES[case]
    made = report(results)
    assert len(made["lines"]) == len(expected), made["lines"]
    assert [line for line, start in zip(made["lines"], expected) if not line.startswith(start)] == []
    assert made["ok"] is (not expected)
    assert all("\n" not in line for line in made["lines"])
    assert json.loads(json.dumps(made)) == made


def test_summary() -> None:
    assert report({"a": result("a")})["summary"] == "1 host as declared, no problems"
    assert report({"a": result("a", GRACE), "b": result("b", GRACE)})["summary"] == "2 problems on 2 hosts"


def test_what_will_be_a_problem_is_told_once_and_is_none_yet() -> None:
    notice = {"subject": "the registry's authority (/ca.crt)", "what": "ends on 2036-11-25", "remedy": "Renew it."}
    made = report({"b": {**result("b"), "notices": [notice]}, "a": {**result("a"), "notices": [notice]}})
    assert made["ok"]
    assert made["notices"] == ["soon, a, b: the registry's authority (/ca.crt) ends on 2036-11-25. Renew it."]


def test_what_is_to_be_known_of_gpus_is_told_with_their_hosts() -> None:
    warning = "GPU 1 (NVIDIA A100-SXM4-40GB): the fan\x1b[31m says ERR!."
    made = report({name: {**result(name), "gpu_warnings": [warning]} for name in ("b", "a")})
    assert made["ok"]
    assert made["notices"] == ["to know, a, b: GPU 1 (NVIDIA A100-SXM4-40GB): the fan\\x1b[31m says ERR!."]
