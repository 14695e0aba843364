"""The hash of the registry's password: the same in each run, and nothing of the password in its salt."""

from __future__ import annotations

import stat
from pathlib import Path

from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

PASSWORD = "one-password-for-two-clusters"


def hashed(folder: Path) -> str:
    secrets = folder / "secrets"
    secrets.mkdir(parents=True, exist_ok=True)
    settings = {"registry_password": PASSWORD, "registry_secrets_dir": str(secrets)}
    return str(render(folder, "registry", ["__registry_hash"], {"registry": ["a"]}, settings)["__registry_hash"])


def test_the_salt_is_random_and_stays(tmp_path: Path) -> None:
    first = hashed(tmp_path / "one")
    assert first.startswith("$2b$10$")
    assert hashed(tmp_path / "one") == first
    assert hashed(tmp_path / "other") != first
    kept = tmp_path / "one/secrets/registry_salt"
    assert len(kept.read_text().strip()) == 21
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
