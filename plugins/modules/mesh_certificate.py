#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ansible shell over module_utils/ssh_cert."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mesh_certificate
short_description: SSH certificate authority and host certificates
description:
  - Makes the authority's key pair when it is not there yet, and signs host keys with it.
  - Runs where the authority's private key lies, usually on the controller with C(delegate_to).
  - The passphrase reaches C(ssh-keygen) through C(SSH_ASKPASS), never through a command line.
  - The module writes the authority's key pair only. It returns the certificate, for the host to keep.
version_added: 0.1.0
author: The gpustead developers (@gpustead)
requirements:
  - OpenSSH 8.4 or newer
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Tells what would change.
  diff_mode:
    support: none
    description: There is no diff.
  platform:
    platforms: posix
options:
  authority:
    description: Path of the authority's private key. Its directory is made with mode 0700 when it is missing.
    type: path
    required: true
  passphrase:
    description: Passphrase of the private key, at least 12 characters.
    type: str
    required: true
  public_key:
    description:
      - Ed25519 public key of the host, as in its C(.pub) file.
      - Without it, only the authority is looked after.
      - Empty in check mode when the host has no key yet.
    type: str
  certificate:
    description: Certificate that the host has now. Empty when it has none.
    type: str
    default: ""
  key_id:
    description: Name of the certificate, shown in logs. Required with O(public_key).
    type: str
  principals:
    description:
      - Names and addresses under which the host may present the certificate.
      - Required with O(public_key).
    type: list
    elements: str
  days:
    description: Validity of a new certificate in days.
    type: int
    default: 364
  renew_days:
    description: Sign a new certificate when the current one ends within so many days.
    type: int
    default: 30
"""

EXAMPLES = r"""
- name: Sign the host key
  gpustead.cluster.mesh_certificate:
    authority: secrets/ssh_mesh_ca
    passphrase: "{{ ca_passphrase }}"
    public_key: "{{ host_public_key }}"
    certificate: "{{ host_certificate }}"
    key_id: gpu01
    principals: [gpu01, 10.0.0.11]
  delegate_to: localhost
  become: false
  register: signed
"""

RETURN = r"""
authority:
  description: Public key of the authority. Empty in check mode when it has to be made first.
  type: str
  returned: always
  sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA… ssh_mesh_ca
certificate:
  description:
    - The certificate the host should have, new or as it was.
    - Empty in check mode when a new one is due.
  type: str
  returned: always
  sample: ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQ…
reason:
  description: Why a new certificate is due; empty when the host has the right one.
  type: str
  returned: always
  sample: it ends in 29 days
"""

import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import (
    DesiredCertificate,
    ensure_authority,
    parse_certificate,
    reason_to_sign,
    sign,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


def askpass(module: AnsibleModule, work: Path) -> Run:
    """Commands whose questions are answered with the passphrase, by a script that does not contain it."""
    script = work / "askpass"
    script.write_text("#!/bin/sh\nprintf '%s\\n' \"$GPUSTEAD_PASSPHRASE\"\n")
    script.chmod(0o700)
    environment = {
        "SSH_ASKPASS": str(script),
        "SSH_ASKPASS_REQUIRE": "force",
        "GPUSTEAD_PASSPHRASE": module.params["passphrase"],
    }
    return lambda argv: module.run_command(list(argv), environ_update=environment)


def converge(module: AnsibleModule, run: Run, work: Path) -> dict[str, object]:
    params = module.params
    key = Path(params["authority"])
    authority, changed = ensure_authority(run, key, params["passphrase"], module.check_mode)
    result = {"changed": changed, "authority": authority, "certificate": params["certificate"], "reason": ""}
    if params["public_key"] is None:
        return result
    if not (authority and params["public_key"]):  # check mode only: the plan ends here
        return {**result, "changed": True, "certificate": "", "reason": "there is none"}
    desired = DesiredCertificate(
        params["public_key"],
        authority,
        params["key_id"],
        tuple(params["principals"]),
        params["days"],
        params["renew_days"],
    )
    reason = reason_to_sign(parse_certificate(params["certificate"]), desired, time.time())
    if reason:
        certificate = "" if module.check_mode else sign(run, key, desired, work)
        result.update(changed=True, certificate=certificate, reason=reason)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "authority": {"type": "path", "required": True},
            "passphrase": {"type": "str", "required": True, "no_log": True},
            "public_key": {"type": "str", "no_log": False},
            "certificate": {"type": "str", "default": ""},
            "key_id": {"type": "str", "no_log": False},
            "principals": {"type": "list", "elements": "str"},
            "days": {"type": "int", "default": 364},
            "renew_days": {"type": "int", "default": 30},
        },
        required_by={"public_key": ("key_id", "principals")},
        supports_check_mode=True,
    )
    with tempfile.TemporaryDirectory(prefix="gpustead-") as work:
        try:
            result = converge(module, askpass(module, Path(work)), Path(work))
        except GpusteadError as error:
            module.fail_json(msg=str(error))
        except OSError as error:
            module.fail_json(msg=str(of_system(error, f"authority {module.params['authority']}")))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
