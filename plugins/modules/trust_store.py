#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The system's bundle of trusted authorities."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trust_store
short_description: Have the system's bundle of authorities hold those that lie on the host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Runs C(update-ca-certificates) where C(/etc/ssl/certs/ca-certificates.crt) is not there, lacks one of O(files), or
    where O(anew) says that files have come or gone. That program itself tells of files, not of what its bundle lacks.
  - Makes the bundle readable for everybody.
options:
  files:
    description: Files of authorities that must be in the bundle, in C(/usr/local/share/ca-certificates).
    type: list
    elements: path
    default: []
  anew:
    description: Whether the bundle is made anew in any case.
    type: bool
    default: false
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Says why it changes.
seealso:
  - module: gpustead.cluster.base_info
"""

EXAMPLES = r"""
- name: Trust an authority
  gpustead.cluster.trust_store:
    files: [/usr/local/share/ca-certificates/example.crt]

- name: Trust two, and make the bundle anew because one was taken away
  gpustead.cluster.trust_store:
    files: [/usr/local/share/ca-certificates/one.crt, /usr/local/share/ca-certificates/two.crt]
    anew: true

- name: See that everybody can read a sound bundle
  gpustead.cluster.trust_store:
"""

RETURN = r""" # """

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.base import trust_store
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host

ARGUMENTS = {
    "files": {"type": "list", "elements": "path", "default": []},
    "anew": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        todo = trust_store.observe_and_plan(module.params["files"], module.params["anew"], Host())
        if not module.check_mode:
            trust_store.apply(todo, Host())
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"the bundle {trust_store.BUNDLE}")))
    before = "".join(f"{trust_store.BUNDLE}: {reason}\n" for reason in todo.reasons)
    module.exit_json(changed=bool(todo.reasons), diff={"before": before, "after": ""})


if __name__ == "__main__":
    main()
