"""What a container prints: without end, without a line's end, never, or escape sequences for who reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import Host, Lab

SMI = "/usr/local/bin/nvidia-smi"
Prove = Callable[[str], dict[str, Any]]


@pytest.fixture
def prove(lab: Lab) -> Iterator[Prove]:
    """Root of a container puts a program in nvidia-smi's place; gives what module gpu_proof then says of it."""
    node = lab.nodes[-1]

    def run(body: str) -> dict[str, Any]:
        _in_container(node, f"cat > {SMI} <<'EOF'\n#!/bin/sh\n{body}\nEOF\nchmod 755 {SMI}", lab.owner)
        arguments = {"project": "gpustead-workspace", "services": ["ssh"], "uuids": ["GPU-1"], "user": lab.owner}
        return node.module("gpustead.cluster.gpu_proof", {**arguments, "timeout": 10})

    yield run
    _in_container(node, f"rm -f {SMI}; pkill -x nvidia-smi; true", lab.owner)


def _in_container(node: Host, script: str, user: str) -> None:
    """As its account becomes root there: with sudo."""
    command = f"docker compose -p gpustead-workspace exec -T --user {user} ssh sudo sh"
    node.check_output(f"{command} <<'SCRIPT'\n{script}\nSCRIPT")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("while :; do echo GPU 0: x; done", "it printed more than 65536 bytes, and was killed"),
        ("head -c 2000000000 /dev/zero", "it printed more than 65536 bytes, and was killed"),
        ("head -c 2000000000 /dev/zero >&2", "it printed more than 65536 bytes, and was killed"),
        ("sleep 600", "no answer within 10 s, and was killed"),
    ],
    ids=["lines", "no line's end", "errors", "never"],
)
def test_what_a_container_prints_is_capped(prove: Prove, body: str, said: str) -> None:
    began = time.monotonic()
    result = prove(body)
    assert result["failed"]
    assert f"GPUs in gpustead-workspace: ssh nvidia-smi fails ({said})" in result["msg"]
    assert len(json.dumps(result)) < 10000
    assert time.monotonic() - began < 60


def test_what_a_container_prints_is_shown_escaped(prove: Prove) -> None:
    result = prove(r"printf '\033[2J\033]0;owned\007\302\2332J\342\200\256NVML' >&2; exit 1")
    assert result["failed"]
    assert result["msg"].isprintable()
    assert r"\x1b[2J\x1b]0;owned\x07\x9b2J\u202eNVML" in result["msg"]
    # A listing may name nothing but GPUs.
    result = prove(r"printf 'GPU 0: A (UUID: GPU-\033[2J)\n'")
    assert result["msg"].isprintable()
    assert result["containers"][0]["seen"] == []
