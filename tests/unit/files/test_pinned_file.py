"""A file with a known checksum, fetched by apt's own helper: with it where it is installed, through a real proxy."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files import pinned_file
from ansible_collections.gpustead.cluster.plugins.modules import pinned_file as module

SUM = "sha256:" + hashlib.sha256(b"key\n").hexdigest()
needs_apt = pytest.mark.skipif(not os.path.exists(pinned_file.HELPER), reason="needs apt")


@pytest.mark.parametrize(
    ("url", "checksum", "expected"),
    [
        ("https://a/key", "md5:" + "0" * 32, "sha256, sha512"),
        ("https://a/key", "sha256:" + "0" * 63, "hex digits"),
        ("https://a/key", "", "hex digits"),
        ("https://u:hunter2@a/key", SUM, "/etc/apt/auth.conf.d"),
    ],
)
def test_refused(url: str, checksum: str, expected: str) -> None:
    with pytest.raises(GpusteadError, match=expected) as error:
        pinned_file.check(url, checksum)
    assert "hunter2" not in str(error.value)


def test_what_cannot_be_had_is_told_without_passwords(tmp_path: Path) -> None:
    with pytest.raises(GpusteadError, match="E: 407 from http://\\*\\*\\*@proxy") as error:
        pinned_file.fetch(
            lambda argv: (100, "", "E: 407 from http://u:hunter2@proxy"), "https://a/key", SUM, str(tmp_path / "key")
        )
    assert "base_proxy_env" in str(error.value) and "hunter2" not in str(error.value)


def test_what_is_another_file_is_not_taken(tmp_path: Path) -> None:
    target = tmp_path / "key"
    target.write_text("other")
    with pytest.raises(GpusteadError, match="could not be fetched"):
        pinned_file.fetch(lambda argv: (0, "", ""), "https://a/key", SUM, str(target))


@needs_apt
def test_the_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "source").write_text("key\n")
    target = tmp_path / "keyrings/target"

    def run(check: bool = False) -> dict[str, object]:
        options = {"url": f"file://{tmp_path}/source", "checksum": SUM, "dest": str(target)}
        with patch_module_args({**options, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, object] = json.loads(capsys.readouterr().out)
        return result

    assert run(check=True)["changed"] is True and not target.parent.exists()
    assert run()["changed"] is True and target.read_text() == "key\n" and not target.is_symlink()
    assert [path.stat().st_mode & 0o777 for path in (target, target.parent)] == [0o644, 0o755]
    assert run()["changed"] is False
    target.chmod(0o600)
    assert run()["changed"] is True and target.stat().st_mode & 0o777 == 0o644
    target.write_text("tampered\n")
    assert run()["changed"] is True and target.read_text() == "key\n"
