# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command of ufw for a rule, as its own files keep it."""

from __future__ import annotations

import shlex


def command(line: str) -> str:
    """From `### tuple ### allow tcp 22 0.0.0.0/0 any 10.0.0.0/8 in comment=6f6e65`.

    Raises:
        ValueError: a rule of another form, such as one of an application.
    """
    fields = line.removeprefix("### tuple ###").split()
    comment = ""
    if fields and fields[-1].startswith("comment="):
        comment = bytes.fromhex(fields.pop().partition("=")[2]).decode()
    action, protocol, port, target, source_port, source, direction = fields
    if direction not in ("in", "out"):
        raise ValueError(f"no rule that this could write as a command: {line}")
    words = ["ufw", action, direction, "proto", protocol, "from", source]
    words += ["port", source_port] if source_port != "any" else []
    words += ["to", target, *(["port", port] if port != "any" else [])]
    if protocol == "any":
        words = [word for index, word in enumerate(words) if index not in (3, 4)]
    return shlex.join([*words, *(["comment", comment] if comment else [])])
