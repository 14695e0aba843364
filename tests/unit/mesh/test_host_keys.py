# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which host keys an authority has certified and revoked, and what a node may show."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import HostKeys


def key(letter: str) -> str:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0 " + letter.encode() * 32
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


@pytest.fixture
def keys(tmp_path: Path) -> HostKeys:
    return HostKeys(tmp_path / "ca")


def test_what_is_certified_is_noted_once(keys: HostKeys) -> None:
    assert (keys.certified("gpu01"), keys.revoked(), keys.removed()) == ([], [], {})
    for shown in (f"{key('a')} gpu01", key("a"), f"{key('b')} gpu01\n"):
        keys.note("gpu01", shown)
    assert keys.certified("gpu01") == [key("a"), key("b")]
    assert (keys.authority.parent / "ca.hosts").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("node", "shown", "said"),
    [
        ("gpu02", key("a"), "gpu02 has the host key of gpu01: expected one of its own. One disk was copied"),
        ("gpu02", key("r"), "gpu02 has a host key that was revoked"),
        ("gpu02", "ssh-rsa AAAA", "expected an Ed25519 key"),
        ("gpu02", "", "expected an Ed25519 key"),
        ("../gpu02", key("b"), "name '../gpu02'"),
    ],
)
def test_what_a_node_may_not_show(keys: HostKeys, node: str, shown: str, said: str) -> None:
    keys.note("gpu01", key("a"))
    keys.note("gpu03", key("r"))
    keys.revoke("gpu03")
    with pytest.raises(GpusteadError, match=re.escape(said)):
        keys.note(node, shown)


def test_a_file_that_somebody_has_edited_is_read(keys: HostKeys) -> None:
    keys.remove("gpu02", "noon by ops")
    keys.removed_file.write_text(f"# mine\n  \n{keys.removed_file.read_text()}\n")
    assert keys.removed() == {"gpu02": "noon by ops"}


def test_what_was_certified_is_revoked_whatever_the_node_shows(keys: HostKeys) -> None:
    keys.note("gpu01", key("a"))
    keys.note("gpu02", key("b"))
    keys.note("gpu02", key("c"))
    assert keys.revoke("gpu02", f"{key('a')} x\n{key('z')}") == [key("b"), key("c")]
    assert keys.revoked() == [key("b"), key("c")]
    assert keys.revoked_lines() == f"@revoked * {key('b')} gpu02\n@revoked * {key('c')} gpu02\n"
    assert len(keys.revoked_of("gpu02")) == 2 and keys.revoked_of("gpu01") == []
    assert keys.revoke("gpu02") == [] and keys.certified("gpu02") == []


def test_of_a_node_that_was_never_noted_its_own_counts_but_no_other_ones(keys: HostKeys) -> None:
    keys.note("gpu01", key("a"))
    assert keys.revoke("gpu09", f"{key('a')}\nrubbish\n{key('z')} gpu09") == [key("z")]
    assert keys.revoke("gpu08") == []


def test_who_was_removed_is_noted_once(keys: HostKeys) -> None:
    assert keys.remove("gpu02", "noon by ops\x1b[2J")
    assert not keys.remove("gpu02", "later")
    assert keys.remove("gpu03", "later")
    assert keys.removed() == {"gpu02": "noon by ops\\x1b[2J", "gpu03": "later"}


SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


@pytest.mark.skipif(SSHD is None or os.geteuid() != 0, reason="needs OpenSSH's server, as root")
def test_ssh_refuses_the_certificate_of_a_key_that_was_revoked(keys: HostKeys, tmp_path: Path) -> None:
    """By the lines as they are written, beside the authority that has signed it."""
    for name in ("ca", "host", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    argv = ["ssh-keygen", "-q", "-s", "ca", "-h", "-I", "gpu02", "-n", "gpu02", "host.pub"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    lines = [f"HostKey {tmp_path}/host", f"HostCertificate {tmp_path}/host-cert.pub", "UsePAM no", "StrictModes no"]
    (tmp_path / "sshd_config").write_text("\n".join([*lines, "PasswordAuthentication no", ""]))
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def said() -> str:
        trusted = f"@cert-authority * {(tmp_path / 'ca.pub').read_text()}{keys.revoked_lines()}"
        (tmp_path / "known_hosts").write_text(trusted)
        options = {
            "ProxyCommand": f"{SSHD} -i -f {tmp_path}/sshd_config",
            "UserKnownHostsFile": f"{tmp_path}/known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlgorithms": "ssh-ed25519-cert-v01@openssh.com",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run(
            ["ssh", "-F", "none", *words, "nobody@gpu02", "true"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 255
        return done.stderr

    keys.note("gpu03", (tmp_path / "other.pub").read_text())
    keys.revoke("gpu03")
    assert "Permission denied" in said()  # it is trusted, and has no account for us
    keys.note("gpu02", (tmp_path / "host.pub").read_text())
    keys.revoke("gpu02")
    assert "Permission denied" not in said() and "revoked" in said().lower()
