# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Passwords and tokens that stand in settings: where they are, and text as it may be shown."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote

# Up to the last @ in front of the path: a password may hold one that was not encoded.
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/\s\"']*)@")
# Words in the names of settings whose values nobody else may read.
SECRET_NAME = "passw|passphrase|secret|token|credential|api[_-]?key"
_NAME = re.compile(SECRET_NAME, re.IGNORECASE)
_MASK = "***"
_SHORTEST = 4  # what is shorter stands in other words, too


def masked(text: str) -> str:
    """The text without what stands before the @ of its URLs."""
    return _USERINFO.sub(rf"\1{_MASK}@", text)


def has_credentials(text: str) -> bool:
    """Whether a URL in the text holds a password or a token; the user of `ssh://git@host` is none."""
    return any(
        ":" in found.group(2) or found.group(1).lower().startswith(("http", "ftp", "socks"))
        for found in _USERINFO.finditer(text)
    )


def is_secret(name: str, value: Any) -> bool:
    """Whether a setting is to be kept from logs and reports, by its name or by what its value holds."""
    return bool(_NAME.search(name)) or any(has_credentials(text) for text in texts(value))


def split(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, those that hold a password or token told from the rest.

    Returns:
        `plain` and `secret`, which together are the settings; `keys`, all of them, those of objects as `object.key`;
        and `secret_keys`, those of `secret` among them.
    """
    plain: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    keys: list[str] = []
    secret_keys: list[str] = []
    for key, value in settings.items():
        inner = value if isinstance(value, Mapping) else {}
        hidden = {name: one for name, one in inner.items() if is_secret(f"{key}.{name}", one)}
        keys += [f"{key}.{name}" for name in inner] if isinstance(value, Mapping) else [key]
        secret_keys += [f"{key}.{name}" for name in hidden]
        if isinstance(value, Mapping):
            if hidden:
                secret[key] = hidden
            if len(hidden) < len(inner) or not inner:
                plain[key] = {name: one for name, one in inner.items() if name not in hidden}
        elif is_secret(key, value):
            secret[key] = value
            secret_keys.append(key)
        else:
            plain[key] = value
    return {"plain": plain, "secret": secret, "keys": sorted(keys), "secret_keys": sorted(secret_keys)}


def texts(value: Any) -> Iterator[str]:
    """Every text in a value of JSON: itself, and those in lists and dictionaries."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from texts(inner)


def forms(url: str) -> Iterator[str]:
    """All that a program may print of a URL's credentials: as written, decoded, and as an HTTP header has them."""
    found = _USERINFO.match(url)
    if not found:
        return
    user, _separator, password = found.group(2).partition(":")
    pair = f"{unquote(user)}:{unquote(password)}"
    yield from (found.group(2), pair, base64.b64encode(pair.encode()).decode(), password, unquote(password))


def without(text: str, secrets: Iterable[str]) -> str:
    """The text without these secrets, and without the credentials of its URLs."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _MASK)
    return masked(text)
