# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tables of services: what follows from them, and that nobody's ports ever move."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import WorkspaceService

ROOT = Path(__file__).parents[3]
WEB = WorkspaceService("web", "Web", 8000, 18000, 4, path="/")
FIRST = services.WORKSPACE_SERVICES[:4]


def default(role: str, name: str) -> str:
    return str(yaml.safe_load((ROOT / "roles" / role / "defaults/main.yml").read_text())[name])


def test_ports_are_where_they_were() -> None:
    """Of the services of the first release, whatever has come since."""
    usual = {"jupyter": 18888, "tensorboard": 16006, "gradio": 17860, "ssh": 10022}
    assert {name: port for name, port in services.ports().items() if name in usual} == usual
    for uid in (1500, 1501, 1749, 1750):
        found = services.ports_of(uid, "19000:19999")
        assert [found[name] for name in usual] == [19000 + 4 * (uid % 250) + place for place in range(4)]


def test_names_places_and_ports_are_each_one_service_s() -> None:
    table = services.WORKSPACE_SERVICES
    for values in ([one.name for one in table], [one.place for one in table], [one.port for one in table]):
        assert len(set(values)) == len(table)


def test_one_more_service_moves_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "WORKSPACE_SERVICES", FIRST)
    before = services.ports_of(1501, "19000:19999"), services.opened("19000:19999")
    monkeypatch.setattr(services, "WORKSPACE_SERVICES", (WEB, *FIRST))
    assert services.ports_of(1501, "19000:19999") == {"web": 20004, **before[0]}
    assert services.opened("19000:19999") == [18000, *before[1], "20000:20999"]
    with pytest.raises(GpusteadError, match="workspace_port_range is '64000:64999'"):
        services.ports_of(1501, "64000:64999")


def test_the_firewall_opens_the_declared_range_as_it_is_written() -> None:
    usual = [*services.ports().values()]
    assert services.opened("") == usual
    assert services.opened("19000:19999")[: len(usual) + 1] == [*usual, "19000:19999"]
    assert services.opened("19000") == [*usual, "19000"]


def test_health_checks_ask_where_the_service_listens() -> None:
    checks = {service.name: service.health for service in services.WORKSPACE_SERVICES}
    assert checks["jupyter"] == (
        "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8888, timeout=8); c.request('GET', '/api'); "
        "raise SystemExit(c.getresponse().status != 200)"
    )
    assert checks["ssh"] == (
        "import socket; s = socket.create_connection(('127.0.0.1', 22), 8); raise SystemExit(s.recv(4) != b'SSH-')"
    )
    for text in checks.values():
        compile(text, "health", "exec")


def test_the_image_listens_on_the_ports_of_the_table() -> None:
    stack = ROOT / "roles/images/files/stack/workspace"
    exposed = " ".join(str(service.container_port) for service in services.WORKSPACE_SERVICES)
    assert f"EXPOSE {exposed}\n" in (stack / "Dockerfile").read_text()
    for service in services.WORKSPACE_SERVICES:
        if service.command != "sshd":  # the entrypoint's own
            script = stack / "services" / (service.command or service.name)
            assert f" port {service.container_port}" in script.read_text()


@pytest.mark.parametrize("page", ["docs/ports.md", "roles/workspace/README.md"])
def test_tables_of_ports_in_the_documentation(page: str) -> None:
    lines = (ROOT / page).read_text().splitlines()
    for service in services.WORKSPACE_SERVICES:
        assert [line for line in lines if f"| {service.port} |" in line and service.title in line], service.name


def test_defaults_of_the_roles_name_the_same_ports() -> None:
    """Where a list holds more than the service's port, the default is written out there."""
    assert default("ssh_mesh", "ssh_mesh_port") == str(services.MESH.port)
    assert default("firewall", "firewall_mesh_ports") == str([*services.MESH_PORTS])
    assert default("firewall", "firewall_registry_port") == str(services.REGISTRY.port)
    assert f"':{services.REGISTRY.port}'" in default("registry", "registry_address")
    (cached,) = services.CACHED_REGISTRIES
    for role, name in (("registry", "registry_cached"), ("docker", "docker_cached_registries")):
        assert str(cached) in default(role, name)
    cache = f"{services.REGISTRY_CACHE.variable} | default({services.REGISTRY_CACHE.port})"
    assert cache in default("registry", "registry_cache_port")
    assert cache in default("firewall", "firewall_registry_cache_ports")
