"""The workspace: Jupyter, TensorBoard, Gradio and SSH, as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import PROJECT as ROOT
from conftest import Host, Lab

PROJECT = "gpustead-workspace"
GET = (
    'python3 -c "import sys, urllib.request, urllib.error\n'
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=20).status)\n"
    'except urllib.error.HTTPError as error: print(error.code)" '
)
KERNEL = (Path(__file__).parent / "kernel_client.py").read_text()


@pytest.fixture(scope="module")
def token(lab: Lab) -> str:
    node = lab.nodes[0]
    return node.check_output(f"runuser -u {lab.owner} -- cat /mnt/nas/users/{lab.owner}/.config/gpustead/jupyter_token")


def owner_of(host: Host, path: str) -> str:
    """uid:gid of a path as the host sees it."""
    return host.check_output(f"stat -c %u:%g {path}")


def test_a_file_made_in_jupyter_has_one_owner_everywhere(lab: Lab, token: str) -> None:
    first, second = lab.nodes[:2]
    made = f"/home/{lab.owner}/made-in-jupyter.txt"
    code = f"print(1+1); open({made!r}, 'w').write('made')"
    result = second.run(
        f"docker compose -p {PROJECT} exec -T jupyter /opt/venv/bin/python - "
        f"http://{first.address}:18888 {token} {json.dumps(code)} <<'EOF'\n{KERNEL}\nEOF"
    )
    assert result.rc == 0, result.stderr
    assert result.stdout.strip().startswith("2")
    user = lab.nodes[0].variables["cluster_users"][0]
    ids = f"{user['uid']}:{user.get('gid', user['uid'])}"
    on_nas = f"users/{lab.owner}/made-in-jupyter.txt"
    seen = {
        "container of the second node": second.compose(
            PROJECT, "jupyter", f"stat -c %u:%g {made}", user=lab.owner
        ).stdout.strip(),
        "host of the first node": first.check_output(f"runuser -u {lab.owner} -- stat -c %u:%g /mnt/nas/{on_nas}"),
        "NAS server": lab["nas"].check_output(f"find /export -path '*/{on_nas}' -exec stat -c %u:%g {{}} +"),
    }
    assert set(seen.values()) == {ids}, seen
    second.compose(PROJECT, "jupyter", f"rm {made}", user=lab.owner)


def test_root_is_squashed_on_the_nas(lab: Lab) -> None:
    node = lab.nodes[0]
    assert node.run(f"cat /mnt/nas/users/{lab.owner}/.config/gpustead/jupyter_token").rc != 0
    assert node.run(f"touch /mnt/nas/users/{lab.owner}/by-root").rc != 0


@pytest.mark.parametrize("source", ["client", "peer"])
@pytest.mark.parametrize(("port", "path"), [(16006, "/"), (17860, "/")])
def test_tensorboard_and_gradio_answer(lab: Lab, source: str, port: int, path: str) -> None:
    here = lab["client"] if source == "client" else lab.nodes[1]
    assert here.check_output(f"{GET} http://{lab.nodes[0].address}:{port}{path}") == "200"


def test_jupyter_wants_its_token(lab: Lab, token: str) -> None:
    client, node = lab["client"], lab.nodes[0]
    api = f"http://{node.address}:18888/api/contents"
    assert client.check_output(f"{GET} {api}") == "403"
    assert client.check_output(f"{GET} {api}?token=wrong") == "403"
    assert client.check_output(f"{GET} {api}?token={token}") == "200"
    assert len(token) >= 32


def test_ssh_logs_in_by_key_and_sudo_works_inside(lab: Lab, tmp_path: Path) -> None:
    client, node = lab["client"], lab.nodes[0]
    key = (lab.inventory / ".ssh/id_ed25519").read_text()
    client.check_output(f"install -m 600 /dev/stdin /root/lab-key <<'EOF'\n{key}EOF")
    ssh = (
        "ssh -i /root/lab-key -o BatchMode=yes -o StrictHostKeyChecking=accept-new "
        f"-o UserKnownHostsFile=/root/lab-known -p 10022 {lab.owner}@{node.address} "
    )
    try:
        assert client.check_output(f"{ssh} id -un") == lab.owner
        assert client.check_output(f"{ssh} sudo -n id -un") == "root"
        assert client.check_output(f"{ssh} python -c \"'import torch, deepspeed; print(torch.__version__)'\"")
        refused = client.run(f"{ssh} -o PubkeyAuthentication=no true")
        assert "Permission denied" in refused.stderr
    finally:
        client.run("rm -f /root/lab-key /root/lab-known")


def test_the_token_stands_in_no_log(lab: Lab, token: str) -> None:
    for node in lab.nodes:
        for container in node.check_output("docker ps -aq").split():
            logs = node.run(f"docker logs {container} 2>&1").stdout
            assert token not in logs
            assert token not in node.check_output(f"docker inspect {container}")
        assert token not in node.check_output("ps axeww -o args")
        assert node.run(f"grep -rl -- {token} /var/log /etc/gpustead").stdout == ""
    # Where the tests have converged the lab themselves, there is Ansible's own log, with --diff and all.
    if "molecule" in lab.inventory.parts:
        log = (ROOT / ".cache/molecule.log").read_text(errors="replace")
        assert "jupyter_token" in log
        assert token not in log


def test_a_sample_of_the_containers_sees_only_its_user_and_what_is_shared(lab: Lab) -> None:
    result = lab.nodes[0].compose(PROJECT, "ssh", "ls /mnt/nas", user="root")
    assert result.rc != 0, "the root of the NAS must not be bound into a workspace"
