# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of the certificate authorities that a host trusts beside the system's own."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DIRECTORY = "/usr/local/share/ca-certificates"
PREFIX = "gpustead-"


@dataclass(frozen=True)
class Plan:
    """Paths on the host.

    Attributes:
        files: of the declared authorities, in their order.
        former: of those that the role installed last time and that are no longer declared.
    """

    files: list[str]
    former: list[str]


def plan(certificates: Sequence[str], previous: Sequence[Sequence[Any]] = ()) -> Plan:
    """Where the authorities lie on the host, and which ones go.

    Args:
        certificates: paths of the declared authorities on the controller.
        previous: what the role left before, as [kind, subject].
    """
    # update-ca-certificates takes files named *.crt alone; our prefix tells ours from the site's.
    names = [posixpath.splitext(posixpath.basename(path))[0] for path in certificates]
    files = [f"{DIRECTORY}/{PREFIX}{name}.crt" for name in names]
    before = [path for kind, subject in previous if kind == "contains" for path in subject["files"]]
    return Plan(files, [path for path in dict.fromkeys(before) if path not in files])
