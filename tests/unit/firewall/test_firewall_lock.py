"""The lock of ufw: an account that holds it keeps nobody waiting, and is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files import locks
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_lock


def test_who_holds_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(ufw_lock, "close_file", lambda path: [locks.LockHolder(path, "bob", 7, "sleep")])
    ufw_lock.close_to_accounts(said.append, "/run/x")
    assert said == [
        "process 7 (sleep) of account 'bob' had locked /run/x: it is another file now, and keeps nobody waiting."
    ]


def test_it_is_made_for_root_alone(tmp_path: Path) -> None:
    ufw_lock.close_to_accounts(pytest.fail, str(tmp_path / "ufw.lock"))
    assert (tmp_path / "ufw.lock").stat().st_mode & 0o777 == 0o600
    with pytest.raises(GpusteadError, match=r"no/ufw\.lock"):
        ufw_lock.close_to_accounts(pytest.fail, str(tmp_path / "no/ufw.lock"))
