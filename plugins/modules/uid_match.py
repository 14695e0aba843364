#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Accounts with exactly the declared uid and gid, on every host alike."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uid_match
short_description: Accounts with exactly the declared uid and gid
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Creates local accounts with exactly these ids, or renumbers those that are there together with their files, all of
    them in one exchange.
  - Refuses, before anything is changed, an id that belongs to somebody else, to renumber an account with running
    processes, a system account, C(nobody) or the one as which Ansible logs in, and ids other than those that a
    directory service (LDAP, SSSD) has for an account of its own. Such an account is never changed. So is one that is
    both in a directory and on the host, with two uids, and whatever is not there while a directory does not answer.
  - Refuses names that the system or a package has for its own, such as C(docker), a new account whose home root cannot
    make, and to renumber one whose files root cannot give away, as on a share that squashes root.
  - Files are opened before it is decided whose they are, through no symbolic link and on one mount alone. A program
    that is setuid stays so only where it was the account's own and nobody else may write it; capabilities are dropped.
  - A renumbering that was interrupted is finished by the next run, from a journal in O(state_dir).
  - Before a number that this module took from an account is handed on, programs of this host that are setuid or setgid
    for it lose that bit, and jobs of C(at) of it are removed, with a warning. Where that cannot be done within minutes,
    who was to have it is refused.
  - Subordinate ids (C(/etc/subuid)) that are an account's own are taken from declared accounts, or refused.
notes:
  - Files of an account outside its roots, on file systems mounted below them, and entries in ACLs keep the old ids.
    The mailbox in C(/var/mail) is taken along by C(usermod).
options:
  users:
    description: The accounts, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      uid:
        description: uid. Required where O(users[].path) is not there.
        type: int
      gid:
        description: gid of the primary group. Default as the uid.
        type: int
      path:
        description: Take uid and gid from the owner of this path, when it is there.
        type: path
      group:
        description: Name of the primary group. Default as the account's.
        type: str
      groups:
        description: Supplementary groups. They are made when missing; membership in others is kept.
        type: list
        elements: str
        default: []
      group_ids:
        description: The gids of some of O(users[].groups), by name. A group that has another one is refused.
        type: dict
        default: {}
      former_groups:
        description:
          - Supplementary groups that it was given formerly. It is taken from those not in O(users[].groups).
          - A process keeps its groups. Those of the account that are still in such a group are an error, until none is;
            programs of the account that are setgid for it lose that bit.
        type: list
        elements: str
        default: []
      home:
        description: Home directory. Default as it is, or C(/home/<name>) for a new account. Nothing is moved.
        type: path
      shell:
        description: Login shell. Default as it is, or C(/bin/bash) for a new account that is no system account.
        type: path
      comment:
        description: Comment (GECOS). Default as it is.
        type: str
      system:
        description: A system account, which may have ids below 1000 and gets no home directory made.
        type: bool
        default: false
      password_hash:
        description: Password as a crypt(3) string. Default as it is.
        type: str
      roots:
        description: Directories in which files are renumbered for this account. Default O(roots).
        type: list
        elements: path
      hold:
        description: Why an account that is there must keep its ids for now. It is refused where they are to change.
        type: str
        default: ""
  absent:
    description:
      - Names of accounts that must not be there. Local ones are removed with their own groups, if nobody else is in
        these, and with their crontabs and jobs of C(at); their files and homes stay, under their numbers.
      - Refused, before anything is changed, while one has running processes, for root, for ids below 1000 that are not
        in O(absent_system), for the one as which Ansible logs in, and for a name in O(users). Accounts of a directory
        service stay, with a warning.
      - With O(keep_going), one with running processes is locked at once instead (password, expiry, shell, supplementary
        groups, services without a login), its authorized_keys are renamed in its C(~/.ssh), what still runs is named,
        and a later run removes it. Declared again, it is unlocked. Nothing is killed.
    type: list
    elements: str
    default: []
  absent_system:
    description: Names in O(absent) that may have ids below 1000. Only those that nothing of the system itself needs.
    type: list
    elements: str
    default: []
  keep_going:
    description:
      - Change all accounts that can be, and name the others in RV(refused), instead of failing with the first and
        changing nothing. Still no account is changed before the plans of all of them stand.
    type: bool
    default: false
  roots:
    description: Directories in which the files of a renumbered account are given the new ids.
    type: list
    elements: path
    default: [/home]
  state_dir:
    description: Where journals are kept.
    type: path
    default: /var/lib/gpustead/uid_match
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change, and refuses what a real run would refuse.
  diff_mode:
    description: Shows the accounts before and after, without password hashes.
seealso:
  - module: gpustead.cluster.authorized_keys
  - module: ansible.builtin.user
"""

EXAMPLES = r"""
- name: The same ids on every host
  gpustead.cluster.uid_match:
    users:
      - {name: ada, uid: 1500, groups: [docker]}
      - {name: bob, uid: 1501, shell: /bin/zsh}
    absent: [carol]
    roots: [/home, /data]

- name: The ids that the share shows
  gpustead.cluster.uid_match:
    users:
      - {name: ada, path: /mnt/nas/users/ada}

- name: All that can be, and the names of those that could not
  gpustead.cluster.uid_match:
    users:
      - {name: exporter, uid: 960, system: true}
      - {name: ada, uid: 1500, group: research, gid: 2000, groups: [video]}
    keep_going: true
  register: accounts
"""

RETURN = r"""
removed:
  description: Names of the accounts that were removed. Their files are where they were, under their numbers.
  returned: success
  type: list
  elements: str
refused:
  description: With O(keep_going), the accounts that are not as declared, and those that must go and cannot yet.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the account.
      type: str
    what:
      description: What is in the way.
      type: str
    expected:
      description: What should be.
      type: str
    remedy:
      description: What to do.
      type: str
users:
  description: The accounts, in the order given, without those in RV(refused).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the account.
      type: str
    uid:
      description: Its uid.
      type: int
    gid:
      description: gid of its primary group.
      type: int
    home:
      description: Its home directory.
      type: str
    exists:
      description: Whether the account is there; in check mode, whether it was there before.
      type: bool
    changed:
      description: Whether it was changed.
      type: bool
"""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import uid_match as accounts
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_accounts import apply, remove
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import observe
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.removal import plan_removals, removable
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal, of_system

USER = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int"},
    "gid": {"type": "int"},
    "path": {"type": "path"},
    "group": {"type": "str"},
    "groups": {"type": "list", "elements": "str", "default": []},
    "former_groups": {"type": "list", "elements": "str", "default": []},
    "group_ids": {"type": "dict", "default": {}},
    "home": {"type": "path"},
    "shell": {"type": "path"},
    "comment": {"type": "str"},
    "system": {"type": "bool", "default": False},
    "password_hash": {"type": "str", "no_log": True},
    "roots": {"type": "list", "elements": "path"},
    "hold": {"type": "str", "default": ""},
}
ARGUMENTS = {
    "users": {"type": "list", "elements": "dict", "required": True, "options": USER},
    "absent": {"type": "list", "elements": "str", "default": []},
    "absent_system": {"type": "list", "elements": "str", "default": []},
    "keep_going": {"type": "bool", "default": False},
    "roots": {"type": "list", "elements": "path", "default": ["/home"]},
    "state_dir": {"type": "path", "default": "/var/lib/gpustead/uid_match"},
}


def desired_account(user: dict[str, Any], roots: list[str]) -> accounts.DesiredAccount:
    uid, gid = user["uid"], user["gid"]
    path = Path(user["path"]) if user["path"] else None
    if path and os.path.lexists(path):
        owner = path.lstat()
        uid, gid = owner.st_uid, owner.st_gid
    if uid is None:
        where = f"path {path}, which is not there" if path else "no path"
        raise GpusteadError(f"account '{user['name']}' has no uid and {where}", "ids", "Set uid, or make the path.")
    given = {name: user[name] for name in ("name", "home", "shell", "comment", "system", "password_hash", "hold")}
    given["group_ids"] = {name: int(number) for name, number in user["group_ids"].items()}
    group, groups, former = user["group"] or user["name"], tuple(user["groups"]), tuple(user["former_groups"])
    chosen = tuple(roots if user["roots"] is None else user["roots"])
    ids = {"uid": uid, "gid": uid if gid is None else gid}
    return accounts.DesiredAccount(**ids, group=group, groups=groups, former_groups=former, roots=chosen, **given)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    state_dir = Path(module.params["state_dir"])

    def run(argv: Any, data: str) -> tuple[int, str, str]:
        seconds = "20" if argv[0] in {"getent", "journalctl"} else "300"
        command = ["timeout", "--kill-after=5", seconds, module.get_bin_path(argv[0], required=True), *argv[1:]]
        environ = {"LC_ALL": "C", "LANGUAGE": "C"}
        # binary_data: as it stands, with no line end added.
        code, out, err = module.run_command(command, data=data, binary_data=True, environ_update=environ)
        return code, out, err

    refusals: list[Refusal] = []
    refused = refusals if module.params["keep_going"] else None
    absent: list[str] = module.params["absent"]
    cleared: list[str] = []
    try:
        declared = [desired_account(user, module.params["roots"]) for user in module.params["users"]]
        host = observe(run, declared, state_dir, absent=absent)
        gone = removable(host, absent, [one.name for one in declared], module.params["absent_system"], refused)
        changes = accounts.plan(host, declared, refused)
        if module.check_mode:
            removals = plan_removals(host, gone, refused)
        else:
            removals = remove(run, host, gone, state_dir, refused)
            changes = apply(run, changes, state_dir, refused, cleared)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"the accounts and {state_dir}")))
    for account in host.remote_accounts:
        if account.name in absent:
            module.warn(f"account '{account.name}' in absent is of the directory service and stays: remove it there.")
    for words in cleared:
        module.warn(f"made harmless, as nobody has this id or group any more: {words}")
    texts = [one.texts() for one in removals if one.changed] + [change.texts() for change in changes if change.changed]
    module.exit_json(
        changed=bool(texts),
        refused=[asdict(one) for one in refusals],
        removed=[one.account.name for one in removals if one.removed],
        users=[
            {
                **{name: getattr(change.after, name) for name in ("name", "uid", "gid", "home")},
                "exists": bool(change.before) or not module.check_mode,
                "changed": change.changed,
            }
            for change in changes
        ],
        diff={"before": "".join(text[0] for text in texts), "after": "".join(text[1] for text in texts)},
    )


if __name__ == "__main__":
    main()
