"""Boots without Ansible, and a NAS that is gone: before a boot, in the middle of a run, and while containers write."""

from __future__ import annotations

import hashlib
import random
import shlex
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jinja2
import pytest
from conftest import PROJECT, Host, Lab, plain_environment
from machines import (
    RETURN,
    ask,
    flat,
    image_of,
    is_running,
    machines,
    playbook,
    power_on,
    reboot,
    shut_down,
    site,
    tell,
    until,
    until_it_lets_in,
    without,
)

NAS, BRICK = "/mnt/nas", "/export/brick"
# Of the mountpoint itself, whatever is mounted on it: it is looked at without what is mounted below its parent.
BENEATH = "unshare --mount sh -c 'mount --bind /mnt /run && find /run/nas -mindepth 1; lsattr -d /run/nas'"
SEED, BLOCKS, SIZE = 20, 120, 1 << 19
WRITE = f"""
import os, random, sys, time
maker = random.Random({SEED})
with open(sys.argv[1], "wb") as file:
    for _ in range({BLOCKS}):
        file.write(maker.randbytes({SIZE}))
        file.flush()
        os.fsync(file.fileno())
        time.sleep(0.3)
open(sys.argv[1] + ".whole", "w").close()
"""


def digest() -> str:
    """Of what WRITE writes."""
    maker, found = random.Random(SEED), hashlib.sha256()
    for _ in range(BLOCKS):
        found.update(maker.randbytes(SIZE))
    return found.hexdigest()


def verified(lab: Lab, *args: str) -> bool:
    return playbook(lab, "playbooks/verify.yml", *args, seconds=900).returncode == 0


def no_drift(lab: Lab, report: Path) -> None:
    done = playbook(lab, "playbooks/drift.yml", "-e", f"drift_report={report}", seconds=900)
    assert done.returncode == 0, done.stdout + done.stderr


def waits_for(node: Host) -> str:
    """What the unit that waits for shares says to everybody."""
    return tell(node, "systemctl show --property=StatusText --value gpustead-wait")


def all_run(node: Host) -> None:
    until(f"all containers of {node.name} run", partial(is_running, node), RETURN)


@pytest.fixture
def kept(lab: Lab) -> Iterator[None]:
    """A file on the share that is as it was in the end, as the server and each node see it."""
    name, node, nas = f"users/{lab.owner}/lab-kept", lab.nodes[0], lab["nas"]
    make = f"head -c 8M /dev/urandom > {NAS}/{name} && sync {NAS}/{name}"
    tell(node, f"runuser -u {lab.owner} -- sh -c {shlex.quote(make)}")
    before = tell(nas, f"sha256sum < {BRICK}/{name}")
    yield
    assert tell(nas, f"sha256sum < {BRICK}/{name}") == before
    for each in lab.nodes:
        tell(each, "echo 3 > /proc/sys/vm/drop_caches")
        assert tell(each, f"runuser -u {lab.owner} -- sha256sum < /dev/null {NAS}/{name}", 120).split()[0] in before
    tell(nas, f"rm {BRICK}/{name}")


def test_all_hosts_at_once(lab: Lab, tmp_path: Path) -> None:
    """Five minutes from when the last of them lets root in."""
    reboot(machines(lab))
    until("verify passes", lambda: verified(lab), 300)
    no_drift(lab, tmp_path / "drift.json")


LAST_WORDS = """
import signal, sys, time
def end(*_):
    with open(sys.argv[1], "w") as file:
        file.write("whole")
    sys.exit()
signal.signal(signal.SIGTERM, end)
time.sleep(3600)
"""


def test_containers_end_before_their_share_and_keep_no_host(lab: Lab) -> None:
    """What one writes when it is told to end is on the share. One that does not end is no reason to stay."""
    node, owner = lab.nodes[0], lab.owner
    ids = tell(node, f"id -u {owner}; id -g {owner}").replace("\n", ":")
    seen = f"{BRICK}/users/{owner}/lab-ended"
    run = f"docker run --detach --user {ids} --volume {NAS}/users/{owner}:/place --entrypoint python3"
    image = image_of(node)
    tell(node, f"{run} --name lab-ends {image} -c {shlex.quote(LAST_WORDS)} /place/lab-ended", 120)
    stays = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"
    tell(node, f"{run} --name lab-stays {image} -c {shlex.quote(stays)}", 120)
    # A restart of what mounts for them ends none.
    tell(node, "systemctl restart gpustead-binds", 300)
    assert tell(node, "docker ps --quiet --filter name=lab- | wc -l") == "2"
    try:
        took = shut_down(node)
        assert tell(lab["nas"], f"cat {seen}") == "whole"
        assert took < 150
    finally:
        power_on(node)
        until_it_lets_in(node)
        until("Docker answers", lambda: ask(node, "docker rm --force lab-ends lab-stays").returncode == 0, 240)
        ask(lab["nas"], f"rm -f {seen}")
    all_run(node)


def test_a_nas_that_is_off_when_a_node_boots(lab: Lab, kept: None, tmp_path: Path) -> None:
    node, nas = lab.nodes[0], lab["nas"]
    shut_down(node)
    with without(nas):
        power_on(node)
        until_it_lets_in(node)
        until("Docker runs", lambda: ask(node, "systemctl is-active docker").returncode == 0, 300)
        # What mounts for containers has ended, well or not, within its own time.
        ended = "systemctl show --property=ActiveState --value gpustead-binds"
        until("gpustead-binds ends", lambda: tell(node, ended) != "activating", 240)
        # What needs the share waits, and everybody can see for what.
        assert not is_running(node)
        until("the wait is named", lambda: waits_for(node) == f"waiting for {NAS}", 120)
        said = tell(node, f"runuser -u {lab.owner} -- systemctl status --no-pager gpustead-wait || true")
        assert f"waiting for {NAS}" in said
        # At a login, as sshd shows it.
        assert f"The NAS does not answer for {NAS}" in tell(node, "cat /run/motd.d/gpustead-shares")
        assert ask(node, "true", 60, lab.owner).returncode == 0
        # Nothing lies under the mountpoint, and nothing can be put there.
        assert ask(node, f"timeout 100 touch {NAS}/lab-beneath", 120).returncode != 0
        *there, flags = tell(node, BENEATH).splitlines()
        assert there == [] and "i" in flags.split()[0], flags
        # Who looks is told in time; the other node goes on.
        began = time.monotonic()
        done = playbook(lab, "playbooks/verify.yml", "--limit", node.name, seconds=600)
        assert done.returncode != 0 and NAS in flat(done), done.stdout + done.stderr
        assert "Traceback" not in flat(done) and time.monotonic() - began < 300
        power_on(nas)
        until_it_lets_in(nas)
        all_run(node)
        until("the notice is gone", lambda: ask(node, "test ! -e /run/motd.d/gpustead-shares").returncode == 0, 60)
    until("the wait has ended", lambda: waits_for(node) == "all shares are mounted", 60)
    *there, _flags = tell(node, BENEATH).splitlines()
    assert there == []
    all_run(lab.nodes[1])
    until("verify passes", lambda: verified(lab), 300)
    no_drift(lab, tmp_path / "drift.json")


def test_a_nas_that_goes_while_a_container_writes(lab: Lab, kept: None) -> None:
    node, nas, owner = lab.nodes[0], lab["nas"], lab.owner
    ids = tell(node, f"id -u {owner}; id -g {owner}").replace("\n", ":")
    path, seen = f"/home/{owner}/lab-blocks", f"{BRICK}/users/{owner}/lab-blocks"
    write = f"python3 -c {shlex.quote(WRITE)} {path}"
    tell(node, f"docker exec --detach --user {ids} gpustead-workspace-jupyter-1 {write}")
    try:
        until("some is written", lambda: int(tell(nas, f"stat -c %s {seen} || echo 0")) > 8 * SIZE, 120)
        with without(nas):
            # A share that is away is no reason for the host to be.
            for command in ("systemctl is-active docker", "timeout 60 docker ps", "df -l", "ls /home", "ps -e"):
                assert ask(node, command, 60).returncode == 0, command
            assert ask(node, "id -un", 60, owner).stdout.strip() == owner
            began = time.monotonic()
            assert not verified(lab, "--limit", node.name)
            assert time.monotonic() - began < 300
        until("all is written", lambda: ask(nas, f"test -e {seen}.whole").returncode == 0, RETURN)
        assert tell(nas, f"sha256sum {seen}", 120).split()[0] == digest()
        # Another node, which has nothing of it in memory.
        other = f"runuser -u {owner} -- sha256sum {NAS}/users/{owner}/lab-blocks"
        assert tell(lab.nodes[1], other, 120).split()[0] == digest()
        for each in lab.nodes:
            all_run(each)
    finally:
        ask(nas, f"rm -f {seen} {seen}.whole")


def test_a_nas_that_goes_in_the_middle_of_a_run(lab: Lab, kept: None, tmp_path: Path) -> None:
    node, nas, log = lab.nodes[1], lab["nas"], tmp_path / "run.log"
    argv = ["ansible-playbook", "-i", str(lab.inventory), "site.yml", "--limit", node.name, "-e", "site_force=true"]
    with tempfile.TemporaryDirectory(prefix="ssh-") as sockets, log.open("w") as out:
        run = subprocess.Popen(
            [*argv, "--tags", "accounts,workspace"],
            cwd=PROJECT,
            env={
                **plain_environment(),
                "ANSIBLE_NOCOLOR": "1",
                "PYTHONUNBUFFERED": "1",
                "ANSIBLE_SSH_CONTROL_PATH_DIR": sockets,
            },
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            begun = "included: gpustead.cluster.accounts for"
            until("the accounts are begun", lambda: begun in log.read_text() or run.poll() is not None, 600)
            assert run.poll() is None, log.read_text()
            with without(nas):
                # Each place is asked within its own time, and there are several: the run as a whole has this one.
                code = run.wait(timeout=900)
                said = " ".join(log.read_text().split())
                assert code != 0 and NAS in said and "Traceback" not in said, said
                assert ask(node, "timeout 60 docker ps", 60).returncode == 0
            # Without Ansible all is back.
            for each in lab.nodes:
                all_run(each)
                tell(each, f"ls {NAS}/.", 120)
        finally:
            run.kill()
            run.wait()
            # The roles that were not done are done.
            site(lab, "--limit", node.name)
    until("verify passes", lambda: verified(lab), 300)
    no_drift(lab, tmp_path / "drift.json")


GPUS = "/etc/systemd/system/gpustead-gpus.service"
SAYS = """#!/bin/sh
echo "$(basename "$0") $*; docker $(systemctl is-active docker)" >>/var/tmp/lab-gpus
{then}
"""


def put(host: Host, path: str, text: str, mode: str) -> None:
    tell(host, f"cat > {path} <<'LAB_END'\n{text.rstrip(chr(10))}\nLAB_END\nchmod {mode} {path}")


@pytest.fixture
def gpus(lab: Lab) -> Iterator[Host]:
    """A node with the unit as role nvidia writes it, and NVIDIA's programs, which only write down when they ran."""
    node = lab.nodes[1]
    text = (PROJECT / "roles/nvidia/templates/gpustead-gpus.service.j2").read_text()
    unit = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True).from_string(text)
    rendered = unit.render(
        ansible_managed="For a test",
        __nvidia_smi="/usr/bin/nvidia-smi",
        __nvidia_boot_commands=[["-pm", "1"]],
        __nvidia_containers={"mode": "cdi"},
        __nvidia_cdi_path="/var/run/cdi/nvidia.yaml",
    )
    put(node, GPUS, rendered, "0644")
    tell(node, "systemctl daemon-reload && systemctl enable gpustead-gpus.service && rm -f /var/tmp/lab-gpus")
    yield node
    undo = f"systemctl disable gpustead-gpus.service; rm -f {GPUS} /usr/bin/nvidia-smi /usr/bin/nvidia-ctk"
    ask(node, f"{undo} /var/tmp/lab-gpus; systemctl daemon-reload; systemctl reset-failed")


def test_the_gpus_are_set_up_before_docker_starts_containers(gpus: Host) -> None:
    for name in ("nvidia-smi", "nvidia-ctk"):
        put(gpus, f"/usr/bin/{name}", SAYS.format(then=""), "0755")
    reboot([gpus])
    all_run(gpus)
    assert tell(gpus, "systemctl show --property=Result --value gpustead-gpus") == "success"
    before = "docker inactive"
    assert [line.rpartition("; ")[::2] for line in tell(gpus, "cat /var/tmp/lab-gpus").splitlines()] == [
        ("nvidia-smi -L", before),
        ("nvidia-ctk system create-device-nodes --control-devices --load-kernel-modules", before),
        ("nvidia-smi -pm 1", before),
        ("nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml", before),
    ]


def test_a_gpu_that_hangs_keeps_docker_for_its_time_alone(gpus: Host) -> None:
    put(gpus, "/usr/bin/nvidia-ctk", SAYS.format(then=""), "0755")
    put(gpus, "/usr/bin/nvidia-smi", SAYS.format(then="exec sleep 3600"), "0755")
    reboot([gpus])
    until("Docker runs", lambda: ask(gpus, "systemctl is-active docker").returncode == 0, 240)
    assert tell(gpus, "systemctl show --property=Result --value gpustead-gpus") == "timeout"
    all_run(gpus)
