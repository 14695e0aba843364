"""How Docker gives GPUs to containers, and what is in the way of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import daemon_json_check
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import nvidia_containers as containers
from ansible_collections.gpustead.cluster.plugins.modules import nvidia_containers_info
from hypothesis import given
from hypothesis import strategies as st

INFO: dict[str, Any] = {
    "ServerVersion": "28.2.2",
    "SecurityOptions": ["name=apparmor", "name=cgroupns"],
    "DockerRootDir": "/var/lib/docker",
    "DefaultRuntime": "runc",
    "Runtimes": {"runc": {}, "io.containerd.runc.v2": {}},
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
}
# As the toolkit's package leaves it.
CONFIG = """
#accept-nvidia-visible-devices-as-volume-mounts = false
disable-require = false
supported-driver-capabilities = "compat32,compute,display"

[nvidia-container-cli]
environment = []
ldconfig = "@/sbin/ldconfig"
load-kmods = true
#no-cgroups = false

[nvidia-container-runtime]
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]

[nvidia-container-runtime.modes.cdi]
default-kind = "nvidia.com/gpu"
"""


def engine(**more: Any) -> containers.Engine:
    return containers.engine({**INFO, **more})


CDI, RUNTIME = {"features": {"cdi": True}}, {"runtimes": {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}}
MODES = [
    ("20.10.24+dfsg1", "auto", "runtime", RUNTIME, ["runtimes.nvidia"]),
    ("24.0.7", "auto", "runtime", RUNTIME, ["runtimes.nvidia"]),
    ("25.0.0", "auto", "runtime", RUNTIME, ["runtimes.nvidia"]),
    ("26.0.2", "cdi", "cdi", CDI, ["features.cdi"]),
    ("26.1.5+dfsg1", "auto", "runtime", RUNTIME, ["runtimes.nvidia"]),
    ("27.5.1", "auto", "runtime", RUNTIME, ["runtimes.nvidia"]),
    ("26.1.5+dfsg1", "cdi", "cdi", CDI, ["features.cdi"]),
    ("28.1.1", "auto", "runtime", RUNTIME, ["runtimes.nvidia"]),
    ("28.1.1", "cdi", "cdi", CDI, ["features.cdi"]),
    ("28.2.0", "auto", "cdi", {}, []),
    ("28.2.0-rc.1", "auto", "cdi", {}, []),
    ("29.4.0", "auto", "cdi", {}, []),
    ("29.4.0", "runtime", "runtime", RUNTIME, ["runtimes.nvidia"]),
]


@pytest.mark.parametrize(("version", "wanted", "mode", "settings", "keys"), MODES)
def test_mode(version: str, wanted: str, mode: str, settings: dict[str, Any], keys: list[str]) -> None:
    docker = engine(ServerVersion=version)
    assert containers.choose_mode(docker, wanted) == mode
    assert containers.settings(docker, mode) == settings
    assert containers.keys(docker, mode) == keys


@pytest.mark.parametrize(
    ("version", "mode", "said"),
    [
        ("26.0.2", "cdi", ["does not start containers with CDI devices", "cannot read the CDI specifications"]),
        ("26.1.5+dfsg1", "cdi", ["Docker 26.1.5+dfsg1 does not start containers with CDI devices"]),
        ("27.5.1", "cdi", ["Set nvidia_container_mode: auto, or upgrade Docker to 28.2."]),
        ("28.1.1", "cdi", ["after a reboot they stay Exited (255)"]),
        ("28.2.0", "cdi", []),
        ("29.4.0", "cdi", []),
        ("26.1.5+dfsg1", "runtime", []),
        ("24.0.7", "runtime", []),
    ],
)
def test_cdi_of_a_docker_that_does_not_restart_containers_with_it(version: str, mode: str, said: list[str]) -> None:
    found = containers.drawbacks(engine(ServerVersion=version), mode)
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found)), found


def test_cdi_where_there_is_none() -> None:
    with pytest.raises(
        GpusteadError, match=r"nvidia_container_mode is cdi, and Docker is 24\.0\.7: expected Docker 25"
    ):
        containers.choose_mode(engine(ServerVersion="24.0.7"), "cdi")


@pytest.mark.parametrize("version", [None, "", "dev"])
def test_no_version(version: str | None) -> None:
    with pytest.raises(GpusteadError, match="docker info names the version"):
        engine(ServerVersion=version)


def test_config() -> None:
    found = containers.parse_config(CONFIG)
    assert found["nvidia-container-runtime.mode"] == "auto"
    assert found["disable-require"] == "false"
    assert found["nvidia-container-runtime.modes.cdi.default-kind"] == "nvidia.com/gpu"
    assert "nvidia-container-cli.no-cgroups" not in found
    changed = containers.parse_config("[nvidia-container-cli]\n  no-cgroups = true # rootless\n[x]\nmode='cdi'\n")
    assert changed == {"nvidia-container-cli.no-cgroups": "true", "x.mode": "cdi"}


@given(st.text())
def test_any_text_is_a_config(text: str) -> None:
    assert all(isinstance(value, str) for value in containers.parse_config(text).values())


def config(**values: str) -> dict[str, str]:
    names = {
        "mode": "nvidia-container-runtime.mode",
        "no_cgroups": "nvidia-container-cli.no-cgroups",
        "skip": "nvidia-container-runtime-hook.skip-mode-detection",
    }
    return {names[name]: value for name, value in values.items()}


OBSTACLES: dict[str, tuple[Any, ...]] = {
    "nothing": ({}, "cdi", {}, {}, False, []),
    "nothing, by the runtime": ({}, "runtime", config(mode="auto"), {}, False, []),
    "snap": ({"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}, "cdi", {}, {}, False, ["snap remove docker"]),
    "snap beside": ({}, "cdi", {}, {}, True, ["snap remove docker"]),
    "rootless": (
        {"SecurityOptions": ["name=rootless"]},
        "cdi",
        {},
        {},
        False,
        ["dockerd-rootless-setuptool.sh uninstall"],
    ),
    "no-cgroups": ({}, "cdi", config(no_cgroups="true"), {}, False, ["nvidia-container-cli.no-cgroups=false"]),
    "no-cgroups off": ({}, "cdi", config(no_cgroups="false"), {}, False, []),
    "hook and CDI": ({}, "runtime", config(mode="cdi"), {}, False, ["nvidia-container-runtime.mode=auto"]),
    "hook and CDI just in time": (
        {},
        "runtime",
        config(mode="jit-cdi"),
        {},
        False,
        ["nvidia-container-runtime.mode=auto"],
    ),
    "a hook that does not ask": ({}, "runtime", config(mode="cdi", skip="true"), {}, False, []),
    "hook and legacy": ({}, "runtime", config(mode="legacy"), {}, False, []),
    "legacy is the default": (
        {"DefaultRuntime": "nvidia"},
        "cdi",
        config(mode="legacy"),
        {},
        False,
        ["nvidia-container-runtime.mode=auto"],
    ),
    "legacy, not the default": ({}, "cdi", config(mode="legacy"), {}, False, []),
    "switched off": ({}, "cdi", {}, {"features": {"cdi": False}}, False, ["features.cdi"]),
    "switched off where we switch it on": (
        {"ServerVersion": "27.0.1"},
        "cdi",
        {},
        {"features": {"cdi": False}},
        False,
        [],
    ),
    "looked for elsewhere": ({"CDISpecDirs": ["/opt/cdi/"]}, "cdi", {}, {}, False, ["cdi-spec-dirs"]),
    "all at once": (
        {"SecurityOptions": ["name=rootless"]},
        "runtime",
        config(mode="cdi", no_cgroups="true"),
        {},
        False,
        ["uninstall", "no-cgroups=false", "mode=auto"],
    ),
}


@pytest.mark.parametrize("case", OBSTACLES.values(), ids=list(OBSTACLES))
def test_obstacles(case: tuple[Any, ...]) -> None:
    info, mode, toml, daemon, others, said = case
    found = containers.obstacles(engine(**info), mode, toml, daemon, others)
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found))


@pytest.mark.parametrize(
    ("info", "mode", "in_force"),
    [
        ({}, "cdi", True),
        ({"CDISpecDirs": None}, "cdi", False),
        ({"CDISpecDirs": []}, "cdi", False),
        ({}, "runtime", False),
        ({"Runtimes": {"nvidia": {}, "runc": {}}}, "runtime", True),
    ],
)
def test_in_force(info: dict[str, Any], mode: str, in_force: bool) -> None:
    assert (containers.not_in_force(engine(**info), mode, hook_is_new=False) == []) is in_force


def test_a_hook_that_came_after_docker() -> None:
    docker = engine(Runtimes={"nvidia": {}, "runc": {}})
    assert containers.not_in_force(docker, "cdi", hook_is_new=True) == []
    (sentence,) = containers.not_in_force(docker, "runtime", hook_is_new=True)
    assert "before NVIDIA's hook was there. Restart it." in sentence


def test_another_docker_alone() -> None:
    (sentence,) = containers.other_dockers(None, snap=True)
    assert "snap remove" in sentence
    assert containers.other_dockers(None, snap=False) == []


FOUND: dict[str, Any] = {
    **{"obstacles": [], "settings": {"features": {"cdi": True}}, "dotted_keys": ["features.cdi"]},
    "drawbacks": ["Docker forgets them."],
}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "daemon.json line 1 column 16"),
        ({"obstacles": ["Docker does not answer."]}, ""),
        ({"configured": True}, ""),
    ],
    ids=["broken", "something else is in the way", "configured by now"],
)
def test_a_daemon_json_that_could_not_take_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: Any, words: str
) -> None:
    (tmp_path / "daemon.json").write_text('{"debug": true "a": 1}')
    query = tmp_path / "dpkg-query"
    query.write_text("#!/bin/sh\necho 'ii  nvidia-container-toolkit 1.20.1-1'\n")
    query.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(daemon_json_check, "DAEMON_JSON", str(tmp_path / "daemon.json"))
    told: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _self, text: told.append(text))
    monkeypatch.setattr(nvidia_containers_info, "observe", lambda *_: {**FOUND, "obstacles": given.get("obstacles")})
    arguments = {"packages": ["nvidia-container-toolkit"], "former_keys": ["features.cdi", "runtimes.nvidia"]}
    with patch_module_args({**arguments, "configured": "configured" in given}), pytest.raises(SystemExit):
        nvidia_containers_info.main()
    answer = json.loads(capsys.readouterr().out)
    assert (answer.get("failed", False), words in answer.get("msg", "")) == (bool(words), True), answer
    assert words or answer["installed"] == ["nvidia-container-toolkit=1.20.1-1"]
    assert told == ([] if words or "configured" in given else ["Docker forgets them."])
