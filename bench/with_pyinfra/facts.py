# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pyinfra's own facts do not tell, each in one exchange with the host."""

from __future__ import annotations

import posixpath
import shlex

from pyinfra.api import FactBase


class FilterTable(FactBase):
    """Chains and rules in force, {"iptables": [...], "ip6tables": [...]}, without counters."""

    def command(self) -> str:
        return "iptables-save -t filter && echo -- && ip6tables-save -t filter"

    def process(self, output: list[str]) -> dict[str, list[str]]:
        lines = [line.split(" [")[0] for line in output if not line.startswith("#")]
        middle = lines.index("--")
        return {"iptables": lines[:middle], "ip6tables": lines[middle + 1 :]}


class UfwFiles(FactBase):
    """The lines of ufw's own files that hold its settings and rules, {path: lines}."""

    paths = ("/etc/ufw/ufw.conf", "/etc/default/ufw", "/etc/ufw/user.rules", "/etc/ufw/user6.rules")

    def command(self) -> str:
        return f"grep -H '' {' '.join(self.paths)}"

    def process(self, output: list[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {path: [] for path in self.paths}
        for line in output:
            path, _, text = line.partition(":")
            found[path].append(text)
        return found


class Beneath(FactBase):
    """Mode and attributes of the bare directory under a mount."""

    def command(self, path: str) -> str:
        parent, name = (shlex.quote(part) for part in posixpath.split(path))
        script = f"mount --bind {parent} /run && stat -c %a /run/{name} && lsattr -d /run/{name}"
        return f"unshare --mount sh -c {shlex.quote(script)}"

    def process(self, output: list[str]) -> list[str]:
        return " ".join(output).split()[:2]
