# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules on trial: what the host had before is kept, and put back by the host itself unless they are proved in time.

A service waits for the time to be up. It is told by files when the time begins anew: to restart a timer for each change
would meet systemd's limit. What is kept lies in /run: a reboot ends the trial.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import parse_save
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

FOLDER = "/run/gpustead/firewall"
UNIT = "gpustead-firewall-takeback"
# Until the rules are taken back. With what that takes, and a login that is tried twice, well within a minute.
SECONDS = 40
FAMILIES = ("iptables", "ip6tables")
_OURS = re.compile(r"(ufw6?-|gpustead-).+|DOCKER-USER")
# POSIX sh: it must run when all that we put on the host is gone. Who makes `decided` has decided.
_TAKE_BACK = r"""#!/bin/sh
# Puts back what the firewall was before role firewall changed it, unless the controller has logged in anew in time.
cd @FOLDER@ || exit 1
while [ "$1" != now ] && [ $(($(cut -d. -f1 /proc/uptime) - $(cat armed))) -lt @SECONDS@ ]; do
    sleep 1
done
mkdir decided || exit 0
exec >log 2>&1
cp -a ufw/. /etc/ufw/
[ ! -f default ] || cp -a default /etc/default/ufw
for command in iptables ip6tables; do
    [ -f "$command.undo" ] || continue
    # As a whole or not at all: then ufw makes of its old files what it can.
    "$command-restore" --noflush <"$command.undo" || failed=yes
    chains=$("$command" -S | sed -n -E 's/^-N ((ufw6?-|gpustead-).*|DOCKER-USER)$/\1/p')
    for chain in $chains; do
        grep -q "^:$chain " "$command.saved" && continue
        "$command" -D FORWARD -j "$chain" 2>/dev/null
        "$command" -F "$chain"
    done
    for chain in $chains; do
        grep -q "^:$chain " "$command.saved" || "$command" -X "$chain"
    done
done
if [ -n "$failed" ]; then
    if grep -q "^ENABLED=yes" /etc/ufw/ufw.conf; then ufw reload; else ufw --force disable; fi
fi
touch taken-back
"""


def undo(save: str) -> str:
    """What `iptables-restore --noflush` is given to bring ufw's chains, ours and DOCKER-USER, INPUT and OUTPUT back.

    Args:
        save: what `iptables-save -t filter` printed before.

    Other chains stay as they are now: containers may have started meanwhile. So do the rules in FORWARD.
    """
    chains = parse_save(save)
    built_in = [name for name, (policy, _second) in chains.items() if policy != "-"]
    own = [name for name in chains if _OURS.fullmatch(name)]
    lines = [f":{name} {chains[name][0]} [0:0]" for name in built_in]
    lines += [f":{name} - [0:0]" for name in own]  # declared, it is emptied
    emptied = [name for name in built_in if name != "FORWARD"]
    lines += [f"-F {name}" for name in emptied]
    lines += [f"-A {name} {rule}" for name in (*emptied, *own) for rule in chains[name][1]]
    return "\n".join(["*filter", *lines, "COMMIT", ""])


def is_armed(folder: str = FOLDER) -> bool:
    """Whether the rules are on trial, and nobody has decided yet."""
    return os.path.exists(f"{folder}/armed") and not os.path.exists(f"{folder}/decided")


def note(run: Run, folder: str = FOLDER) -> bool:
    """Keep what is there. True where the rules of a trial that nobody had ended had to be taken back before.

    Raises:
        GpusteadError: something could not be read or copied.
    """
    left = is_armed(folder)
    if left:
        must(run, ["sh", f"{folder}/take-back", "now"])
    release(run, folder)
    os.makedirs(folder, mode=0o700)
    os.chmod(folder, 0o700)
    must(run, ["cp", "-a", "/etc/ufw", f"{folder}/ufw"])
    if os.path.exists("/etc/default/ufw"):
        must(run, ["cp", "-a", "/etc/default/ufw", f"{folder}/default"])
    for command in FAMILIES:
        code, save, _err = run([f"{command}-save", "-t", "filter"])
        if code == 0:  # else the kernel has no IPv6
            Path(folder, f"{command}.saved").write_text(save)
            Path(folder, f"{command}.undo").write_text(undo(save))
    script = _TAKE_BACK.replace("@FOLDER@", folder).replace("@SECONDS@", str(SECONDS))
    Path(folder, "take-back").write_text(script)
    return left


def arm(run: Run, folder: str = FOLDER) -> None:
    """From now on the time runs, or runs anew. To be called before each change; without a `note` there is no trial.

    Raises:
        GpusteadError: the service could not be started, or has taken the rules back already.
    """
    if not os.path.exists(f"{folder}/take-back"):
        return
    uptime = Path("/proc/uptime").read_text().partition(".")[0]
    Path(folder, "armed.new").write_text(uptime)
    os.replace(f"{folder}/armed.new", f"{folder}/armed")
    if os.path.exists(f"{folder}/decided"):
        raise GpusteadError(
            f"the rules were taken back after {SECONDS} s, while they were still being changed",
            "a host that is quicker than that",
            "See what keeps the host busy, and run again.",
        )
    if run(["systemctl", "is-active", "--quiet", UNIT])[0]:
        must(run, ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", "/bin/sh", f"{folder}/take-back"])


def guarded(run: Run, folder: str = FOLDER) -> Run:
    """`run` for commands that change the rules: each has the whole time."""

    def command(argv: Sequence[str]) -> tuple[int, str, str]:
        arm(run, folder)
        return run(argv)

    return command


def release(run: Run, folder: str = FOLDER) -> bool:
    """End the trial: what is there stays. False where it was taken back already."""
    if not os.path.isdir(folder):
        return True
    try:
        os.mkdir(f"{folder}/decided")
    except FileExistsError:
        # What is being taken back comes to its end.
        deadline = time.monotonic() + SECONDS
        while not os.path.exists(f"{folder}/taken-back") and time.monotonic() < deadline:
            time.sleep(0.2)
        stays = False
    else:
        run(["systemctl", "stop", UNIT])
        stays = True
    must(run, ["rm", "-rf", folder])
    return stays
