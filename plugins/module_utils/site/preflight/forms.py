# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How values have to be written, where more is wanted than their type: ports, paths, sizes, names, URLs.

A program on a host would refuse each of these, after the roles before it have changed the host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import authorized_keys
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import masked
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    HostVariables,
    whole_number,
)

_LONGEST = 80


@dataclass(frozen=True)
class Form:
    """What a value has to be; of a list each entry, of a dictionary each key.

    Attributes:
        is_it: whether one is.
        words: what it is otherwise, such as "no port".
        remedy: what to write.
    """

    is_it: Callable[[Any], bool]
    words: str
    remedy: str


def _like(pattern: str) -> Callable[[Any], bool]:
    compiled = re.compile(rf"(?:{pattern})\Z", re.ASCII)
    return lambda value: bool(compiled.match(str(value)))


def _is_port(value: Any) -> bool:
    port = whole_number(value)
    return port is not None and 0 < port < 65536


def _is_range(value: Any) -> bool:
    first, separator, last = str(value).partition(":")
    return bool(separator) and _is_port(first) and _is_port(last) and int(first) <= int(last)


def _is_path(value: Any) -> bool:
    parts = str(value).split("/")
    return parts[0] == "" and len(parts) > 1 and ".." not in parts and not re.search(r"[\s:\0]", str(value))


def is_network(value: Any) -> bool:
    """A network as CIDR. Python also takes an address alone, and a netmask in place of the prefix."""
    try:
        return bool(re.search(r"/\d+\Z", str(value), re.ASCII)) and bool(ipaddress.ip_network(str(value)))
    except ValueError:
        return False


def is_address(value: Any) -> bool:
    try:
        return bool(ipaddress.ip_address(str(value)))
    except ValueError:
        return False


def _is_sound_toolkit(value: Any) -> bool:
    """In 1.17.7 and before, whoever made the image of a container with GPUs becomes root of the host: CVE-2025-23266,
    CVE-2025-23359, CVE-2024-0132 (https://www.nvidia.com/en-us/security/)."""
    match = re.match(r"(\d{1,4})\.(\d{1,4})\.(?:\*|(\d{1,4})[\w.~+*-]*)\Z", str(value), re.ASCII)
    return match is not None and (int(match[1]), int(match[2]), int(match[3] or 9999)) >= (1, 17, 8)


def _at_least(least: int) -> Form:
    def is_it(value: Any) -> bool:
        number = whole_number(value)
        return number is not None and number >= least

    return Form(is_it, f"less than {least}", f"Choose one from {least} up.")


_CIDR = "Write networks as CIDR, such as 10.20.0.0/24 or fd20::/64"
_NETWORK = Form(is_network, "no network", f"{_CIDR}.")
_SOURCE = Form(
    lambda value: value == "any" or is_network(value) or is_address(value), "no source", f"{_CIDR}, an address, or any."
)
_PORT = Form(_is_port, "no port", "Choose one from 1 to 65535.")
_PORTS = Form(
    lambda value: _is_port(value) or _is_range(value), "no port", "Write a port from 1 to 65535, or two as 29500:29510."
)
_RANGE = Form(_is_range, "no range of ports", "Write the first and the last as 19000:19999.")
_PATH = Form(_is_path, "no absolute path", "Begin it with /, without '..', blanks and colons.")
_SIZE = Form(_like(r"[1-9]\d*(\.\d+)? ?([kmgtKMGT]i?)?[bB]?"), "no size", "Write it as 8gb or 512mb.")
_QUOTA = Form(_like(r"0|[1-9]\d*[kmgtKMGT]"), "no size with its unit", "Write it as 500G, or 0 for no limit.")
_CACHE_SIZE = Form(_like(r"[1-9]\d*[kmgKMG]?"), "no size", "Write it as 200g or 500m.")
_ENVIRONMENT = Form(_like(r"[A-Za-z_]\w*"), "no name of an environment variable", "Use letters, digits and '_'.")
_NAME = Form(_like(r"[A-Za-z0-9][\w.-]{0,62}"), "no such name", "Use letters, digits, '_', '.' and '-'.")
_LOGIN = Form(_like(r"[^\s:]{1,64}"), "no such name", "Write it without blanks and colons.")
_INTERFACE = Form(_like(r"[^\s/]{1,15}"), "no network interface", "Write one as ip link shows it, such as eth0.")
_REPOSITORY = Form(
    _like(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"),
    "no name of images",
    "Use small letters, digits, '-', '_', '.' and '/'.",
)
_IMAGE = Form(
    _like(
        r"(?:[A-Za-z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[a-z0-9._/-]*[a-z0-9])?(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
    ),
    "no name of an image",
    "Write it as docker pull takes it, such as nvcr.io/nvidia/pytorch:25.10-py3.",
)
_REGISTRY = Form(
    _like(r"(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:]+\]):\d{1,5}|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+"),
    "not host:port",
    "Write registry.example.org:5000.",
)
_VERSION = Form(
    _like(r"\d+(?:\.\d+)+(?:\.?(?:a|b|rc|post|dev)\d+)?(?:\+[\w.]+)?"),
    "no version",
    "Write the whole one, such as 2.13.0.",
)
# Without quotes 3.10 is 3.1.
_PYTHON = Form(
    lambda value: isinstance(value, str) and _like(r"3\.\d{1,2}(?:\.\d{1,2})?")(value),
    "no version of Python 3",
    'Write it in quotes, as "3.12".',
)
_TOOLKIT = Form(
    _is_sound_toolkit,
    "no version, or one in which who makes an image becomes root of the host (CVE-2025-23266)",
    "Write one from 1.17.8-1 up, as apt names it, such as 1.20.1-1.",
)
_URL = Form(
    _like(r"(?:https?|ftp)://[^\s/]+\S*|file:/\S+"), "no URL", "Write it whole, such as https://example.org/path."
)
_CHECKSUM = Form(
    _like(r"sha256:[0-9a-fA-F]{64}|(?!sha256:)\w+:[0-9a-fA-F]{32,128}|\w+:https?://\S+"),
    "no checksum",
    "Write it as sha256: and 64 digits, as sha256sum prints them.",
)
_LOCALE = Form(
    _like(r"[a-z]{2,3}_[A-Z]{2}(?:\.[\w-]+)?(?:@\w+)?|C(?:\.UTF-8)?|POSIX"), "no locale", "Write it as en_US.UTF-8."
)
_TIMEZONE = Form(_like(r"[A-Za-z][\w+-]*(?:/[A-Za-z][\w+-]*)*"), "no time zone", "Write it as Europe/Berlin.")
_UMASK = Form(_like(r"0[0-7]{2,3}"), "no umask in quotes", 'Write it in quotes, as "0002".')
_CAPABILITY = Form(_like(r"\d{1,2}\.\d[a-z]?"), "no compute capability", 'Write it in quotes, as "9.0".')
_PACKAGE = Form(
    _like(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:[=/]\S+)?"),
    "no package",
    "Write one package in each entry, as apt-get takes it.",
)
_PYTHON_PACKAGE = Form(_like(r"[A-Za-z0-9][\w.-]*[^\s;]*"), "no package", "Write one in each entry, as pip takes it.")
_IMAGE_KEY = Form(
    _like(r"[0-9a-f]{4,64}"), "no key of an image", "Write it, or its first digits, as images.yml shows it."
)
_BIND = Form(is_address, "no address", "Write addresses of the node, without brackets.")
_PUBLIC_KEY = Form(
    lambda value: isinstance(value, str) and authorized_keys.is_one(value),
    "no whole public SSH key",
    "Paste the one line of a .pub file, such as ssh-ed25519 AAAA… ada@laptop.",
)
_OPTIONS = Form(
    _like(r"[^\s,]+(?:,[^\s,]+)*"), "no list of mount options", "Write them with commas and without blanks."
)

# By setting. Empty is fine where the default is: "".
FORMS: Mapping[str, Form] = {
    **dict.fromkeys(("firewall_clients", "firewall_network", "ssh_mesh_network"), _NETWORK),
    "firewall_ssh_sources": _SOURCE,
    **dict.fromkeys(("firewall_registry_port", "firewall_ssh_port", "registry_cache_port", "ssh_mesh_port"), _PORT),
    **dict.fromkeys(
        (
            "firewall_mesh_ports",
            "firewall_nas_ports",
            "firewall_nas_udp_ports",
            "firewall_nfs_lock_ports",
            "firewall_published_ports",
            "firewall_registry_cache_ports",
        ),
        _PORTS,
    ),
    **dict.fromkeys(("cluster_workspace_port_range", "workspace_port_range"), _RANGE),
    **dict.fromkeys(
        (
            "accounts_roots",
            "binds_program_dir",
            "cluster_config_dir",
            "cluster_state_dir",
            "images_build_dir",
            "images_config_dir",
            "nas_server_export_path",
            "nvidia_config_dir",
            "nvidia_proc_root",
            "nvidia_smi_path",
            "nvidia_sysfs_root",
            "registry_cache_path",
            "registry_storage_path",
            "ssh_mesh_config_dir",
            "workspace_config_dir",
            "workspace_gradio_app",
            "workspace_local_dir",
            "workspace_local_homes",
        ),
        _PATH,
    ),
    **dict.fromkeys(("ssh_mesh_shm_size", "workspace_shm_size"), _SIZE),
    "registry_cache_size": _CACHE_SIZE,
    **dict.fromkeys(("ssh_mesh_env", "ssh_mesh_node_env", "workspace_environment"), _ENVIRONMENT),
    **dict.fromkeys(("client_name", "cluster_name", "nas_server_volume"), _NAME),
    "registry_username": _LOGIN,
    **dict.fromkeys(("base_umask", "ssh_mesh_umask"), _UMASK),
    "ssh_mesh_interface": _INTERFACE,
    "images_repository": _REPOSITORY,
    **dict.fromkeys(("images_base", "images_extra", "registry_image", "ssh_mesh_image", "workspace_image"), _IMAGE),
    **dict.fromkeys(("images_pull_from", "images_registry", "registry_address"), _REGISTRY),
    **dict.fromkeys(
        (
            "images_code_server_version",
            "images_deepspeed_version",
            "images_flash_attn_version",
            "images_gradio_version",
            "images_jupyterlab_version",
            "images_node_version",
            "images_open3d_version",
            "images_opencode_version",
            "images_tensorboard_version",
            "images_torch_version",
            "images_uv_version",
            "workspace_torch_version",
        ),
        _VERSION,
    ),
    "nvidia_toolkit_version": _TOOLKIT,
    **dict.fromkeys(
        (
            "docker_repository_key_url",
            "docker_repository_url",
            "images_flash_attn_index",
            "images_torch_index",
            "nvidia_driver_repository_url",
            "nvidia_toolkit_key_url",
            "nvidia_toolkit_repository_url",
            "workspace_torch_index",
        ),
        _URL,
    ),
    **dict.fromkeys(("docker_repository_key_checksum", "nvidia_toolkit_key_checksum"), _CHECKSUM),
    "images_locales": _LOCALE,
    "images_timezone": _TIMEZONE,
    "images_cuda_architectures": _CAPABILITY,
    **dict.fromkeys(("base_packages", "nas_packages", "nvidia_driver_packages"), _PACKAGE),
    **dict.fromkeys(("images_deepspeed_packages", "images_packages", "images_tensorflow"), _PYTHON_PACKAGE),
    "images_python": _PYTHON,
    "images_tag": _IMAGE_KEY,
    "nas_options": _OPTIONS,
    "nas_quota": _QUOTA,
    "workspace_authorized_keys": _PUBLIC_KEY,
    "workspace_bind": _BIND,
    **dict.fromkeys(
        (
            "cluster_cpu_slots",
            "images_build_timeout",
            "images_keep",
            "nas_automount_timeout",
            "nas_mount_timeout",
            "registry_certificate_days",
            "registry_certificate_renew_days",
            "ssh_mesh_certificate_days",
            "ssh_mesh_certificate_renew_days",
            "ssh_mesh_cpu_slots",
            "ssh_mesh_start_timeout",
            "workspace_start_timeout",
        ),
        _at_least(1),
    ),
    **dict.fromkeys(
        ("base_cache_valid_time", "images_min_free_gb", "images_pull_concurrency", "nas_automount_idle"), _at_least(0)
    ),
}
# What keys are not shown: somebody may have pasted a private one.
_HIDDEN = frozenset({"workspace_authorized_keys"})
# Days before their end at which certificates are renewed, and days for which they are valid, with their defaults.
RENEWALS = (
    ("registry_certificate_renew_days", 30, "registry_certificate_days", 397),
    ("ssh_mesh_certificate_renew_days", 30, "ssh_mesh_certificate_days", 364),
)


def check_forms(host: HostVariables) -> None:
    for name in host.values:
        form = FORMS.get(name)
        if not form or not host.ok(name):
            continue
        for where, one in _parts(host.values[name]):
            if one != "" and not form.is_it(one):
                shown = "(not shown)" if name in _HIDDEN else _shown(one)
                host.refuse(name, f"{where}{shown} is {form.words}", form.remedy)
    for renewal, days_before, life, days in RENEWALS:
        before, whole = whole_number(host.values.get(renewal, days_before)), whole_number(host.values.get(life, days))
        if before is not None and whole is not None and before >= whole and host.ok(renewal) and host.ok(life):
            what = (
                f"certificates are valid for {whole} days ({life}), and renewed {before} before their end ({renewal})"
            )
            host.refuse(
                renewal if renewal in host.values else life, what, "Choose more of the one, or fewer of the other."
            )


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from ((f"entry {number}, ", one) for number, one in enumerate(value, 1))
    elif isinstance(value, Mapping):
        yield from (("the key ", key) for key in value)
    else:
        yield "", value


def _shown(value: Any) -> str:
    text = masked(repr(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
