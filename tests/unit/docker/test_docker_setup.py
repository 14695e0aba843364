"""What is there before Docker is set up: packages, and hosts on which it cannot be."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import daemon_json_check
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.docker_setup import check
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.modules import docker_setup_info

# What others have met: moby 38185, kURL 3839, ignite 443 (containerd), docker-ce-packaging 1339 (compose), podman 4747.
REFUSED = {
    "a runtime that something runs on": (
        "docker",
        "noble",
        ["containerd", "runc"],
        False,
        "containerd is .*Kubernetes",
    ),
    "a runtime of Podman's": ("docker", "trixie", ["runc"], False, "runc is installed.*apt-get remove runc"),
    "Docker's runtime": (
        "distribution",
        "noble",
        ["containerd.io"],
        False,
        "containerd.io is .* docker_source: docker",
    ),
    "the distribution's compose": (
        "docker",
        "noble",
        ["docker-compose-v2"],
        False,
        "compose-v2 is .* a file that both",
    ),
    "Docker's compose": ("distribution", "noble", ["docker-compose-plugin"], False, "remove docker-compose-plugin"),
    "Podman as Docker": ("docker", "trixie", ["podman", "podman-docker"], False, "podman-docker is .*Podman's"),
    "Podman as Docker, here too": ("distribution", "trixie", ["podman-docker"], False, "podman-docker is .*Podman's"),
    "Debian 12": ("distribution", "bookworm", [], False, "Debian 12 has Docker 20.10: expected one with compose v2"),
    "another engine": ("docker", "trixie", ["docker.io"], False, "docker.io is installed.*Set docker_source: distrib"),
    "the distribution's": ("distribution", "noble", ["docker-ce"], False, "docker-ce is .* or remove docker-ce first"),
    "Snap": ("docker", "noble", ["docker-ce"], True, "/snap/bin/docker belongs to .* snap remove docker"),
}


@pytest.mark.parametrize(("source", "release", "packages", "snap", "words"), REFUSED.values(), ids=list(REFUSED))
def test_what_would_be_in_the_way(source: str, release: str, packages: list[str], snap: bool, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        check(source, release, dict.fromkeys(packages, "1.7.24"), snap)


@pytest.mark.parametrize(
    ("source", "packages"),
    [
        ("docker", {}),
        (
            "docker",
            {"docker-ce": "5:29.1.0", "containerd.io": "2.1.5", "docker-compose-plugin": "2.40", "iptables": "1.8"},
        ),
        ("docker", {"docker-compose": "1.29.2-3"}),  # of Python, and in the way of nothing
        ("docker", {"podman": "5.4.2", "crun": "1.21"}),
        ("distribution", {"docker.io": "28.2.2", "containerd": "1.7.28", "runc": "1.3.3", "docker-compose-v2": "2.40"}),
    ],
)
def test_an_empty_host_and_one_with_this_engine_will_do(source: str, packages: dict[str, str]) -> None:
    check(source, "trixie", packages, False)


def test_compose_of_the_second_generation_is_a_plugin_whatever_its_package_is_called() -> None:
    with pytest.raises(GpusteadError, match=r"docker-compose is installed.*apt-get remove docker-compose"):
        check("docker", "trixie", {"docker-compose": "2.26.1-4"}, False)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with dpkg and dockerd of its own, and a daemon.json to write."""
    dockerd = tmp_path / "dockerd"
    dockerd.write_text(
        '#!/bin/sh\nshift 2\ngrep -q storge "$1" || exit 0\necho "no such option: storge-driver" >&2\nexit 1\n'
    )
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\nprintf 'ii  docker.io 26.1.5\\nii  docker-cli 26.1.5\\n'\nexit 1\n")
    mark = tmp_path / "apt-mark"
    mark.write_text("#!/bin/sh\necho docker.io\n")
    for program in (dockerd, query, mark):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(daemon_json_check, "DAEMON_JSON", str(tmp_path / "daemon.json"))
    return tmp_path


def asked(capsys: pytest.CaptureFixture[str], packages: Sequence[str] = (), **options: object) -> dict[str, object]:
    arguments = {"source": "distribution", "release": "trixie", "packages": list(packages), **options}
    with patch_module_args(arguments), pytest.raises(SystemExit):
        docker_setup_info.main()
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_the_module_looks_for_what_is_in_the_way(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "dpkg-query").write_text('#!/bin/sh\ncase "$*" in *" runc"*) echo "ii  runc 1.3.3";; esac\nexit 1\n')
    assert "runc is installed" in str(asked(capsys, source="docker")["msg"])


def test_the_module_says_what_is_missing(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = asked(capsys, ["docker.io", "docker-cli", "docker-buildx"], settings={"debug": True})
    assert (answer["changed"], answer["has_engine"]) == (False, True)
    assert answer["missing"] == ["docker-cli", "docker-buildx"]  # one is there only because another needs it
    assert not (host / "daemon.json").exists()


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ('{"debug": true,}', {}, "line 1 column 16"),
        ("{}", {"storge-driver": "overlay2"}, "no such option: storge-driver"),
        ('{"storge-driver": "overlay2"}', {}, None),
    ],
    ids=["broken", "refused by dockerd", "nothing to write"],
)
def test_the_module_judges_daemon_json_as_it_would_be(
    host: Path, capsys: pytest.CaptureFixture[str], text: str, settings: dict[str, str], words: str | None
) -> None:
    (host / "daemon.json").write_text(text)
    answer = asked(capsys, settings=settings)
    assert answer.get("failed", False) == (words is not None)
    assert (words or "") in str(answer.get("msg", ""))
    assert (host / "daemon.json").read_text() == text
