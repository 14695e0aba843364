"""The lines of a run, from its events: no Ansible, and a clock of the test's own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_progress import Line, RunProgress
from ansible_collections.gpustead.cluster.plugins.plugin_utils.run_words import (
    escaped,
    names,
    reasons,
    sentence,
    spoken,
)

ROLES = {"gpustead.cluster.base": "Base", "gpustead.cluster.nas": "Share", "gpustead.cluster.docker": "Docker"}
NON_ZERO = "The command exited with a non-zero return code."  # of ansible-core 2.21
MANY = [f"gpu{number:04d}" for number in range(1, 1001)]


class Bed:
    """A run and its clock; keeps the lines."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.run = RunProgress(self.now)
        self.lines: list[Line] = []

    def say(self, lines: Iterable[Line]) -> None:
        self.lines += lines

    @property
    def text(self) -> list[str]:
        return [line.text for line in self.lines]

    def play(self, uid: str = "a", title: str = "Play", roles: Mapping[str, str] | None = None) -> None:
        self.say(self.run.play(uid, title, roles or {}, self.now))

    def task(self, title: str, role: str = "", place: str = "site.yml:7") -> None:
        self.say(self.run.task(title, place, role, self.now))

    def do(self, hosts: Iterable[str], title: str, outcome: str = "unchanged", role: str = "", took: float = 1) -> None:
        """A task on some hosts, from its beginning to its end."""
        self.task(title, role)
        hosts = list(hosts)
        for host in hosts:
            self.run.begun(host, title, self.now)
        self.now += took
        for host in hosts:
            self.run.ended(host, outcome)

    def fail(self, host: str, said: list[str], how: str = "failed", once: bool = False) -> None:
        self.say(self.run.failed(host, how, said, once, self.now))
        self.run.ended(host, how if how in ("failed", "unreachable") else "unchanged")

    def finish(self, counts: Mapping[str, Mapping[str, int]], check: bool = False) -> list[str]:
        before = len(self.lines)
        self.say(self.run.finish(counts, check, self.now))
        return self.text[before:]


@pytest.fixture
def bed() -> Bed:
    made = Bed()
    made.run.playbook(["a", "b", "c"])
    return made


def test_each_play_is_a_line_with_its_number_its_hosts_and_its_time(bed: Bed) -> None:
    bed.play("a", "Look")
    bed.do(["gpu01", "gpu02"], "one", took=3)
    bed.do(["gpu01"], "two", "changed", took=62)
    bed.play("b", "Nobody")  # has no hosts, and no line
    bed.play("c", "End")
    bed.do(["gpu01"], "three")
    bed.finish({})
    assert bed.text[:2] == [
        "0:01:05 [1/3] Look: 2 hosts done, 1 changed, 1 min 05 s",
        "0:01:06 [3/3] End: 1 host done, 1 s",
    ]
    assert [line.of for line in bed.lines[:2]] == ["changed", "unchanged"]


def test_roles_of_a_play_are_steps_below_it(bed: Bed) -> None:
    bed.play("b", "Bring up", ROLES)
    bed.do(["gpu01", "gpu02"], "begin")
    bed.do(["gpu01", "gpu02"], "one", "changed", "gpustead.cluster.base", took=20)
    bed.do(["gpu01", "gpu02"], "two", role="gpustead.cluster.base")
    bed.do(["gpu02"], "three", role="gpustead.cluster.docker", took=4)
    bed.do(["gpu01", "gpu02"], "say what is undone")
    bed.play("c", "End")
    assert bed.text == [
        "0:00:01 [2/3] Bring up",
        "0:00:22   [1/3] Base: 2 hosts done, 2 changed, 21 s",
        "0:00:26   [3/3] Docker: 1 host done, 4 s",
    ]


def test_one_role_is_its_play(bed: Bed) -> None:
    bed.play("a", "Lab", {"gpustead.cluster.lab": "Lab"})
    bed.do(["localhost"], "one", role="gpustead.cluster.lab")
    bed.play("b", "Next")
    assert bed.text == ["0:00:01 [1/3] Lab: 1 host done, 1 s"]


def test_what_takes_long_is_named_with_its_hosts_ever_less_often(bed: Bed) -> None:
    bed.play("a", "Look")
    bed.task("Install packages")
    for host in MANY[:5]:
        bed.run.begun(host, "Install packages", bed.now)
    bed.run.ended(MANY[0], "unchanged")
    bed.run.tried(MANY[1], 2, 60)
    said = []
    for _ in range(180):
        bed.now += 1
        lines = bed.run.waiting(bed.now)
        said += [line.text for line in lines]
    assert said[0] == (
        "0:00:10 [1/3] Look: waiting 10 s for gpu0002: Install packages (try 2 of 60 failed); gpu0003-gpu0005: "
        "Install packages (1 done)"
    )
    assert said[1].startswith("0:00:30       waiting 30 s for gpu0002: ")
    assert [line.split()[0] for line in said] == ["0:00:10", "0:00:30", "0:01:10", "0:02:10"]
    assert bed.run.live(bed.now).startswith("0:03:00 [1/3] Look - 3 min 00 s, gpu0002: Install packages (try")


def test_short_tasks_are_quiet_for_a_minute(bed: Bed) -> None:
    bed.play("a", "Look")
    said = []
    for number in range(70):
        bed.task(f"task {number}")
        bed.run.begun("gpu01", f"task {number}", bed.now)
        bed.now += 1
        said += [line.text for line in bed.run.waiting(bed.now)]
        bed.run.ended("gpu01", "unchanged")
    assert said == ["0:01:00 [1/3] Look: waiting 1 s for gpu01: task 59"]


def test_a_failure_is_told_once_and_has_its_sentence_in_the_table(bed: Bed) -> None:
    bed.play("a", "Look")
    bed.task("Check", place="roles/base/tasks/main.yml:3")
    bed.fail("gpu01", ["gpu01 has no disk", "see df"])
    bed.fail("gpu02", ["gpu02 has no disk", "see df"])
    bed.run.ended("gpu03", "changed")
    bed.fail("gpu04", ["ssh: connect to host 10.0.0.4 port 22: Connection timed out"], "unreachable")
    bed.fail("gpu05", ["ssh: connect to host 10.0.0.5 port 22: Connection timed out"], "unreachable")
    table = bed.finish(
        {
            "gpu01": {"failures": 1},
            "gpu02": {"failures": 1},
            "gpu03": {"changed": 4},
            "gpu04": {"unreachable": 1},
            "gpu05": {"unreachable": 1},
        }
    )
    assert bed.text[: -len(table)] == [
        "0:00:00 [1/3] Look",
        "        FAILED gpu01: Check (roles/base/tasks/main.yml:3)",
        "          gpu01 has no disk",
        "          see df",
        "        UNREACHABLE gpu04: Check (roles/base/tasks/main.yml:3)",
        "          ssh: connect to host 10.0.0.4 port 22: Connection timed out",
    ]
    assert table == [
        "        FAILED the same: gpu02",
        "        UNREACHABLE the same: gpu05",
        "0:00:00       1 of 5 hosts done, 1 changed, 2 unreachable, 2 failed, 0 s",
        "0:00:00 Failed: 1 changed, 2 unreachable, 2 failed",
        "        changed      gpu03",
        "        unreachable  gpu04: ssh: connect to host 10.0.0.4 port 22: Connection timed out",
        "        unreachable  gpu05: ssh: connect to host 10.0.0.5 port 22: Connection timed out",
        "        failed       gpu01, gpu02: gpu01 has no disk …",
        "        Next: do what is said above and see that SSH reaches gpu04, gpu05 from here, then run it again with "
        "--limit gpu01,gpu02,gpu04,gpu05. With -v Ansible says all that it has.",
    ]


@pytest.mark.parametrize(("how", "why"), [("ignored", "ignored"), ("rescued", "another way is tried")])
def test_a_failure_that_does_no_harm_is_no_alarm(bed: Bed, how: str, why: str) -> None:
    bed.play("a", "Look")
    bed.task("Pull")
    bed.fail("gpu01", ["no registry", "at all"], how)
    bed.finish({"gpu01": {"ok": 2}})
    assert f"        gpu01: Pull: no registry … ({why})" in bed.text
    assert not {line.of for line in bed.lines} & {"failed", "unreachable"}
    assert "0:00:00 Done: 1 unchanged" in bed.text


def test_ansibles_sums_decide(bed: Bed) -> None:
    """What was taken for harmless and was not is in the table, and so is what nothing was heard of."""
    bed.play("a", "Look")
    bed.task("Pull")
    bed.fail("gpu01", ["no registry"], "rescued")
    table = bed.finish({"gpu01": {"failures": 1}, "gpu02": {"failures": 1}})
    assert "        failed       gpu01: no registry" in table
    assert "        failed       gpu02: see above" in table


def test_a_task_for_all_hosts_names_none(bed: Bed) -> None:
    bed.play("a", "Look")
    bed.task("Check every setting")
    bed.fail("gpu01", ["2 to correct:", "- a", "- b"], once=True)
    table = bed.finish({"gpu01": {"failures": 1}, "gpu02": {"ok": 1}})
    assert "        FAILED Check every setting (site.yml:7)" in bed.text
    assert "        failed       all hosts: 2 to correct …" in table
    assert not any("--limit" in line for line in table)


def test_a_check_says_what_would_change(bed: Bed) -> None:
    assert bed.finish({"gpu01": {"changed": 1}, "nas": {"ok": 1}}, check=True) == [
        "0:00:00 Done: 1 unchanged, 1 would change",
        "        unchanged    nas",
        "        would change gpu01",
        "        Next: run it without --check.",
    ]


def test_a_run_without_hosts_says_so(bed: Bed) -> None:
    assert bed.finish({}) == ["0:00:00 Done: no host had anything to do"]


def large_run(bed: Bed, hosts: list[str], same: bool) -> list[str]:
    """Twenty tasks on every host, which all fail then.

    Returns the lines of the table.
    """
    bed.play("b", "Bring up", ROLES)
    for number in range(20):
        bed.do(hosts, f"task {number}", "changed", "gpustead.cluster.base")
        bed.say(bed.run.told("", ["all is well"], bed.now))
        for host in hosts:
            bed.say(bed.run.told(host, [f"{host} is well"], bed.now))
    bed.task("Fail")
    for number, host in enumerate(hosts):
        bed.fail(host, [f"{host} has no disk" if same else f"disk {number} is bad"])
    return bed.finish({host: {"failures": 1} for host in hosts})


@pytest.mark.parametrize("same", [True, False])
def test_a_run_of_a_thousand_hosts_is_told_shortly(bed: Bed, same: bool) -> None:
    table = large_run(bed, MANY, same)
    assert len(bed.text) - len(table) < 110
    if same:
        assert "        FAILED the same: gpu0002-gpu1000" in table
        assert "        failed       gpu0001-gpu1000: gpu0001 has no disk" in table
        assert len(table) < 10
    else:
        assert any("for other reasons, which the table at the end has: gpu0021-gpu1000" in line for line in table)
        assert sum("disk 500 is bad" in line for line in table) == 1


@pytest.mark.parametrize("same", [True, False])
def test_telling_ten_times_the_hosts_costs_some_ten_times_as_much(same: bool) -> None:
    """A ratio, since no machine's seconds are another's: what is quadratic costs a hundred times as much."""

    def seconds(hosts: list[str]) -> float:
        took = []
        for _ in range(3):
            began = time.process_time()
            large_run(Bed(), hosts, same)
            took.append(time.process_time() - began)
        return min(took)

    assert seconds(MANY) < 30 * seconds(MANY[:100])


def test_what_hosts_say_is_indented_and_cannot_pass_for_a_line_of_the_run(bed: Bed) -> None:
    bed.play("a", "Look \x1b[2J")
    bed.task("Say \x1b[2J")
    bed.say(bed.run.told("gpu01", spoken({"msg": "well\n0:00:01 Done: 9 unchanged\r\x1b[2J"}, ""), bed.now))
    bed.fail("gpu01", reasons({"msg": "bad\n0:00:01 Done: 9 unchanged\x1b[2J"}))
    bed.finish({"gpu01": {"failures": 1}})
    assert not [line for line in bed.text if not line.isprintable()]
    assert [line for line in bed.text if line.startswith("0:00:01 Done")] == []


@pytest.mark.parametrize(
    ("hosts", "most", "expected"),
    [
        (["gpu10", "gpu2", "gpu1"], 0, "gpu1, gpu2, gpu10"),
        (["gpu03", "gpu01", "gpu02"], 0, "gpu01-gpu03"),
        (["gpu08", "gpu09", "gpu10", "nas"], 0, "gpu08-gpu10, nas"),
        (["gpu9", "gpu10", "gpu11"], 0, "gpu9, gpu10, gpu11"),
        (["a1.x", "a2.x", "a3.x", "a9.y"], 0, "a1.x-a3.x, a9.y"),
        (["a", "c", "e", "g"], 2, "a, c, and 2 more"),
        ([*MANY, "nas", "x"], 1, "gpu0001-gpu1000, and 2 more"),
        (["10.0.0.1", "10.0.0.2", "10.0.0.3"], 0, "10.0.0.1-10.0.0.3"),
        (["gpu٣"], 0, "gpu٣"),
        (["bad\x1b[2J"], 0, "bad\\x1b[2J"),
        ([], 0, ""),
    ],
)
def test_names(hosts: list[str], most: int, expected: str) -> None:
    assert names(hosts, most) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"msg": "no disk"}, ["no disk"]),
        ({"msg": "Task failed: 'x' is undefined"}, ["'x' is undefined"]),
        ({"msg": ["a", "b"]}, ["a", "b"]),
        ({"msg": "non-zero return code", "rc": 3, "stderr": "first\nlast\n", "stdout": "out"},
         ["the command ended with 3: last", "first", "last"]),
        ({"msg": NON_ZERO, "rc": 1, "stdout": "out"}, ["the command ended with 1: out"]),
        ({"msg": NON_ZERO, "rc": 1, "stdout": ""}, ["the command ended with 1"]),
        ({"msg": "MODULE FAILURE", "module_stderr": "\n".join(map(str, range(30)))},
         ["MODULE FAILURE", *map(str, range(20, 30))]),
        ({"msg": "it said: boo", "stderr": "boo"}, ["it said: boo"]),
        ({"censored": "the output has been hidden", "msg": "secret"}, ["what it said is not shown (no_log)"]),
        ({"msg": ""}, ["no reason was given"]),
        ({"reason": "no such role"}, ["no such role"]),
        ({"msg": 5}, ["5"]),
        ({"msg": "\x1b[2J"}, ["\\x1b[2J"]),
    ],
)  # fmt: skip
def test_reasons(result: dict[str, Any], expected: list[str]) -> None:
    assert reasons(result) == expected


def test_reasons_of_a_loop() -> None:
    items: list[dict[str, Any]] = [
        {"msg": "no disk", "item": "sda"},
        {"msg": "no disk", "item": {"password": "x"}, "_ansible_item_label": "sdb"},
        {"censored": "hidden", "item": "secret"},
    ]
    expected = ["sda: no disk", "sdb: no disk", "what it said is not shown (no_log)"]
    assert reasons({"msg": "One or more items failed"}, items) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["one"], "one"),
        (["one", "two"], "one …"),
        (["one", "two", "three"], "one …"),
        (["2 to correct:", "- a"], "2 to correct: a"),
        (["2 to correct:", "- a", "- b"], "2 to correct …"),
        ([" ", "one"], "one"),
        ([], "no reason was given"),
    ],
)
def test_sentence(said: list[str], expected: str) -> None:
    assert sentence(said) == expected


def test_what_speaks() -> None:
    assert spoken({"msg": "a\nb"}, "dump") == ["a", "b"]
    assert spoken({"msg": ["a", "b\nc"]}, "dump") == ["a", "b", "c"]
    assert spoken({"x": 1}, "\n    x: 1\n    y: \x1b[2J\n") == ["x: 1", "y: \\x1b[2J"]


def test_diffs_keep_their_lines_and_tabs() -> None:
    diff = {"before": "a\tb\n\x1b[2J\n", "after": {"k": "x\r"}, "n": 1, "prepared": ["+\u202e"]}
    assert escaped(diff) == {"before": "a\tb\n\\x1b[2J\n", "after": {"k": "x\\r"}, "n": 1, "prepared": ["+\\u202e"]}
