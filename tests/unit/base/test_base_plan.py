"""What role base writes: the proxies and the authorities, and which certificates are refused before that."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.base.base_plan import DIRECTORY, UMASK, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files.host_files import parse
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

OURS = f"{DIRECTORY}/gpustead-"
STORE = {"name": "/etc/ssl/certs/ca-certificates.crt", "files": [f"{OURS}old.crt", f"{OURS}site.crt"]}
PREVIOUS: list[list[Any]] = [["package", {"name": "acl"}], ["contains", STORE]]
NO_PROXY = {"environment": "", "apt": "", "apt_auth": ""}
DAY = 86400.0


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An authority that is valid for two days."""
    folder = tmp_path_factory.mktemp("authority")
    kind = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=site"]
    target = ["-keyout", str(folder / "key"), "-out", str(folder / "site.pem")]
    subprocess.run(["openssl", "req", *kind, *target], check=True, capture_output=True)
    return (folder / "site.pem").read_text()


def entries(certificates: list[str], text: str, previous: Any = ()) -> dict[str, dict[str, Any]]:
    found = plan(certificates, NO_PROXY, previous, lambda path: text.encode(), time.time()).entries
    return {entry["path"]: entry for entry in found}


def test_each_has_a_file_of_its_name(certificate: str) -> None:
    found = plan(["/srv/site.pem", "a.b.crt", "x/lab"], NO_PROXY, (), lambda path: certificate.encode(), time.time())
    assert found.authorities == [f"{OURS}site.crt", f"{OURS}a.b.crt", f"{OURS}lab.crt"]
    written = [entry for entry in found.entries if entry["path"] in found.authorities]
    assert {(entry["mode"], entry["content"]) for entry in written} == {("0644", certificate)}


def test_an_authority_that_the_receipt_does_not_know_is_somebody_elses(certificate: str) -> None:
    found = entries(["/srv/site.pem"], certificate, PREVIOUS)
    assert found[f"{OURS}old.crt"]["state"] == "absent" and "content" in found[f"{OURS}site.crt"]
    assert not any(path.startswith(OURS) for path in entries([], ""))


def test_its_directory_is_made_where_there_are_authorities(certificate: str) -> None:
    assert entries(["a"], certificate)[DIRECTORY]["when"] and not entries([], "")[DIRECTORY]["when"]


def test_what_is_refused(certificate: str) -> None:
    def refuse(text: str, now: float = 0) -> str:
        with pytest.raises(GpusteadError) as error:
            plan(["/srv/a.pem"], NO_PROXY, (), lambda path: text.encode(), now or time.time())
        return str(error.value)

    for text in ("", "no certificate", certificate * 2, certificate.replace("MII", "")):
        assert "/srv/a.pem: expected a file on the controller with exactly one PEM certificate" in refuse(text)
    assert "has not expired" in refuse(certificate, time.time() + 3 * DAY)
    with pytest.raises(GpusteadError, match="two files bear the same name"):
        plan(["/a/x.pem", "/b/x.crt"], NO_PROXY, (), lambda path: certificate.encode(), time.time())


@pytest.mark.parametrize("umask", ["", "0002"])
def test_a_umask_is_a_file_and_none_is_no_file(umask: str) -> None:
    written = plan([], NO_PROXY, (), lambda path: b"", 0, umask=umask).entries
    found = [entry for entry in written if entry["path"] == UMASK]
    assert [parse(entry | {"state": entry.get("state", "file")}).path for entry in found] == [UMASK]
    assert [entry.get("content", "").endswith(f"umask {umask}\n") for entry in found] == [bool(umask)]


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(GpusteadError, match="Correct the path"):
        plan(["/no/such"], NO_PROXY, (), lambda path: Path(path).read_bytes(), time.time())


PASSWORD = "http://ada:hunter2@proxy:3128"


def test_the_role_writes_proxies_without_passwords_but_for_apts_own_file(tmp_path: Path) -> None:
    settings = {"__base_begun": {"previous": PREVIOUS}, "base_proxy_env": {"http_proxy": PASSWORD}}
    found = render(tmp_path, "base", ["__base_plan"], {"gpu_nodes": ["a"]}, settings)["__base_plan"]
    by_path = {entry["path"]: entry for entry in found["entries"]}
    assert [path for path, entry in by_path.items() if "hunter2" in str(entry)] == [
        "/etc/apt/auth.conf.d/90gpustead-proxy.conf"
    ]
    assert by_path["/etc/apt/auth.conf.d/90gpustead-proxy.conf"]["mode"] == "0600"
    assert by_path["/etc/environment"]["content"].startswith('http_proxy="http://proxy:3128"\n')
    assert by_path["/etc/apt/apt.conf.d/90gpustead-proxy"]["content"].startswith("# Written by role base:")
    assert all(entry["secret"] for entry in found["entries"] if entry["path"].startswith("/etc") and "content" in entry)
    assert by_path[f"{OURS}old.crt"]["state"] == "absent"
    # As the module takes them.
    assert [parse({"state": "file", **entry}).path for entry in found["entries"]] == list(by_path)


def test_without_proxies_their_files_go() -> None:
    found = entries([], "")
    assert found["/etc/environment"]["content"] == ""
    assert {path for path, entry in found.items() if entry.get("state") == "absent"} == {
        "/etc/apt/apt.conf.d/90gpustead-proxy",
        "/etc/apt/auth.conf.d/90gpustead-proxy.conf",
        UMASK,
    }
