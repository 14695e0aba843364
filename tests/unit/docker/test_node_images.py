"""Which images a node has, and the space for others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_images import observe
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
