"""The NAS: an unmounted mountpoint takes no writes, and Docker comes after the mount."""

from __future__ import annotations

from conftest import Lab


def test_an_unmounted_mountpoint_refuses_writes(lab: Lab) -> None:
    node = lab.nodes[-1]
    # Another mount namespace: the NAS of the running containers stays where it is.
    result = node.run("unshare --mount sh -c 'umount -l /mnt/nas && touch /mnt/nas/lost'")
    assert result.rc != 0
    assert "lost" in result.stderr, result.stderr
    assert node.run("test -e /mnt/nas/lost").rc != 0


def test_docker_is_ordered_after_the_mount(lab: Lab) -> None:
    for node in lab.nodes:
        after = node.check_output("systemctl show docker --property After")
        assert "mnt-nas.mount" in after.split("=", 1)[1].split()
