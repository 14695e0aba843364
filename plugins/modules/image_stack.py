#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a stack of image layers and push the last one, when something in it has changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_stack
short_description: Build a stack of image layers and push the last one, when something has changed
version_added: "0.1.0"
author: gpustead developers
description:
  - Gives every layer a key, the digest of all that goes into it and of the layer below, and tags it with that key.
    Where the last layer is on the builder or in the registry under its key, nothing is built.
  - Builds with C(docker buildx bake), all layers in one call.
options:
  layers:
    description: The layers, from the ground up.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the layer and of its image.
        type: str
        required: true
      context:
        description: Directory on the builder with the layer's Dockerfile, which begins with C(FROM parent).
        type: path
        required: true
      args:
        description: Build arguments.
        type: dict
      parent:
        description: Layer that it stands on. By default the one before it.
        type: str
  base:
    description: Image that the first layer stands on, as build argument C(base).
    type: str
    required: true
  base_archive:
    description: Archive made by C(docker save), for a base image that cannot be pulled.
    type: path
  repository:
    description: Registry and name under which the layers are tagged, such as C(10.1.0.5:5000/gpustead).
    type: str
    required: true
  contexts:
    description: Further directories that Dockerfiles use with C(from=<name>).
    type: dict
    default: {}
  proxies:
    description: Proxy settings for the build; they stay in no image.
    type: dict
    default: {}
  push:
    description: Whether to push the last layer.
    type: bool
    default: true
attributes:
  check_mode:
    support: full
    description: Tells which layers would be built. Nothing is built, pulled or pushed.
  diff_mode:
    support: full
    description: Shows the references that are new.
"""

EXAMPLES = r"""
- name: Build and push
  gpustead.cluster.image_stack:
    base: nvidia/cuda:12.8.1-devel-ubuntu24.04
    repository: 10.1.0.5:5000/gpustead
    layers:
      - {name: base, context: /var/lib/gpustead/images/base}
      - {name: torch, context: /var/lib/gpustead/images/torch, args: {torch_version: 2.13.0}}
"""

RETURN = r"""
layers:
  description: Name, key and reference of each layer.
  returned: success
  type: list
  elements: dict
ref:
  description: The last layer by digest (by tag when it was not pushed; empty when it is yet to be built).
  returned: success
  type: str
key:
  description: Key of the last layer.
  returned: success
  type: str
built:
  description: Names of the layers that were built, or would be.
  returned: success
  type: list
  elements: str
"""

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils import image_stack as stack
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

LAYER = {
    "name": {"type": "str", "required": True},
    "context": {"type": "path", "required": True},
    "args": {"type": "dict"},
    "parent": {"type": "str"},
}
ARGUMENTS = {
    "layers": {"type": "list", "elements": "dict", "required": True, "options": LAYER},
    "base": {"type": "str", "required": True},
    "base_archive": {"type": "path"},
    "repository": {"type": "str", "required": True},
    "contexts": {"type": "dict", "default": {}},
    "proxies": {"type": "dict", "default": {}},
    "push": {"type": "bool", "default": True},
}


def settle(run: stack.Run, params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Observe, plan, apply; returns the module's result."""
    layers = stack.parse(params["layers"])
    base = params["base"]
    there = stack.image_id(run, base) if check else stack.have_base(run, base, params["base_archive"] or "")
    plan = stack.keys(layers, there, params["contexts"], params["repository"])
    last = plan[-1]
    changed = False
    ref = stack.repo_digest(run, last.ref) if params["push"] else last.ref * bool(stack.image_id(run, last.ref))
    if not ref and params["push"] and not check and run(["docker", "pull", "--quiet", last.ref])[0] == 0:
        ref, changed = stack.repo_digest(run, last.ref), True
    missing = [] if ref else [item.layer.name for item in plan if not stack.image_id(run, item.ref)]
    if not ref and not check:
        descriptor, bake = tempfile.mkstemp(suffix=".json")
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(stack.bake_file(plan, base, params["contexts"], params["proxies"]))
            stack.build(run, bake, layers)
        finally:
            os.unlink(bake)
        ref = stack.push(run, last.ref) if params["push"] else last.ref
        changed = True
    return {
        "changed": changed or not ref,
        "layers": [{"name": item.layer.name, "key": item.key, "ref": item.ref} for item in plan],
        "key": last.key,
        "ref": ref,
        "built": missing,
        "diff": {"before": "", "after": "".join(f"{item.ref}\n" for item in plan if item.layer.name in missing)},
    }


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)

    def run(argv: Any) -> tuple[int, str, str]:
        # A proxy of this session must not reach the builder but by the option.
        code, out, err = module.run_command(
            list(argv), environ_update={"LC_ALL": "C.UTF-8", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        )
        return code, out, err

    try:
        result = settle(run, module.params, module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
