# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether sshd lets accounts in by their keys, as OpenSSH 9.2 prints its settings with -T."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import DesiredKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Group
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.sshd_access import warnings
from ansible_collections.gpustead.cluster.plugins.module_utils.run import NOT_FOUND

ADA, BOB = (
    DesiredKeys(name, uid, uid, f"/home/{name}", keys=("ssh-ed25519 AAAA",))
    for name, uid in (("ada", 1500), ("bob", 1501))
)
GROUPS = [Group("ada", 1500), Group("bob", 1501), Group("ssh-users", 990, ("bob",)), Group("sudo", 27, ("root",))]
USUAL = """port 22
listenaddress [::]:22
pubkeyauthentication yes
passwordauthentication no
authorizedkeyscommand none
authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2
authenticationmethods any
"""


def told(text: str = "", file: str = ".ssh/authorized_keys", code: int = 0) -> list[str]:
    """The warnings of a host whose sshd says this besides."""

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        assert argv[:3] == ["sshd", "-T", "-C"] and argv[3].startswith(("user=ada,host=", "user=bob,host="))
        usual = USUAL.replace(".ssh/authorized_keys .ssh/authorized_keys2", file)
        return code, usual + text, ""

    return warnings(run, [ADA, BOB], GROUPS)


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("", ".ssh/authorized_keys .ssh/authorized_keys2"),
        ("", "/etc/ssh/authorized_keys/%u %h/.ssh/authorized_keys"),
        ("", "/home/%u/.ssh/authorized_keys"),
        ("allowusers root\nallowusers bob\nallowusers a*\n", ".ssh/authorized_keys"),
        # From where they come is not known.
        ("allowusers ada@10.0.0.*\nallowusers bob@*\ndenyusers ada@192.168.0.1\n", ".ssh/authorized_keys"),
        # Nor who is in a group of a directory, or in one that a pattern means.
        ("allowgroups sudo\nallowgroups researchers@example.org\n", ".ssh/authorized_keys"),
        ("allowgroups ssh-*\n", ".ssh/authorized_keys"),
    ],
)
def test_who_is_let_in(text: str, file: str) -> None:
    assert told(text, file) == []


# As hardening roles leave it: dev-sec/ansible-ssh-hardening 101 and 132, debops/ansible-sshd 18, geerlingguy's role
# security 84, sansible/users_and_groups 15.
@pytest.mark.parametrize(
    ("text", "file", "words"),
    [
        ("allowusers root\n", "", "others alone (AllowUsers), so keys do not let in: ada, bob."),
        ("allowgroups ssh-users\nallowgroups sudo\n", "", "(AllowGroups ssh-users sudo), so keys do not let in: ada."),
        ("denyusers a??\n", "", "DenyUsers, so keys do not let in: ada."),
        ("denygroups ssh-users\n", "", "(DenyGroups ssh-users), so keys do not let in: bob."),
        (
            "",
            "/etc/ssh/authorized_keys/%u",
            "(AuthorizedKeysFile /etc/ssh/authorized_keys/%u), so keys do not let in: ada",
        ),
        ("", "none", "(AuthorizedKeysFile none)"),
    ],
)
def test_who_is_not(text: str, file: str, words: str) -> None:
    (warning,) = told(text, file or ".ssh/authorized_keys")
    assert words in warning


def test_methods_without_a_key() -> None:
    def run(_argv: Sequence[str]) -> tuple[int, str, str]:
        return 0, "pubkeyauthentication no\nauthenticationmethods keyboard-interactive\n", ""

    both = "pubkeyauthentication yes\nauthenticationmethods publickey,keyboard-interactive\n"
    assert warnings(lambda _argv: (0, both, ""), [ADA], GROUPS) == []
    assert [warning.partition(",")[0] for warning in warnings(run, [ADA], GROUPS)] == [
        "sshd takes no keys (PubkeyAuthentication no)",
        "sshd asks for no key (AuthenticationMethods keyboard-interactive)",
    ]


def test_an_sshd_that_tells_nothing_and_an_account_without_keys_are_passed_over() -> None:
    assert told("allowusers root\n", code=255) == []
    assert warnings(lambda _argv: (NOT_FOUND, "", ""), [ADA], GROUPS) == []
    keyless = DesiredKeys("eve", 1502, 1502, "/home/eve")
    assert warnings(lambda _argv: (0, "allowusers root\n", ""), [keyless], GROUPS) == []
