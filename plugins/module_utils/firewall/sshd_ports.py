# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the host's own sshd listens, by what it was told, and in fact.

Both count: sshd may be told otherwise on its command line or by systemd, which holds its socket (Ubuntu from 22.10 on),
and `sshd -T` then tells what nobody listens to, or fails (there is no /run/sshd before the first login). It may also
have been told otherwise since it started. A container's sshd is not the unit's.
"""

from __future__ import annotations

import re

from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

_UNITS = ["ssh.socket", "sshd.socket", "ssh.service", "sshd.service"]
_SHOW = ["systemctl", "show", "--property=Listen,ActiveState,ControlGroup", "--", *_UNITS]


def observe(run: Run) -> set[int]:
    """The ports; none where nothing tells them."""
    code, told, _err = run(["sshd", "-T"])
    _code, shown, _err = run(_SHOW)
    _code, sockets, _err = run(["ss", "-Hltne"])
    return (sshd_ports(told) if code == 0 else set()) | held_ports(shown) | unit_ports(sockets, shown)


def sshd_ports(text: str) -> set[int]:
    """Where sshd listens, from `sshd -T`. `port` is said, too, where each ListenAddress has a port of its own."""
    at = re.findall(r"^listenaddress \S*:(\d+)", text, re.MULTILINE)
    return {int(port) for port in at or re.findall(r"^port (\d+)$", text, re.MULTILINE)}


def held_ports(shown: str) -> set[int]:
    """What systemd holds for sshd, from `systemctl show` of its units."""
    active = [unit for unit in shown.split("\n\n") if "ActiveState=active" in unit.splitlines()]
    return {int(port) for unit in active for port in re.findall(r"^Listen=\S*:(\d+) \(Stream\)$", unit, re.MULTILINE)}


def unit_ports(sockets: str, shown: str) -> set[int]:
    """Where root's processes of sshd's unit listen, from `ss -Hltne` and `systemctl show` of its units.

    Names of processes are their accounts' to choose; groups of root's sockets are not (ss -e names no uid of root's).
    On a host that is a container itself the group of a unit does not begin with its slice.
    """
    ours = {f"cgroup:{group}" for group in re.findall(r"^ControlGroup=(/.+)$", shown, re.MULTILINE)}
    lines = [line.split() for line in sockets.splitlines()]
    held = [words for words in lines if not ours.isdisjoint(words)]
    return {int(words[3].rpartition(":")[2]) for words in held if not any(word.startswith("uid:") for word in words)}
