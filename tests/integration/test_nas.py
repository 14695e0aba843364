"""The NAS: an unmounted mountpoint takes no writes, and Docker comes after the mount."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Host, Lab

ZOE = {"name": "gszoe", "uid": 4301, "home": "/srv/gshomes/gszoe"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K gszoe@laptop"


def test_an_unmounted_mountpoint_refuses_writes(lab: Lab) -> None:
    node = lab.nodes[-1]
    # Another mount namespace: the NAS of the running containers stays where it is.
    result = node.run("unshare --mount sh -c 'umount -l /mnt/nas && touch /mnt/nas/lost'")
    assert result.rc != 0
    assert "lost" in result.stderr, result.stderr
    assert node.run("test -e /mnt/nas/lost").rc != 0


def test_a_file_of_the_share_acts_as_nobody_else(lab: Lab) -> None:
    """Who has sudo in a container can give a file on the share to any account, and make it setuid."""
    node = lab.nodes[0]
    shared, local = "/mnt/nas/shared/setuid", "/usr/local/bin/setuid-control"
    owner = node.check_output(f"stat -c %u /mnt/nas/users/{lab.owner}")
    as_owner = f"setpriv --reuid {owner} --regid {owner} --clear-groups"
    try:
        node.check_output(f"{as_owner} sh -c 'cp /usr/bin/id {shared} && chmod 4755 {shared}'")
        node.check_output(f"cp /usr/bin/id {local} && chown {owner} {local} && chmod 4755 {local}")
        as_nobody = "setpriv --reuid nobody --clear-groups"
        assert node.check_output(f"{as_nobody} {local} --user") == owner
        assert node.check_output(f"{as_nobody} {shared} --user") != owner
    finally:
        node.check_output(f"{as_owner} rm -f {shared}; rm -f {local}")


def test_docker_is_ordered_after_the_mount(lab: Lab) -> None:
    for node in lab.nodes:
        after = node.check_output("systemctl show docker --property After")
        assert "mnt-nas.mount" in after.split("=", 1)[1].split()


@pytest.fixture
def homes(lab: Lab) -> Iterator[Host]:
    """A node whose homes lie on a share of their own, on which root of a node is nobody."""
    node, nas = lab.nodes[-1], lab["nas"]
    volume = "gluster --mode=script volume"
    nas.check_output(
        f"{volume} create gshomes {nas.address}:/export/gshomes force && "
        f"{volume} set gshomes server.root-squash on && {volume} start gshomes"
    )
    try:
        node.check_output(f"mkdir -p /srv/gshomes && mount -t glusterfs {nas.address}:/gshomes /srv/gshomes")
        yield node
    finally:
        node.run("userdel gszoe; groupdel gszoe; umount /srv/gshomes; rmdir /srv/gshomes")
        nas.run(f"{volume} stop gshomes; {volume} delete gshomes; rm -rf /export/gshomes")


def test_a_home_that_root_cannot_make_is_refused_and_one_that_is_there_serves(lab: Lab, homes: Host) -> None:
    refused = homes.module("gpustead.cluster.uid_match", {"users": [ZOE]})
    assert refused.get("failed"), refused
    for words in (f"home {ZOE['home']} of 'gszoe' is not there, and root cannot make it on", "no_root_squash"):
        assert words in refused["msg"]
    assert homes.run("getent passwd gszoe || getent group gszoe").rc != 0
    # What it says is to be done, done on the server.
    lab["nas"].check_output("cd /export/gshomes && mkdir gszoe && chown 4301:4301 gszoe && chmod 700 gszoe")
    for changed in (True, False):
        assert homes.module("gpustead.cluster.uid_match", {"users": [ZOE]})["changed"] is changed
    account = {**ZOE, "gid": ZOE["uid"], "keys": [KEY]}
    for changed in (True, False):
        done = homes.module("gpustead.cluster.authorized_keys", {"accounts": [account]})
        assert done.get("changed") is changed, done
    as_zoe = "setpriv --reuid 4301 --regid 4301 --clear-groups"
    assert homes.check_output(f"{as_zoe} cat {ZOE['home']}/.ssh/authorized_keys") == KEY
