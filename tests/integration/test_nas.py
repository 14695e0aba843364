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
