"""The parts of the benchmark that need no lab: what is declared, counted, read and written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import before
import changes
import contestants
import counts
import preflight
import pytest
import report
import run
import survey
import yaml
from lab import BIN, ROOT
from timing import Failed, Run

sys.path.insert(0, str(ROOT / "bench/with_pyinfra"))
import ufw

USERS = [{"name": "ada", "uid": 1500, "ssh_keys": ["old"]}, {"name": "grace", "uid": 1501}]


# Counting

PLAY = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - {ansible.builtin.debug: {msg: on all}, changed_when: true}
    - {ansible.builtin.debug: {msg: once}, run_once: true}
    - {ansible.builtin.debug: {msg: never}, when: false}
"""


def test_tasks_are_counted_from_ansibles_own_sums(tmp_path: Path) -> None:
    (tmp_path / "play.yml").write_text(PLAY)
    argv = [str(BIN / "ansible-playbook"), "-i", "one,two,", str(tmp_path / "play.yml")]
    path = tmp_path / "counts.json"
    counts.counting(contestants.Contestant("try", argv, ROOT, lambda _: None), path).run()
    found = counts.read(path)
    assert counts.executed(found, ["one", "two"]) == 3
    assert counts.executed(found, ["two", "three"]) == 1
    assert counts.changed(found) == 2
    assert not path.exists()


# What is said of a run

RECAP = "gpu01 : ok=5 changed={changed} unreachable=0 failed={failed} skipped=1\n"
TOTAL = "  Grand total   12   {success}   {error}   10  \n"


@pytest.mark.parametrize(
    ("check", "output", "well"),
    [
        (contestants.something_changed, RECAP.format(changed=1, failed=0), True),
        (contestants.something_changed, RECAP.format(changed=0, failed=0), False),
        (contestants.something_changed, RECAP.format(changed=1, failed=1), False),
        (contestants.something_changed, "", False),
        (contestants.operations_changed, TOTAL.format(success=2, error="-"), True),
        (contestants.operations_changed, TOTAL.format(success="-", error="-"), False),
        (contestants.operations_changed, TOTAL.format(success=2, error=1), False),
        (contestants.no_operation_changed, TOTAL.format(success="-", error="-"), True),
        (contestants.no_operation_changed, TOTAL.format(success=2, error="-"), False),
        (contestants.no_operation_changed, "", False),
    ],
)
def test_a_run_counts_only_where_it_did_what_it_should(check: object, output: str, well: bool) -> None:
    assert callable(check)
    if well:
        check(output)
    else:
        with pytest.raises(Failed):
            check(output)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (
            "### tuple ### allow tcp 9100 0.0.0.0/0 any 198.51.100.0/24 in comment=677075",
            "ufw allow in proto tcp from 198.51.100.0/24 to 0.0.0.0/0 port 9100 comment gpu",
        ),
        ("### tuple ### deny any any ::/0 any fd00::/64 in", "ufw deny in from fd00::/64 to ::/0"),
        (
            "### tuple ### allow udp 53 10.0.0.1 1024:65535 0.0.0.0/0 out",
            "ufw allow out proto udp from 0.0.0.0/0 port 1024:65535 to 10.0.0.1 port 53",
        ),
    ],
)
def test_pyinfra_adds_a_rule_as_ufw_keeps_it(line: str, command: str) -> None:
    assert ufw.command(line) == command


# The changes


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "add_user",
            {
                "cluster_users": [
                    *USERS,
                    {"name": "newcomer", "uid": 1590, "groups": ["ml"], "ssh_keys": [changes.KEY]},
                ]
            },
        ),
        ("changed_key", {"cluster_users": [{**USERS[0], "ssh_keys": [changes.KEY]}, USERS[1]]}),
        (
            "firewall_rule",
            {"firewall_extra_rules": [{"from_ip": ["198.51.100.0/24"], "to_port": "9100", "proto": "tcp"}]},
        ),
        ("shm_size", {"workspace_shm_size": "96mb"}),
    ],
)
def test_a_change_sets_one_thing(name: str, expected: object) -> None:
    assert changes.CHANGES[name].settings({"cluster_users": USERS}) == expected


def runs(*seconds: float) -> list[Run]:
    return [Run(value, value, "") for value in seconds]


def test_a_change_is_held_against_pyinfra_and_the_forced_run() -> None:
    block = report.Block("add_user_10", "", 10, {"ours": runs(4, 6), "pyinfra": runs(2, 3), "forced": runs(100, 100)})
    result = changes.Result(changes.CHANGES["add_user"], block, {"ours": [11.1, 12.1], "forced": [80, 80]})
    figures = changes.figures(result)
    assert figures["add_user_tasks_per_host"] == pytest.approx(11.6)
    assert figures["add_user_vs_pyinfra_10"] == 2
    assert figures["add_user_vs_forced_10"] == 0.05
    assert changes.row(result) == ["one account more, 10 hosts", "5.00", "11.6", "2.50", "2.00", "0.050"]


def test_the_forced_run_is_held_against_the_earlier_one() -> None:
    block = report.Block("forced_3", "", 3, {"forced": runs(50, 60), "before": runs(100, 100)})
    result = before.Result(block, {"forced": [80.0, 80.0], "before": [205.0, 205.0]})
    assert before.figures(result) == {
        "forced_vs_before": pytest.approx(0.55),
        "forced_tasks_per_node": 80,
        "before_tasks_per_node": 205,
    }
    assert before.table(result)[1] == ["commit e21611a, 3 nodes", "100.0", "205.0"]


# The survey


def test_a_survey_of_stubs_finds_all_hosts_fresh(tmp_path: Path) -> None:
    hosts = survey.named(3)
    survey.over(hosts, survey.prepare(tmp_path, hosts)).run()


def test_a_thousand_names_have_an_address_each() -> None:
    assert len({host.address for host in survey.named(1000)}) == 1000


def test_the_stub_and_the_start_are_taken_off() -> None:
    assert survey.Result(1010, few=[1.0], all=[8.0], stubs=[2.02]).per_host == pytest.approx(0.005)


# The preflight


def test_the_preflight_finds_nothing_in_the_inventory_that_it_is_measured_with(tmp_path: Path) -> None:
    preflight.over(survey.named(3), tmp_path).run()
    assert preflight.Result(1010, few=[1.0, 2.0, 1.5], all=[6.0, 7.0, 9.0]).per_host == pytest.approx(0.005)


# The parts


def test_a_part_alone_leaves_the_figures_and_tables_of_the_others(tmp_path: Path) -> None:
    results, page = tmp_path / "results.json", tmp_path / "docs/benchmarks.md"
    report.write([report.Part({"forced_vs_before": 0.5}, {"before": "one table"})], results, page)
    report.write([report.Part({"survey_cpu_per_host_1000": 0.00512345}, {"survey": "another"})], results, page)
    assert json.loads(results.read_text()) == {"forced_vs_before": 0.5, "survey_cpu_per_host_1000": 0.0051}
    text = page.read_text()
    assert "one table" in text
    assert "another" in text
    assert "(not measured)" in text
    assert "| the forced run to that of commit e21611a | 0.5 | ≤ 0.55 | met |" in text


@pytest.mark.parametrize(
    ("only", "parts", "needs_lab"),
    [
        ([], list(run.PARTS), True),
        (["--only", "survey"], ["survey"], False),
        (["--only", "survey,add_user"], ["add_user", "survey"], True),
    ],
)
def test_parts_are_chosen(tmp_path: Path, only: list[str], parts: list[str], needs_lab: bool) -> None:
    bench = run.Bench(run.parse([*only, "--work", str(tmp_path)]))
    assert bench.options.only == parts
    assert bench.needs_lab is needs_lab


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(SystemExit):
        run.parse(["--only", "everything"])


def test_the_inventory_of_the_survey_is_yaml_with_all_names(tmp_path: Path) -> None:
    hosts = survey.named(20)
    read = yaml.safe_load(survey.prepare(tmp_path, hosts).read_text())
    assert list(read["gpu_nodes"]["hosts"]) == [host.name for host in hosts]
