# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What accounts and containers say, at each door through which it reaches a person's terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.gpustead.cluster.plugins.action.receipt_write import ActionModule
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Account
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_proof import prove, refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import drift_report
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown, shown_in
from ansible_collections.gpustead.cluster.plugins.module_utils.verify import verify_report
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Desired
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.host import host_of
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.node_verify import examine
from ansible_collections.gpustead.cluster.plugins.plugin_utils.build_progress import Progress
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_host_check import HostCheck, explained
from hypothesis import given
from hypothesis import strategies as st

TEXTS = {
    "clears the screen": "\x1b[2J\x1b[H",
    "C1's control sequence": "\x9b2J",
    "a title of the window": "\x1b]0;owned\x07",
    "writes backwards": "\u202eecho\u2066",
    "another line": "well\r\nfatal: [gpu01]: FAILED",
    "a line of Unicode's": "one\u2028two",
    "backspaces": "rm\b\b",
    "bytes that are no UTF-8": "\udcff\udc1b",
    "without an end": "x" * 100000,
}
INSIDE = ["docker", "exec", "ssh"]


def container(text: str) -> str:
    """What nvidia-smi of a container says reaches gpu_proof's message."""
    return str(refusal("gpustead-workspace", [prove("ssh", INSIDE, ["GPU-1"], lambda _: (1, text, text))]))


def listed(text: str) -> str:
    answer = f"GPU 0: A100 (UUID: GPU-{text})\n"
    return str(refusal("gpustead-workspace", [prove("ssh", INSIDE, ["GPU-1"], lambda _: (0, answer, ""))]))


def verified(text: str) -> str:
    """A peer's banner, and what the share is called, as node_verify finds them on a host."""

    def run(_argv: Sequence[str]) -> tuple[int, str, str]:
        return 1, text, text

    findings = examine(Desired("gpu01", firewall=False, listening={text: 5000}), run, host_of(run))
    problems = [{"subject": one.subject, "what": one.what, "remedy": one.remedy} for one in findings.problems]
    assert problems
    seen = {"hostname": text, "accounts": {text: "1:1"}, "peers": {"gpu02": text}}
    results: dict[str, dict[str, Any]] = {
        "gpu01": {"seen": seen, "problems": problems, "notices": problems},
        "gpu02": {"seen": {"hostname": "gpu02", "accounts": {}}},
        "gpu03": {"msg": text},
    }
    report = verify_report.report(results)
    return "".join(report["lines"] + report["notices"])


def drifted(text: str) -> str:
    finding = {"role": "accounts", "subject": f"file /home/ada/{text}", "what": f"comment was , is {text}"}
    return "".join(drift_report.report({"a": {"findings": [finding]}, "b": {"msg": text}})["lines"])


def stale(text: str) -> str:
    verdict = {"reasons": [[f"file /home/ada/{text}", text]], "drifted": []}
    parts = {"mine": ["accounts"], "common": {"accounts": {}}, "host": "a", "state_dir": "/var/lib/gpustead"}
    check = cast(HostCheck, SimpleNamespace(**parts, _stale=lambda *_: {"accounts": verdict}))
    answer = {"roles": {}, "left": [], "readable": True}
    return explained("a", HostCheck.result(check, answer, False, False)).replace("\n  ", "")


def building(text: str) -> str:
    event = {"layer": "torch", "state": "at", "instruction": text, "after": 1}
    progress = Progress("gpu01", 0)
    return "".join(progress.lines([event], 0.0))


DOORS: dict[str, Callable[[str], str]] = {
    "an error's what": lambda text: str(GpusteadError(f"process {text}", "none", "End it.")),
    "an error's remedy": lambda text: GpusteadError("what", "none", f"Remove {text}.").remedy,
    "a container": container,
    "a container's GPUs": listed,
    "a verify line": verified,
    "a drift line": drifted,
    "a stale role": stale,
    "a receipt that is refused": lambda text: ActionModule._complaint("nas", [text], True).replace("\n", ""),
    "a build": building,
    "an account's comment": lambda text: str(Account("ada", 1500, 1500, text, "/home/ada", "/bin/sh")),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_nothing_but_printable_characters_comes_through(door: Callable[[str], str], text: str) -> None:
    said = door(text)
    assert said.isprintable()
    assert 0 < len(said) < 20000


@given(st.text())
def test_whatever_is_shown_is_one_printable_line(text: str) -> None:
    assert shown(text).isprintable()
    assert len(shown(text)) <= 400


def test_plain_text_is_shown_as_it_is() -> None:
    assert shown("Ürün 漢字 'x' \\n 100%") == "Ürün 漢字 'x' \\n 100%"


def test_what_is_shown_of_a_value_keeps_all_but_its_texts() -> None:
    assert shown_in({"a\x1b": ["b\udcff", 1, None, ("c",)]}) == {"a\\x1b": ["b\\udcff", 1, None, ["c"]]}
