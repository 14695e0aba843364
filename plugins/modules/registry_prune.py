#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/registry/registry_prune."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_prune
short_description: Delete the images of a stack that are not kept from a registry
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Deletes the manifests that M(gpustead.cluster.image_stack) pushed under keys (tags of 12 hex digits) and that nobody
    keeps. A tag that is no key, or not that of the image's own label, is somebody's own.
  - What stays, stays with all that it stands for, down to the leaves of nested indexes, and with what refers to it.
    A repository in which anything of that cannot be read keeps all that it has; a warning says so.
  - Only the manifests go. The registry gives back the space when it collects its garbage.
  - A registry that does not delete, or does not tell what it has, is left as it is; a warning says so.
  - The registry is spoken to without a proxy, with TLS and the login that Docker has on this host.
options:
  registry:
    description: The registry, as C(host:port).
    type: str
    required: true
  repository:
    description: The beginning of the repositories' names; V(gpustead) stands for C(gpustead/*).
    type: str
    required: true
  keep:
    description: References, by tag or by digest, of the images that are kept; at least one.
    type: list
    elements: str
    required: true
  docker_config:
    description: Docker's file with the login.
    type: path
    default: /root/.docker/config.json
  authorities:
    description: Directory whose C(*.crt) are trusted beside the system's. By default Docker's for this registry.
    type: path
  timeout:
    description: Seconds that the registry has for each answer.
    type: int
    default: 60
extends_documentation_fragment: [gpustead.cluster.attributes]
seealso:
  - module: gpustead.cluster.image_stack
"""

EXAMPLES = r"""
- name: Keep one image and the layers below it
  gpustead.cluster.registry_prune:
    registry: 10.1.0.5:5000
    repository: gpustead
    keep:
      - 10.1.0.5:5000/gpustead/debian12_base:0123456789ab
      - 10.1.0.5:5000/gpustead/debian12_base_torch:ba9876543210

- name: See what would be deleted from a registry with an authority of its own
  gpustead.cluster.registry_prune:
    registry: registry.example.org
    repository: team/gpustead
    keep: ["registry.example.org/team/gpustead/base:0123456789ab"]
    authorities: /etc/ssl/team
    docker_config: /root/.docker/team.json
  check_mode: true
  register: pruned

- name: Name the repositories that could not be read, and were left whole
  ansible.builtin.debug:
    var: pruned.unread
"""

RETURN = r"""
removed:
  description: The manifests that were deleted, or would be.
  returned: success
  type: list
  elements: dict
  contains:
    repository: {description: Its name., type: str, sample: gpustead/debian12_base}
    digest: {description: Its digest., type: str}
    tags: {description: The tags that went with it; none for a part of an index., type: list, elements: str}
refused:
  description: Why the registry let the rest stay; empty if it did not.
  returned: success
  type: str
unread:
  description: The repositories that were left as they are, each with what could not be read.
  returned: success
  type: list
  elements: str
"""

from dataclasses import asdict
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_api import Registry, asker, login
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_prune import Deletion, prune
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown, shown_in

ARGUMENTS = {
    "registry": {"type": "str", "required": True},
    "repository": {"type": "str", "required": True},
    "keep": {"type": "list", "elements": "str", "required": True},
    "docker_config": {"type": "path", "default": "/root/.docker/config.json"},
    "authorities": {"type": "path"},
    "timeout": {"type": "int", "default": 60},
}


def line(removal: Deletion) -> str:
    return shown(f"{removal.repository}@{removal.digest} {' '.join(removal.tags)}".rstrip(), 4000) + "\n"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    name = module.params["registry"]
    config = Path(module.params["docker_config"])
    trusted = Path(module.params["authorities"] or f"/etc/docker/certs.d/{name}")
    try:
        auth = login(config.read_text(encoding="utf-8") if config.exists() else "", name)
        ask = asker(name, sorted(map(str, trusted.glob("*.crt"))), auth, module.params["timeout"])
        found = prune(Registry(ask), module.params["repository"], module.params["keep"], module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"the login and certificates of {name}", "Correct docker_config.")))
    for reason in found.unread:
        module.warn(f"{name}: {shown(reason)}. Look at it there; delete it by hand if nobody needs it.")
    if found.refused:
        module.warn(f"{name} keeps images that nobody asked it to keep: {shown(found.refused)}")
    module.exit_json(
        changed=bool(found.removed),
        removed=[shown_in(asdict(removal)) for removal in found.removed],
        refused=shown(found.refused),
        unread=[shown(reason) for reason in found.unread],
        diff={"before": "".join(map(line, found.removed)), "after": ""},
    )


if __name__ == "__main__":
    main()
