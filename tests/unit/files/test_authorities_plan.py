"""The files of the authorities that a host trusts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.files.authorities_plan import DIRECTORY, Plan, plan
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

OURS = f"{DIRECTORY}/gpustead-"
STORE = {"name": "/etc/ssl/certs/ca-certificates.crt", "files": [f"{OURS}old.crt", f"{OURS}site.crt"]}
PREVIOUS: list[list[Any]] = [["package", {"name": "acl"}], ["contains", STORE]]


def test_each_has_a_file_of_its_name() -> None:
    files = [f"{OURS}site.crt", f"{OURS}a.b.crt", f"{OURS}lab.crt"]
    assert plan(["/srv/site.pem", "a.b.crt", "x/lab"]) == Plan(files, [])


def test_an_authority_that_the_receipt_does_not_know_is_somebody_elses(tmp_path: Path) -> None:
    assert plan([], PREVIOUS).former == STORE["files"]
    settings = {"__base_receipt": {"previous": PREVIOUS}, "base_ca_certificates": ["/srv/site.pem"]}
    found = render(tmp_path, "base", ["__base_authorities"], {"gpu_nodes": ["a"]}, settings)
    assert found == {"__base_authorities": {"files": [f"{OURS}site.crt"], "former": [f"{OURS}old.crt"]}}
