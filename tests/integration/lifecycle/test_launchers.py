"""Training by another launcher than DeepSpeed's."""

from __future__ import annotations

import re

from conftest import Lab

MESH = ("gpustead-mesh", "mesh")


def test_torchrun(lab: Lab) -> None:
    command = "mesh-run --launcher torchrun --nodes 2 --gpus-per-node 1 /opt/gpustead/examples/train.py"
    result = lab.nodes[0].compose(*MESH, command, user=lab.owner)
    assert result.rc == 0, result.stdout + result.stderr
    assert re.search(r"^.*OK world_size=2", result.stdout, re.MULTILINE), result.stdout
