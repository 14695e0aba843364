#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/images/image_contexts; the action plugin of the same name brings what is missing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_contexts
short_description: Have what Dockerfiles take from on the builder, and nothing else
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Compares files of the controller with those of the builder by their digests, all of them in one exchange, and
    brings those that differ in another one. Whatever else lies in the directories of the role is removed.
  - These are C(stack), C(sources) and C(wheelhouse) below O(directory). Where they are there and neither the file
    C(.gpustead-images) beside them nor O(known) says that the role made them, nothing is touched.
options:
  directory:
    description: The builder's directory.
    type: path
    required: true
  known:
    description: Whether a receipt says that the role made its directories there.
    type: bool
    default: false
  contexts:
    description:
      - "Directories of the controller: C(source), and C(destination) below those of the role. Relative sources begin in
        C(files/) of the role or beside the playbook."
      - Files keep their permissions, but for the setuid and setgid bits and what others than the owner may write.
      - A link to a file in there is copied as that file, another one as a link.
    type: list
    elements: dict
    default: []
  files:
    description:
      - "Single files of the controller: C(source) and C(destination). They get mode 0644."
      - From the action to the host, all files with C(path), C(digest) and C(mode).
    type: list
    elements: dict
    default: []
  keep:
    description: Further files in the role's directories, which somebody else brings.
    type: list
    elements: path
    default: []
  links:
    description: From the action to the host, links by their path, with where they lead.
    type: dict
    default: {}
  directories:
    description: From the action to the host, directories.
    type: list
    elements: path
    default: []
  archive:
    description: From the action to the host, an archive (tar) of the files that are missing, named by their numbers.
    type: path
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows which files would be brought or removed, not what is in them.
seealso:
  - module: gpustead.cluster.image_stack
"""

EXAMPLES = r"""
- name: Bring the context of a layer
  gpustead.cluster.image_contexts:
    directory: /var/lib/gpustead/images
    contexts:
      - {source: stack/base, destination: /var/lib/gpustead/images/stack/base}

- name: Bring a layer and the authorities that builds trust, and keep what is brought otherwise
  gpustead.cluster.image_contexts:
    directory: /var/lib/gpustead/images
    known: true
    contexts:
      - {source: stack/base, destination: /var/lib/gpustead/images/stack/base}
    files:
      - {source: files/company.crt, destination: /var/lib/gpustead/images/stack/base/ca/company.crt}
    keep: [/var/lib/gpustead/images/stack/base/ca/.keep]

- name: See which files would be brought or removed
  gpustead.cluster.image_contexts:
    directory: /var/lib/gpustead/images
    contexts:
      - {source: stack/torch, destination: /var/lib/gpustead/images/stack/torch}
  check_mode: true
  diff: true
"""

RETURN = r"""
missing:
  description: The files that were brought, or would be.
  returned: success
  type: list
  elements: str
strays:
  description: What was removed, or would be.
  returned: success
  type: list
  elements: str
"""

import tarfile
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.files.apply_host_files import (
    apply_all,
    plan_all,
    with_directories_above,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.files.host_files import HostEntry, Plan
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_contexts import (
    Desired,
    File,
    Observed,
    entries,
    link,
    observe,
    remove,
    tops,
    verify,
)

ARGUMENTS = {
    "directory": {"type": "path", "required": True},
    "known": {"type": "bool", "default": False},
    "contexts": {"type": "list", "elements": "dict", "default": []},
    "files": {"type": "list", "elements": "dict", "default": []},
    "keep": {"type": "list", "elements": "path", "default": []},
    "links": {"type": "dict", "default": {}},
    "directories": {"type": "list", "elements": "path", "default": []},
    "archive": {"type": "path"},
}


def contents(archive: str, missing: tuple[str, ...]) -> dict[str, bytes]:
    """Of the files, in the order in which they are missing. No name in the archive is a path."""
    with tarfile.open(archive) as opened:
        parts = [opened.extractfile(str(number)) for number in range(len(missing))]
        return {path: part.read() for path, part in zip(missing, parts) if part}


def look(desired: Desired, check: bool) -> Observed:
    """Look at the builder. Where others than root can change the way, a mark and a link may be theirs: it is refused
    before anything is believed, let alone removed."""
    above = with_directories_above(HostEntry(**entry) for entry in tops(desired))
    plan_all(above, close=desired.known and check)
    return observe(desired)


def close(desired: Desired, check: bool) -> bool:
    """Have the directory closed to others where the role is known to have made it; returns whether it was open."""
    plans = plan_all([HostEntry(desired.directory, "directory", mode=0o755)]) if desired.known else []
    is_open = any(one.before.kind and one.changed for one in plans)
    if is_open and not check:
        apply_all(plans)
    return is_open


def planned(desired: Desired, brought: Mapping[str, bytes]) -> list[Plan]:
    return plan_all(with_directories_above(HostEntry(**entry) for entry in entries(desired, brought)))


def apply(desired: Desired, found: Observed, brought: Mapping[str, bytes]) -> bool:
    """Bring it about; returns whether any file, directory or mode was changed."""
    verify(desired, found, brought)
    plan_all([HostEntry(desired.directory, "directory", mode=0o755)])  # refused before anything there is removed
    remove(found)
    made = planned(desired, brought)
    apply_all(made)
    link(desired)
    return any(one.changed for one in made)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    asked = module.params
    files = {one["path"]: File(one["digest"], int(one["mode"])) for one in asked["files"]}
    desired = Desired(asked["directory"], asked["known"], files, asked["links"], asked["directories"], asked["keep"])
    try:
        changed = close(desired, module.check_mode)
        found = look(desired, module.check_mode)
        changed = changed or bool(found.missing or found.strays)
        brought = contents(asked["archive"], found.missing) if asked["archive"] else {}
        if module.check_mode:
            changed = changed or any(one.changed for one in planned(desired, {}))
        elif not found.missing or brought:
            changed = apply(desired, found, brought) or changed
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"the contexts in {asked['directory']}")))
    before, after = ("".join(f"{path}\n" for path in paths) for paths in (found.strays, found.missing))
    module.exit_json(
        changed=changed,
        missing=list(found.missing),
        strays=list(found.strays),
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
