#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/ssh_host_key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_host_key
short_description: The SSH host key of a container, made once on its host
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Makes an Ed25519 key pair where there is none, and keeps the private key to root. It never leaves the host.
  - A pair that is there stays; owner and permissions of its files are put right.
options:
  path:
    description: The private key. Its directory must be there, and root's alone to change.
    type: path
    required: true
  comment:
    description: What a new key is called.
    type: str
    required: true
  certificate:
    description: Content of the certificate's file beside it, C(<path>-cert.pub). Empty leaves that as it is.
    type: str
    default: ""
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change. Of a key that would be made RV(public) is empty.
  diff_mode:
    description: Shows the files before and after, without the private key.
seealso:
  - module: gpustead.cluster.mesh_certificate
"""

EXAMPLES = r"""
- name: Make the host key of the SSH service
  gpustead.cluster.ssh_host_key:
    path: /etc/gpustead/workspace/ssh/ssh_host_ed25519_key
    comment: workspace@gpu01

- name: See whether there is one
  gpustead.cluster.ssh_host_key:
    path: /etc/gpustead/workspace/ssh/ssh_host_ed25519_key
    comment: workspace@gpu01
  check_mode: true
  register: key

- name: Give it a certificate that was signed elsewhere
  gpustead.cluster.ssh_host_key:
    path: /etc/gpustead/ssh_mesh/ssh/ssh_host_ed25519_key
    comment: gpu01
    certificate: "{{ signed.certificate }}"
"""

RETURN = r"""
public:
  description: The public key, as its file has it.
  returned: success
  type: str
certificate:
  description: What the file of the certificate holds; empty where there is none.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.ssh_host_key import ensure

ARGUMENTS = {
    "path": {"type": "path", "required": True},
    "comment": {"type": "str", "required": True},
    "certificate": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        found = ensure(**module.params, run=module.run_command, check=module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"host key {module.params['path']}")))
    changed = [(one.entry.path, *one.texts()) for one in found.plans if one.changed]
    module.exit_json(
        changed=bool(changed),
        public=found.public,
        certificate=found.certificate,
        diff=[
            {"before": before, "after": after, "before_header": path, "after_header": path}
            for path, before, after in changed
        ],
    )


if __name__ == "__main__":
    main()
