#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/mesh/mesh_certificate: the authority."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_authority
short_description: SSH certificate authority of the mesh
description:
  - Makes the authority's key pair when it is not there yet, and opens the private key each time, which checks the
    passphrase before anything is to be signed.
  - Runs where that key lies, usually on the controller with C(delegate_to).
  - The passphrase reaches C(ssh-keygen) through C(SSH_ASKPASS), never through a command line.
version_added: 0.2.0
author: The gpustead developers (@gpustead)
requirements:
  - OpenSSH 8.4 or newer
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
options:
  key:
    description: Path of the private key. Its directory is made with mode 0700 when it is missing.
    type: path
    required: true
  passphrase:
    description: Passphrase of the private key, at least 12 characters.
    type: str
    required: true
seealso:
  - module: gpustead.cluster.mesh_certificate
  - module: gpustead.cluster.mesh_revocation
"""

EXAMPLES = r"""
- name: Make or open the authority
  gpustead.cluster.mesh_authority:
    key: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
  delegate_to: localhost
  become: false
  run_once: true
  register: authority

- name: See whether there is an authority, and whether this is its passphrase
  gpustead.cluster.mesh_authority:
    key: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
  delegate_to: localhost
  become: false
  check_mode: true

- name: Trust it for all hosts of a domain
  ansible.builtin.lineinfile:
    path: /etc/ssh/ssh_known_hosts
    line: "@cert-authority *.example.org {{ authority.public }}"
    create: true
    mode: "0644"
"""

RETURN = r"""
public:
  description: Public key of the authority. Empty in check mode when it has to be made first.
  type: str
  returned: always
  sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… ssh_mesh_ca
trusted:
  description:
    - What is trusted beside RV(public), each type and key. Of a rotation that is under way, the next authority or the
      former one.
  type: list
  elements: str
  returned: always
revoked:
  description: Host keys that M(gpustead.cluster.mesh_revocation) has revoked, as lines of C(known_hosts).
  type: str
  returned: always
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.authority_rotation import trusted
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import HostKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import ensure_authority, unlocked

ARGUMENTS = {
    "key": {"type": "path", "required": True, "no_log": False},
    "passphrase": {"type": "str", "required": True, "no_log": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    key, passphrase = module.params["key"], module.params["passphrase"]
    try:
        with unlocked(passphrase) as (run, _work):
            public, changed = ensure_authority(run, Path(key), passphrase, module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, f"authority {key}")))
    module.exit_json(
        changed=changed, public=public, trusted=trusted(Path(key)), revoked=HostKeys(Path(key)).revoked_lines()
    )


if __name__ == "__main__":
    main()
