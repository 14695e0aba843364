# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role base writes on a host: the proxies, the authorities it trusts beside the system's own, and the umask."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.certificates import last_day

DIRECTORY = "/usr/local/share/ca-certificates"
PREFIX = "gpustead-"
APT_PROXY = "/etc/apt/apt.conf.d/90gpustead-proxy"
APT_AUTH = "/etc/apt/auth.conf.d/90gpustead-proxy.conf"
UMASK = "/etc/profile.d/gpustead-umask.sh"
_HEAD = "# Written by role base: change base_proxy_env, not this file.\n"


@dataclass(frozen=True)
class Plan:
    """Paths on the host.

    Attributes:
        authorities: the files of the declared authorities, in their order.
        entries: all that is written and removed, as module host_files takes it.
    """

    authorities: list[str]
    entries: list[dict[str, Any]] = field(repr=False)


def plan(
    certificates: Sequence[str],
    proxies: Mapping[str, Any],
    previous: Sequence[Sequence[Any]],
    read: Callable[[str], bytes],
    now: float,
    *,
    umask: str = "",
) -> Plan:
    """What is written on a host.

    Args:
        certificates: paths of the declared authorities on the controller.
        proxies: what programs are told of them: `environment`, `apt` and `apt_auth`, each empty where there is nothing.
        previous: what the role left before, as [kind, subject].
        read: reads a file on the controller.
        now: seconds since the epoch.
        umask: of login shells of accounts, octal; empty leaves the system's.

    Raises:
        GpusteadError: a file is not one valid certificate, or two of them would lie in one place.
    """
    # update-ca-certificates takes files named *.crt alone; our prefix tells ours from the site's.
    names = [posixpath.splitext(posixpath.basename(path))[0] for path in certificates]
    files = [f"{DIRECTORY}/{PREFIX}{name}.crt" for name in names]
    if len(set(files)) < len(files):
        raise GpusteadError(
            f"base_ca_certificates: two files bear the same name ({', '.join(certificates)})",
            "a name of its own for each",
            "Rename one of them: on the hosts they lie in one directory.",
        )
    contents = [_certificate(path, read, now) for path in certificates]
    before = [path for kind, subject in previous if kind == "contains" for path in subject["files"]]
    # A package makes it, with other permissions on some releases.
    place = {"path": DIRECTORY, "state": "directory", "mode": "0755", "once": True, "when": bool(files)}
    return Plan(
        files,
        [
            *_proxies(proxies),
            _umask(umask),
            place,
            *({"path": file, "mode": "0644", "content": content} for file, content in zip(files, contents)),
            # Those that the receipt knows: one that somebody else gave such a name is theirs.
            *({"path": path, "state": "absent"} for path in dict.fromkeys(before) if path not in files),
        ],
    )


def _certificate(path: str, read: Callable[[str], bytes], now: float) -> str:
    try:
        data = read(path)
        found = last_day(data) if data.count(b"-----BEGIN CERTIFICATE-----") == 1 else None
        if found and found[1] > now:
            return data.decode()
    except (OSError, UnicodeDecodeError):
        pass  # said below
    raise GpusteadError(
        f"base_ca_certificates: {path}",
        "a file on the controller with exactly one PEM certificate that has not expired",
        "Correct the path, split a bundle into one file for each certificate, or get the authority's new one.",
    )


def _proxies(proxies: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What all may read has no password; apt's is in a file of root's, which it opens before it gives up its rights.

    All of them are secret: what stood in these files before may have had one.
    """
    environment = {"path": "/etc/environment", "state": "block", "marker": "gpustead: proxies", "mode": "0644"}
    files: list[dict[str, Any]] = [
        {"path": APT_PROXY, "mode": "0644", "validate": ["apt-config", "-c", "%s", "dump"]},
        {"path": APT_AUTH, "mode": "0600"},
    ]
    contents = [proxies["apt"] and _HEAD + proxies["apt"], proxies["apt_auth"]]
    return [
        {**environment, "content": proxies["environment"], "secret": True},
        *(
            {**file, "content": content, "secret": True} if content else {"path": file["path"], "state": "absent"}
            for file, content in zip(files, contents)
        ),
    ]


def _umask(umask: str) -> dict[str, Any]:
    if not umask:
        return {"path": UMASK, "state": "absent"}
    head = "# Written by role base: change base_umask, not this file. Not root's.\n"
    return {"path": UMASK, "mode": "0644", "content": f'{head}[ "$(id -u)" -lt 1000 ] || umask {umask}\n'}
