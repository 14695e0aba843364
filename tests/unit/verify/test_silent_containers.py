"""Which compose projects must be left alone, as Docker does not answer for one of their containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, docker
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.silent_containers import silent
from ansible_collections.gpustead.cluster.tests.unit import docker_engine

LIST = "/containers/json?all=1"


def listed(project: str, service: str) -> dict[str, Any]:
    labels = {"project": project, "service": service}
    return {
        "Id": f"{project}-{service}",
        "Labels": {f"com.docker.compose.{name}": text for name, text in labels.items()},
    }


@pytest.fixture
def answers() -> dict[str, Any]:
    all_of_them = [listed("ada", "ssh"), listed("ada", "old"), listed("bob", "ssh"), listed("bob", "jupyter")]
    return {LIST: all_of_them, **{f"/containers/{one['Id']}/json": {"Id": one["Id"]} for one in all_of_them}}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> Iterator[Host]:
    monkeypatch.setattr(docker, "_TIMEOUT", 0.5)
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/status").write_text("Name:\tdockerd\nUmask:\t0022\nUid:\t0\t0\t0\t0\n")
    with docker_engine.engine(tmp_path / "socket", answers):
        yield Host(str(tmp_path), docker=str(tmp_path / "socket"))


def test_a_project_with_a_silent_container_is_named_and_no_other(host: Host, answers: dict[str, Any]) -> None:
    assert silent(["ada", "bob"], host) == []
    # What is declared no longer counts as well: Compose removes it with the rest.
    answers["/containers/ada-old/json"] = docker_engine.SILENT
    found = silent(["ada", "bob"], host)
    assert [one.name for one in found] == ["ada"]
    assert str(found[0]).startswith("container ada-old of ada/old (Docker does not answer: timed out): expected that")
    assert "README of role workspace" in found[0].remedy
    assert silent(["bob"], host) == []


def test_one_that_went_away_meanwhile_is_not_silent(host: Host, answers: dict[str, Any]) -> None:
    del answers["/containers/ada-old/json"]
    assert silent(["ada"], host) == []


def test_without_a_daemon_nothing_is_asked(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    assert silent(["ada"], Host(str(tmp_path), docker=str(tmp_path / "none"))) == []


def test_a_daemon_that_does_not_answer_at_all_is_the_error(host: Host, answers: dict[str, Any]) -> None:
    answers[LIST] = docker_engine.SILENT
    with pytest.raises(GpusteadError, match=r"the containers of this host \(Docker does not answer: timed out\)"):
        silent(["ada"], host)
