"""What accounts do in containers of the image, and to the record of images in use: nobody else falls for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Host, Lab
from image_trial import BOARD, Trial

TRIAL = "/run/gpustead-hostile"
RECORD = "/var/lib/gpustead/images/announced.json"
ADA, BOB = 59001, 59002
ADDRESS = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
NAME = "gpustead-hostile"
# Where code lies that others or root run by themselves. /tmp and the like are everyone's.
COMMON = "/tmp /var/tmp /dev /proc /sys /run/lock /var/lock /var/mail /var/spool/mail /shared /home/bob"


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[Host]:
    """The builder, with homes, keys and a host key for containers of an owner, ada, and a guest, bob."""
    host = lab.nodes[0]
    host.check_output(
        f"rm -rf {TRIAL} && mkdir -p {TRIAL}/ssh/authorized_keys.d {TRIAL}/keys && cd {TRIAL}"
        f" && install -d -o {ADA} -g {ADA} -m 700 ada && install -d -o {BOB} -g {BOB} -m 700 bob"
        " && ssh-keygen -q -t ed25519 -N '' -f ssh/ssh_host_ed25519_key"
        " && for name in ada bob; do ssh-keygen -q -t ed25519 -N '' -f keys/$name"
        " && cp keys/$name.pub ssh/authorized_keys.d/$name; done"
    )
    yield host
    host.check_output(f"docker rm --force --volumes {NAME}; rm -rf {TRIAL}")


class Container:
    """A workspace that ada shares with bob; both come in by SSH."""

    def __init__(self, node: Host, sudo: bool) -> None:
        self.node = node
        image = json.loads(node.check_output(f"cat {BOARD}"))["workspace"]["ref"]
        node.check_output(
            f"docker rm --force --volumes {NAME}; docker run --detach --init --name {NAME} -e GPUSTEAD_USER=ada"
            f" -e GPUSTEAD_UID={ADA} -e GPUSTEAD_GID={ADA} -e GPUSTEAD_ACCOUNTS=bob:{BOB}:{BOB}"
            f" -e GPUSTEAD_SUDO={int(sudo)} -e GPUSTEAD_CACHES=/var/cache/made -v {TRIAL}/ada:/home/ada"
            f" -v {TRIAL}/bob:/home/bob -v {TRIAL}/ssh:/etc/gpustead/ssh:ro {image}"
        )
        self.wait()

    def wait(self) -> None:
        self.address = self.node.check_output(f"docker inspect --format '{ADDRESS}' {NAME}")
        answers = f"ssh-keyscan {self.address} 2>/dev/null | grep -q ."
        self.node.check_output(f"timeout 60 sh -c 'until {answers}; do sleep 1; done'")
        host_key = f"{TRIAL}/ssh/ssh_host_ed25519_key.pub"
        self.node.check_output(f"echo {self.address} $(cut -d' ' -f1,2 {host_key}) > {TRIAL}/known_hosts")

    def run(self, user: str, command: str) -> Any:
        return self.node.run(
            f"ssh -n -i {TRIAL}/keys/{user} -o IdentitiesOnly=yes -o BatchMode=yes -o StrictHostKeyChecking=yes"
            f" -o UserKnownHostsFile={TRIAL}/known_hosts {user}@{self.address} {shlex.quote(command)}"
        )

    def root(self, command: str) -> str:
        return self.node.check_output(f"docker exec {NAME} bash -c {shlex.quote(command)}")


@pytest.fixture
def shared(node: Host) -> Container:
    return Container(node, sudo=True)


LOAD = "python -c 'from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder as B; print(B().load().__file__)'"
EVIL = """
cat > /tmp/evil.c <<'X'
#include <stdlib.h>
__attribute__((constructor)) static void go(void) { system("touch /tmp/ran-$(id -un)"); }
X
gcc -shared -fPIC -o /tmp/evil.so /tmp/evil.c
for place in /opt/torch_extensions /var/lib/gpustead/accounts/ada/torch_extensions; do
    for file in $place/deepspeed_shm_comm/deepspeed_shm_comm.so; do cat /tmp/evil.so > $file; done
    mkdir -p $place/another
done
mkdir -m 777 /tmp/torchinductor_ada
ls /tmp/evil.so
"""


def test_a_guest_does_not_reach_what_others_compiled(shared: Container) -> None:
    done = shared.run("bob", EVIL)
    assert "Permission denied" in done.stderr and "/tmp/evil.so" in done.stdout
    for user in ("ada", "bob"):
        done = shared.run(user, LOAD)
        place = f"/var/lib/gpustead/accounts/{user}/torch_extensions/deepspeed_shm_comm"
        assert done.stdout.splitlines()[-1:] == [f"{place}/deepspeed_shm_comm.so"], done.stderr
    inductor = "python -c 'from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())'"
    assert shared.run("ada", inductor).stdout.split() == ["/var/lib/gpustead/accounts/ada/torchinductor"]
    assert shared.root("ls /tmp/ran-* 2>/dev/null || true") == ""
    # What the image brought was not compiled anew.
    assert shared.root("cd /var/lib/gpustead/accounts && cmp {ada,/opt}/torch_extensions/*/*.so") == ""


def test_a_guest_writes_nothing_of_the_image(shared: Container) -> None:
    left_out = " ".join(f"-path {place} -prune -o" for place in COMMON.split())
    find = f"find / {left_out} -writable ! -type l ! -path '/var/lib/gpustead/accounts/bob*' -print 2>/dev/null"
    found = shared.run("bob", find).stdout.split()
    assert [path for path in found if not path.endswith("/.lock")] == []


def test_root_finds_its_commands_in_its_own_directories(shared: Container) -> None:
    for line in shared.root("for pid in 1 $(pidof sshd); do tr '\\0' '\\n' < /proc/$pid/environ; done").splitlines():
        name, _, value = line.partition("=")
        assert name != "PATH" or "/opt" not in value or value == shared.root("echo $PATH")
    # Starting anew, with all that a guest could leave.
    shared.run(
        "bob", "mkdir -p ~/bin && printf '#!/bin/sh\\ntouch /tmp/ran-$(id -un)\\n' > ~/bin/getent; chmod 755 ~/bin/*"
    )
    shared.node.check_output(f"docker restart {NAME}")
    shared.wait()
    assert shared.root("ls /tmp/ran-* 2>/dev/null || true") == ""


def test_without_sudo_nobody_becomes_root(node: Host) -> None:
    container = Container(node, sudo=False)
    for user in ("ada", "bob"):
        assert container.run(user, "grep NoNewPrivs: /proc/self/status").stdout.split() == ["NoNewPrivs:", "1"]
        assert container.run(user, "sudo -n id -u; su -c 'id -u' root; newgrp root").stdout.split() == []


# The record of the images in use


@pytest.fixture
def trial(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    made = Trial(lab, tmp_path_factory.mktemp("hostile"), "hostile-images", images_keep=1)
    yield made
    for host in lab.nodes:
        host.run(f"docker rm -f holder; docker image ls -q '{made.name}/*' | sort -u | xargs -r docker image rm -f")
    done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def tamper(host: Host, text: str) -> None:
    """Writes as whoever the record belongs to."""
    owner = host.check_output(f"stat -c '--reuid=%u --regid=%g' {BOARD}")
    write = f"printf %s {shlex.quote(text)} > {BOARD}"
    host.check_output(f"setpriv {owner} --clear-groups sh -c {shlex.quote(write)}")


def test_a_node_runs_no_image_of_an_accounts_choice(lab: Lab) -> None:
    node, builder = lab.nodes[1], lab.nodes[0]
    before = builder.check_output(f"cat {BOARD}")
    running = node.check_output("cat /etc/gpustead/image")
    evil = json.loads(before)
    evil["workspace"]["ref"] = f"evil.example:5000/gpustead/x@sha256:{'a' * 64}"
    texts = {
        json.dumps(evil): "names an image of another registry or repository",
        "[" * 60_000: "is damaged",
        '{"schema": 1, "layers": [{}], "history": []}': "is damaged",
        before + "\x1b]0;owned\x07": "is damaged",
    }
    try:
        for text, words in texts.items():
            tamper(node, text)
            done = lab.playbook("playbooks/images.yml", "--limit", node.name)
            said = " ".join((done.stdout + done.stderr).split())
            assert done.returncode == 2, said
            assert f"{BOARD} {words}" in said
            assert f"--limit {builder.name},{node.name}: the builder writes it anew" in said
            assert "\x1b" not in said
            assert node.check_output("cat /etc/gpustead/image") == running
    finally:
        # The builder has it in its own record, and the nodes of its run take it from there.
        done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert builder.check_output(f"cat {BOARD}") == before == builder.check_output(f"cat {RECORD}")
    assert node.check_output("cat /etc/gpustead/image") == running


def test_what_is_kept_goes_by_the_builders_record(lab: Lab, trial: Trial) -> None:
    trial.succeed(images_keep=3)
    first = trial.latest()
    trial.edit("top")
    trial.succeed(images_keep=3)
    record = trial.image_record()
    tamper(lab.nodes[1], json.dumps({**record, "history": record["history"][:1]}))
    trial.edit("top")
    trial.succeed(images_keep=3)
    assert [image["ref"] for image in trial.image_record()["history"]].index(first["ref"]) == 2
    assert trial.known(first["ref"]) and all(trial.known(layer) for layer in first["layers"])


def test_what_runs_by_the_digest_of_an_index_keeps_its_parts(lab: Lab, trial: Trial) -> None:
    builder, other = lab.nodes[0], lab.nodes[1]
    trial.succeed()
    ref = trial.latest()["ref"]
    name, digest = ref.split("@")
    registry, _, repository = name.partition("/")
    script = Path(__file__).with_name("put_index.py").read_text()
    index = builder.check_output(f"python3 - {registry} {repository} {digest} <<'X'\n{script}\nX")
    other.check_output(f"docker run -d --name holder --entrypoint sleep {name}@{index} infinity")
    trial.edit("top")
    trial.succeed()
    assert trial.known(f"{name}@{index}") and trial.known(ref)
    other.check_output("docker rm -f holder")


# What is brought to the builder


def test_the_builders_directory_is_not_taken_from_others(lab: Lab, trial: Trial) -> None:
    builder = lab.nodes[0]
    builder.check_output(
        f"mkdir -p {TRIAL}-data/sources/theirs {TRIAL}-data/stack && echo theirs > {TRIAL}-data/sources/theirs/data"
    )
    try:
        before = builder.check_output(f"cat {BOARD}")
        code, text = trial.run(images_build_dir=f"{TRIAL}-data")
        assert code == 2
        said = " ".join(text.split())
        assert f"{TRIAL}-data/stack and {TRIAL}-data/sources, which role images did not make" in said
        listing = builder.check_output(f"cd {TRIAL}-data && find . -type f")
        assert listing == "./sources/theirs/data"
        assert builder.check_output(f"cat {BOARD}") == before
    finally:
        builder.check_output(f"rm -rf {TRIAL}-data")
