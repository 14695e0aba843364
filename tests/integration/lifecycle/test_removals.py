"""Who is taken off the inventory is taken off the hosts, and never with their files."""

from __future__ import annotations

import json

from conftest import Lab

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINJhszxqdNZ7p6NBFWsw8DTQAYKtEfXesg2ypqIADe6K carol"


def site(lab: Lab, *args: str) -> None:
    done = lab.playbook("site.yml", "--limit", lab.nodes[1].name, *args)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_account_goes_and_its_files_stay(lab: Lab) -> None:
    node = lab.nodes[1]
    users = node.variables["cluster_users"]
    carol = {"name": "carol", "uid": 1502, "ssh_keys": [KEY]}
    site(lab, "-e", json.dumps({"cluster_users": [*users, carol]}))
    assert node.check_output("id -u carol") == "1502"
    node.check_output("echo mine > /home/carol/mine")
    site(lab)
    assert node.run("id carol").rc != 0
    assert node.check_output("cat /home/carol/mine; stat -c %u /home/carol").split() == ["mine", "1502"]
