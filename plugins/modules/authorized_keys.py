#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The keys with which accounts are logged in to, each file written as its account."""

from __future__ import annotations

DOCUMENTATION = r"""
module: authorized_keys
short_description: The SSH keys of accounts, each file written as its account
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Puts keys into C(~/.ssh/authorized_keys) of several accounts, and takes others out, all in one exchange.
  - Each file is read and replaced by a process with the ids of its account, within limits of time and size, as a whole,
    and through no symbolic link. It must be a regular file of the account's alone, its directory the account's own,
    and the way to the home root's alone. Both get the permissions that sshd wants (0600, 0700).
  - Where keys go from the account as which Ansible logs in, a timer on the host puts back within a minute what was
    there, unless the controller has logged in anew in the meantime; then the account is refused.
  - Comments and other people's lines stay, with their options.
  - Warns where the host's own sshd does not let accounts in by these keys, as it looks for them elsewhere
    (C(AuthorizedKeysFile)) or lets in others alone (C(AllowUsers), C(AllowGroups) and the like).
options:
  accounts:
    description: The accounts, as they are on the host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the account.
        type: str
        required: true
      uid:
        description: Its uid.
        type: int
        required: true
      gid:
        description: gid of its primary group.
        type: int
        required: true
      home:
        description: Its home directory.
        type: path
        required: true
      keys:
        description: Lines that must be there, with their options.
        type: list
        elements: str
        default: []
      former:
        description: Lines whose keys go, unless they are in O(accounts[].keys).
        type: list
        elements: str
        default: []
      exclusive:
        description: Whether all other keys go.
        type: bool
        default: false
  keep_going:
    description: Change all accounts that can be, and name the others in RV(refused), instead of failing.
    type: bool
    default: false
  state:
    description: V(present) is for playbooks; V(proved) and V(asked) end a trial and ask for it.
    type: str
    choices: [present, proved, asked]
    default: present
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change, and refuses what a real run would refuse.
  diff_mode:
    description: Shows the lines that go and those that come.
seealso:
  - module: ansible.posix.authorized_key
  - module: gpustead.cluster.uid_match
"""

EXAMPLES = r"""
- name: The keys of two accounts
  gpustead.cluster.authorized_keys:
    accounts:
      - {name: ada, uid: 1500, gid: 1500, home: /home/ada, keys: ["ssh-ed25519 AAAA... ada@desk"]}
      - {name: bob, uid: 1501, gid: 1501, home: /home/bob, keys: ["ssh-ed25519 AAAA... bob@desk"], exclusive: true}

- name: Take back a key that an account had
  gpustead.cluster.authorized_keys:
    accounts:
      - name: ada
        uid: 1500
        gid: 1500
        home: /home/ada
        keys: ["ssh-ed25519 AAAA... ada@desk"]
        former: ["ssh-ed25519 BBBB... ada@lost-laptop"]

- name: Change all accounts that can be, and keep the others for the end
  gpustead.cluster.authorized_keys:
    accounts:
      - {name: bob, uid: 1501, gid: 1501, home: /home/bob, keys: ["ssh-ed25519 AAAA... bob@desk"]}
    keep_going: true
  register: keys
"""

RETURN = r"""
accounts:
  description: Whether each account's file was changed, in the order given, without those in RV(refused).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the account.
      type: str
    changed:
      description: Whether it was changed.
      type: bool
refused:
  description: With O(keep_going), the accounts whose keys are not as declared.
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
taken_back:
  description: Whether keys that were on trial were taken back.
  returned: when O(state) is not V(present)
  type: bool
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import authorized_keys as keys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import keys_trial, sshd_access
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.apply_authorized_keys import apply_as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import parse_group
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.observe_accounts import login_uid
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, Refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ACCOUNT = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int", "required": True},
    "gid": {"type": "int", "required": True},
    "home": {"type": "path", "required": True},
    "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "former": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "exclusive": {"type": "bool", "default": False},
}
ARGUMENTS = {
    "accounts": {"type": "list", "elements": "dict", "required": True, "options": ACCOUNT},
    "keep_going": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "proved", "asked"], "default": "present"},
}


def desired_keys(account: dict[str, Any], groups: str) -> keys.DesiredKeys:
    name = account["name"]
    return keys.DesiredKeys(
        **{part: account[part] for part in ("name", "uid", "gid", "home", "exclusive")},
        keys=tuple(dict.fromkeys(keys.check(name, line) for line in account["keys"])),
        former=tuple(account["former"]),
        groups=keys.supplementary(name, groups),
    )


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    groups = Path("/etc/group").read_text(errors="replace")
    login = login_uid(Path("/proc"), os.getpid())
    outcomes: dict[str, keys.Outcome] = {}
    refused: list[Refusal] = []
    written: list[keys.DesiredKeys] = []
    on_trial, taken_back = [], False

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = module.run_command(list(argv))
        return code, out, err

    for account in module.params["accounts"]:
        try:
            desired = desired_keys(account, groups)
            if module.params["state"] == "proved" and desired.uid == login:
                taken_back = not keys_trial.prove(run, desired)
            elif module.params["state"] == "asked" and desired.uid == login:
                taken_back = keys_trial.is_over(run, desired)
            elif module.params["state"] == "present" and desired.uid == login and not module.check_mode:
                outcomes[desired.name] = keys_trial.apply(run, desired)
                on_trial += [desired.name] if keys_trial.is_armed(run, desired) else []
            elif module.params["state"] == "present":
                outcomes[desired.name] = apply_as_account(desired, module.check_mode)
        except GpusteadError as error:
            if not module.params["keep_going"]:
                module.fail_json(msg=str(error))
            refused.append(Refusal.of(account["name"], error))
        else:
            written += [desired] if module.params["state"] == "present" else []
    for warning in sshd_access.warnings(within(10), written, parse_group(groups)):
        module.warn(warning)
    module.exit_json(
        changed=any(outcome.changed for outcome in outcomes.values()),
        accounts=[{"name": name, "changed": outcome.changed} for name, outcome in outcomes.items()],
        refused=[asdict(one) for one in refused],
        on_trial=on_trial,
        taken_back=taken_back,
        diff=[
            {**dict(zip(("before", "after"), outcome.texts())), "before_header": name, "after_header": name}
            for name, outcome in outcomes.items()
            if outcome.changed
        ],
    )


if __name__ == "__main__":
    main()
