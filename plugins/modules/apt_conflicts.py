#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/packages/apt_conflicts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_conflicts
short_description: Put other descriptions of a repository of apt aside
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - apt refuses everything while one repository is described with two keys. Files in C(/etc/apt) that describe it beside
    ours are put aside as C(*.bak), and so are its keys. In files with other entries the lines, or the stanzas, are
    commented out, and a copy of the file is kept, with the four before it.
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  platform:
    platforms: debian
options:
  pattern:
    description: Regular expression that the URLs of the repository match, those of former years too.
    type: str
    required: true
  own:
    description: Description of the repository that is to stay.
    type: path
    required: true
  keys:
    description: Shell patterns of the names that its keys have elsewhere.
    type: list
    elements: str
    default: []
seealso:
  - module: ansible.builtin.deb822_repository
  - module: gpustead.cluster.pinned_file
"""

EXAMPLES = r"""
- name: Put other descriptions of the repository aside
  gpustead.cluster.apt_conflicts:
    pattern: packages\.example\.org/tool
    own: /etc/apt/sources.list.d/tool.sources
    keys: ["tool-*"]

- name: Keep our description of Docker's repository alone
  gpustead.cluster.apt_conflicts:
    pattern: download\.docker\.com/linux/debian
    own: /etc/apt/sources.list.d/docker.sources
    keys: ["docker*"]
  register: conflicts

- name: Say what was put aside
  ansible.builtin.debug:
    var: conflicts.aside
"""

RETURN = r"""
aside:
  description: Files that were put aside.
  type: list
  elements: str
  returned: success
  sample: [/etc/apt/sources.list.d/tool.list]
commented:
  description: Files in which lines were commented out.
  type: list
  elements: str
  returned: success
  sample: [/etc/apt/sources.list]
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.files import leftovers
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.apt_conflicts import (
    ASIDE,
    Plan,
    observe,
    plan,
)

ARGUMENTS = {
    "pattern": {"type": "str", "required": True},
    "own": {"type": "path", "required": True},
    "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
}


def apply(module: AnsibleModule, todo: Plan) -> None:
    for path in todo.aside:
        Path(path).replace(path + ASIDE)
    for path, text in todo.commented.items():
        module.backup_local(path)
        new = Path(module.tmpdir, "list")
        new.write_text(text, errors="surrogateescape")
        module.atomic_move(str(new), path)
    leftovers.remove(leftovers.find([*todo.commented], leftovers.KEEP, time.time()))


def printable(text: str) -> str:
    """Without bytes that are no UTF-8, which a file keeps."""
    return text.encode(errors="replace").decode()


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        files, keys = observe(module.params["own"], module.params["keys"])
        todo = plan(files, keys, module.params["pattern"])
        if not module.check_mode:
            apply(module, todo)
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "other descriptions of the repository")))
    moved = [{"before": f"{path}\n", "after": f"{path}{ASIDE}\n"} for path in todo.aside]
    texts = [
        {"before": printable(files[path]), "after": printable(text), "before_header": path, "after_header": path}
        for path, text in todo.commented.items()
    ]
    module.exit_json(
        changed=bool(todo.aside or todo.commented),
        aside=todo.aside,
        commented=list(todo.commented),
        diff=[*moved, *texts],
    )


if __name__ == "__main__":
    main()
