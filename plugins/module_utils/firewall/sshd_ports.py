# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where sshd listens."""

from __future__ import annotations

import re


def sshd_ports(text: str) -> set[int]:
    """Where sshd listens, from `sshd -T`. `port` is said, too, where each ListenAddress has a port of its own."""
    at = re.findall(r"^listenaddress \S*:(\d+)", text, re.MULTILINE)
    return {int(port) for port in at or re.findall(r"^port (\d+)$", text, re.MULTILINE)}
