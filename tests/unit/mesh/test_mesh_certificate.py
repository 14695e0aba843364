# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Host certificates: real keys, real ssh-keygen, and the plan as a table of cases."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import (
    DAY,
    Certificate,
    DesiredCertificate,
    ensure_authority,
    key_blob,
    parse_certificate,
    reason_to_sign,
    sign,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

PASSPHRASE = "correct horse"


def runner(directory: Path, passphrase: str = PASSPHRASE) -> Run:
    script = directory / "askpass"
    script.write_text("#!/bin/sh\nprintf '%s\\n' \"$ANSWER\"\n")
    script.chmod(0o700)
    extra = {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force", "ANSWER": passphrase}

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        assert PASSPHRASE not in " ".join(argv)
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, **extra}, check=False)
        return done.returncode, done.stdout, done.stderr

    return run


def key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "host", "-f", str(path)], check=True)
    return path.with_name(path.name + ".pub").read_text()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "ca"
    public, changed = ensure_authority(runner(tmp_path), path, PASSPHRASE, False)
    assert changed
    assert public == path.with_name("ca.pub").read_text().strip()
    return path


def wanted(tmp_path: Path, authority: Path) -> DesiredCertificate:
    public = authority.with_name("ca.pub").read_text()
    return DesiredCertificate(key(tmp_path / "host"), public, "gpu01", ("gpu01", "10.0.0.11"), 364, 30)


def test_signed_certificate_is_read_and_kept(tmp_path: Path, authority: Path) -> None:
    want = wanted(tmp_path, authority)
    text = sign(runner(tmp_path), authority, want, tmp_path)
    found = parse_certificate(text)
    assert found is not None
    assert (found.key_id, found.principals, found.kind) == ("gpu01", ("gpu01", "10.0.0.11"), 2)
    assert found.authority == key_blob(want.authority)
    assert 363 * DAY < found.valid_until - time.time() < 365 * DAY
    assert reason_to_sign(found, want, time.time()) == ""
    listing = subprocess.run(
        ["ssh-keygen", "-L", "-f", str(tmp_path / "host-cert.pub")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "host certificate" in listing.stdout


@pytest.mark.parametrize(
    ("change", "days_later", "reason"),
    [
        ({}, 0, ""),
        ({}, 333, ""),
        ({}, 335, "it ends in"),
        ({}, 400, "it ends in 0 days"),
        ({}, -1, "it is not valid yet"),
        ({"days": 100}, 0, "more than 100 days"),
        ({"key_id": "gpu02"}, 0, "it is for gpu01"),
        ({"principals": ("gpu01",)}, 0, "it is for gpu01"),
        ({"principals": ("10.0.0.11", "gpu01")}, 0, ""),
        ({"authority": "other"}, 0, "another authority"),
        ({"public_key": "other"}, 0, "another key"),
    ],
)
def test_plan(tmp_path: Path, authority: Path, change: dict[str, Any], days_later: int, reason: str) -> None:
    want = wanted(tmp_path, authority)
    found = parse_certificate(sign(runner(tmp_path), authority, want, tmp_path))
    other = key(tmp_path / "other")
    values: dict[str, Any] = {name: other if value == "other" else value for name, value in change.items()}
    want = replace(want, **values)
    said = reason_to_sign(found, want, time.time() + days_later * DAY)
    assert (reason in said) if reason else said == ""


def test_user_certificate_is_replaced(tmp_path: Path, authority: Path) -> None:
    want = wanted(tmp_path, authority)
    found = parse_certificate(sign(runner(tmp_path), authority, want, tmp_path))
    assert isinstance(found, Certificate)
    assert "not a host certificate" in reason_to_sign(replace(found, kind=1), want, time.time())


@pytest.mark.parametrize("text", ["", "x", "ssh-ed25519 AAAA", "ssh-ed25519-cert-v01@openssh.com !!", "a \0 b"])
def test_damaged_certificate_is_none(tmp_path: Path, text: str) -> None:
    assert parse_certificate(text) is None


def test_cut_certificate_is_none(tmp_path: Path, authority: Path) -> None:
    text = sign(runner(tmp_path), authority, wanted(tmp_path, authority), tmp_path)
    kind, blob = text.split()[:2]
    assert parse_certificate(f"{kind} {blob[: len(blob) // 8 * 4]}") is None


def test_authority_is_kept_encrypted_and_private(tmp_path: Path, authority: Path) -> None:
    public, changed = ensure_authority(runner(tmp_path), authority, PASSPHRASE, False)
    assert not changed
    assert public.split()[:2] == authority.with_name("ca.pub").read_text().split()[:2]
    assert authority.stat().st_mode & 0o777 == 0o600
    assert authority.parent.stat().st_mode & 0o777 == 0o700
    code, _, _ = runner(tmp_path, "")(["ssh-keygen", "-y", "-P", "", "-f", str(authority)])
    assert code != 0


def test_wrong_passphrase_names_the_key(tmp_path: Path, authority: Path) -> None:
    with pytest.raises(GpusteadError, match="incorrect passphrase"):
        ensure_authority(runner(tmp_path, "wrong horse one"), authority, "wrong horse one", False)


def test_killed_creation_is_done_again(tmp_path: Path) -> None:
    (tmp_path / ".ca.new").write_text("half a key")
    _, changed = ensure_authority(runner(tmp_path), tmp_path / "ca", PASSPHRASE, False)
    assert changed
    assert sorted(path.name for path in tmp_path.iterdir() if "ca" in path.name) == ["ca", "ca.pub"]


def test_check_mode_makes_nothing(tmp_path: Path) -> None:
    assert ensure_authority(runner(tmp_path), tmp_path / "new" / "ca", PASSPHRASE, True) == ("", True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("passphrase", ["", "short", "two\nlines of it"])
def test_weak_passphrase_is_refused(tmp_path: Path, passphrase: str) -> None:
    with pytest.raises(GpusteadError, match="12 printable"):
        ensure_authority(runner(tmp_path), tmp_path / "ca", passphrase, False)


@pytest.mark.parametrize(
    ("principals", "days", "renew"),
    [((), 364, 30), (("a,b",), 364, 30), (("a b",), 364, 30), (("a",), 30, 30), (("a",), 30, 0)],
)
def test_bad_wish_is_refused(principals: tuple[str, ...], days: int, renew: int) -> None:
    with pytest.raises(GpusteadError):
        DesiredCertificate("", "", "a", principals, days, renew)


def test_principals_are_as_ssh_looks_for_them(tmp_path: Path, authority: Path) -> None:
    """Node GPU01 by its name, by an address of DNS, and by one of IPv6."""
    first = replace(wanted(tmp_path, authority), principals=("GPU01", "Gpu01.Example.org", "FD20::11", "gpu01"))
    assert first.principals == ("gpu01", "gpu01.example.org", "fd20::11")
    found = parse_certificate(sign(runner(tmp_path), authority, first, tmp_path))
    assert found and found.principals == first.principals
    # One of an earlier release is replaced.
    before = replace(found, principals=("GPU01", "FD20::11"))
    assert reason_to_sign(before, first, found.valid_from + 1) == "it is for gpu01 (GPU01, FD20::11)"
