# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What NCCL and gloo must be told of a node's networks.

Source: NCCL's user guide, environment variables. They find the GPUs' links themselves; which network leads to the
other nodes they do not know: NCCL leaves out `docker*` and `lo`, not `veth*` and `br-*`; gloo takes the address that
the host's name has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError


def nccl_env(facts: Mapping[str, Any], route: str = "", interface: str = "") -> dict[str, str]:
    """Environment variables for the programs of a node.

    Args:
        facts: `infiniband` (whether there is an RDMA device; None or missing: not known), and `nics`, the RDMA devices
            near the GPUs; or what gpu_info returns.
        route: what `ip -j route get <address of a peer>` printed; empty: not asked.
        interface: network interface to use, whatever the route says; several with commas between them.

    Raises:
        GpusteadError: the route is not what ip prints.
    """
    name = interface or _interface(route)
    # '=' makes NCCL take exactly these names and not all that begin like them.
    env = {"NCCL_SOCKET_IFNAME": f"={name}", "GLOO_SOCKET_IFNAME": name} if name else {}
    infiniband, nics = facts.get("infiniband"), _nics(facts)
    if infiniband and nics:
        env["NCCL_IB_HCA"] = f"={','.join(nics)}"
    elif infiniband is False:
        env["NCCL_IB_DISABLE"] = "1"
    return env


def _interface(route: str) -> str:
    if not route.strip():
        return ""
    try:
        found = json.loads(route)
        name = found[0]["dev"] if found != [] else ""
    except (ValueError, LookupError, TypeError):
        name = None
    if not isinstance(name, str):
        raise GpusteadError(
            f"the route {route.strip()[:200]!r}", "the JSON of ip -j route get", "Name the interface instead."
        )
    # The loopback leads to no peer: what was asked for is an address of the node itself.
    return "" if name == "lo" else name


def _nics(facts: Mapping[str, Any]) -> list[str]:
    """mlx5_2 before mlx5_10."""
    given = facts.get("nics")
    if given is None:
        given = [nic for gpu in facts.get("gpus") or () for nic in gpu.get("nics") or ()]
    return sorted(
        set(given), key=lambda nic: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", nic)]
    )
