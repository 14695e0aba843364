"""Which compose projects must be left alone: Docker does not answer for a container, or one passes for theirs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, docker
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.blocked_projects import in_the_way
from ansible_collections.gpustead.cluster.tests.unit import docker_engine

LIST = "/containers/json?all=1"


def listed(project: str, service: str) -> dict[str, Any]:
    labels = {"project": project, "service": service}
    return {
        "Id": f"{project}-{service}",
        "Names": [f"/{project}-{service}-1"],
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
    assert in_the_way(["ada", "bob"], host) == []
    # What is declared no longer counts as well: Compose removes it with the rest.
    answers["/containers/ada-old/json"] = docker_engine.SILENT
    found = in_the_way(["ada", "bob"], host)
    assert [one.name for one in found] == ["ada"]
    assert str(found[0]).startswith("container ada-old of ada/old (Docker does not answer: timed out): expected that")
    assert "README of role workspace" in found[0].remedy
    assert in_the_way(["bob"], host) == []


def test_one_that_went_away_meanwhile_is_not_silent(host: Host, answers: dict[str, Any]) -> None:
    del answers["/containers/ada-old/json"]
    assert in_the_way(["ada"], host) == []


def test_without_a_daemon_nothing_is_asked(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    assert in_the_way(["ada"], Host(str(tmp_path), docker=str(tmp_path / "none"))) == []


def test_a_daemon_that_does_not_answer_at_all_is_the_error(host: Host, answers: dict[str, Any]) -> None:
    answers[LIST] = docker_engine.SILENT
    with pytest.raises(GpusteadError, match=r"the containers of this host \(Docker does not answer: timed out\)"):
        in_the_way(["ada"], host)


@pytest.mark.parametrize("number", ["1", "", "9" * 5000, "\N{ARABIC-INDIC DIGIT ONE}", "-1", "1\n2"])
def test_a_container_whose_image_has_the_labels_of_a_service_is_none_of_it(
    host: Host, answers: dict[str, Any], number: str
) -> None:
    """Such as one of an image that `docker commit` made of a workspace, or that somebody published so."""
    alike = {**listed("ada", "ssh"), "Id": "0" * 64, "Names": ["/somebodys"]}
    alike["Labels"]["com.docker.compose.container-number"] = number
    answers[LIST].insert(0, alike)
    found = docker.compose_containers(host)
    assert found.services["ada/ssh"] == ["ada-ssh"]
    assert found.pretenders == {"ada/ssh": ["somebodys"]}
    refused = in_the_way(["ada", "bob"], host)
    assert [one.name for one in refused] == ["ada"]
    assert "service ada/ssh: container somebodys passes for one of it" in str(refused[0])
    assert "docker rm --force somebodys" in refused[0].remedy
    assert in_the_way(["bob"], host) == []


@pytest.mark.parametrize("name", ["ada-ssh-12", "ada_ssh_1", "0123456789ab_ada-ssh-1", "ada"])
def test_whatever_compose_calls_it_is_its_own(host: Host, answers: dict[str, Any], name: str) -> None:
    answers[LIST][0]["Names"] = [f"/{name}"]
    found = docker.compose_containers(host)
    assert (found.services["ada/ssh"], found.pretenders) == (["ada-ssh"], {})


def test_a_number_that_is_none_stops_nobody(host: Host, answers: dict[str, Any]) -> None:
    answers[LIST][0]["Labels"]["com.docker.compose.container-number"] = "9" * 5000
    assert in_the_way(["ada", "bob"], host) == []


def test_what_an_image_calls_its_service_reaches_no_terminal(host: Host, answers: dict[str, Any]) -> None:
    alike = {**listed("ada", "x\x1b]0;owned\x07"), "Id": "0" * 64, "Names": ["/somebodys"]}
    answers[LIST].append(alike)
    assert str(in_the_way(["ada"], host)[0]).isprintable()


def test_one_without_a_name_is_on_its_way_out(host: Host, answers: dict[str, Any]) -> None:
    answers[LIST][1]["Names"] = None
    assert docker.compose_containers(host).pretenders == {}
