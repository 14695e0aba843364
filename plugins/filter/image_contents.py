# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/images/image_contents: the record of the images to what is in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_contents
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_errors, filter_module

DOCUMENTATION = r"""
name: image_contents
short_description: What is in the images that are kept
version_added: "0.3.0"
author: The gpustead developers (@gpustead)
description:
  - Compares two images of the record of P(gpustead.cluster.image_record#filter), or writes the lock and the bill of
    materials of one.
  - Fails where the record does not have an image, or does not say what is in it.
positional: image, other
options:
  _input:
    description: The record.
    type: dict
    required: true
  image:
    description: The beginning of its key. By default the image that was built last.
    type: str
    default: ""
  other:
    description: That of another, which is compared with it.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show what changed between two images
  ansible.builtin.debug:
    msg: "{{ (record | gpustead.cluster.image_contents('3f2a', '91c0')).diff }}"
  vars:
    record: "{{ lookup('ansible.builtin.file', 'images.json') | gpustead.cluster.image_record }}"
"""

RETURN = r"""
_value:
  description: What is in the image.
  type: dict
  contains:
    key: {description: Its key., type: str}
    contents:
      description: "Versions by name, for each kind: base, apt, pip, tensorflow, conda, npm and git."
      type: dict
    diff: {description: "What the other has otherwise, a line each.", type: list, elements: str}
    lock: {description: "The packages of Python as C(images_python_lock) takes them.", type: str}
    sbom: {description: A bill of materials in CycloneDX's JSON., type: str}
"""


@filter_errors()
def contents(record: Mapping[str, Any], image: str = "", other: str = "") -> dict[str, Any]:
    if record.get("problem"):
        raise GpusteadError(f"the record of the images: {record['problem']}", "one that is whole", "Run images.yml.")
    history = [one for part in (record, *record.get("variants", {}).values()) for one in part["history"]]
    found = image_contents.of_key(history, image)
    against = image_contents.of_key(history, other) if other else found
    bill = image_contents.sbom(found["contents"], found["ref"])
    return {
        "key": found["key"],
        "contents": found["contents"],
        "diff": image_contents.diff(found["contents"], against["contents"]),
        "lock": image_contents.lock(found["contents"]),
        "sbom": json.dumps(bill, indent=2) + "\n",
    }


FilterModule = filter_module(image_contents=contents)
