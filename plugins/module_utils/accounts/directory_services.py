# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory services that a host takes accounts from: which, what they have beside its files, whether they answer.

Of an account whose directory is away getent says what it says of one that is nowhere: status 2. sssd answers so for
what it has not in its cache while it is offline; and where it does not run, builds of distributions answer so as well
(--enable-sss-default-nss-plugin). An account that is made then is there twice when the directory is back.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.run import RunWith as Run

# By their names in nsswitch.conf, with what they are configured by: some images name them and have neither.
_CONFIGURED_BY = {"sss": ("etc/sssd/sssd.conf", "etc/sssd/conf.d/*.conf"), "ldap": ("etc/nslcd.conf",)}
_PIPE = "var/lib/sss/pipes/nss"
_SECONDS = 5.0
# Of its unit: any account can call a process sssd_be, and log what it likes.
_STATES = (
    *("journalctl", "--boot", "--quiet", "--no-pager", "--output=short", "--grep=^Backend is"),
    *("_SYSTEMD_UNIT=sssd.service", "_COMM=sssd_be"),
)


def services(root: Path) -> tuple[str, ...]:
    """Those that accounts of a host come from."""
    try:
        text = (root / "etc/nsswitch.conf").read_text(errors="replace")
    except FileNotFoundError:
        return ()
    found = re.search(r"^\s*passwd:([^#\n]*)", text, re.MULTILINE)
    named = re.sub(r"\[[^\]]*\]", " ", found[1]).split() if found else []
    return tuple(name for name in named if any(any(root.glob(one)) for one in _CONFIGURED_BY.get(name, ())))


def asking(service: str, database: str, keys: Iterable[str]) -> list[str]:
    """The command that asks a service alone, past the host's own files."""
    return ["getent", "-s", service, database, *keys]


def is_away(service: str, run: Run, root: Path) -> bool:
    """Whether what a service does not know may be there all the same. To be asked after it was asked for something."""
    if service == "sss":
        return not _listens(root / _PIPE) or _is_offline(run(_STATES, "")[1], root)
    # What is unavailable hands on to the next one; what answers ends the search, with nothing.
    ours = next((line for line in (root / "etc/passwd").read_text().split("\n") if line.startswith("root:")), "")
    return run(asking(f"{service} [NOTFOUND=return] files", "passwd", ["root"]), "")[1].strip() == ours


def _listens(pipe: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_SECONDS)
            client.connect(str(pipe))
    except OSError:
        return False
    return True


def _is_offline(said: str, root: Path) -> bool:
    """Whether a domain is, by what the process of each that runs has said last."""
    states = dict(re.findall(r"\[(\d+)\]: Backend is (online|offline)", said))
    return any(state == "offline" and (root / "proc" / process).exists() for process, state in states.items())
