# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the nodes are found from the mesh: their names and addresses from the share, all else from here.

Who can write on the share as others (root of a workspace with sudo, say) must not tell ssh what it runs, or whom it
trusts: that would be everybody's in the mesh, root's too. An address that is another's leads to who has no certificate.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}\Z")
_ADDRESS = re.compile(r"[A-Za-z0-9:][A-Za-z0-9_.:-]{0,252}\Z")

_REVOKED = re.compile(r"@revoked \* (ssh-ed25519 [A-Za-z0-9+/]{68})(?: [\w.-]*)?\Z")

_OF_ALL = """\
  IdentityFile ~/.config/gpustead/mesh_key
  IdentityFile /mesh/id_ed25519
  IdentitiesOnly yes
  StrictHostKeyChecking yes
  GlobalKnownHostsFile /dev/null
  HostKeyAlgorithms ssh-ed25519-cert-v01@openssh.com
  Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com
  MACs hmac-sha2-512-etm@openssh.com,hmac-sha2-256-etm@openssh.com
"""


class Place(NamedTuple):
    """Where a node's mesh is."""

    address: str
    port: int


def parse(text: str) -> dict[str, Place]:
    """What role ssh_mesh has written, by the names of the nodes. Raises ValueError for what it would not."""
    raw: Any = json.loads(text)
    if not isinstance(raw, dict) or raw.get("schema") != 1 or not isinstance(raw.get("nodes"), dict):
        raise ValueError("it is no list of nodes")
    return {_like(NAME, name): _place(one) for name, one in raw["nodes"].items()}


def revoked(text: str) -> tuple[str, ...]:
    """Host keys that nobody trusts any more. Raises ValueError for what role ssh_mesh would not write."""
    found = [_REVOKED.match(line) for line in text.splitlines()]
    if None in found:
        raise ValueError("it is no list of revoked keys")
    return tuple(match[1] for match in found if match)


def _place(one: Any) -> Place:
    if not isinstance(one, dict) or type(one.get("port")) is not int or not 0 < one["port"] < 1 << 16:
        raise ValueError(f"{one!r} is no place of a node")
    return Place(_like(_ADDRESS, one.get("address")), one["port"])


def _like(form: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not form.match(value):
        raise ValueError(f"{value!r} is no name or address")
    return value


def configuration(nodes: Mapping[str, Place], known_hosts: str, kex: str, family: str) -> str:
    """ssh_config(5) of the mesh.

    Args:
        nodes: where they are.
        known_hosts: the file with the authority that has signed their keys.
        kex: how keys are exchanged.
        family: of the addresses that keys are let in from: `inet`, `inet6` or `any`.
    """
    return "".join(
        f"Host {' '.join(dict.fromkeys((name, name.lower(), place.address, place.address.lower())))}\n"
        f"  HostName {place.address}\n"
        f"  AddressFamily {family}\n"
        f"  HostKeyAlias {name.lower()}\n"
        f"  Port {place.port}\n"
        f"  UserKnownHostsFile {known_hosts}\n"
        f"  KexAlgorithms {kex}\n{_OF_ALL}"
        for name, place in sorted(nodes.items())
    )
