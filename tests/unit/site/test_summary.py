# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the summary says of workspaces, secrets and logging in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.site.summary import Summary, summary

USERS = {"cluster_users": [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501}]}
USUAL = Summary(
    nodes=1,
    workspaces=[],
    owner="ada",
    secret="file",
    of_others=False,
    log_in="ssh a",
    nas_path="/mnt/nas",
)


def page(**settings: Any) -> Summary:
    return summary({"a": {**USERS, **settings}}, "a")


def services(**settings: Any) -> list[str]:
    return [line for offer in page(**settings).workspaces for line in offer.services]


def test_the_usual_cluster() -> None:
    (offer,) = page().workspaces
    assert replace(page(), workspaces=[]) == USUAL
    assert (offer.title, offer.services[:4]) == (
        "a",
        [
            "JupyterLab   http://a:18888/",
            "TensorBoard  http://a:16006/",
            "Gradio       http://a:17860/",
            "SSH          ssh -p 10022 ada@a",
        ],
    )


def test_addresses_of_ipv6_stand_in_brackets_where_a_browser_reads_them() -> None:
    lines = services(cluster_address="fd00::1", ansible_host="10.0.0.9")
    assert lines[0] == "JupyterLab   http://[fd00::1]:18888/"
    assert lines[3] == "SSH          ssh -p 10022 ada@fd00::1"


def test_what_the_node_alone_reaches_is_said() -> None:
    lines = services(workspace_service_bind={"jupyter": ["127.0.0.1", "::1"], "ssh": ["127.0.0.2"], "gradio": ["::"]})
    assert lines[0] == "JupyterLab   http://127.0.0.1:18888/   (on the node alone)"
    assert lines[2] == "Gradio       http://a:17860/"
    assert lines[3] == "SSH          ssh -p 10022 ada@127.0.0.1   (on the node alone)"


@pytest.mark.parametrize(
    ("instances", "titles", "of_others"),
    [
        ([], ["a"], False),
        ([{"owner": "ada"}, {"owner": "bob"}], ["a, ada", "a, bob"], True),
        ([{"owner": "bob"}], ["a, bob"], True),
    ],
)
def test_owners_are_named_where_there_are_several(instances: list[Any], titles: list[str], of_others: bool) -> None:
    found = page(workspace_instances=instances)
    assert ([offer.title for offer in found.workspaces], found.of_others) == (titles, of_others)


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        ({}, "file"),
        ({"workspace_jupyter_token": "t"}, "token"),
        ({"workspace_jupyter_password_hash": "argon2:x", "workspace_jupyter_token": ""}, "password"),
    ],
)
def test_the_secret_of_jupyterlab(settings: dict[str, Any], secret: str) -> None:
    assert page(**settings).secret == secret


def test_how_one_logs_in() -> None:
    found = page(
        ansible_host="10.0.0.9",
        ansible_user="ops",
        ansible_port=2200,
        ansible_ssh_private_key_file="~/key",
        ansible_ssh_common_args="-o X=y",
    )
    assert found.log_in == "ssh -i ~/key -o X=y -p 2200 ops@10.0.0.9"


def test_who_has_a_key_here_is_told_the_whole_command() -> None:
    """As in a lab, whose key and host keys lie beside its inventory."""
    settings = {
        "ansible_host": "10.0.0.9",
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/lab/known_hosts",
        "client_identity_file": "/lab/key",
        "workspace_instances": [{"owner": "ada"}, {"owner": "bob"}],
    }
    ssh = [line for line in services(**settings) if line.startswith("SSH")]
    assert ssh[0] == "SSH          ssh -i /lab/key -o UserKnownHostsFile=/lab/known_hosts -p 10022 ada@10.0.0.9"
    assert "ssh -p " in ssh[1] and ssh[1].endswith(" bob@10.0.0.9")
