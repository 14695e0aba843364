#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation only: the code is the action plugin of the same name, as the authority lies on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_certificate
short_description: SSH host key of a node in the mesh, and its certificate
description:
  - Has M(gpustead.cluster.ssh_host_key) make the host key on the node, where it stays, and looks at its certificate.
  - Where a new one is due, signs the public key on the controller and has it written on the node.
  - Notes beside the authority's key which keys it has certified for which host. A key of another host's, as a copied
    disk has it, and one that was revoked are refused.
  - The passphrase reaches C(ssh-keygen) through C(SSH_ASKPASS), never through a command line, and never the node.
version_added: 0.1.0
author: The gpustead developers (@gpustead)
requirements:
  - OpenSSH 8.4 or newer
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  diff_mode:
    description: Shows the files on the node, without the private key.
options:
  path:
    description: The private key on the node. Its directory must be there.
    type: path
    required: true
  authority:
    description:
      - Public key of the authority, as M(gpustead.cluster.mesh_authority) returned it.
      - Empty in check mode when it has to be made first.
    type: str
    required: true
  authority_key:
    description: Its private key on the controller.
    type: path
    required: true
  passphrase:
    description: Passphrase of that.
    type: str
    required: true
  key_id:
    description: Name of the certificate, shown in logs, and comment of a new key.
    type: str
    required: true
  principals:
    description:
      - Names and addresses under which the host may present the certificate. They are written in small letters, as
        OpenSSH looks for them.
    type: list
    elements: str
    required: true
  days:
    description: Validity of a new certificate in days.
    type: int
    default: 364
  renew_days:
    description: Sign a new certificate when the current one ends within so many days.
    type: int
    default: 30
seealso:
  - module: gpustead.cluster.mesh_authority
  - module: gpustead.cluster.ssh_host_key
  - module: community.crypto.openssh_cert
"""

EXAMPLES = r"""
- name: Certify the host key
  gpustead.cluster.mesh_certificate:
    path: /etc/gpustead/ssh_mesh/ssh/ssh_host_ed25519_key
    authority: "{{ authority.public }}"
    authority_key: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
    key_id: gpu01
    principals: [gpu01, 10.0.0.11]

- name: Certify it for 90 days, and anew in the last 10 of these
  gpustead.cluster.mesh_certificate:
    path: /etc/gpustead/ssh_mesh/ssh/ssh_host_ed25519_key
    authority: "{{ authority.public }}"
    authority_key: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
    key_id: "{{ inventory_hostname }}"
    principals: ["{{ inventory_hostname }}", "{{ ansible_host }}"]
    days: 90
    renew_days: 10
  register: certificate

- name: Say why there is a new one
  ansible.builtin.debug:
    var: certificate.reason
  when: certificate is changed
"""

RETURN = r"""
reason:
  description: Why a new certificate is due; empty when the host has the right one.
  type: str
  returned: always
  sample: it ends in 29 days
"""
