"""Keys that would keep the controller out: refused where that is known, else taken back by the host itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from support import converge, forget_share

NAME, UID = "gsops", 4805
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "D" * 43 + " somebody@else"


class Login:
    """Runs of site.yml on one node, with Ansible logging in as an account of the cluster's."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.node, self.folder = lab, lab.nodes[-1], folder
        self.own = (lab.inventory / ".ssh/id_ed25519.pub").read_text().strip()
        self.key = folder / "key"  # with no public part beside it: the preflight cannot tell
        shutil.copy(lab.inventory / ".ssh/id_ed25519", self.key)
        self.key.chmod(0o600)

    def site(self, keys: list[str], key: Path, **more: Any) -> subprocess.CompletedProcess[str]:
        user = {"name": NAME, "uid": UID, "ssh_keys": keys, "exclusive_keys": True, **more}
        users = [*self.node.variables["cluster_users"], user]
        variables = {"cluster_users": users, "ansible_user": NAME, "ansible_ssh_private_key_file": str(key)}
        file = self.folder / "variables.json"
        file.write_text(json.dumps(variables))
        return self.lab.playbook("site.yml", "--limit", self.node.name, "-e", f"@{file}")

    def lets_in(self) -> bool:
        files = self.lab.inventory / ".ssh"
        options = ["-o", f"UserKnownHostsFile={files}/known_hosts", "-o", "BatchMode=yes", "-o", "ControlPath=none"]
        command = ["ssh", *options, "-i", str(self.key), f"{NAME}@{self.node.address}", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def login(lab: Lab, tmp_path: Path) -> Iterator[Login]:
    found = Login(lab, tmp_path)
    found.node.check_output(
        f"useradd -m -U -u {UID} -s /bin/bash {NAME} && echo '{NAME} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{NAME}"
        f" && install -d -m 0700 -o {NAME} -g {NAME} /home/{NAME}/.ssh"
        f" && echo '{found.own}' > /home/{NAME}/.ssh/authorized_keys && chown {NAME}: /home/{NAME}/.ssh/authorized_keys"
    )
    assert found.lets_in()
    yield found
    found.node.run(f"rm -f /etc/sudoers.d/{NAME}; sleep 1; pkill -9 -u {NAME}")
    converge(lab)
    found.node.run(f"userdel {NAME}; rm -rf /home/{NAME}")
    forget_share(found.node, NAME)


def words(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def test_keys_without_the_controllers_are_taken_back(login: Login) -> None:
    began = time.monotonic()
    done = login.site([OTHER], login.key)
    assert done.returncode != 0
    assert f"accounts: {NAME}: a new login with the keys declared for '{NAME}'" in words(done)
    assert "the keys that were there before were put back" in words(done)
    assert "Add the controller's own public key" in words(done)
    assert login.lets_in()
    keys = login.node.check_output(f"cat /home/{NAME}/.ssh/authorized_keys; ls -A /home/{NAME}/.ssh")
    assert keys == f"{login.own}\nauthorized_keys", keys
    assert time.monotonic() - began < 1200
    done = login.site([login.own, OTHER], login.key)
    assert done.returncode == 0, words(done)
    assert login.lets_in()


def test_the_host_takes_them_back_within_a_minute(login: Login) -> None:
    """As the host sees it: from the change on, whatever became of the run."""
    file = f"/home/{NAME}/.ssh/authorized_keys"
    watch = (
        f"for i in $(seq 6000); do grep -q somebody@else {file} && break; sleep 0.1; done; began=$(date +%s); "
        f"while grep -q somebody@else {file}; do sleep 0.1; done; echo $(($(date +%s) - began))"
    )
    login.node.check_output(f"systemd-run --collect --unit gs-watch sh -c '({watch}) > /run/gs-watch'")
    assert login.site([OTHER], login.key).returncode != 0
    assert 0 < int(login.node.check_output("cat /run/gs-watch; rm /run/gs-watch")) <= 60
    assert login.lets_in()


def test_the_preflight_refuses_what_it_can_tell(login: Login) -> None:
    before = login.node.check_output(f"stat -c %Y /home/{NAME}/.ssh/authorized_keys; cat /etc/passwd")
    done = login.site([OTHER], login.lab.inventory / ".ssh/id_ed25519")
    assert done.returncode != 0
    assert f"Ansible logs in as {NAME} (ansible_user), who has exclusive_keys" in words(done)
    assert login.node.check_output(f"stat -c %Y /home/{NAME}/.ssh/authorized_keys; cat /etc/passwd") == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"uid": UID + 1}, f"Ansible logs in there as {NAME}, who has the uid {UID}"),
        ({"shell": "/usr/sbin/nologin"}, "shell /usr/sbin/nologin of"),
        ({"home": "/srv/elsewhere"}, "home /srv/elsewhere of"),
    ],
)
def test_the_login_account_stays_as_it_lets_in(login: Login, more: dict[str, Any], said: str) -> None:
    done = login.site([login.own], login.key, **more)
    assert done.returncode != 0 and said in words(done), words(done)
    assert login.lets_in()
