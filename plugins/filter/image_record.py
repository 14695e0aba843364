# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter over module_utils/images/image_record: a text to the record of the images in use."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_record import read
from ansible_collections.gpustead.cluster.plugins.plugin_utils.filters import filter_module

DOCUMENTATION = r"""
name: image_record
short_description: The record of the images in use
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Reads the text of C(images.json) on the share, or of the builder's own record. One that is missing or damaged
    names no image, nor does one that names an image of another place.
positional: place
options:
  _input:
    description: The text.
    type: str
    required: true
  place:
    description:
      - Registry and repository, such as V(10.1.0.5:5000/gpustead), that the image must come from. By default any.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show which images are kept
  ansible.builtin.debug:
    msg: "{{ (lookup('ansible.builtin.file', 'images.json') | gpustead.cluster.image_record).history }}"
"""

RETURN = r"""
_value:
  description:
    - The record with V(schema), V(workspace), V(layers) and V(history), and a V(problem) where it has one.
  type: dict
"""

FilterModule = filter_module(image_record=read)
