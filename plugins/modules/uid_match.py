#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Local accounts with exactly the declared ids."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uid_match
short_description: Local accounts with exactly the declared ids, files included
version_added: "0.1.0"
author: gpustead developers
description:
  - Sees to it that accounts exist with exactly the declared uid and gid, so that a file has the same owner on the
    NAS, on every host and in every container. All accounts in one exchange.
  - An account that is missing is created. One with other ids is renumbered, together with the files that it owns
    under the named roots. Files on other file systems are not touched, symbolic links not followed.
  - Nothing is changed on the host when any account is refused because an id belongs to somebody else, because an
    account to be renumbered has running processes, or because an account of a directory service (LDAP, SSSD) has
    other ids. Accounts of a directory service are never touched.
  - A renumbering that was killed half-way is completed by the next run.
options:
  users:
    description: The accounts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      uid:
        description: Its uid. Required unless O(users[].path) is given.
        type: int
      gid:
        description: Its gid; by default the same number as the uid.
        type: int
      path:
        description: Take uid and gid from the owner of this path, such as a workspace on the NAS.
        type: path
      group:
        description: Name of its primary group; by default that of the account.
        type: str
      groups:
        description: Further groups; made when missing. Memberships that are not listed stay.
        type: list
        elements: str
        default: []
      home:
        description: Home directory. An existing one is not moved.
        type: path
      shell:
        description: Login shell; V(/bin/bash) for a new account.
        type: str
      comment:
        description: Full name.
        type: str
      system:
        description: Allows a uid below 1000.
        type: bool
        default: false
      password_hash:
        description: Hash as in shadow(5).
        type: str
  roots:
    description: Directories under which the files of a renumbered account are given to its new ids.
    type: list
    elements: path
    default: [/home]
attributes:
  check_mode:
    support: full
    description: Tells what would be done.
  diff_mode:
    support: full
    description: Shows the accounts before and after.
"""

EXAMPLES = r"""
- name: Two users, the same everywhere
  gpustead.cluster.uid_match:
    users:
      - {name: ada, uid: 1500, groups: [ml]}
      - {name: grace, path: /mnt/nas/users/grace}
    roots: [/home, /scratch]
"""

RETURN = r"""
steps:
  description: What was done, or would be, in order.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils import accounts
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

USER = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int"},
    "gid": {"type": "int"},
    "path": {"type": "path"},
    "group": {"type": "str"},
    "groups": {"type": "list", "elements": "str", "default": []},
    "home": {"type": "path"},
    "shell": {"type": "str"},
    "comment": {"type": "str"},
    "system": {"type": "bool", "default": False},
    "password_hash": {"type": "str", "no_log": True},
}
ARGUMENTS = {
    "users": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": USER,
        "required_one_of": [["uid", "path"]],
        "mutually_exclusive": [["uid", "path"]],
    },
    "roots": {"type": "list", "elements": "path", "default": ["/home"]},
}


def declared(user: dict[str, Any], roots: list[str]) -> accounts.Wanted:
    uid, gid = accounts.owner_of(user["path"]) if user["path"] else (user["uid"], user["gid"] or user["uid"])
    texts = {name: user[name] or "" for name in ("home", "shell", "comment", "password_hash")}
    return accounts.Wanted(
        user["name"],
        uid,
        gid,
        user["group"] or user["name"],
        tuple(user["groups"]),
        system=user["system"],
        roots=tuple(roots),
        **texts,
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def run(argv: Any, data: str) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(argv), data=data or None, environ_update={"LC_ALL": "C"})
        return code, out, err

    try:
        wanted = [declared(user, module.params["roots"]) for user in module.params["users"]]
        accounts.check_all(wanted)
        found = [accounts.observe(run, user) for user in wanted]
        steps = [accounts.plan(*pair) for pair in zip(wanted, found)]
        if not module.check_mode:
            for user, todo in zip(wanted, steps):
                # Accounts before this one may have made a group that it shares.
                accounts.apply(run, accounts.plan(user, accounts.observe(run, user)) if todo else [])
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    changed = [triple for triple in zip(wanted, found, steps) if triple[2]]
    module.exit_json(
        changed=bool(changed),
        steps=[str(step) for _, _, todo in changed for step in todo],
        diff={
            "before": "".join(accounts.describe(user, there) for user, there, _ in changed),
            "after": "".join(accounts.goal(user, there) for user, there, _ in changed),
        },
    )


if __name__ == "__main__":
    main()
