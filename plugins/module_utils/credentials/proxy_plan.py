# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The site's proxies: what each program is told of them, and where their password stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_APT = ("http", "https")
# What would end a value in /etc/environment, in apt's configuration or in a line.
_UNSAFE = re.compile(r"[\s\"'\\;{}$`]")


@dataclass(frozen=True)
class Proxies:
    """The proxies of a site.

    Attributes:
        full: variable (lower case) to its value, with passwords.
        plain: the same without passwords, for what everybody on a host may read.
        secret: those of `full` that have a password.
        docker: what Docker's daemon.json has as `proxies`, with passwords.
        environment: lines for /etc/environment; no password.
        apt: apt's configuration; no password.
        apt_auth: apt's passwords, as in apt_auth.conf(5); empty where there is none.
    """

    full: Mapping[str, str] = field(repr=False)
    plain: Mapping[str, str]
    secret: Mapping[str, str] = field(repr=False)
    docker: Mapping[str, str] = field(repr=False)
    environment: str
    apt: str
    apt_auth: str = field(repr=False)


def plan(variables: Mapping[str, Any]) -> Proxies:
    """What becomes of the variables `http_proxy`, `https_proxy`, `no_proxy` and the like, in either case.

    Raises:
        GpusteadError: another variable, no URL of a proxy, a password that a program could not be told. The value is
            never shown.
    """
    full: dict[str, str] = {}
    for name, value in variables.items():
        known = str(name).lower()
        if known not in NAMES:
            raise GpusteadError(
                f"the proxies have the variable {str(name)!r}", f"one of {', '.join(NAMES)}", "Correct its name."
            )
        if not isinstance(value, str):
            raise GpusteadError(f"{name} is of type {type(value).__name__} (not shown)", "a text", "Correct it.")
        if full.setdefault(known, value) != value:
            raise GpusteadError(
                f"{known} is given twice, in either case, with different values", "one value", "Remove one of them."
            )
    urls = {name: _url(name, value) for name, value in full.items() if name != "no_proxy" and value}
    if _UNSAFE.search(re.sub(r"\s*,\s*", ",", full.get("no_proxy", "").strip())):
        raise GpusteadError(
            "no_proxy has a character that the files of proxies cannot hold",
            "hosts, domains and networks with commas between them",
            "Correct it.",
        )
    plain = {name: _plain(urls[name]) if name in urls else value for name, value in full.items()}
    return Proxies(
        full=full,
        plain=plain,
        secret={name: value for name, value in full.items() if value != plain[name]},
        docker=_docker(full),
        environment="".join(f'{name}="{value}"\n{name.upper()}="{value}"\n' for name, value in plain.items()),
        apt=_apt(plain),
        apt_auth=_apt_auth(urls),
    )


def both_cases(variables: Mapping[str, str]) -> dict[str, str]:
    """Programs look for one or the other; curl takes http_proxy in lower case alone."""
    return {name: value for lower, value in variables.items() for name in (lower, lower.upper())}


def _url(name: str, value: str) -> SplitResult:
    def refuse(expected: str) -> GpusteadError:
        return GpusteadError(
            f"{name} (its value is not shown)",
            expected,
            "Write it as http://proxy.example.org:3128 or http://user:password@proxy.example.org:3128, and in user and "
            "password %40 for @, %3A for :, %2F for /, %25 for %.",
        )

    if _UNSAFE.search(value):
        raise refuse("a URL without blanks, quotation marks, backslashes and ;{}$`")
    try:
        url = urlsplit(value)
        _unused = url.port
    except ValueError:
        raise refuse("a URL with a number as its port") from None
    if url.scheme.lower() not in _SCHEMES or not url.hostname or url.query or url.fragment or url.path not in ("", "/"):
        raise refuse(f"a URL with one of the schemes {', '.join(_SCHEMES)}, a host and a port")
    userinfo = url.netloc.rpartition("@")[0]
    if "@" in userinfo or userinfo.count(":") > 1 or re.search(r"%(?![0-9A-Fa-f]{2})", userinfo):
        raise refuse("a URL whose user and password are encoded")
    if re.search(r"\s", unquote(userinfo)) or "\0" in unquote(userinfo):
        raise refuse("a user and a password without white space: apt could not be told them")
    if userinfo and not (unquote(url.username or "") and unquote(url.password or "")):
        raise refuse("both a user and a password, or neither")
    return url


def _plain(url: SplitResult) -> str:
    return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))


def _docker(full: Mapping[str, str]) -> dict[str, str]:
    """dockerd knows these three and starts with no other."""
    ways = {f"{scheme}-proxy": full.get(f"{scheme}_proxy") or full.get("all_proxy", "") for scheme in ("http", "https")}
    return {name: value for name, value in {**ways, "no-proxy": full.get("no_proxy", "")}.items() if value}


def _apt(plain: Mapping[str, str]) -> str:
    """apt asks what stands in its configuration before the environment."""
    ways = {scheme: plain.get(f"{scheme}_proxy") or plain.get("all_proxy") for scheme in _APT}
    lines = [f'Acquire::{scheme}::Proxy "{way}";' for scheme, way in ways.items() if way]
    for host in (entry.strip() for entry in plain.get("no_proxy", "").split(",")):
        if host and not re.search(r"[*/]", host):  # apt knows neither patterns nor networks
            lines += [f'Acquire::{scheme}::Proxy::{host} "DIRECT";' for scheme in _APT]
    return "".join(f"{line}\n" for line in lines)


def _apt_auth(urls: Mapping[str, SplitResult]) -> str:
    """With the scheme: apt gives no password to a machine that is named without one but over TLS."""
    entries: dict[str, str] = {}
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        url = urls.get(name)
        if url is None or url.password is None:
            continue
        machine = f"{url.scheme.lower()}://{url.netloc.rpartition('@')[2]}"
        entry = f"machine {machine} login {unquote(url.username or '')} password {unquote(url.password)}\n"
        if entries.setdefault(machine, entry) != entry:
            raise GpusteadError(
                f"two of the proxies are {machine} with different passwords",
                "one user and password for each proxy",
                "Give both variables the same.",
            )
    return "".join(entries.values())
