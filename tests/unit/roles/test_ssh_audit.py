# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the image's sshd and the mesh's ssh take, judged by ssh-audit: by its tables, and of an sshd that runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_plan import Observed, Settings, plan
from mesh_run import names
from ssh_audit.ssh2_kexdb import SSH2_KexDB

ROLES = Path(__file__).parents[3] / "roles"
SSHD_CONF = ROLES / "images/files/stack/ssh/sshd.conf"
MESH_KEX = yaml.safe_load((ROLES / "ssh_mesh/vars/main.yml").read_text())["__ssh_mesh_kex"]
TABLES = {"KexAlgorithms": "kex", "HostKeyAlgorithms": "key", "Ciphers": "enc", "MACs": "mac"}
FAIL, WARN = 1, 2  # where they stand in an entry of ssh-audit's tables
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH')}:/usr/sbin")


def settings(text: str) -> dict[str, list[str]]:
    """Names of algorithms by setting, of a configuration of sshd or ssh."""
    return {key: value.split(",") for key, value in re.findall(r"^ *(\w+) (\S+)$", text, re.MULTILINE)}


def blamed(found: dict[str, list[str]], *columns: int) -> list[str]:
    """The algorithms that ssh-audit does not know, or blames for something in these columns."""
    tables = SSH2_KexDB.get_db()
    blamed = []
    for setting, table in TABLES.items():
        for name in found[setting]:
            entry = tables[table].get(name)
            if entry is None or any(len(entry) > column and entry[column] for column in columns):
                blamed.append(f"{setting} {name}")
    return blamed


def test_ssh_audit_fails_nothing_that_the_workspaces_take() -> None:
    found = settings(SSHD_CONF.read_text())
    assert blamed(found, FAIL) == []
    assert blamed({**found, "KexAlgorithms": []}, WARN) == []


def test_ssh_audit_warns_of_nothing_that_the_mesh_takes() -> None:
    of_sshd = {**settings(SSHD_CONF.read_text()), "KexAlgorithms": [MESH_KEX]}
    of_ssh = settings(names.configuration({"gpu01": names.Place("10.1.0.1", 2222)}, "/known", MESH_KEX, "any"))
    assert blamed(of_sshd, FAIL, WARN) == []
    assert blamed(of_ssh, FAIL, WARN) == []
    # What one end asks for, the other one has.
    assert all(set(of_ssh[setting]) <= set(of_sshd[setting]) for setting in TABLES)


def test_the_mesh_tells_its_sshd_how_keys_are_exchanged() -> None:
    variables = yaml.safe_load((ROLES / "ssh_mesh/vars/main.yml").read_text())
    assert variables["__ssh_mesh_settings"]["kex"] == "{{ __ssh_mesh_kex }}"
    ids: dict[str, Any] = {"account": {"uid": 1}, "former": [], "service_account": {"uid": 2, "gid": 2}}
    settings = Settings("a", {"a": True}, "ada", **ids, address="10.1.0.1", port=2222, kex=MESH_KEX)
    assert plan(settings, Observed()).environment["GPUSTEAD_SSH_KEX"] == MESH_KEX
    # An argument counts before what any file says.
    service = (SSHD_CONF.parent / "services/sshd").read_text()
    assert 'narrower=(${GPUSTEAD_SSH_KEX:+-o "KexAlgorithms=$GPUSTEAD_SSH_KEX"})' in service
    assert 'exec /usr/sbin/sshd -D -e "${narrower[@]}"' in service


def test_a_table_of_ssh_audit_blames_what_openssh_takes_by_itself() -> None:
    """So that a new shape of its tables is seen: with it, nothing would be blamed."""
    openssh = {
        "KexAlgorithms": ["ecdh-sha2-nistp256", "curve25519-sha256"],
        "HostKeyAlgorithms": ["ecdsa-sha2-nistp256"],
        "Ciphers": ["3des-cbc"],
        "MACs": ["hmac-sha1-etm@openssh.com"],
    }
    assert len(blamed(openssh, FAIL)) == 4
    assert len(blamed(openssh, FAIL, WARN)) == 5


@pytest.fixture
def sshd(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a real sshd with the image's settings and a certificate as the mesh has one."""
    key, authority = tmp_path / "key", tmp_path / "authority"
    for path in (key, authority):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "gpu01", "-h", "-n", "gpu01", "-V", "+1d", f"{key}.pub"]
    subprocess.run(sign, check=True)
    text = SSHD_CONF.read_text().replace("/etc/gpustead/ssh/ssh_host_ed25519_key", str(key))
    text = re.sub(r"^Include .*$", f"HostCertificate {key}-cert.pub\nPidFile none", text, flags=re.MULTILINE)
    (tmp_path / "sshd.conf").write_text(text)
    Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    narrower = ["-o", f"KexAlgorithms={request.param}"] if request.param else []
    command = [str(SSHD), "-D", "-e", "-f", str(tmp_path / "sshd.conf"), "-p", str(port), *narrower]
    with subprocess.Popen([*command, "-o", "ListenAddress=127.0.0.1"], stderr=subprocess.DEVNULL) as process:
        for _attempt in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
        process.kill()


def audit(port: int) -> tuple[list[str], list[str]]:
    """What ssh-audit fails, and what it warns of."""
    command = [sys.executable, "-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", "-p", str(port), "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report: dict[str, Any] = json.loads(done.stdout)
    entries = [entry for table in TABLES.values() for entry in report[table]]
    assert len(entries) > 5
    said = {level: [e["algorithm"] for e in entries if e["notes"].get(level)] for level in ("fail", "warn")}
    return said["fail"], said["warn"]


@pytest.mark.skipif(SSHD is None, reason="needs Debian's openssh-server; tests/integration audits those of the lab")
@pytest.mark.parametrize(
    ("sshd", "warned"),
    [("", ["curve25519-sha256", "curve25519-sha256@libssh.org"]), (MESH_KEX, [])],
    ids=["workspace", "mesh"],
    indirect=["sshd"],
)
def test_ssh_audit_of_a_running_sshd(sshd: int, warned: list[str]) -> None:
    assert audit(sshd) == ([], warned)
