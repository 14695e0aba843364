"""Containers of the image, started by hand on the builder: accounts, logins, and what the start script is asked for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import PROJECT, Host, Lab

TRIAL = "/run/gpustead-trial"
ADA, BOB = 59001, 59002
USER = f"-e GPUSTEAD_USER=ada -e GPUSTEAD_UID={ADA} -e GPUSTEAD_GID={ADA} -v {TRIAL}/ada:/home/ada"
ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
BOTH = f"{USER} -v {TRIAL}/bob:/home/bob -e GPUSTEAD_ACCOUNTS=bob:{BOB}:{BOB}"


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Host]:
    """The builder, with homes for two accounts that only the containers have."""
    host = lab.nodes[0]
    host.check_output(
        f"install -d -o {ADA} -g {ADA} -m 700 {TRIAL}/ada && install -d -o {BOB} -g {BOB} -m 700 {TRIAL}/bob"
    )
    yield host
    host.check_output(f"rm -rf {TRIAL}")


def image(node: Host, layer: str) -> str:
    """The image of one layer of the stack that the nodes run."""
    layers: list[dict[str, Any]] = json.loads(node.check_output("cat /mnt/nas/.cluster/images.json"))["layers"]
    return next(str(item["ref"]) for item in layers if item["name"] == layer)


@pytest.fixture
def container(node: Host) -> Iterator[str]:
    """Name of a container that ends with the test."""
    yield "gpustead-trial"
    node.check_output("docker rm --force --volumes gpustead-trial")


def refused(node: Host, options: str, words: str) -> None:
    """A container that does not start, and says why in one line."""
    done = node.run(f"docker run --rm {options} {image(node, 'ssh')} true")
    assert done.rc == 1, done.stdout + done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


class Logins:
    """SSH from the node into a container, with the keys `ada`, `bob` and `mesh`."""

    def __init__(self, node: Host, container: str) -> None:
        self.node = node
        self.address = node.check_output(f"docker inspect --format '{ADDRESS}' {container}")
        node.check_output(
            f"echo {self.address} $(cut -d' ' -f1,2 {TRIAL}/ssh/ssh_host_ed25519_key.pub) > {TRIAL}/known_hosts"
        )
        node.check_output(
            f"timeout 60 sh -c 'until ssh-keyscan {self.address} 2>/dev/null | grep -q .; do sleep 1; done'"
        )

    def run(self, key: str, user: str, command: str) -> Any:
        return self.node.run(
            f"ssh -i {TRIAL}/keys/{key} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes "
            f"-o UserKnownHostsFile={TRIAL}/known_hosts {user}@{self.address} {shlex.quote(command)}"
        )


@pytest.fixture
def logins(node: Host, container: str) -> Logins:
    node.check_output(
        f"cd {TRIAL} && rm -rf ssh mesh keys && mkdir -p ssh/authorized_keys.d mesh keys"
        " && ssh-keygen -q -t ed25519 -N '' -f ssh/ssh_host_ed25519_key"
        " && for name in ada bob mesh; do ssh-keygen -q -t ed25519 -N '' -f keys/$name; done"
        " && cp keys/ada.pub ssh/authorized_keys.d/ada && cp keys/bob.pub ssh/authorized_keys.d/bob"
        " && cp keys/mesh.pub mesh/authorized_keys"
    )
    node.check_output(
        f"docker run --detach --init --name {container} {BOTH} -e GPUSTEAD_SUDO=1 -e HISTFILE=/var/tmp/history "
        f"-v {TRIAL}/ssh:/etc/gpustead/ssh:ro -v {TRIAL}/mesh:/mesh:ro {image(node, 'ssh')}"
    )
    return Logins(node, container)


def test_each_account_logs_in_by_its_own_key(node: Host, logins: Logins) -> None:
    for name, uid in {"ada": ADA, "bob": BOB}.items():
        done = logins.run(name, name, "id -un; touch ~/made")
        assert (done.rc, done.stdout.strip()) == (0, name), done.stderr
        assert node.check_output(f"stat -c %u:%g {TRIAL}/{name}/made") == f"{uid}:{uid}"
    for key, user in (("ada", "bob"), ("bob", "ada"), ("ada", "root")):
        assert "Permission denied" in logins.run(key, user, "true").stderr


def test_sudo_and_the_history_are_those_of_the_first_account(logins: Logins) -> None:
    # What lies on the share lets nobody in.
    for name in ("ada", "bob"):
        assert "Permission denied" in logins.run("mesh", name, "true").stderr
    assert logins.run("ada", "ada", "sudo -n id -un").stdout.strip() == "root"
    assert logins.run("bob", "bob", "sudo -n id -un").rc != 0
    assert logins.run("ada", "ada", "echo $HISTFILE").stdout.strip() == "/var/tmp/history"
    assert logins.run("bob", "bob", "echo $HISTFILE").stdout.strip() != "/var/tmp/history"


def test_a_key_that_is_taken_away_counts_at_once(node: Host, logins: Logins) -> None:
    node.check_output(f"rm {TRIAL}/ssh/authorized_keys.d/bob")
    assert "Permission denied" in logins.run("bob", "bob", "true").stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (f"{USER} -e GPUSTEAD_ACCOUNTS=bob:{BOB}:{BOB}", "/home/bob is not there: bind the directory of bob to it"),
        (f"{BOTH} -e GPUSTEAD_ACCOUNTS=bob:{ADA}:{BOB}", f"but the container has ada as {ADA}:{ADA}"),
        (f"{BOTH} -e GPUSTEAD_ACCOUNTS=bob", "GPUSTEAD_ACCOUNTS has 'bob': write each as name:uid:gid"),
        (f"{USER} -e GPUSTEAD_SHELL=zsh", "GPUSTEAD_SHELL is 'zsh', which the image does not have"),
        (f"{USER} -e GPUSTEAD_TORCH=2.13.0", "the image has no uv: add layer uv to images_stack"),
        (
            f"{USER} -e 'GPUSTEAD_REPOSITORIES=file:///nowhere code/nowhere'",
            "file:///nowhere cannot be cloned to /home/ada/code/nowhere",
        ),
        (
            f"{USER} -e 'GPUSTEAD_REPOSITORIES=https://ada:hidden@host.invalid/a.git a'",
            "the URL of https://host.invalid/a.git has a password or token in it",
        ),
    ],
)
def test_what_cannot_be_is_said_in_one_line(node: Host, options: str, words: str) -> None:
    refused(node, options, words)


def test_containers_that_start_at_once_clone_a_repository_once(node: Host) -> None:
    ref = image(node, "ssh")
    make = (
        "git init -q work"
        " && git -C work -c user.name=ada -c user.email=ada@localhost commit -q --allow-empty -m Begin"
        f" && git clone -q --bare work ours.git && rm -rf work && chown -R {ADA}:{ADA} ours.git"
    )
    node.check_output(f"docker run --rm --entrypoint bash -v {TRIAL}/ada:/ada -w /ada {ref} -c '{make}'")
    run = f"docker run --rm {USER} -e 'GPUSTEAD_REPOSITORIES=file:///home/ada/ours.git code/ours' {ref}"
    codes = node.check_output(
        f'pids=; for n in 1 2 3; do {run} true & pids="$pids $!"; done; for pid in $pids; do wait $pid; echo $?; done'
    )
    assert codes.split() == ["0", "0", "0"]
    assert node.check_output(f"ls -A {TRIAL}/ada/code") == "ours"
    assert node.check_output(f"stat -c %u {TRIAL}/ada/code/ours/.git/HEAD") == str(ADA)
    # One that is there stays as it is.
    node.check_output(f"touch {TRIAL}/ada/code/ours/mine")
    assert node.check_output(f"{run} git -C code/ours status --porcelain") == "?? mine"


def test_caches_belong_to_the_user(node: Host) -> None:
    node.check_output(f"mkdir -p {TRIAL}/cache/by-root")
    run = f"docker run --rm {USER} -v {TRIAL}/cache:/home/ada/.cache"
    asked = "-e 'GPUSTEAD_CACHES=/home/ada/.cache /var/cache/made'"
    out = node.check_output(f"{run} {asked} {image(node, 'ssh')} stat -c %U .cache .cache/by-root /var/cache/made")
    assert out.split() == ["ada"] * 3


def test_an_idle_container_stays(node: Host, container: str) -> None:
    node.check_output(f"docker run --detach --init --name {container} {USER} {image(node, 'ssh')} idle")
    assert node.check_output(f"sleep 3; docker exec --user ada {container} id -un") == "ada"
    assert node.check_output(f"docker exec {container} ps -o user= -C sleep") == "ada"


def test_pytorch_is_installed_where_the_image_has_none(node: Host) -> None:
    version = yaml.safe_load((PROJECT / "roles/images/defaults/main.yml").read_text())["images_torch_version"]
    version = node.variables.get("images_torch_version", version)
    settings = {
        "GPUSTEAD_TORCH": version,
        "GPUSTEAD_TORCH_CPU_INDEX": node.variables["images_torch_index"],
        "GPUSTEAD_WHEELHOUSE": "/wheelhouse",
    }
    options = " ".join(f"-e {name}={value}" for name, value in settings.items())
    wheels = "-v /var/lib/gpustead/images/wheelhouse:/wheelhouse:ro"
    show = "python -c 'import torch; print(torch.__version__, torch.cuda.is_available())'"
    done = node.run(f"docker run --rm {USER} {options} {wheels} {image(node, 'uv')} {show}")
    assert done.rc == 0, done.stderr
    assert f"installing PyTorch {version} for the CPU" in done.stderr
    found, cuda = done.stdout.split()
    assert found.partition("+")[0] == version
    assert cuda == "False"
    # An image that has it starts without a word.
    done = node.run(f"docker run --rm {USER} -e GPUSTEAD_TORCH={version} {image(node, 'torch')} {show}")
    assert (done.rc, done.stderr) == (0, "")
