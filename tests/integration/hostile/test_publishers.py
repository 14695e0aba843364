"""What who publishes an image, or writes the code of a project, brings along: labels, setuid programs, links."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Host, Lab
from image_trial import Trial

PROJECT = "gpustead-workspace"
CONTAINER = f"{PROJECT}-ssh-1"
NAME, IMAGE = "gpustead-hostile-alike", "gpustead-hostile-alike:1"
BUILD = "/var/lib/gpustead/images"
INSPECT = "docker inspect --format '{{{{.Id}}}} {{{{.State.Status}}}}' {}"


@pytest.fixture
def alike(lab: Lab) -> Iterator[Host]:
    """A node with a container whose image has all labels of the owner's workspace: Docker's own commit gives them."""
    node = lab.nodes[-1]
    number = "9" * 5000
    node.check_output(
        f"docker commit --change 'LABEL com.docker.compose.container-number={number}' {CONTAINER} {IMAGE}"
        f" && docker run --detach --init --name {NAME} --entrypoint sleep {IMAGE} infinity"
    )
    yield node
    node.run(f"docker rm --force {NAME}; docker image rm {IMAGE}")
    done = lab.playbook("site.yml", "--limit", node.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_container_with_the_labels_of_a_workspace_is_named_and_neither_is_removed(lab: Lab, alike: Host) -> None:
    before = [alike.check_output(INSPECT.format(name)) for name in (CONTAINER, NAME)]
    tags = ("--tags", "workspace,ssh_mesh", "-e", json.dumps({"workspace_start_timeout": 181}))
    done = lab.playbook("site.yml", "--limit", alike.name, *tags)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert f"service {PROJECT}/ssh: container {NAME} passes for one of it: its image has the labels" in said
    assert f"docker rm --force {NAME}" in said
    # The mesh does not depend on it.
    assert alike.check_output("docker inspect --format '{{.State.Status}}' gpustead-mesh") == "running"
    done = lab.playbook("playbooks/verify.yml", "--limit", alike.name)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert f"service {PROJECT}/ssh container {NAME} passes for one of it" in said
    assert "Traceback" not in said
    assert [alike.check_output(INSPECT.format(name)) for name in (CONTAINER, NAME)] == before


def test_without_gpus_containers_ask_for_none(lab: Lab) -> None:
    """The lab's nodes have none here; images of CUDA ask for all."""
    node = lab.nodes[-1]
    if json.loads(node.check_output("cat /etc/gpustead/gpus.json || echo '{}'")).get("device_ids"):
        pytest.skip("this node has GPUs")
    for name in (CONTAINER, "gpustead-mesh"):
        assert "NVIDIA_VISIBLE_DEVICES=void" in node.check_output(
            f"docker inspect --format '{{{{.Config.Env}}}}' {name}"
        )


@pytest.fixture
def trial(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    made = Trial(lab, tmp_path_factory.mktemp("publishers"), "hostile-publishers", images_keep=1)
    yield made
    for host in lab.nodes:
        host.run(f"docker image ls -q '{made.name}/*' | sort -u | xargs -r docker image rm -f")
    done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_code_of_a_project_is_no_way_to_root_nor_to_the_controllers_keys(
    lab: Lab, trial: Trial, tmp_path: Path
) -> None:
    builder = lab.nodes[0]
    project, secret = tmp_path / "project", tmp_path / "secret"
    project.mkdir()
    secret.write_text("the controller's own\n")
    (project / "tool").write_text("#!/bin/sh\n")
    (project / "tool").chmod(0o4777)
    (project / "data").symlink_to(secret)
    (project / "near").symlink_to("tool")
    settings: dict[str, Any] = {"images_projects": [{"name": "theirs", "source": str(project)}]}
    trial.succeed(**settings)
    place = f"{BUILD}/sources/theirs/source"
    assert builder.check_output(f"stat -c '%a %U' {place}/tool {place}/near").splitlines() == ["755 root", "755 root"]
    assert builder.check_output(f"readlink {place}/data") == str(secret)
    ref = trial.latest()["ref"]
    show = f"docker run --rm --entrypoint sh {ref} -c"
    assert builder.check_output(f"{show} 'stat -c %a /opt/projects/theirs/tool'") == "755"
    assert builder.run(f"{show} 'cat /opt/projects/theirs/data'").rc != 0


def test_what_a_container_says_reaches_no_terminal(lab: Lab) -> None:
    node = lab.nodes[-1]
    script = r"printf '\033]0;owned\007\033[2J hidden\n' > /proc/1/fd/2"
    assert node.compose(PROJECT, "ssh", f'sh -c "{script}"', user="root").rc == 0
    said = node.run("timeout 10 make -C /etc/gpustead/workspace logs").stdout
    assert "?]0;owned??[2J hidden" in said
    assert "\x1b" not in said
