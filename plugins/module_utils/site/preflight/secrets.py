# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The site's passwords stand where root alone reads them."""

from __future__ import annotations

import re

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials import proxy_plan
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import (
    has_credentials,
    masked,
    refuse_secrets,
    texts,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_plan import SECRETS
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import HostVariables

_BY_APT = "Give it to apt on the hosts in a file of /etc/apt/auth.conf.d with mode 0600, see apt_auth.conf(5)."
_BY_BUILD = "Put the password into images_build_secrets, as the README of role images shows."
_BY_ACCOUNT = "Let the accounts have passwords of their own, in ~/.netrc or git's credential helper."
# What stands in images, in files that all may read or in command lines: what to do instead of a password in its URLs.
OPEN = {
    "docker_registry_mirrors": "Docker takes none there: let the mirror admit the hosts by their addresses.",
    "docker_repository_key_url": _BY_APT,
    "docker_repository_url": _BY_APT,
    "images_flash_attn_index": _BY_BUILD,
    "images_packages": _BY_BUILD,
    "images_projects": _BY_BUILD,
    "images_stack": _BY_BUILD,
    "images_tensorflow": _BY_BUILD,
    "images_torch_index": _BY_BUILD,
    "nvidia_driver_repository_url": _BY_APT,
    "nvidia_toolkit_key_url": _BY_APT,
    "nvidia_toolkit_repository_url": _BY_APT,
    "workspace_repositories": _BY_ACCOUNT,
    "workspace_torch_index": _BY_ACCOUNT,
}


def check_secrets(host: HostVariables) -> None:
    try:
        proxy_plan.plan(host.get("cluster_proxy_env", dict, {}))
    except GpusteadError as error:
        host.refuse("cluster_proxy_env", f"{error.what}: expected {error.expected}", error.remedy)
    for name, remedy in OPEN.items():
        for text in texts(host.values.get(name)):
            if has_credentials(text):
                host.refuse(name, f"{masked(text)!r} has a password or token in its URL", remedy)
    for name in ("ssh_mesh_env", "ssh_mesh_node_env"):
        try:
            refuse_secrets(name, host.get(name, dict, {}), SECRETS)
        except GpusteadError as error:
            host.refuse(name, f"{error.what}: expected {error.expected}", error.remedy)
    extra = [("nas_extra_mounts", entry.get("options")) for entry in host.dicts("nas_extra_mounts")]
    for name, options in (("nas_options", host.values.get("nas_options")), *extra):
        if isinstance(options, str) and re.search(r"(?:^|,)\s*pass(?:word)?2?\s*=", options):
            host.refuse(
                name,
                "the mount options have a password (not shown), which would stand in /etc/fstab and in command lines",
                "Put user and password into a file of root's with mode 0600 on the hosts, and write credentials=FILE.",
            )
