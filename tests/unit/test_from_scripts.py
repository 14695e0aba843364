"""docs/from-scripts.md: each row has its case in the lab, and what it names is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible_collections.gpustead.cluster.plugins.plugin_utils import preflight_specs
from ansible_collections.gpustead.cluster.scripts.docs_site import PLACES
from ansible_collections.gpustead.cluster.tests.integration.from_scripts import CASES
from ansible_collections.gpustead.cluster.tests.integration.pages import Row, rows
from mesh_run import cli

PROJECT = Path(__file__).resolve().parents[2]
ROWS = list(rows((PROJECT / "docs/from-scripts.md").read_text()))
SPECS = {name: spec for of in preflight_specs.load().values() for name, spec in of.items()}
PLAYBOOKS = {path.stem for path in (PROJECT / "playbooks").glob("*.yml")}
MAKEFILE = (PROJECT / "roles/workspace/templates/Makefile.j2").read_text()
# What the issue of this page was about: it is told of, whatever else is.
ASKED = (
    "make up-multinode",
    "setup_multinode.sh",
    "train_online_multinode.sh",
    "./run.sh --start",
    "enroot import",
    "build.sh -b",
)
HEAD = "| Today | Here | What is different |\n|---|---|---|\n"


def title(row: Row) -> str:
    return row.today


def mistakes(settings: Sequence[str]) -> list[str]:
    """What is wrong with settings by the roles' argument specs."""
    given = {name: value for text in settings for name, value in yaml.safe_load(text).items()}
    unknown = [f"{name} is no setting" for name in given if name not in SPECS]
    known = {name: value for name, value in given.items() if name in SPECS}
    return unknown + [
        f"{name} {one.what}"
        for name, value in known.items()
        for one in preflight_specs.findings(name, SPECS[name], value)
    ]


def wrong(command: str) -> list[str]:
    """What a command names that is not there."""
    program, *words = shlex.split(command)
    return {
        "ansible-playbook": of_ansible,
        "mesh-run": of_mesh_run,
        "ssh": of_ssh,
        "sudo": of_make,
    }.get(program, lambda _words: [f"{program} is no program of ours"])(words)


def of_ansible(words: Sequence[str]) -> list[str]:
    shell = PlaybookCLI(["ansible-playbook", *words])
    shell.init_parser()
    options = shell.parser.parse_args(list(words))
    names = [name.removeprefix("gpustead.cluster.") for name in options.args]
    found = [f"{name} is no playbook" for name in names if name not in PLAYBOOKS]
    found += mistakes([text.replace("=", ": ", 1) for text in options.extra_vars])
    return found + [f"{place} is no inventory" for place in options.inventory if place != "inventory/mycluster"]


def of_mesh_run(words: Sequence[str]) -> list[str]:
    if words[0] in ("ps", "stop"):
        return []
    options = cli.parse(words)
    mine = PROJECT / "roles/ssh_mesh/files/examples" / Path(options.script).name
    return [] if options.launcher == "none" or mine.exists() else [f"{options.script} is no script of ours"]


def of_ssh(words: Sequence[str]) -> list[str]:
    return [] if re.fullmatch(r"gpu0\d(-workspace)?", words[0]) else [f"{words[0]} is no name that role client gives"]


def of_make(words: Sequence[str]) -> list[str]:
    if words[:3] != ["make", "-C", "/etc/gpustead/workspace"]:
        return [f"{words} is no make of a workspace"]
    verbs = [word for word in words[3:] if "=" not in word]
    names = [word.partition("=")[0] for word in words[3:] if "=" in word]
    profiles = [word.partition("=")[2] for word in words[3:] if word.startswith("PROFILE=")]
    return [
        *(f"{verb} is no verb" for verb in verbs if not re.search(rf"^{verb}: .*## ", MAKEFILE, re.MULTILINE)),
        *(f"{name} is not read" for name in names if f"$({name})" not in MAKEFILE and f"$${{{name}" not in MAKEFILE),
        *(f"{name} is no profile" for name in profiles if f"FILES.{name} =" not in MAKEFILE),
    ]


def test_each_row_has_its_case_and_no_case_is_left_over() -> None:
    assert [row.today for row in ROWS] == list(dict.fromkeys(row.today for row in ROWS))
    assert {row.today for row in ROWS} == set(CASES)


def test_what_people_type_is_there() -> None:
    text = (PROJECT / "docs/from-scripts.md").read_text()
    assert [word for word in (*ASKED, "docker run --user", "--cpuset-cpus") if word not in text] == []


@pytest.mark.parametrize("row", ROWS, ids=title)
def test_what_a_command_names_is_there(row: Row) -> None:
    assert row.place in PLACES
    assert row.told.endswith(".")
    assert mistakes(row.settings) + wrong(row.command) == []


@pytest.mark.parametrize("row", ROWS, ids=title)
def test_a_case_shows_what_the_row_says_and_takes_back_what_it_left(row: Row) -> None:
    case = CASES[row.today]
    re.compile(case.shows)
    assert {place for place, _script in (*case.before, *case.after, *case.end)} <= set(PLACES)
    # What changes something is looked at from where it counts; all else by what it prints.
    assert case.after or case.shows or row.command == "ssh gpu01-workspace"
    assert bool(case.after) >= bool(row.settings)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ansible-playbook -i inventory/mycluster gpustead.cluster.sites", ["sites is no playbook"]),
        ("ansible-playbook -i hosts gpustead.cluster.site", ["hosts is no inventory"]),
        ("ansible-playbook -i inventory/mycluster gpustead.cluster.site -e nas_quotas=1", ["nas_quotas is no setting"]),
        ("mesh-run trial.py", ["trial.py is no script of ours"]),
        ("ssh worker1", ["worker1 is no name that role client gives"]),
        ("sudo make -C /etc/gpustead/workspace begin OWNERS=ada", ["begin is no verb", "OWNERS is not read"]),
        ("sudo make -C /etc/gpustead/workspace up PROFILE=own", ["own is no profile"]),
        ("docker ps", ["docker is no program of ours"]),
    ],
)
def test_what_is_not_there_is_found(command: str, expected: list[str]) -> None:
    assert wrong(command) == expected


@pytest.mark.parametrize("command", ["mesh-run --hosts 2 a", "ansible-playbook --limits x"])
def test_an_option_that_is_not_there_is_found(command: str) -> None:
    with pytest.raises(SystemExit):
        wrong(command)


def test_a_setting_that_is_not_there_is_found() -> None:
    (found,) = mistakes(["workspace_instances: [{owner: ada, cpu: 2}]"])
    assert "has the key 'cpu'" in found


def test_a_row_is_read() -> None:
    text = f"<!-- on node: run -->\n{HEAD}| `a` on each, `b` | `x: 1`, `y: 2`, then `run z` | It is. |\n\n`c`\n"
    assert list(rows(text)) == [Row(4, "node", "a", ("x: 1", "y: 2"), "run z", "It is.")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"In it:\n{HEAD}| `a` | `b` | c. |\n", "line 2: no place before the table"),
        (f"<!-- on node: run -->\n{HEAD}| `a` | b | c. |\n", "line 4: .* has no command on both sides"),
    ],
)
def test_a_table_that_cannot_be_run_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(rows(text))


def test_another_table_is_none_of_commands() -> None:
    assert list(rows("| What | Where |\n|---|---|\n| `a` | `b` |\n")) == []
