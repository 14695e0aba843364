#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Directories and files of root's on a host, all of them in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Directories and files of root's on a host, in one call
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes directories and files, in the order given. All is planned, and what has a checker is checked, before anything
    is changed.
  - Files are replaced atomically. What a run that was killed has left beside a file goes when that is written again.
  - A path is refused where others than root (or the account that runs the module) can change a directory on the way.
    A symbolic link on the way is followed where only root can have made it, as C(/var/run) is.
  - For what lies on the share see M(gpustead.cluster.nas_files).
options:
  entries:
    description: Directories and files, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Absolute path.
        type: str
        required: true
      state:
        description:
          - What should be there. A directory is made with those above it, which anybody can enter. It is removed where
            it is empty, and stays with what others have left in it.
          - V(existing) is a file or directory that something else makes; where it is there its owner and permissions
            are put right.
          - V(block) are some lines of a file that has others as well, between two that name O(entries[].marker), as
            M(ansible.builtin.blockinfile) has it. With empty content they are removed.
        type: str
        choices: [directory, file, existing, block, absent]
        default: file
      owner:
        description: Name or uid of the owner.
        type: str
        default: root
      group:
        description: Name or gid.
        type: str
        default: root
      mode:
        description: Permissions, in octal, as a string. Required but for V(absent).
        type: str
      content:
        description: Content of a file, or the lines of a block. Without it the file must be there.
        type: str
      marker:
        description: What the lines around a block name.
        type: str
      secret:
        description: Whether the content stays out of the diff, the result and the log.
        type: bool
        default: false
      once:
        description:
          - Whether O(entries[].content) is only for a file that is not there yet.
          - A directory that is there keeps its owner and permissions.
        type: bool
        default: false
      backup:
        description: Whether a copy is kept of a file that is replaced; the last five are.
        type: bool
        default: false
      validate:
        description:
          - Command that must accept the file before it is put in its place. C(%s) is the file, C(%d) its directory,
            with the other O(entries) of the same directory that have content.
        type: list
        elements: str
        default: []
      exclusive:
        description:
          - Whether a directory holds nothing but what O(entries) name. Files and links that lie there besides are
            removed, and directories where they are empty.
        type: bool
        default: false
      when:
        description: Whether the entry counts.
        type: bool
        default: true
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change. No checker is run.
  diff_mode:
    description: Shows the entries before and after, without secrets.
seealso:
  - module: ansible.builtin.copy
  - module: ansible.builtin.blockinfile
  - module: gpustead.cluster.nas_files
"""

EXAMPLES = r"""
- name: Write the configuration of apt
  gpustead.cluster.host_files:
    entries:
      - {path: /etc/example, state: directory, mode: "0755"}
      - path: /etc/apt/apt.conf.d/90example
        mode: "0644"
        content: |
          Acquire::Retries "3";
        validate: [apt-config, -c, "%s", dump]
      - {path: /etc/environment, state: block, marker: "example: proxies", content: "no_proxy=10.0.0.1", mode: "0644"}
      - {path: /etc/example/old.conf, state: absent}

- name: A directory that holds nothing but these files
  gpustead.cluster.host_files:
    entries:
      - {path: /etc/example/keys.d, state: directory, mode: "0755", exclusive: true}
      - {path: /etc/example/keys.d/ada, content: "ssh-ed25519 AAAA... ada@desk", mode: "0644"}

- name: A secret that is made once, and a file that something else makes
  gpustead.cluster.host_files:
    entries:
      - {path: /etc/example/token, content: "{{ vault_token }}", mode: "0600", secret: true, once: true}
      - {path: /etc/example/state, state: existing, owner: daemon, group: daemon, mode: "0640"}
"""

RETURN = r"""
changed_paths:
  description: The paths of the entries that were changed, in their order.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.files import host_files
from ansible_collections.gpustead.cluster.plugins.module_utils.files.apply_host_files import (
    apply_all,
    plan_all,
    validate_all,
    with_directories_above,
    with_strays,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

ENTRY: dict[str, Any] = {
    "path": {"type": "str", "required": True},
    "state": {"type": "str", "default": "file", "choices": ["directory", "file", "existing", "block", "absent"]},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str"},
    "content": {"type": "str", "no_log": False},
    "marker": {"type": "str"},
    "secret": {"type": "bool", "default": False, "no_log": False},
    "once": {"type": "bool", "default": False},
    "backup": {"type": "bool", "default": False},
    "validate": {"type": "list", "elements": "str", "default": []},
    "exclusive": {"type": "bool", "default": False},
    "when": {"type": "bool", "default": True},
}
ARGUMENTS = {"entries": {"type": "list", "elements": "dict", "required": True, "options": ENTRY}}


class Module(AnsibleModule):
    """Ansible's options are secret always or never: here the contents of some entries are."""

    params: dict[str, Any]

    def _load_params(self) -> None:
        super()._load_params()
        self.no_log_values.update(host_files.secrets(self.params.get("entries")))

    def _log_invocation(self) -> None:
        """To the journal, which others read than a file that is root's alone: without contents."""
        asked = self.params
        self.params = {"entries": [{**entry, "content": None} for entry in asked["entries"]]}
        super()._log_invocation()
        self.params = asked


def main() -> None:
    module = Module(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        entries = [host_files.parse(raw) for raw in module.params["entries"] if raw["when"]]
        named = {raw["path"] for raw in module.params["entries"]}
        plans = plan_all(with_strays(with_directories_above(entries), named))
        if not module.check_mode:
            validate_all(plans, within(60))
            apply_all(plans)
        changed = [one for one in plans if one.changed]
        for path in [one.entry.path for one in changed if one.after.kind]:
            # What is made anew has the label of any file there, which policies may want otherwise.
            module.set_context_if_different(path, module.selinux_default_context(path), False)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "the files of the host")))
    diffs = [(one.entry.path, *one.texts()) for one in changed]
    module.exit_json(
        changed=bool(changed),
        changed_paths=[path for path, _before, _after in diffs],
        diff=[
            {"before": before, "after": after, "before_header": path, "after_header": path}
            for path, before, after in diffs
        ],
    )


if __name__ == "__main__":
    main()
