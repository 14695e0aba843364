"""Other descriptions of a repository: whole files, single lines, and what is left alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.apt_conflicts import Plan, observe, plan
from ansible_collections.gpustead.cluster.plugins.modules import apt_conflicts

PATTERN = r"nvidia\.github\.io/(libnvidia-container|nvidia-docker)|mirror\.example/nvidia"
NVIDIA = "deb https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /\n"
DEBIAN = "deb http://deb.debian.org/debian trixie main\n"
OLD = "  deb-src [signed-by=/usr/share/keyrings/x.gpg] https://nvidia.github.io/nvidia-docker/debian11/amd64 /\n"
MENTIONED = f"# {NVIDIA}{DEBIAN}"
SOURCES = "Types: deb\nURIs: https://mirror.example/nvidia/stable\nSuites: /\n"
OF_DEBIAN = "Types: deb\n# the mirror\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n"
PUT_OUT = "".join(f"# {line}\n" for line in SOURCES.splitlines())
D = "/etc/apt/sources.list.d"

FILES: dict[str, tuple[str, str, str | None]] = {
    "alone": (f"{D}/nvidia.list", NVIDIA, None),
    "with comments": (f"{D}/nvidia.list", f"# NVIDIA\n\n{NVIDIA}#{OLD}", None),
    "described": (f"{D}/nvidia.sources", SOURCES, None),
    "described among others": (
        f"{D}/all.sources",
        f"{OF_DEBIAN}\n# NVIDIA's\n{SOURCES} extra/\nEnabled: yes\n \n\n{OF_DEBIAN}",
        f"{OF_DEBIAN}\n# # NVIDIA's\n{PUT_OUT}#  extra/\n# Enabled: yes\n \n\n{OF_DEBIAN}",
    ),
    "described last, no end of line": (
        f"{D}/all.sources",
        f"{OF_DEBIAN}\n{SOURCES[:-1]}",
        f"{OF_DEBIAN}\n{PUT_OUT[:-1]}",
    ),
    "described among what is put out": (f"{D}/all.sources", f"# Suites: trixie\n\n{SOURCES}", None),
    "a description put out already": (f"{D}/all.sources", f"{OF_DEBIAN}\n{PUT_OUT}", f"{OF_DEBIAN}\n{PUT_OUT}"),
    "of another": (f"{D}/debian.list", DEBIAN, DEBIAN),
    "commented out already": (f"{D}/debian.list", MENTIONED, MENTIONED),
    "named behind another": (f"{D}/d.list", f"{DEBIAN[:-1]} # not {NVIDIA}", f"{DEBIAN[:-1]} # not {NVIDIA}"),
    "with others": (f"{D}/all.list", f"{DEBIAN}\n{NVIDIA}{OLD}", f"{DEBIAN}\n# {NVIDIA}# {OLD}"),
    "apt's own": ("/etc/apt/sources.list", NVIDIA, f"# {NVIDIA}"),
    "no end of line": ("/etc/apt/sources.list", DEBIAN + NVIDIA[:-1], f"{DEBIAN}# {NVIDIA[:-1]}"),
}


@pytest.mark.parametrize(("path", "text", "after"), FILES.values(), ids=list(FILES))
def test_what_becomes_of_a_file(path: str, text: str, after: str | None) -> None:
    """None: it is put aside."""
    commented = {} if after in (None, text) else {path: after}
    assert plan({path: text}, [], PATTERN) == Plan([path] if after is None else [], commented)


DOCKERS = "https://download.docker.com/linux/ubuntu"
# By Docker's instructions of former years, add-apt-repository, apt-add-repository of Ubuntu 24.04, and roles of others:
# docker/for-linux 1349, geerlingguy/internet-pi 550, telekom-security/tpotce 1594, h-mdm/remote-control 30.
FORMER = {
    f"{D}/docker.list": f"deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] {DOCKERS} noble stable\n",
    f"{D}/docker-ce.list": f"deb [signed-by=/usr/share/keyrings/docker-archive-keyring.gpg] {DOCKERS} noble stable\n",
    f"{D}/download_docker_com_linux_ubuntu.list": f"deb [arch=amd64] {DOCKERS} noble stable\n",
    f"{D}/archive_uri-https_download_docker_com_linux_ubuntu-noble.list": (
        f"deb [arch=amd64] {DOCKERS} noble stable\n# deb-src [arch=amd64] {DOCKERS} noble stable\n"
    ),
    f"{D}/docker-ce.sources": f"Types: deb\nURIs: {DOCKERS}/\nSuites: noble\nComponents: stable\n",
}
KEPT = {
    f"{D}/mirror.list": "deb [signed-by=/a.gpg] https://mirrors.example.org/docker-ce/linux/ubuntu noble stable\n",
    f"{D}/ubuntu.sources": "Types: deb\nURIs: http://archive.ubuntu.com/ubuntu\nSuites: noble\nComponents: main\n",
}


def test_role_docker_puts_aside_what_would_keep_apt_from_everything() -> None:
    role = Path("roles/docker")
    first = yaml.safe_load((role / "tasks/repository.yml").read_text())[0]["gpustead.cluster.apt_conflicts"]
    url = yaml.safe_load((role / "defaults/main.yml").read_text())["docker_repository_url"]
    assert first["pattern"] == "{{ docker_repository_url | regex_escape }}/"
    assert plan({**FORMER, **KEPT}, [], f"{re.escape(url)}/") == Plan([*FORMER], {})


def test_keys_are_put_aside() -> None:
    assert plan({}, ["/usr/share/keyrings/x.gpg"], PATTERN) == Plan(["/usr/share/keyrings/x.gpg"], {})


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name, text in {
        "etc/apt/sources.list": DEBIAN + NVIDIA,
        "etc/apt/sources.list.d/ours.sources": SOURCES,
        "etc/apt/sources.list.d/theirs.list": NVIDIA,
        "etc/apt/sources.list.d/theirs.list.bak": "earlier",
        "etc/apt/auth.conf": NVIDIA,
        "usr/share/keyrings/nvidia-docker.gpg": "key",
        "usr/share/keyrings/nvidia-docker.gpg.bak": "earlier key",
        "usr/share/keyrings/debian.gpg": "other",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "etc/apt/sources.list.d/link.list").symlink_to("theirs.list")
    (tmp_path / "etc/apt/sources.list.d/theirs.list").chmod(0o640)
    return tmp_path


OWN = "/etc/apt/sources.list.d/ours.sources"


def test_what_is_looked_at(host: Path) -> None:
    files, keys = observe(OWN, ["nvidia-docker*"], host)
    assert {str(Path(path).relative_to(host)) for path in files} == {
        "etc/apt/sources.list",
        "etc/apt/sources.list.d/theirs.list",
    }
    assert keys == [f"{host}/usr/share/keyrings/nvidia-docker.gpg"]
    assert observe(OWN, ["*"], host / "nothing") == ({}, [])


def test_the_module(host: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt_conflicts, "observe", lambda own, keys: observe(own, keys, host))

    def asked(check: bool) -> dict[str, Any]:
        arguments = {"pattern": PATTERN, "own": OWN, "keys": ["nvidia-*"], "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            apt_conflicts.main()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    listed, theirs, key = (
        host / name
        for name in (
            "etc/apt/sources.list",
            "etc/apt/sources.list.d/theirs.list",
            "usr/share/keyrings/nvidia-docker.gpg",
        )
    )
    foreseen = asked(True)
    assert (foreseen["aside"], foreseen["commented"]) == ([str(theirs), str(key)], [str(listed)])
    assert theirs.exists() and listed.read_text() == DEBIAN + NVIDIA
    assert asked(False) == foreseen
    assert listed.read_text() == f"{DEBIAN}# {NVIDIA}"
    assert not theirs.exists() and not key.exists()
    aside = theirs.with_name("theirs.list.bak")
    assert (aside.read_text(), aside.stat().st_mode & 0o777) == (NVIDIA, 0o640)
    assert [path.read_text() for path in listed.parent.glob("sources.list.*~")] == [DEBIAN + NVIDIA]
    assert not asked(False)["changed"]
