# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lookup of what directories of the controller have, by where another host has it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: context_paths
short_description: What is in directories of the controller, by where another host has it
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Lists the files and directories below directories of the controller, as they are named where they are copied to.
options:
  _terms:
    description:
      - Directories, each with C(source) and C(destination), as P(gpustead.cluster.images_plan#filter) gives them.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what a builder is to have
  ansible.builtin.debug:
    msg: "{{ query('gpustead.cluster.context_paths', {'source': '/srv/ours', 'destination': '/b/ours'}) }}"
"""

RETURN = r"""
_list:
  description: The paths.
  type: list
  elements: str
"""

import os
from typing import Any

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Walks as ansible.builtin.copy does: relative paths begin in files/ of the role or beside the playbook."""

    def run(self, terms: list[dict[str, str]], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        found = []
        for term in terms:
            parent, name = os.path.split(term["source"].rstrip("/"))
            source = os.path.join(self._loader.path_dwim_relative(self.get_basedir(variables), "files", parent), name)
            for folder, folders, files in os.walk(source):
                below = os.path.relpath(folder, source)
                found += [
                    os.path.normpath(os.path.join(term["destination"], below, entry)) for entry in [*folders, *files]
                ]
        return found
