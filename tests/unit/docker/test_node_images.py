"""Which images a node has, and the space for others."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_images import kept_in, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND


def run(argv: Sequence[str]) -> tuple[int, str, str]:
    """As Docker answers where `here:1` is there."""
    assert argv[:3] == ["docker", "image", "inspect"]
    return (0, "sha256:01\n", "") if argv[-1] == "here:1" else (1, "[]\n", f"Error: No such image: {argv[-1]}\n")


def test_what_is_missing_and_what_was_pulled(tmp_path: Path) -> None:
    (tmp_path / "pulled").write_text("here:1\n\ngone:1\n")
    found = observe(["here:1", "there:1"], str(tmp_path), f"{tmp_path}/pulled", run)
    assert (found.missing, found.pulled) == (("there:1",), ("here:1", "gone:1"))
    free = os.statvfs(tmp_path)
    assert found.free_gb is not None and abs(found.free_gb - free.f_bavail * free.f_frsize / (1 << 30)) <= 1


def test_a_host_without_docker(tmp_path: Path) -> None:
    found = observe(["here:1"], f"{tmp_path}/docker", f"{tmp_path}/pulled", lambda _argv: (NOT_FOUND, "", ""))
    assert (found.missing, found.free_gb, found.pulled) == (("here:1",), None, ())


CONTAINERDS = {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]], "DockerRootDir": "/data/docker"}
CONFIG = """version = 3
# root = "/nowhere"
root = '/data/containerd'

[plugins."io.containerd.snapshotter.v1.overlayfs"]
  root_path = "/elsewhere"
  root = "/neither"
"""
# What `docker info` says, and containerd's configuration. Images that were not in data-root: moby 50517 (27.5),
# docker/cli 6645 (29.0), kicad-tools 5351; data-root beside a small disk of the system: nvidia-docker 1651.
PLACES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no daemon": ({}, "", "/var/lib/docker"),
    "as it is installed before 29": ({"DockerRootDir": "/var/lib/docker", "DriverStatus": []}, "", "/var/lib/docker"),
    "data-root": (
        {"DockerRootDir": "/data/docker", "DriverStatus": [["Backing Filesystem", "extfs"]]},
        CONFIG,
        "/data/docker",
    ),
    "without a status": ({"DockerRootDir": "/data/docker", "DriverStatus": None}, "", "/data/docker"),
    "containerd's store, and data-root": (CONTAINERDS, "", "/var/lib/containerd"),
    "containerd's store, moved": (CONTAINERDS, CONFIG, "/data/containerd"),
    "containerd's store, with plugins alone": (CONTAINERDS, CONFIG.partition("\n\n")[2], "/var/lib/containerd"),
    "a containerd of Docker's own": (
        {**CONTAINERDS, "Containerd": {"Address": "/var/run/docker/containerd/containerd.sock"}},
        CONFIG,
        "/data/docker/containerd/daemon",
    ),
    "the system's containerd": (
        {**CONTAINERDS, "Containerd": {"Address": "/run/containerd/containerd.sock"}},
        CONFIG,
        "/data/containerd",
    ),
}


@pytest.mark.parametrize("case", PLACES)
def test_where_docker_keeps_images(case: str) -> None:
    info, config, place = PLACES[case]
    assert kept_in(info, config) == place


def test_the_place_is_asked_of_docker(tmp_path: Path) -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return (0, json.dumps({"DockerRootDir": str(tmp_path)}), "") if argv[1] == "info" else (1, "", "")

    found = observe([], None, f"{tmp_path}/pulled", run, f"{tmp_path}/config.toml")
    assert (found.directory, found.free_gb is None) == (str(tmp_path), False)
    found = observe([], None, f"{tmp_path}/pulled", lambda _argv: (0, "Cannot connect", ""), f"{tmp_path}/config.toml")
    assert found.directory == "/var/lib/docker"
