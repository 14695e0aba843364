# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Commands that say too much, take too long, leave others behind or are not there. All of them are real."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils import run as runner
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import (
    NOT_FOUND,
    TIMED_OUT,
    TOO_MUCH,
    must,
    run,
    stream,
)


def ended(pid_file: Path) -> bool:
    """Whether the process whose number stands in the file is gone, or a zombie of somebody's, after a moment."""
    status = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    for _attempt in range(50):
        with contextlib.suppress(FileNotFoundError):
            if not status.read_text().rpartition(") ")[2].startswith("Z"):
                time.sleep(0.02)
                continue
        return True
    return False


CASES = {
    "both": (["sh", "-c", "echo out; echo err >&2; exit 3"], (3, "out\n", "err\n")),
    "a lot, within the size": (["head", "-c", "100000", "/dev/zero"], (0, "\0" * 100000, "")),
    "no UTF-8": (["printf", r"\303("], (0, "\ufffd(", "")),
    "nothing to read": (["cat"], (0, "", "")),
    "a signal": (["sh", "-c", "kill -9 $$"], (-9, "", "")),
    "one that is not there": (["/nonexistent/tool"], (NOT_FOUND, "", "/nonexistent/tool: No such file or directory")),
    "its output closed": (["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 5"], (5, "", "")),
}


@pytest.mark.parametrize(("argv", "answer"), CASES.values(), ids=CASES)
def test_a_command_that_ends(argv: list[str], answer: tuple[int, str, str]) -> None:
    assert run(argv, timeout=20) == answer


@pytest.mark.parametrize("pipe", ["", " >&2"])
def test_one_that_prints_without_end_is_killed_with_what_it_started(tmp_path: Path, pipe: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    script = f"sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & until [ -s {tmp_path}/pid ]; do :; done; yes{pipe}"
    assert run(["sh", "-c", script], size=1 << 20) == (
        TOO_MUCH,
        "",
        "it printed more than 1048576 bytes, and was killed",
    )
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
    assert ended(tmp_path / "pid")


def test_one_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    script = f"trap '' TERM INT HUP; sh -c 'echo $$ > {tmp_path}/pid; sleep 60' & echo half; sleep 60"
    assert run(["sh", "-c", script], timeout=0.5) == (TIMED_OUT, "", "no answer within 0.5 s, and was killed")
    assert time.monotonic() - began < 5
    assert ended(tmp_path / "pid")


def test_one_that_leaves_others_with_its_pipes_is_not_waited_for() -> None:
    began = time.monotonic()
    assert run(["sh", "-c", "sleep 20 & echo said"], timeout=15) == (0, "said\n", "")
    assert time.monotonic() - began < 5


def test_the_environment_is_added() -> None:
    assert run(["sh", "-c", "echo $A $HOME"], environment={"A": "1"}) == (0, f"1 {os.environ.get('HOME', '')}\n", "")


def test_bytes_that_are_no_utf8_can_be_kept() -> None:
    assert run(["printf", r"\377"], errors="surrogateescape")[1] == "\udcff"


def test_lines_are_handed_on_as_they_come() -> None:
    lines: list[str] = []
    # A carriage return ends no line: what runs in a build could make lines of its own with it.
    script = r"printf 'one\n\ntwo\r#1 naming to x done\n'; echo three >&2; printf four; exit 2"
    assert stream(["sh", "-c", script], lines.append, 20) == (2, "")
    assert lines == ["one", "", "two\r#1 naming to x done", "three", "four"]


def test_a_line_without_end_takes_no_memory() -> None:
    lines: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = "head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last"
    assert stream(["sh", "-c", script], lines.append, 60, width=100) == (0, "")
    assert [len(line) for line in lines] == [100, 4]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


def test_a_stream_that_does_not_end_is_killed() -> None:
    lines: list[str] = []
    status, why = stream(["sh", "-c", "echo begun; sleep 60"], lines.append, 0.5)
    assert (status, why, lines) == (TIMED_OUT, "no end within 0.5 s, and was killed", ["begun"])
    assert stream(["/nonexistent/tool"], lines.append, 1)[0] == NOT_FOUND


def test_within_is_a_run_with_its_limits() -> None:
    assert runner.within(20, size=10)(["printf", "0123456789"]) == (0, "0123456789", "")
    assert runner.within(20, size=9)(["printf", "0123456789"])[0] == TOO_MUCH


def test_a_command_that_must_succeed_says_what_it_said() -> None:
    assert must(run, ["echo", "out"]) == "out\n"
    assert must(run, ["sh", "-c", "echo none; exit 1"], good=(0, 1)) == "none\n"
    argv = ["sh", "-c", "echo no; echo disk >&2; exit 3"]
    said = r"sh -c 'echo no; echo disk >&2; exit 3' ended with 3 \(disk\): expected it to end with 0. Look"
    with pytest.raises(GpusteadError, match=said):
        must(run, argv, remedy="Look.")
    with pytest.raises(GpusteadError, match=r"ended with 124 \(no answer within 0.1 s, and was killed\)"):
        must(run, ["sleep", "9"], 0.1)
