# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules of others that let in more than was declared: taken out where they are kept, and out of the kernel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.openings import Origin, Stranger
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


def without(text: str, lines: Iterable[str]) -> str:
    """The text of a file without these lines."""
    gone = set(lines)
    return "".join(line for line in text.splitlines(keepends=True) if line.rstrip("\n") not in gone)


def close(run: Run, found: Sequence[Origin | Stranger], root: str = "/") -> None:
    """Take all of them out: what is in a file first, so that no reload brings it back.

    Raises:
        GpusteadError: a command failed.
    """
    files = {one.file for one in found if one.file}
    for file in sorted(files):
        path = Path(root.rstrip("/") + file)
        text = path.read_text(errors="surrogateescape")
        _write(path, without(text, [one.line for one in found if one.file == file]))
    for argv in dict.fromkeys(one.argv for one in found if one.argv):
        code, out, err = run(argv)
        # A rule for both families is deleted by one command.
        if code and "non-existent" not in err + out:
            raise GpusteadError(" ".join(argv), "success", " ".join((err or out).split()) or f"It ended with {code}.")


def _write(path: Path, text: str) -> None:
    """At once; owner and mode stay."""
    status = path.stat()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with open(handle, "w", errors="surrogateescape") as file:
        os.fchown(file.fileno(), status.st_uid, status.st_gid)
        os.fchmod(file.fileno(), status.st_mode & 0o7777)
        file.write(text)
    os.replace(name, path)


def complaint(found: Sequence[Origin | Stranger], closed: Sequence[object]) -> str:
    """What is wrong, each with what to do; empty where nothing is."""
    if not found and not closed:
        return ""
    lines = [f"- {one}. {f'Undo it: {one.remedy}' if one.remedy else 'Run the role again'}." for one in found]
    lines += [f"- {one}. See which rule is in front of it: iptables -S, ufw status." for one in closed]
    remedy = "Undo what is named, or declare it in firewall_extra_rules."
    if any(one.argv for one in found):
        remedy += " With firewall_exclusive: true the role removes such rules."
    return "\n".join(["The firewall does not do what is declared:", *lines, remedy])
