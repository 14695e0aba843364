# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates that end, as real tools make them; and that the remedy for the registry's authority is one."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.expiry import DAY, endings

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl")
CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
AUTHORITY = "/CN=gpustead registry authority"


def command(*argv: str | Path) -> str:
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout


def certificate(path: Path, subject: str = "/CN=x", days: int = 70) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = path.with_suffix(".key")
    command("openssl", "req", "-x509", *CURVE, "-keyout", key, "-subj", subject, "-days", str(days), "-out", path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host whose certificates all end in 70 days."""
    for registry in ("nas:5000", "nas:5010"):
        certificate(tmp_path / f"etc/docker/certs.d/{registry}/ca.crt", AUTHORITY)
    first, second = sorted(tmp_path.glob("etc/docker/certs.d/*/ca.crt"))
    shutil.copy(first, second)
    certificate(tmp_path / "etc/docker/certs.d/elsewhere/ca.crt", "/CN=Somebody's")
    certificate(tmp_path / "etc/docker/registry/registry.crt", "/CN=nas")
    certificate(tmp_path / "usr/local/share/ca-certificates/gpustead-firm.crt", "/CN=The firm")
    certificate(tmp_path / "usr/local/share/ca-certificates/other.crt", "/CN=Other")
    mesh = tmp_path / "etc/cluster/ssh_mesh/ssh"
    mesh.mkdir(parents=True)
    for name in ("ca", "key"):
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", mesh / name)
    command("ssh-keygen", "-q", "-s", mesh / "ca", "-h", "-I", "gpu01", "-n", "gpu01", "-V", "+70d", mesh / "key.pub")
    return tmp_path


def found(root: Path, days: float) -> list[tuple[bool, str, str]]:
    found = endings("gpu01", "/etc/cluster", time.time() + days * DAY, root)
    return [(one.over, one.subject, one.what.partition(" on ")[0]) for one in found]


ALL = [
    "the registry's authority (/etc/docker/certs.d/nas:5000/ca.crt)",
    "the registry's certificate (/etc/docker/registry/registry.crt)",
    "an authority of the site (/usr/local/share/ca-certificates/gpustead-firm.crt)",
    "the mesh's host certificate (/etc/cluster/ssh_mesh/ssh/key-cert.pub)",
]


def test_certificates_are_told_sixty_days_before_they_end_and_when_they_have(root: Path) -> None:
    assert found(root, 9) == []
    assert found(root, 11) == [(False, name, "ends") for name in ALL]
    assert found(root, 71) == [(True, name, "ended") for name in ALL]


def test_each_says_what_renews_it(root: Path) -> None:
    found = list(endings("gpu01", "/etc/cluster", time.time() + 11 * DAY, root))
    assert all(one.what.endswith(("in 58 days", "in 59 days")) for one in found)
    words = ["move registry_ca.crt out", "registry_certificate_renew_days", "cluster_ca_certificates"]
    words += ["site.yml --tags ssh_mesh --limit gpu01"]
    assert [word for one, word in zip(found, words) if word not in one.remedy] == []


def test_what_cannot_be_read_as_a_certificate_is_left_to_drift(tmp_path: Path) -> None:
    places = [tmp_path / "etc/docker/registry/registry.crt", tmp_path / "etc/cluster/ssh_mesh/ssh/x-cert.pub"]
    for path in places:
        path.parent.mkdir(parents=True)
        path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert found(tmp_path, 0) == []


def test_an_ssh_certificate_without_an_end_never_ends(tmp_path: Path) -> None:
    mesh = tmp_path / "etc/cluster/ssh_mesh/ssh"
    mesh.mkdir(parents=True)
    for name in ("ca", "key"):
        command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", mesh / name)
    command("ssh-keygen", "-q", "-s", mesh / "ca", "-h", "-I", "gpu01", mesh / "key.pub")
    assert found(tmp_path, 10000) == []


def test_an_authority_made_anew_with_its_key_vouches_for_what_it_had_signed(tmp_path: Path) -> None:
    """The remedy that is given for the registry's authority."""
    key, old, new, signed = (tmp_path / name for name in ("ca.key", "ca.crt", "new.crt", "signed.crt"))
    certificate(old, AUTHORITY)
    leaf: list[str | Path] = ["-CA", old, "-CAkey", key, "-keyout", tmp_path / "k", "-subj", "/CN=nas", "-days", "30"]
    command("openssl", "req", "-x509", *CURVE, *leaf, "-addext", "basicConstraints=critical,CA:FALSE", "-out", signed)
    command("openssl", "req", "-x509", "-new", "-key", key, "-subj", AUTHORITY, "-days", "3650", "-out", new)
    assert old.read_text() != new.read_text()
    assert command("openssl", "verify", "-CAfile", new, signed).strip().endswith(": OK")
