"""Accounts from LDAP by sssd: matched, never changed, and waited for by nobody when the directory is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from conftest import Lab
from machines import RETURN, ask, flat, is_running, playbook, reboot, site, tell, until
from support import stale

DIRECTORY = "tests/integration/kernel/directory/bed.yml"
BRICK = "/export/brick"
# In the directory; gstwin is on the node as well, with another uid. Nobody asks for gslate before that is away.
PEOPLE = {"gsldap": 4901, "gstwin": 4904, "gslate": 4905}
LOCAL_TWIN = 4903
LOCAL_FILES = "sha256sum /etc/passwd /etc/group /etc/shadow /etc/gshadow"


class Bed:
    """A node that takes accounts from the directory, and runs with some of these declared."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.node, self.nas = lab.nodes[0], lab["nas"]
        self.users: list[dict[str, Any]] = list(self.node.variables["cluster_users"])
        # As which the tests log in everywhere.
        self.key = (lab.inventory / ".ssh/id_ed25519.pub").read_text().strip()

    def declare(self, **people: int) -> list[str]:
        """Options of a run with these accounts after its own; gsldap has a workspace."""
        users = [{"name": name, "uid": uid} for name, uid in people.items()]
        settings: dict[str, Any] = {"cluster_users": [*self.users, *users]}
        for user in users:
            if user["name"] == "gsldap":
                user["ssh_keys"] = [self.key]
                settings["workspace_instances"] = [{"owner": self.lab.owner}, {"owner": "gsldap"}]
        (self.folder / "settings.json").write_text(json.dumps(settings))
        return ["--limit", self.node.name, "-e", f"@{self.folder / 'settings.json'}"]

    def refused(self, seconds: float, *args: str) -> str:
        """A run that ends with an error and has done all else, which only a whole one says; what it said."""
        done = playbook(self.lab, "site.yml", *args, seconds=seconds)
        expected = "is not as it was declared" if "--tags" in args else "All else was done"
        assert done.returncode != 0 and expected in flat(done), done.stdout + done.stderr
        assert "Traceback" not in flat(done)
        return flat(done)


def directory(lab: Lab, state: str) -> CompletedProcess[str]:
    return playbook(lab, DIRECTORY, "-e", json.dumps({"bed": state, "people": PEOPLE}), seconds=1200)


@pytest.fixture(scope="module")
def bed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    made = Bed(lab, tmp_path_factory.mktemp("directory"))
    twin = f"groupadd --gid {LOCAL_TWIN} gstwin && useradd --create-home --uid {LOCAL_TWIN} --gid gstwin gstwin"
    # While nobody knows of the other one.
    tell(made.node, f"id gstwin 2>/dev/null || ({twin})")
    try:
        done = directory(lab, "present")
        assert done.returncode == 0, done.stdout + done.stderr
        until("the directory answers", lambda: ask(made.node, "getent passwd gsldap").returncode == 0, 120)
        # As pam_mkhomedir makes it at a first login by other means.
        tell(made.node, "install -d -m 0700 -o gsldap -g gsldap /home/gsldap")
        yield made
    finally:
        # Nothing of them is declared any more.
        ended = playbook(lab, "site.yml", "--limit", made.node.name, seconds=3600)
        directory(lab, "absent")
        ask(made.node, "userdel --remove gstwin; rm -rf /home/gsldap")
        ask(made.nas, f"rm -rf {' '.join(f'{BRICK}/users/{name}' for name in PEOPLE)}")
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_an_account_of_the_directory_is_matched_logs_in_and_owns_its_workspace(bed: Bed) -> None:
    node, uid = bed.node, PEOPLE["gsldap"]
    before = tell(node, LOCAL_FILES)
    options = bed.declare(gsldap=uid)
    site(bed.lab, *options)
    assert tell(node, LOCAL_FILES) == before
    assert ask(node, "id -un; id -u; pwd", 60, "gsldap").stdout.split() == ["gsldap", str(uid), "/home/gsldap"]
    inside = f"docker exec --user {uid}:{uid} gpustead-workspace-gsldap-ssh-1"
    assert tell(node, f"{inside} id -un") == "gsldap"
    tell(node, f"{inside} touch /home/gsldap/lab-own")
    ids = f"{uid}:{uid}"
    assert tell(bed.nas, f"cd {BRICK}/users/gsldap && stat -c %u:%g . lab-own").split() == [ids, ids]
    assert stale(site(bed.lab, *options)) == {}
    verified = playbook(bed.lab, "playbooks/verify.yml", *options, seconds=600)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_its_workspace_is_back_after_a_boot(bed: Bed) -> None:
    reboot([bed.node])
    until("all containers run", lambda: is_running(bed.node), RETURN)
    assert ask(bed.node, "id -un", 60, "gsldap").stdout.strip() == "gsldap"


def test_an_account_that_is_in_both_with_other_ids_is_named_and_left(bed: Bed) -> None:
    before = tell(bed.node, f"{LOCAL_FILES}; stat -c '%u:%g %a %Y' /home/gstwin")
    people = {"gsldap": PEOPLE["gsldap"], "gstwin": LOCAL_TWIN}
    said = bed.refused(1800, *bed.declare(**people), "--tags", "accounts")
    ids = f"{LOCAL_TWIN}:{LOCAL_TWIN} in /etc/passwd and {PEOPLE['gstwin']}:{PEOPLE['gstwin']} in the directory service"
    assert f"account 'gstwin' is there twice, with {ids}" in said
    assert "account 'gsldap'" not in said
    assert tell(bed.node, f"{LOCAL_FILES}; stat -c '%u:%g %a %Y' /home/gstwin") == before


def test_an_account_with_other_ids_than_declared_is_named_and_left(bed: Bed) -> None:
    before = tell(bed.node, LOCAL_FILES)
    uid = PEOPLE["gsldap"]
    said = bed.refused(1800, *bed.declare(gsldap=uid + 90), "--tags", "accounts")
    assert f"account 'gsldap' of the directory service has {uid}:{uid}" in said
    assert tell(bed.node, LOCAL_FILES) == before


@contextmanager
def silent(bed: Bed) -> Iterator[None]:
    """The directory does not answer at all: nobody is told that it is not there."""
    rule = "INPUT -p tcp --dport 389 -j DROP"
    tell(bed.nas, f"iptables -I {rule}")
    try:
        yield
    finally:
        tell(bed.nas, f"iptables -D {rule}")


@contextmanager
def stopped(bed: Bed) -> Iterator[None]:
    tell(bed.nas, "systemctl stop lab-slapd")
    try:
        yield
    finally:
        tell(bed.nas, "systemctl start lab-slapd")


@pytest.mark.parametrize("away", [silent, stopped])
def test_a_directory_that_is_away_keeps_nobody_waiting(bed: Bed, away: Any, tmp_path: Path) -> None:
    node, late = bed.node, PEOPLE["gslate"]
    options = bed.declare(gsldap=PEOPLE["gsldap"], gslate=late)
    with away(bed):
        # Of the system's accounts, and of those that are known.
        for account in ("root", bed.lab.owner, "gsldap"):
            assert ask(node, "id -un", 60, account).stdout.strip() == account
        said = bed.refused(1800, *options)
        # It may be in the directory: it is not made. Those that are known go on.
        assert f"does not answer for account 'gslate' (uid {late}, gid {late})" in said
        # Why the role ran at all may be what an earlier run had to leave.
        assert "account 'gsldap'" not in said.partition("is not as it was declared")[2]
        assert ask(node, "grep -q ^gslate: /etc/passwd /etc/group").returncode != 0
        began = time.monotonic()
        verified = playbook(bed.lab, "playbooks/verify.yml", *options, seconds=600)
        assert "Traceback" not in flat(verified) and "gslate" in flat(verified)
        drift = playbook(
            bed.lab, "playbooks/drift.yml", *options, "-e", f"drift_report={tmp_path / 'drift.json'}", seconds=600
        )
        assert drift.returncode != 0 and "Traceback" not in flat(drift)
        assert time.monotonic() - began < 600
    if away is silent:
        return  # who asked for it now would have it in the cache of the next
    until("the directory is back", lambda: ask(node, "getent passwd gslate").returncode == 0, RETURN)
    site(bed.lab, *options)
    assert ask(node, "grep -q ^gslate: /etc/passwd /etc/group").returncode != 0
    assert tell(bed.nas, f"stat -c %u:%g {BRICK}/users/gslate") == f"{late}:{late}"
