# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/images/images_plan: settings to what role images does on a node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ansible.utils.display import Display
from ansible_collections.gpustead.cluster.plugins.module_utils.images.images_plan import Observed, Settings, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import beyond
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: images_plan
short_description: What role images does on a node
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Gives what the builder builds and records, and what each node pulls and removes.
positional: observed
options:
  _input:
    description: The variables of the role, without C(images_) before each; see its C(vars/main.yml).
    type: dict
    required: true
  observed:
    description:
      - Where the node has its images from, and what was found there; see C(vars/main.yml).
      - What is left out is not known yet.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show which layers the image has
  ansible.builtin.debug:
    msg: "{{ (settings | gpustead.cluster.images_plan).layers | map(attribute='name') }}"
  vars:
    settings: {files: files, build_dir: /b, repository: gpustead, stack: [{name: base}], tools: [zsh]}
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    problem: {description: "What of the settings cannot be met, or empty.", type: str}
    place: {description: Registry and repository under whose name the builder has the images., type: str}
    pushes: {description: Whether there is such a registry., type: bool}
    layers: {description: What M(gpustead.cluster.image_stack) builds., type: list, elements: dict}
    variants:
      description: "The same for nodes with another image, each with C(name), C(base) and C(layers)."
      type: list
      elements: dict
    contents_known: {description: Keys of images of which the record has what is in them., type: list, elements: str}
    follows_gpus: {description: Whether the GPUs of the nodes choose an index of PyTorch., type: bool}
    contexts:
      description: "Directories that the builder is given, each with C(name), C(source) and C(destination)."
      type: list
      elements: dict
    sources: {description: Directories of the controller that Dockerfiles take from., type: list, elements: str}
    files:
      description: "Single files beside these, each with C(source) and C(destination)."
      type: list
      elements: dict
    known: {description: Whether a receipt says that the role made its directories on the builder., type: bool}
    own_mark: {description: The file that says the same., type: str}
    recorded: {description: Whether the builder has a record of its own., type: bool}
    former: {description: The record before this run., type: dict}
    selected: {description: Earlier images that C(images_tag) names., type: list, elements: dict}
    announcement: {description: "The record after this run of the builder, or empty.", type: dict}
    handed: {description: "The same without what is in the images, for the nodes of the run.", type: dict}
    record: {description: "The record of the images in use, with its C(problem).", type: dict}
    ref: {description: "The image in use, as this node pulls it or by its id, or empty.", type: str}
    unrecorded: {description: "What is said of the record on the share where there is none, or empty.", type: str}
    wanted: {description: All images that the node is to have., type: list, elements: str}
    places: {description: Registries by which images of the stack may be named here., type: list, elements: str}
    former_extra: {description: Images beside the stack that are no longer declared., type: list, elements: str}
    removable: {description: Those of them that the role pulled., type: list, elements: str}
    extra_pulled: {description: Images beside the stack that the role has pulled., type: list, elements: str}
    superfluous: {description: Names of images of the stack that may go., type: list, elements: str}
    squashes: {description: What M(gpustead.cluster.image_squash) writes., type: list, elements: dict}
    registry_kept: {description: "What stays in the registry, beside what nodes run.", type: list, elements: str}
"""


def images_plan(settings: Mapping[str, Any], observed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    found = plan(Settings(**settings), Observed(**(observed or {})))
    for layer in found.layers if found.follows_gpus else ():
        if newer := beyond(str((layer.get("args") or {}).get("torch_version", ""))):
            Display().warning(newer)
    # Not asdict as a whole: it cannot copy Ansible's own containers.
    return {**vars(found), "contexts": [asdict(context) for context in found.contexts]}


FilterModule = filter_module(images_plan=images_plan)
