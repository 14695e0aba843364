"""playbooks/images.yml on a stack of its own: what is built, pushed, pulled and kept, and what is refused."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Host, Lab

BOARD = "/mnt/nas/.cluster/images.json"
SECRET = "kept-out-of-every-layer"
DOCKERFILES = {
    "base": "ARG base\nFROM ${base}\nRUN echo base > /base\n",
    "left": "FROM parent\nRUN echo left > /left\n",
    "right": "FROM parent\nRUN echo right > /right\n",
    "top": "FROM parent\nRUN --mount=type=secret,id=token sha256sum /run/secrets/token > /top\n",
}


class Stack:
    """Four layers on the controller, right beside left, and the runs of images.yml over them."""

    def __init__(self, lab: Lab, path: Path) -> None:
        self.lab, self.path = lab, path
        self.settings: dict[str, Any] = {
            "images_stack": [
                {"name": "base", "context": str(path / "base")},
                {"name": "left", "context": str(path / "left")},
                {"name": "right", "context": str(path / "right"), "parent": "base"},
                {"name": "top", "context": str(path / "top"), "parent": "left"},
            ],
            "images_repository": "trial",
            "images_wheelhouse": "",
            "images_build_secrets": {"token": SECRET},
            "images_min_free_gb": 1,
        }
        for name, text in DOCKERFILES.items():
            (path / name).mkdir()
            (path / name / "Dockerfile").write_text(text)
        # What an earlier run built is not what this one builds.
        self.edit("base", f"RUN echo {secrets.token_hex(8)} >> /base")

    def run(self, *args: str, **settings: Any) -> tuple[int, str]:
        """Exit status and output of a run."""
        settings = {**self.settings, **settings}
        done = self.lab.playbook("playbooks/images.yml", "-e", json.dumps(settings), *args)
        return done.returncode, done.stdout + done.stderr

    def succeed(self, **settings: Any) -> str:
        code, text = self.run(**settings)
        assert code == 0, text
        return text

    def edit(self, name: str, line: str) -> None:
        with (self.path / name / "Dockerfile").open("a") as file:
            file.write(f"{line}\n")


@pytest.fixture(scope="module")
def stack(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    trial = Stack(lab, tmp_path_factory.mktemp("stack"))
    yield trial
    done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def message(text: str) -> str:
    """The output without the quotes and line breaks that YAML puts into an error."""
    return " ".join(text.replace("''", "'").replace("\\'", "'").split())


def built(text: str) -> list[str]:
    """The layers that the builder said were ready."""
    return re.findall(r"^gpu01: layer (\S+) built after", text, re.MULTILINE)


def changed(text: str) -> set[str]:
    return set(re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", text, re.MULTILINE))


def image_record(lab: Lab) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(lab.nodes[0].check_output(f"cat {BOARD}"))
    return content


def started(host: Host) -> str:
    return host.check_output("docker inspect --format '{{.Name}} {{.State.StartedAt}}' $(docker ps -q) | sort")


def test_the_chain_is_built_pushed_and_pulled_by_digest(lab: Lab, stack: Stack) -> None:
    text = stack.succeed()
    assert sorted(built(text)) == ["base", "left", "right", "top"]
    ref = image_record(lab)["workspace"]["ref"]
    assert re.fullmatch(r"\S+:5000/trial/debian-bookworm_base_left_top@sha256:[0-9a-f]{64}", ref)
    for node in lab.nodes:
        node.check_output(f"docker image inspect {ref}")


def test_a_run_without_changes_is_short_and_changes_nothing(stack: Stack) -> None:
    began = time.monotonic()
    text = stack.succeed()
    assert time.monotonic() - began < 15
    assert changed(text) == {"0"}
    assert built(text) == []


def test_a_forced_run_changes_nothing_either(stack: Stack) -> None:
    text = stack.succeed(site_force=True)
    assert changed(text) == {"0"}
    assert built(text) == []


def test_an_edited_layer_is_built_with_its_children_alone(stack: Stack) -> None:
    stack.edit("left", "RUN echo more >> /left")
    assert built(stack.succeed()) == ["left", "top"]


def test_no_secret_is_in_the_image(lab: Lab, stack: Stack) -> None:
    node, ref = lab.nodes[0], image_record(lab)["workspace"]["ref"]
    history = node.check_output(f"docker history --no-trunc {ref}; docker image inspect {ref}")
    files = node.run(f"docker save {ref} | tar -xO | grep -aqc {SECRET}")
    assert SECRET not in history
    assert files.rc == 1
    # The build had it.
    digest = node.check_output(f"printf %s {SECRET} | sha256sum | cut -d' ' -f1")
    assert digest in node.check_output(f"docker run --rm --entrypoint cat {ref} /top")


def test_a_damaged_record_is_named_and_written_anew(lab: Lab, stack: Stack) -> None:
    # As whom the share's layout belongs to: no account may.
    owner = lab.nodes[0].check_output(f"stat -c '--reuid=%u --regid=%g' {BOARD}")
    lab.nodes[0].check_output(f"setpriv {owner} --clear-groups sh -c 'echo damaged >> {BOARD}'")
    code, text = stack.run("--limit", lab.nodes[1].name)
    assert code == 2
    assert f"{BOARD} is damaged. Run the playbook with --limit {lab.nodes[0].name},{lab.nodes[1].name}" in message(text)
    stack.succeed()
    assert re.search("_base_left_top@sha256:", image_record(lab)["workspace"]["ref"])


def test_an_earlier_image_runs_again_and_nothing_is_built(lab: Lab, stack: Stack) -> None:
    stack.edit("top", "RUN echo later > /later")
    stack.succeed()
    now, before = image_record(lab)["history"][:2]
    text = stack.succeed(images_tag=before["key"][:12])
    assert built(text) == []
    assert image_record(lab)["workspace"]["ref"] == before["ref"]
    assert lab.nodes[1].check_output("cat /etc/gpustead/image") == before["ref"]
    code, text = stack.run(images_tag="0000")
    assert code == 2
    assert "images_tag is '0000', which begins none of the keys that are kept" in text
    stack.succeed()
    assert image_record(lab)["workspace"]["ref"] == now["ref"]


def test_images_that_are_not_kept_are_removed_and_what_runs_stays(lab: Lab, stack: Stack) -> None:
    old = image_record(lab)["workspace"]["ref"]
    stack.edit("top", "RUN echo new > /new")
    stack.succeed(images_keep=1)
    for node in lab.nodes:
        assert node.run(f"docker image inspect {old}").rc != 0
        # The workspaces' own image is not of this repository, and in use.
        assert node.check_output("docker ps -q | wc -l") != "0"


def cycle(stack: Stack) -> dict[str, Any]:
    layers = json.loads(json.dumps(stack.settings["images_stack"]))
    layers[0]["parent"] = "top"
    return {"images_stack": layers}


def twice(stack: Stack) -> dict[str, Any]:
    return {"images_stack": [*stack.settings["images_stack"], stack.settings["images_stack"][3]]}


def no_base(stack: Stack) -> dict[str, Any]:
    return {"images_base": f"{stack.lab['nas'].address}:5000/no/such:base", "images_base_archive": ""}


def full_disk(stack: Stack) -> dict[str, Any]:
    stack.edit("top", "RUN echo needs room > /room")
    return {"images_min_free_gb": 1000000}


def broken(stack: Stack) -> dict[str, Any]:
    stack.edit("right", "RUN no-such-command")
    return {}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cycle, "the stack has a cycle: base -> top -> left -> base"),
        (twice, "two layers named 'top'"),
        (no_base, "no/such:base' is not to be had"),
        (full_disk, "GiB free in /var/lib/docker, less than images_min_free_gb"),
        (broken, "layer 'right' at 'RUN no-such-command' does not build"),
    ],
)
def test_what_cannot_be_built_is_named(lab: Lab, stack: Stack, spoil: Any, words: str) -> None:
    containers = {node.name: started(node) for node in lab.nodes}
    catalog = lab["nas"].check_output("find /var/lib/docker-registry -path '*/tags/*' -name link | sort")
    before = image_record(lab)
    code, text = stack.run(**spoil(stack))
    assert code == 2
    assert words in message(text)
    if spoil is not full_disk:  # what was built is there, what could not be pulled is not
        assert image_record(lab) == before
        assert lab["nas"].check_output("find /var/lib/docker-registry -path '*/tags/*' -name link | sort") == catalog
    assert {node.name: started(node) for node in lab.nodes} == containers


def test_a_login_that_is_refused_is_said_before_anything_is_built(lab: Lab, stack: Stack) -> None:
    node = lab.nodes[0]
    node.check_output("mv /root/.docker/config.json /root/.docker/config.kept")
    try:
        stack.edit("left", "RUN true")
        code, text = stack.run()
    finally:
        node.check_output("mv /root/.docker/config.kept /root/.docker/config.json")
    assert code == 2
    assert "the registry was asked for" in text
    assert "unauthorized" in text or "no basic auth" in text
    assert built(text) == []


def test_tools_and_projects_are_layers_on_top(lab: Lab, stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ours"\nversion = "1.0"\n')
    (tmp_path / "ours.py").write_text("found = 'installed'\n")
    settings = {"images_tools": ["zsh"], "images_projects": [{"name": "ours", "source": str(tmp_path)}]}
    done = lab.playbook("playbooks/images.yml", "-e", json.dumps(settings))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [layer["name"] for layer in image_record(lab)["layers"]][-2:] == ["tools", "ours"]
    ref = image_record(lab)["workspace"]["ref"]
    run = f"docker run --rm --entrypoint /bin/bash {ref} -c"
    node = lab.nodes[1]
    assert node.check_output(f"{run} 'cd /; python -c \"import ours; print(ours.found)\"'") == "installed"
    assert "antigen" in node.check_output(f"{run} 'zsh -ic \"whence -w antigen\"'")
    assert "en_US.utf8" in node.check_output(f"{run} 'locale -a'")


def test_accounts_that_are_baked_in_are_a_layer_on_top(lab: Lab, stack: Stack) -> None:
    node = lab.nodes[0]
    accounts = [{"name": f"user{uid}", "uid": uid, "groups": ["docker"]} for uid in (1000, 1001, 1002)]

    def run(**settings: Any) -> tuple[list[str], str]:
        done = lab.playbook("playbooks/images.yml", "-e", json.dumps(settings))
        assert done.returncode == 0, done.stdout + done.stderr
        return built(done.stdout), image_record(lab)["workspace"]["ref"]

    _, plain = run()
    layers, ref = run(images_bake_users=accounts)
    assert layers == ["users"]
    ids = "for uid in 1000 1001 1002; do id $uid; done; getent shadow user1000 user1001 user1002 | cut -d: -f2"
    lines = node.check_output(f"docker run --rm --entrypoint bash {ref} -c '{ids}'").splitlines()
    assert [line.split()[0] for line in lines[:3]] == [f"uid={uid}(user{uid})" for uid in (1000, 1001, 1002)]
    assert all("(docker)" in line for line in lines[:3])
    assert lines[3:] == ["*"] * 3
    # Outside they are the same, or the container does not start.
    start = "docker run --rm -e GPUSTEAD_USER=user1001 -e GPUSTEAD_GID=1001 -e GPUSTEAD_UID="
    assert node.check_output(f"{start}1001 {ref} id -un") == "user1001"
    refused = node.run(f"{start}1002 {ref} id -un")
    assert refused.rc == 1
    assert "user1001 is 1002:1001 outside, but the container has user1001 as 1001:1001" in refused.stderr
    layers, after = run()
    assert (layers, after) == ([], plain)


def test_a_running_container_is_saved_and_pushed(lab: Lab, stack: Stack) -> None:
    node = lab.nodes[0]
    image = f"{lab['nas'].address}:5000/trial/saved:1"
    node.check_output("docker exec gpustead-workspace-ssh-1 sh -c 'echo found > /tmp/found'")
    before = started(node)
    done = lab.playbook("playbooks/commit.yml", "--limit", node.name, "-e", f"commit_image={image}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert started(node) == before
    other = lab.nodes[1]
    assert other.check_output(f"docker run --rm --entrypoint cat {image} /tmp/found") == "found"
    # What is started of it passes neither for a container of the workspace nor for a layer of the stack.
    labels = json.loads(other.check_output(f"docker image inspect --format '{{{{json .Config.Labels}}}}' {image}"))
    for name in ("com.docker.compose.project", "com.docker.compose.service", "org.gpustead.key"):
        assert labels[name] == "", name
    other.check_output(f"docker image rm {image}")
    node.check_output(f"docker image rm {image}")


def test_saving_needs_one_host_and_a_name(lab: Lab) -> None:
    done = lab.playbook("playbooks/commit.yml", "-e", "commit_image=debug")
    assert done.returncode == 2
    assert "give one host with --limit, and -e commit_image=registry/name:tag" in " ".join(done.stdout.split())
