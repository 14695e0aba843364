"""An account locks what root's programs lock: they work all the same, and it is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Host, Lab

DEBCONF, MOUNTS = "/var/cache/debconf", "/run/mount"
FILES = (f"{DEBCONF}/config.dat", f"{DEBCONF}/templates.dat", f"{MOUNTS}/utab.lock")
HOLD = "import fcntl, sys, time; f = [open(p) for p in sys.argv[1:]]; [fcntl.flock(x, 2) for x in f]; time.sleep(3600)"
ANSWERS = "echo get debconf/priority | DEBIAN_FRONTEND=noninteractive timeout 20 debconf-communicate"
MOUNT = "mkdir -p /mnt/lab && timeout 20 mount -t tmpfs -o _netdev lab /mnt/lab && timeout 20 umount /mnt/lab"


@pytest.fixture
def held(lab: Lab) -> Iterator[tuple[Host, str]]:
    """A node as a distribution leaves it, on which an account has locked these files."""
    node = lab.nodes[-1]
    name = lab.nodes[0].variables["cluster_users"][1]["name"]
    node.check_output(f"mkdir -p {MOUNTS} && touch {' '.join(FILES)} && chmod 755 {DEBCONF} {MOUNTS}")
    node.check_output(f"chmod 644 {' '.join(FILES)}")
    hold = f'python3 -c "{HOLD}" {" ".join(FILES)}'
    node.check_output(f"systemd-run --unit lab-holder --collect --uid {name} {hold} && sleep 2")
    yield node, name
    node.run("systemctl stop lab-holder; rmdir /mnt/lab")


def test_who_holds_locks_is_named_and_holds_nobody_up(lab: Lab, held: tuple[Host, str]) -> None:
    node, name = held
    assert "locked by another process" in node.run(f"{ANSWERS} 2>&1").stdout
    # Warnings are on stderr.
    done = lab.playbook("site.yml", "--limit", node.name, "-e", "site_force=true")
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    pid = node.check_output("systemctl show -P MainPID lab-holder")
    for path in FILES:
        assert f"process {pid} (python3) of account '{name}' had locked {path}" in said
    assert "locked by another process" not in node.check_output(f"{ANSWERS} 2>&1")
    node.check_output(MOUNT)
    for path in FILES:
        assert node.run(f"runuser -u {name} -- head -c 0 {path}").rc != 0, path
