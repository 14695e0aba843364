# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether the runtime that Docker starts containers with has a hole that is known to lead out of them. Pure.

runc before 1.2.8 and 1.3.3 lets root in a container write files of the host's /proc: CVE-2025-31133, CVE-2025-52565 and
CVE-2025-52881 (https://github.com/opencontainers/runc/security/advisories).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Finding

# The first releases without: the patch of each branch; all of later branches are.
_MENDED = {(1, 2): 8, (1, 3): 3}
_CANDIDATE = {(1, 4, 0): 3}  # the first release candidate without
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})(?:-rc\.?([0-9]{1,4}))?")


def judge_runtime(components: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What is to be said of runc, from the components that Docker's `/version` names.

    Distributions mend their own and name it otherwise (1.1.5+ds1): of such nothing is known here.
    """
    return [
        Finding(
            "runc",
            f"is {version}, in which root in a container becomes root of the host (CVE-2025-31133 and others)",
            "Run apt-get install --only-upgrade containerd.io there: containers go on meanwhile.",
        )
        for version in (str(one.get("Version")) for one in components if one.get("Name") == "runc")
        if is_open(version)
    ]


def is_open(version: str) -> bool:
    match = _VERSION.fullmatch(version)
    if not match:
        return False
    major, minor, patch = int(match[1]), int(match[2]), int(match[3])
    if match[4] and (major, minor, patch) in _CANDIDATE:
        return int(match[4]) < _CANDIDATE[major, minor, patch]
    return (major, minor) < min(_MENDED) or patch < _MENDED.get((major, minor), 0)
