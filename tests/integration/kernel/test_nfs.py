"""The share over NFS with root squashed: who owns what is made on it, and what root of a container cannot."""

from __future__ import annotations

import pytest
from conftest import Lab
from machines import ask, tell

SERVER = "/export/brick"


def test_the_share_is_nfs_of_a_version_with_extended_attributes(lab: Lab) -> None:
    for node in lab.nodes:
        options = tell(
            node, "ls /mnt/nas/. >/dev/null && findmnt --noheadings --type nfs4 --output OPTIONS /mnt/nas"
        ).split(",")
        assert {"vers=4.2", "hard", "nosuid", "nodev", "noatime"} <= set(options)


def test_what_containers_write_is_their_owners_on_the_server(lab: Lab) -> None:
    node, nas = lab.nodes[0], lab["nas"]
    image = tell(node, "docker inspect --format '{{.Image}}' gpustead-workspace-jupyter-1")
    ids = {}
    for name in ("ada", "grace", "gpustead"):
        uid, gid = tell(node, f"id -u {name}; id -g {name}").split()
        ids[name] = f"{uid}:{gid}"
        place = "" if name == "gpustead" else f"/users/{name}"
        run = f"docker run --rm --user {uid}:{gid} --volume /mnt/nas{place}:/place --entrypoint touch {image}"
        tell(node, f"{run} /place/lab-{name}")
        path = f"{SERVER}{place}/lab-{name}"
        assert tell(nas, f"stat --format %u:%g {path} && rm {path}") == ids[name]
    assert len(set(ids.values())) == 3


@pytest.mark.parametrize("what", ["ls /place", "touch /place/mine", "chown 0:0 /place", "chmod 0777 /place"])
def test_root_of_a_container_is_nobody_in_anothers_directory(lab: Lab, what: str) -> None:
    node = lab.nodes[0]
    image = tell(node, "docker inspect --format '{{.Image}}' gpustead-workspace-jupyter-1")
    assert tell(node, "stat --format %a /mnt/nas/users/grace") == "700"
    program, *rest = what.split()
    run = "docker run --rm --user 0:0 --volume /mnt/nas/users/grace:/place"
    done = ask(node, f"{run} --entrypoint {program} {image} {' '.join(rest)}")
    assert done.returncode != 0 and ("denied" in done.stderr or "not permitted" in done.stderr), done.stderr


def test_groups_come_from_the_node_and_not_from_the_server(lab: Lab) -> None:
    """Which has none of the cluster's: Debian's looks them up there."""
    node, nas, place = lab.nodes[0], lab["nas"], "lab-common"
    tell(nas, f"install --directory --owner 1500 --group 1400 --mode 2775 {SERVER}/{place}")
    try:
        member, other = (f"setpriv --reuid 1501 --regid 1501 {more}" for more in ("--groups 1400", "--clear-groups"))
        assert ask(node, f"{other} touch /mnt/nas/{place}/others").returncode != 0
        tell(node, f"{member} touch /mnt/nas/{place}/members")
        assert tell(nas, f"stat --format %u:%g {SERVER}/{place}/members") == "1501:1400"
    finally:
        tell(nas, f"rm -r {SERVER}/{place}")
