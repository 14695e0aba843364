# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The defaults that the library knows are those of the roles; the idioms for owner and address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.settings import (
    DEFAULTS,
    SERVICE_ACCOUNT,
    address_of,
    owner_of,
    setting,
)

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "roles").glob("*/defaults/main.yml"))
# What the receipts' plugins read by themselves.
PLUGIN = ROOT / "plugins/plugin_utils/receipt_host_check.py"


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_those_of_the_roles(name: str) -> None:
    """A role's own variable has its default there; what roles share has it in each `default()`."""
    own = [value for path in FILES for key, value in yaml.safe_load(path.read_text()).items() if key == name]
    text = "".join(path.read_text() for path in (*FILES, PLUGIN))
    shared = re.findall(rf"""\b{name}(?: \| default\(|", )['"]([^'"]*)['"]""", text)
    assert {repr(value) for value in [*own, *shared]} == {repr(DEFAULTS[name])}


def test_the_service_account_is_that_of_the_roles() -> None:
    texts = [path.read_text() for path in FILES if "cluster_service_account" in path.read_text()]
    assert texts
    assert all(str(SERVICE_ACCOUNT) in text for text in texts)


def test_a_setting_is_the_host_s_or_the_default() -> None:
    assert setting({}, "cluster_nas_path") == "/mnt/nas"
    assert setting({"cluster_nas_path": "/data"}, "cluster_nas_path") == "/data"


@pytest.mark.parametrize(
    ("variables", "owner"),
    [
        ({}, ""),
        ({"cluster_users": []}, ""),
        ({"cluster_users": ["ada"]}, ""),
        ({"cluster_users": [{"uid": 1}]}, ""),
        ({"cluster_users": [{"name": "ada"}, {"name": "bob"}]}, "ada"),
        ({"cluster_users": [{"name": "ada"}], "cluster_owner": "bob"}, "bob"),
    ],
)
def test_owners(variables: dict[str, Any], owner: str) -> None:
    assert owner_of(variables) == owner


def test_addresses() -> None:
    both = {"ansible_host": "10.0.0.1", "cluster_address": "10.1.0.1"}
    assert [address_of(values, "a") for values in (both, {"ansible_host": "10.0.0.1"}, {})] == [
        "10.1.0.1",
        "10.0.0.1",
        "a",
    ]
