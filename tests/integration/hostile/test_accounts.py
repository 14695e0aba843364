"""What accounts do to their homes, keys and names: root does none of it for them, and all others are done."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from support import AS_LAYOUT, STATE, converge, forget_share

ZOE, YAN = 4801, 4802
MAKEFILE = "/etc/gpustead/workspace/Makefile"
# All of a file's or directory's own that an attack could change.
SEEN = "stat -c '%n %u:%g %a %Y' {0}; find {0} -type f -exec sha256sum {{}} +"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43 + " {0}@desk"


class Bed:
    """A node with two accounts of its own: zoe, who attacks, and yan, who is declared after her."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.node, self.folder = lab, lab.nodes[-1], folder
        self.users: list[dict[str, Any]] = list(self.node.variables["cluster_users"])
        self.zoe = {"name": "gszoe", "uid": ZOE, "ssh_keys": [KEY.format("zoe")]}
        self.yan = {"name": "gsyan", "uid": YAN, "ssh_keys": [KEY.format("yan")]}

    def site(self, *accounts: dict[str, Any], check: bool = False) -> subprocess.CompletedProcess[str]:
        """A whole run on the node, with these accounts after its own."""
        variables = self.folder / "users.json"
        variables.write_text(json.dumps({"cluster_users": [*self.users, *accounts]}))
        options = ["--check"] if check else []
        return self.lab.playbook("site.yml", "--limit", self.node.name, "-e", f"@{variables}", *options)

    def must(self, *accounts: dict[str, Any]) -> None:
        done = self.site(*accounts)
        assert done.returncode == 0, done.stdout + done.stderr

    def refused(self, *accounts: dict[str, Any], words: tuple[str, ...]) -> str:
        """A run that ends with these words, and has done all else: a later role has something to put right, too."""
        self.node.check_output(f"rm -f {MAKEFILE}")
        done = self.site(*accounts)
        text = " ".join((done.stdout + done.stderr).split())
        assert done.returncode != 0, text
        assert [word for word in words if word not in text] == [], text
        assert "All else was done" in text and "Traceback" not in text
        assert self.node.run(f"test -e {MAKEFILE}").rc == 0, "role workspace was not reached"
        run = json.loads(self.node.check_output(f"cat {STATE}/accounts.run"))
        assert run["refused"] and run["ended"]
        return text

    def as_zoe(self, command: str) -> None:
        self.node.check_output(f"runuser -u gszoe -- sh -c {quoted(command)}")

    def forget(self, *names: str) -> None:
        """Take away what accounts left. On the share root of a node can do nothing but as its owners."""
        for name in names:
            self.node.check_output(f"rm -rf /home/{name}")
            forget_share(self.node, name)

    def clean(self) -> None:
        """Take away what a test left, its failure included, that a run does not put right."""
        node = self.node
        for uid in (ZOE, YAN, ZOE + 10):
            node.run(f"pkill -9 -u {uid}")
        node.run("rm -rf /opt/victim /home/gszoe/.ssh /home/gszoe/deep /tmp/gszoe /var/tmp/gszoe")
        node.run("userdel gsother; groupdel gsml")
        self.forget("gsnew", "gslast")
        if node.run("id -u gszoe").stdout.strip() != str(ZOE):
            forget_share(node, "gszoe")


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture(scope="module")
def accounts(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    found = Bed(lab, tmp_path_factory.mktemp("accounts"))
    yield found
    converge(lab)
    found.forget("gszoe", "gsyan")
    found.node.run(f"rm -f /var/lib/gpustead/uid_match/gs*; getent passwd {ZOE} {YAN}")


@pytest.fixture
def bed(accounts: Bed) -> Iterator[Bed]:
    accounts.must(accounts.zoe, accounts.yan)
    accounts.node.check_output("mkdir -p /opt/victim && cp -p /etc/shadow /opt/victim/authorized_keys")
    yield accounts
    accounts.clean()


LINKS: dict[str, tuple[str, str]] = {
    "the file to shadow": ("ln -sf /etc/shadow ~/.ssh/authorized_keys", "/home/gszoe/.ssh/authorized_keys"),
    "the directory to root's": ("rm -r ~/.ssh; ln -s /opt/victim ~/.ssh", "/home/gszoe/.ssh"),
    "the directory to the login account's": ("rm -r ~/.ssh; ln -s /root/.ssh ~/.ssh", "/home/gszoe/.ssh"),
    "a FIFO": ("rm -r ~/.ssh; mkfifo ~/.ssh", "/home/gszoe/.ssh"),
    "a FIFO in it": ("rm ~/.ssh/authorized_keys; mkfifo ~/.ssh/authorized_keys", "/home/gszoe/.ssh/authorized_keys"),
    "a second name": ("ln ~/.ssh/authorized_keys ~/second", "/home/gszoe/.ssh/authorized_keys"),
}


@pytest.mark.parametrize("case", LINKS)
def test_keys_that_are_none_of_the_accounts(bed: Bed, case: str) -> None:
    attack, path = LINKS[case]
    victims = [SEEN.format(name) for name in ("/etc/shadow", "/opt/victim", "/root/.ssh", "/etc/passwd")]
    before = bed.node.check_output("; ".join(victims))
    bed.as_zoe(f"cd; {attack}")
    yan = {**bed.yan, "ssh_keys": [KEY.format("yan-again"), KEY.replace("B", "C").format("new")]}
    bed.refused(bed.zoe, yan, words=("accounts: gszoe:", path, "out of the way" if "name" not in case else "Remove"))
    assert bed.node.check_output("; ".join(victims)) == before
    assert "new@desk" in bed.node.check_output("cat /home/gsyan/.ssh/authorized_keys")
    assert bed.node.run("true").rc == 0  # the controller still gets in
    bed.as_zoe("cd; rm -rf ~/.ssh ~/second")
    bed.must(bed.zoe, yan)
    assert "zoe@desk" in bed.node.check_output("cat /home/gszoe/.ssh/authorized_keys")


SSH = "/home/gszoe/.ssh"
KEYS_FILE = f"{SSH}/authorized_keys"
OWN: dict[str, str] = {
    "another group of hers": f"chgrp gsml {KEYS_FILE}",
    "by the directory": f"chgrp gsml {SSH}; chmod 2700 {SSH}; cp {KEYS_FILE} /tmp/gszoe;"
    f" rm {KEYS_FILE}; cp /tmp/gszoe {KEYS_FILE}; chmod 600 {KEYS_FILE}; rm /tmp/gszoe",
    "a comment of two lines, for some": f"printf '# x\\013junk\\n' >> {KEYS_FILE}",
    "a second file that sshd reads": f"printf '%s\\n' '{KEY.replace('B', 'D').format('own')}' > {KEYS_FILE}2",
}


@pytest.mark.parametrize("case", OWN)
def test_what_an_account_does_to_its_keys_is_put_right(bed: Bed, case: str) -> None:
    zoe = {**bed.zoe, "groups": ["gsml"], "exclusive_keys": True}
    bed.must(zoe, bed.yan)
    bed.as_zoe(OWN[case])
    bed.must(zoe, bed.yan)
    assert bed.node.check_output(f"stat -c '%U:%G %a' {KEYS_FILE}") == "gszoe:gszoe 600"
    assert "own@desk" not in bed.node.run(f"cat {KEYS_FILE} {KEYS_FILE}2").stdout
    bed.must(zoe, bed.yan)


LOOPS: dict[str, tuple[str, str]] = {
    "permissions": (f"chmod 644 {KEYS_FILE}", "lines /home/gszoe/.ssh/authorized_keys: mode"),
    "a line more": (f'echo "ssh-ed25519 x" >> {KEYS_FILE}', "lines /home/gszoe/.ssh/authorized_keys: others"),
}


@pytest.mark.parametrize("case", LOOPS)
def test_what_an_account_undoes_all_the_time_stops_it_alone(bed: Bed, case: str) -> None:
    """Put right by the role, and otherwise again when the receipt is to be written."""
    command, words = LOOPS[case]
    loop = f"while :; do {command}; sleep 0.05; done"
    zoe = {**bed.zoe, "exclusive_keys": True}
    bed.must(zoe, bed.yan)
    bed.node.check_output(f"setsid runuser -u gszoe -- sh -c {quoted(loop)} >/dev/null 2>&1 </dev/null & sleep 0.5")
    yan = {**bed.yan, "ssh_keys": [KEY.format("yan-again"), KEY.replace("B", "C").format("new")]}
    bed.refused(zoe, yan, words=("accounts: gszoe:", words, "ps -fu gszoe"))
    assert "new@desk" in bed.node.check_output("cat /home/gsyan/.ssh/authorized_keys")
    bed.node.check_output("pkill -u gszoe; sleep 0.5")
    bed.must(zoe, yan)
    assert bed.node.check_output(f"stat -c %a {KEYS_FILE}") == "600"


def test_one_name_that_cannot_be_had_keeps_nobody_after_it(bed: Bed) -> None:
    bed.node.check_output("useradd -M -u 4809 gsother")
    taken = {"name": "gstaken", "uid": 4809}
    new = {"name": "gsnew", "uid": 4803, "ssh_keys": [KEY.format("new")]}
    text = bed.refused(bed.zoe, bed.yan, taken, new, words=("accounts: gstaken:", "uid 4809 belongs to 'gsother'"))
    assert "Choose another uid" in text
    assert "new@desk" in bed.node.check_output("cat /home/gsnew/.ssh/authorized_keys")
    assert bed.node.check_output("stat -c %u /mnt/nas/users/gsnew") == "4803"
    bed.must(bed.zoe, bed.yan)
    assert bed.node.run("id gsnew").rc == 1
    bed.forget("gsnew")


def test_a_directory_on_the_share_that_is_anothers(bed: Bed) -> None:
    path = "/mnt/nas/users/gsnew"
    bed.node.check_output(f"setpriv --reuid {ZOE} --regid 941 --clear-groups mkdir {path}")  # of former times
    first, last = {"name": "gsnew", "uid": 4803}, {"name": "gslast", "uid": 4804}
    bed.refused(bed.zoe, bed.yan, first, last, words=("accounts: users/gsnew:", f"belongs to uid {ZOE}"))
    assert bed.node.check_output("stat -c %u /mnt/nas/users/gslast") == "4804"
    assert bed.node.check_output(f"stat -c %u {path}") == str(ZOE)
    bed.node.check_output(f"{AS_LAYOUT} rmdir {path}")
    bed.must(bed.zoe, bed.yan, first, last)
    bed.must(bed.zoe, bed.yan)
    bed.forget("gsnew", "gslast")


def test_who_goes_is_locked_at_once_and_removed_when_nothing_runs(bed: Bed) -> None:
    bed.node.check_output("setsid runuser -u gszoe -- sleep 4242 >/dev/null 2>&1 </dev/null & sleep 0.5")
    new = {"name": "gsnew", "uid": 4803}
    words = ("accounts: gszoe:", "sleep", "nobody can log in", "End them", "authorized_keys.retired")
    bed.refused(bed.yan, new, words=words)
    shadow = bed.node.check_output("getent shadow gszoe").split(":")
    assert (shadow[7], bed.node.check_output("getent passwd gszoe").endswith("nologin")) == ("1", True)
    assert bed.node.run("test -e /home/gszoe/.ssh/authorized_keys").rc == 1
    assert bed.node.run("pgrep -u gszoe sleep").rc == 0  # nothing is killed
    assert bed.node.run("id gsnew").rc == 0
    bed.must(bed.zoe, bed.yan, new)  # declared again
    assert bed.node.check_output("getent passwd gszoe").endswith("/bin/bash")
    assert "zoe@desk" in bed.node.check_output("cat /home/gszoe/.ssh/authorized_keys")
    bed.refused(bed.yan, new, words=("accounts: gszoe:", "sleep"))
    bed.node.check_output("pkill -u gszoe; sleep 0.5")
    bed.must(bed.yan)
    assert bed.node.run("getent passwd gszoe").rc == 2
    assert bed.node.run("test -d /home/gszoe").rc == 0
    bed.forget("gsnew")


def test_a_number_is_handed_on_with_nothing_that_acts_as_its_owner(bed: Bed) -> None:
    bed.as_zoe("cp /bin/true /var/tmp/gszoe; chmod 4755 /var/tmp/gszoe")
    bed.must(bed.yan)
    assert bed.node.run("id gszoe").rc == 1
    new = {"name": "gsnew", "uid": ZOE}
    bed.must(bed.yan, new)
    assert bed.node.check_output("stat -c '%U %a' /var/tmp/gszoe") == "gsnew 755"
    bed.node.check_output("rm /var/tmp/gszoe")
    bed.must(bed.yan)
    bed.forget("gsnew")


DEEP = "import os\nfor _ in range({0}):\n os.mkdir('{1}'); os.chdir('{1}')\n open('file', 'w').close()"
TREES: dict[str, str] = {
    "1,200 directories in each other": DEEP.format(1_200, "d"),
    "10,000": DEEP.format(10_000, "d"),
    "long names": DEEP.format(400, "n" * 250),
}


@pytest.mark.parametrize("case", TREES)
def test_a_home_of_any_depth_is_renumbered(bed: Bed, case: str) -> None:
    bed.node.check_output("runuser -u gszoe -- mkdir /home/gszoe/deep")
    bed.node.check_output(f"cd /home/gszoe/deep && runuser -u gszoe -- python3 -c {quoted(TREES[case])}")
    forget_share(bed.node, "gszoe")
    bed.must({**bed.zoe, "uid": ZOE + 10}, bed.yan)
    assert bed.node.check_output(f"find /home/gszoe -not -uid {ZOE + 10} | wc -l") == "0"
    bed.node.check_output("rm -rf /home/gszoe/deep")


def test_setuid_programs_of_others_stay_theirs(bed: Bed) -> None:
    bed.node.check_output(f"cd /home/gszoe && cp /bin/true root && chgrp {ZOE} root && chmod 4755 root")
    bed.as_zoe("cd; cp /bin/true own; chmod 4755 own; cp /bin/true open; chmod 4777 open; ln -s /usr/bin/su su")
    before = bed.node.check_output("stat -c '%u:%g %a' /usr/bin/su")
    forget_share(bed.node, "gszoe")
    bed.must({**bed.zoe, "uid": ZOE + 10}, bed.yan)
    lines = bed.node.check_output("cd /home/gszoe; stat -c '%n %u %a' root own open").splitlines()
    assert dict(line.split(" ", 1) for line in lines) == {
        "root": "0 755",
        "own": f"{ZOE + 10} 4755",
        "open": f"{ZOE + 10} 777",
    }
    assert bed.node.check_output("stat -c '%u:%g %a' /usr/bin/su") == before


def test_a_check_says_the_same_and_changes_nothing(bed: Bed) -> None:
    bed.as_zoe("cd; rm -r ~/.ssh; ln -s /opt/victim ~/.ssh")
    before = bed.node.check_output("ls -lan /home/gszoe /opt/victim")
    done = bed.site(bed.zoe, bed.yan, check=True)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "accounts: gszoe: /home/gszoe/.ssh is a symbolic link" in text, text
    assert bed.node.check_output("ls -lan /home/gszoe /opt/victim") == before
