"""The inventories of inventory/: the preflight takes each, with a passphrase, and says what is missing without one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
EXAMPLES = sorted(path.parent.name for path in ROOT.glob("inventory/example*/hosts.yml"))
# A key as one copies it; those of the examples are none.
KEY = "AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K"
PASSPHRASE = "cluster_ca_passphrase: a long enough passphrase\n"


def text(name: str) -> str:
    return (ROOT / "inventory" / name / "hosts.yml").read_text().replace("AAAAC3NzaC1lZDI1NTE5AAAAIexample", KEY)


def case(name: str, *, hosts: str = "", secret: str = PASSPHRASE) -> dict[str, Any]:
    files = {"mine/hosts.yml": hosts or text(name), "mine/group_vars/all/vault.yml": secret or "---\n"}
    return {"files": files, "arguments": ["-i", "mine", str(ROOT / "playbooks/preflight.yml")]}


SECOND = text("example-one").replace(
    "gpu01: {ansible_connection: local, ansible_python_interpreter: /usr/bin/python3}", "gpu01: , gpu02: "
)


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, Any]]:
    cases = {name: case(name) for name in EXAMPLES}
    cases["without a passphrase"] = case("example-one", secret="")
    cases["a second node"] = case("example-one", hosts=SECOND)
    done = subprocess.run(
        [sys.executable, HERE / "playbook_runs.py"], input=json.dumps([*cases.values()]),
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return dict(zip(cases, json.loads(done.stdout)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_sound(answers: dict[str, dict[str, Any]], name: str) -> None:
    assert answers[name]["status"] == 0, answers[name]["said"]
    assert not answers[name]["asked"]


@pytest.mark.parametrize("name", ["example-one", "example-pc"])
def test_one_server_is_said_in_fewer_than_twelve_lines(name: str) -> None:
    assert len(text(name).splitlines()) < 12
    read = yaml.safe_load(text(name))
    assert set(read) == {"all", "gpu_nodes"}
    assert not {"nas_source", "cluster_registry"} & set(read["all"]["vars"])


def test_what_is_missing_is_said(answers: dict[str, dict[str, Any]]) -> None:
    assert "cluster_ca_passphrase" in answers["without a passphrase"]["said"]
    said = answers["a second node"]["said"]
    assert "nas_source: is empty, and 2 nodes have no other place in common" in " ".join(said.split())
    assert "registry: the inventory has no host in this group" in " ".join(said.split())
