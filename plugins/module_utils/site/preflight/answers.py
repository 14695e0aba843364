# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with hosts, as they answered the probe of playbooks/preflight_hosts.yml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Problem, whole_number

RELEASES = {"debian": ("12", "13"), "ubuntu": ("22.04", "24.04")}
OLDEST_PYTHON = (3, 9)
_MARK = "gpustead."


def check_answer(name: str, answer: Mapping[str, Any], users: Sequence[Mapping[str, Any]] = ()) -> list[Problem]:
    """What is wrong with a host, as it answered the probe of playbooks/preflight_hosts.yml.

    Args:
        name: the host's.
        answer: rc, stdout, stderr, msg.
        users: the accounts that are declared for it.
    """
    lines = [line.strip() for line in str(answer.get("stdout", "")).splitlines()]
    said = dict(line[len(_MARK) :].split("=", 1) for line in lines if line.startswith(_MARK) and "=" in line)
    if "uid" not in said:
        words = " ".join(str(answer.get(key) or "") for key in ("msg", "stderr", "stdout")).split()
        reason = " ".join(words)[:300] or "no answer"
        if re.search("No space left on device|Disk quota exceeded|Read-only file system", reason):
            return [Problem(name, f"can write nothing ({reason})", "See df, df -i and mount there, and mend that.")]
        return [Problem(name, f"runs no commands as root ({reason})", "Give ansible_user sudo there, and see become.")]
    problems = []
    if said["uid"] != "0":
        problems.append(Problem(name, f"commands run as uid {said['uid']}, not as root", "See become and become_user."))
    problems += _about_login(name, said.get("login", ""), users)
    if said.get("home"):
        what = f"root may not write in {said['home']}, where Ansible puts what root is to read (root_squash)"
        remedy = "Let it use a directory of the host: ansible_remote_tmp: /tmp/.ansible-${USER}/tmp."
        problems.append(Problem(name, what, remedy))
    version = tuple(
        int(number) for number in re.findall(r"\A(\d+)\.(\d+)\Z", said.get("python", "")) for number in number
    )
    if version < OLDEST_PYTHON:
        found = said.get("python") or "nothing"
        problems.append(
            Problem(name, f"no Python 3.9 or newer ({found})", "Install it there first: apt-get install python3.")
        )
    known = [f"{system} {version}" for system, versions in RELEASES.items() for version in versions]
    release = said.get("release", "of an unknown kind").strip()
    if release not in known:
        pretty = said.get("name", "no name")
        problems.append(
            Problem(
                name,
                f"its release is {release} ({pretty}), expected one of {', '.join(known)}",
                "Install one of these there, or take the host out of the inventory.",
            )
        )
    return problems


def _about_login(name: str, said: str, users: Sequence[Mapping[str, Any]]) -> list[Problem]:
    """The account as which Ansible logs in is never renumbered nor removed: half of it done, nobody would get in."""
    login, _separator, uid = said.partition(" ")
    who = f"Ansible logs in there as {login}, who has the uid {uid}, and cluster_users gives"
    problems = []
    for user in users if login else ():
        name_of, declared = user.get("name"), whole_number(user.get("uid"))
        is_it, has_it = name_of == login, str(declared) == uid
        if is_it and not has_it and declared is not None:
            remedy = "Declare the uid that it has, or let Ansible log in as another (ansible_user)."
            problems.append(Problem(name, f"{who} {declared}", remedy))
        elif has_it and not is_it:
            remedy = f"Give {name_of} another uid, or let Ansible log in as another (ansible_user)."
            problems.append(Problem(name, f"{who} it to {name_of}", remedy))
    return problems
