# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A file from outside whose digest is known, fetched by apt, which knows the proxies and their passwords itself."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import (
    has_credentials,
    masked,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

HELPER = "/usr/lib/apt/apt-helper"
_LENGTHS = {"sha256": 64, "sha512": 128}
_SHOWN = 400  # characters of what apt says


def check(url: str, checksum: str) -> None:
    """Refuse what cannot be fetched safely.

    Raises:
        GpusteadError: no checksum of a known kind, or a password in the URL.
    """
    algorithm, _separator, digest = checksum.partition(":")
    if not re.fullmatch(f"[0-9a-fA-F]{{{_LENGTHS.get(algorithm, 0)}}}", digest) or algorithm not in _LENGTHS:
        raise GpusteadError(
            f"the checksum {checksum!r} of {masked(url)}",
            f"one of {', '.join(_LENGTHS)}, a colon and its hex digits",
            "Correct it.",
        )
    if has_credentials(url):
        raise GpusteadError(
            f"the URL {masked(url)} has a password or token",
            "a URL without: it would stand in the list of processes",
            "Give it to apt on the hosts in a file of /etc/apt/auth.conf.d with mode 0600, see apt_auth.conf(5).",
        )


def has(path: str, checksum: str) -> bool:
    """Whether the file is there and has the checksum."""
    algorithm, _separator, digest = checksum.partition(":")
    file = Path(path)
    return file.is_file() and hashlib.new(algorithm, file.read_bytes()).hexdigest() == digest.lower()


def fetch(run: Run, url: str, checksum: str, target: str) -> None:
    """Fetch it to `target`, which is not there yet.

    Raises:
        GpusteadError: it is not to be had, or is not what the checksum says.
    """
    algorithm, _separator, digest = checksum.partition(":")
    code, out, err = run([HELPER, "download-file", url, target, f"{algorithm.upper()}:{digest.lower()}"])
    if code or not has(target, checksum):
        said = " ".join(masked(err or out).split())[:_SHOWN]
        raise GpusteadError(
            f"{url} could not be fetched: {said}",
            f"a file with the checksum {checksum}",
            "See whether the host has a way there (base_proxy_env), and correct URL and checksum if they have changed.",
        )
    file = Path(target)
    if file.is_symlink():  # what apt makes of a file:// URL
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
