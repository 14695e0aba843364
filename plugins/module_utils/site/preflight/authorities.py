# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates of the site's authorities, and what protects those of the cluster."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import HostVariables

PASSPHRASE_LENGTH = 12


def check_certificates(host: HostVariables, read: Callable[[str], str]) -> None:
    for path in host.get("cluster_ca_certificates", list, []):
        reason = _bad_certificate(path, read)
        if reason:
            host.refuse(
                "cluster_ca_certificates", reason, "List files on the controller, each with one PEM certificate."
            )


def check_passphrase(host: HostVariables) -> None:
    if len(host.get("cluster_ca_passphrase", str, "")) < PASSPHRASE_LENGTH and host.ok("cluster_ca_passphrase"):
        host.refuse(
            "cluster_ca_passphrase",
            f"is missing or shorter than {PASSPHRASE_LENGTH} characters",
            "Set a long random text, in a vault.",
        )


def _bad_certificate(path: Any, read: Callable[[str], str]) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    try:
        text = read(path)
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read ({getattr(error, 'strerror', None) or 'not a text'})"
    count = text.count("-----BEGIN CERTIFICATE-----")
    if count != 1:
        return f"{path} holds {count} PEM certificates"
    try:
        ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE-----") :].strip())
    except ValueError:
        return f"{path} holds a PEM certificate that is damaged"
    return ""
