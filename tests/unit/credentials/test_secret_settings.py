"""Passwords in settings: where one is seen, what is shown instead, and what is told from the rest."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import (
    forms,
    has_credentials,
    is_secret,
    masked,
    split,
    without,
)

MASKED = {
    "a proxy": ("http://u:hunter2@proxy:3128", "http://***@proxy:3128", True),
    "a token": ("https://ghp_x@github.com/a.git", "https://***@github.com/a.git", True),
    "in a sentence": ('said "http://u:hunter2@p/" twice', 'said "http://***@p/" twice', True),
    "an @ that was not encoded": ("http://u:hun@ter2@proxy", "http://***@proxy", True),
    "two in one line": ("http://a:b@c, http://d:e@f", "http://***@c, http://***@f", True),
    "the user of SSH": ("ssh://git@host/a.git", "ssh://***@host/a.git", False),
    "another password": ("ssh://git:hunter2@host/a.git", "ssh://***@host/a.git", True),
    "SSH's short form": ("git@github.com:a/b.git", "git@github.com:a/b.git", False),
    "an @ in a path": ("https://mirror/a@b", "https://mirror/a@b", False),
    "none": ("http://proxy:3128", "http://proxy:3128", False),
}


@pytest.mark.parametrize(("text", "shown", "has"), MASKED.values(), ids=list(MASKED))
def test_credentials_of_urls(text: str, shown: str, has: bool) -> None:
    assert masked(text) == shown
    assert has_credentials(text) is has


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("log-opts.splunk-token", "x", True),
        ("log-opts.max-size", "50m", False),
        ("proxies.http-proxy", "http://u:p@proxy", True),
        ("proxies.http-proxy", "http://proxy", False),
        ("registry-mirrors", ["https://a", "https://u:p@b"], True),
        ("a", {"b": [{"c": "https://u:p@b"}]}, True),
        ("WANDB_API_KEY", "x", True),
        ("hosts", None, False),
    ],
)
def test_what_is_secret(name: str, value: Any, secret: bool) -> None:
    assert is_secret(name, value) is secret


def test_settings_are_split() -> None:
    settings = {
        "log-driver": "splunk",
        "log-opts": {"splunk-token": "hunter2", "tag": "a"},
        "proxies": {"http-proxy": "http://u:hunter2@p", "no-proxy": "a,b"},
        "debug": True,
        "features": {},
    }
    plan = split(settings)
    assert plan["plain"] == {
        "log-driver": "splunk", "log-opts": {"tag": "a"}, "proxies": {"no-proxy": "a,b"}, "debug": True, "features": {}
    }  # fmt: skip
    assert plan["secret"] == {"log-opts": {"splunk-token": "hunter2"}, "proxies": {"http-proxy": "http://u:hunter2@p"}}
    assert plan["secret_keys"] == ["log-opts.splunk-token", "proxies.http-proxy"]
    assert plan["keys"] == [
        "debug", "log-driver", "log-opts.splunk-token", "log-opts.tag", "proxies.http-proxy", "proxies.no-proxy"
    ]  # fmt: skip


def test_all_forms_of_a_password_are_left_out() -> None:
    url = "http://site:hunt%40er2@proxy:3128"
    said = (
        "http_proxy=http://site:hunt%40er2@proxy:3128 via site:hunt@er2 "
        "Proxy-Authorization: Basic c2l0ZTpodW50QGVyMg== password hunt@er2 or hunt%40er2; a short one in atlas"
    )
    shown = without(said, [*forms(url), "tla"])
    assert "er2" not in shown and "c2l0ZTpo" not in shown
    assert shown.endswith("; a short one in atlas")
    assert list(forms("http://proxy")) == []
