"""Captured output of real tools: the project's own, and more of it where it lies beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
OWN = PROJECT / "tests/unit/fixtures"
MORE = PROJECT.parent / "shared/fixtures"


def capture(name: str) -> str:
    """The text of a capture of the project, ``topo/h100``."""
    return (OWN / f"{name}.txt").read_bytes().decode()


def captures(kind: str) -> list[object]:
    """All captures of a kind as parameters of a test, each file name once."""
    files = {path.stem: path for folder in (MORE, OWN) for path in sorted((folder / kind).glob("*.txt"))}
    assert files, f"no captures of {kind}"
    return [pytest.param(path.read_text(errors="replace"), id=name) for name, path in sorted(files.items())]
