# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates of a host that end: the authorities', which nothing renews by itself, and what they have signed.

The SSH authority of the mesh is a key alone, and what was revoked a list of keys: neither has an end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.certificates import last_day

WARN_DAYS = 60
DAY = 86400
_AUTHORITY = "3=gpustead registry authority"  # its common name, as role registry makes it
_REGISTRY_CA = (
    "On the controller, move registry_ca.crt out of cluster_secrets_dir (registry_ca.key stays there), and run "
    "site.yml --tags registry: with the same key, what the authority has signed stays good."
)


@dataclass(frozen=True)
class CertificatePlace:
    """Where certificates lie.

    Attributes:
        pattern: of the paths, from the root; only root can write there.
        what: how such a certificate is called.
        remedy: which playbook or variable renews it; `{host}` stands for the host.
        kind: x509 or ssh.
        subject: its subject, where others may lie there too.
    """

    pattern: str
    what: str
    remedy: str
    kind: str = "x509"
    subject: str = ""


def places(config_dir: str) -> tuple[CertificatePlace, ...]:
    """All places on a host; `config_dir` is `cluster_config_dir`."""
    signed = "Run site.yml --tags {role} --limit {{host}}: it renews those that end within {variable}."
    registry = signed.format(role="registry", variable="registry_certificate_renew_days")
    mesh = signed.format(role="ssh_mesh", variable="ssh_mesh_certificate_renew_days")
    given = "Put its successor in its place in cluster_ca_certificates, and run site.yml --tags base."
    return (
        CertificatePlace("/etc/docker/certs.d/*/ca.crt", "the registry's authority", _REGISTRY_CA, subject=_AUTHORITY),
        CertificatePlace(
            "/etc/docker/registry/cache-ca.crt", "the registry's authority", _REGISTRY_CA, subject=_AUTHORITY
        ),
        CertificatePlace("/etc/docker/registry/registry.crt", "the registry's certificate", registry),
        CertificatePlace("/usr/local/share/ca-certificates/gpustead-*.crt", "an authority of the site", given),
        CertificatePlace(f"{config_dir}/ssh_mesh/ssh/*-cert.pub", "the mesh's host certificate", mesh, kind="ssh"),
    )


@dataclass(frozen=True)
class Ending:
    """A certificate that ends soon or has ended; `over`: it has."""

    over: bool
    subject: str
    what: str
    remedy: str


def endings(host: str, config_dir: str, now: float, root: Path = Path("/")) -> Iterator[Ending]:
    """Those of a host, each certificate once.

    Args:
        host: its name in the inventory.
        config_dir: where the cluster's settings lie on it.
        now: seconds since the epoch.
        root: stands before each path.
    """
    reported = set()
    for place in places(config_dir):
        for path in sorted(root.glob(place.pattern.lstrip("/"))):
            found = last_day(path.read_bytes(), place.kind)
            if found is None or (place.subject and found[0] != place.subject) or (place.what, found) in reported:
                continue  # the first: one that cannot be read is drift
            reported.add((place.what, found))
            remaining = found[1] - now
            if remaining < WARN_DAYS * DAY:
                day = time.strftime("%Y-%m-%d", time.gmtime(min(found[1], 253402300799)))
                name = f"/{path.relative_to(root)}"
                what = f"ended on {day}" if remaining <= 0 else f"ends on {day}, in {int(remaining // DAY)} days"
                yield Ending(remaining <= 0, f"{place.what} ({name})", what, place.remedy.format(host=host))
