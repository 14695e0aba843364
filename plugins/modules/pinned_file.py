#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Have a file from outside whose digest is known."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pinned_file
short_description: Fetch a file with a known checksum, as apt fetches
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Fetches with C(apt-helper), so through the proxies that apt is configured with. Their passwords stand in no command
    line, environment or log.
  - A file that has the checksum already is not fetched again.
  - Owner and group are those of the account that runs the module.
options:
  url:
    description: Where from, without a password.
    type: str
    required: true
  checksum:
    description: C(sha256) or C(sha512), a colon, and the hex digits.
    type: str
    required: true
  dest:
    description: The file. Its directory is made (mode 0755) where it is not there.
    type: path
    required: true
  mode:
    description: Its mode, octal in quotes.
    type: str
    default: "0644"
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells whether it would be fetched.
  diff_mode:
    description: Shows which checksum the file gets.
seealso:
  - module: ansible.builtin.get_url
  - module: gpustead.cluster.apt_conflicts
"""

EXAMPLES = r"""
- name: Fetch the key of a repository
  gpustead.cluster.pinned_file:
    url: https://download.docker.com/linux/debian/gpg
    checksum: sha256:1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570
    dest: /etc/apt/keyrings/docker.asc

- name: Fetch a program, for root alone
  gpustead.cluster.pinned_file:
    url: https://example.org/releases/tool-1.2.3
    checksum: "sha256:{{ tool_checksum }}"
    dest: /usr/local/sbin/tool
    mode: "0700"

- name: See whether the file is still the one with this checksum
  gpustead.cluster.pinned_file:
    url: https://example.org/releases/tool-1.2.3
    checksum: "sha256:{{ tool_checksum }}"
    dest: /usr/local/sbin/tool
  check_mode: true
  register: tool
"""

RETURN = r""" # """

import os
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files import pinned_file

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "checksum": {"type": "str", "required": True},
    "dest": {"type": "path", "required": True},
    "mode": {"type": "str", "default": "0644"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    url, checksum, dest = (module.params[name] for name in ("url", "checksum", "dest"))

    def run(argv: Any) -> tuple[int, str, str]:
        result: tuple[int, str, str] = module.run_command(list(argv), environ_update={"LC_ALL": "C"})
        return result

    try:
        pinned_file.check(url, checksum)
        lacks = not pinned_file.has(dest, checksum)
        if lacks and not module.check_mode:
            with tempfile.TemporaryDirectory(dir=module.tmpdir) as work:
                pinned_file.fetch(run, url, checksum, os.path.join(work, "file"))
                if not os.path.isdir(os.path.dirname(dest)):
                    os.mkdir(os.path.dirname(dest))
                    os.chmod(os.path.dirname(dest), 0o755)  # whatever the umask: apt reads keys as another account
                module.atomic_move(os.path.join(work, "file"), dest)
        other_mode = os.path.exists(dest) and module.set_mode_if_different(dest, module.params["mode"], False)
    except (GpusteadError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=lacks or other_mode, diff={"before": "", "after": f"{dest} {checksum}\n"} if lacks else {})


if __name__ == "__main__":
    main()
