"""What has the registry give back space: it is stopped for it, and started however that ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.tests.unit.role_variables import ROOT, render

SERVICES = {"package": "/usr/bin/systemctl {} docker-registry", "container": "/usr/bin/docker {} gpustead-registry"}


@pytest.mark.parametrize("backend", SERVICES)
def test_the_registry_is_stopped_and_started_again(tmp_path: Path, backend: str) -> None:
    settings = {"registry_backend": backend, "registry_address": "10.1.0.5:5000"}
    found = render(tmp_path, "registry", ["__registry_collect_argv"], {"registry": ["a"]}, settings)
    argv = found["__registry_collect_argv"]
    assert f"--property=ExecStartPre={SERVICES[backend].format('stop')}" in argv
    assert f"--property=ExecStopPost={SERVICES[backend].format('start')}" in argv
    assert argv[0] == "systemd-run" and "--wait" in argv
    assert argv[-2:] == ["garbage-collect", "/etc/docker/registry/config.yml"]


@pytest.mark.parametrize("playbook", ["site", "images"])
def test_it_is_done_at_the_end_and_only_where_something_was_deleted(playbook: str) -> None:
    last = (ROOT / f"playbooks/{playbook}.yml").read_text().split("\n- name: ")[-1]
    assert "import_playbook: collect.yml" in last
    assert "groups['registry_uncollected'] | default(['all', '!all'])" in last
