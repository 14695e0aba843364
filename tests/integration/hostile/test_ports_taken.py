"""An account listens on ports of ours before we do: it is named, and nobody else goes without."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import Host, Lab
from support import roles_run

JUPYTER, MESH = 18888, 2222
SQUATTER = "import socket, time; s = socket.create_server(('0.0.0.0', {port})); time.sleep(3600)"


@pytest.fixture
def squatter(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[Host, str, int]]:
    """A node on which an account has the port of one of our services, which was stopped: as after a reboot."""
    project, service, port = request.param
    node = lab.nodes[-1]
    name = lab.nodes[0].variables["cluster_users"][1]["name"]
    node.check_output(f"docker compose -p {project} stop {service}")
    program = SQUATTER.format(port=port)
    node.check_output(f'systemd-run --unit lab-squatter --collect --uid {name} python3 -c "{program}"')
    node.check_output(f"for i in $(seq 50); do ss -Hltn 'sport = :{port}' | grep -q . && exit; sleep 0.1; done; false")
    yield node, name, port
    node.check_output("systemctl stop lab-squatter || true")
    node.check_output(f"docker compose -p {project} start {service}")


@pytest.mark.parametrize(
    "squatter",
    [("gpustead-workspace", "jupyter", JUPYTER), ("gpustead-mesh", "mesh", MESH)],
    ids=["workspace", "mesh"],
    indirect=True,
)
def test_who_took_a_port_is_named_and_the_other_roles_run(lab: Lab, squatter: tuple[Host, str, int]) -> None:
    node, name, port = squatter
    done = lab.playbook("site.yml", "--limit", node.name, "-e", json.dumps({"site_force": True}))
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, said
    assert f"port {port} (" in said
    assert f"is taken by process {node.check_output('systemctl show -P MainPID lab-squatter')} (python3) of" in said
    assert f"account '{name}'" in said
    assert "End what listens there, or choose" in said
    assert ("ssh_mesh", node.name) in roles_run(done.stdout)
