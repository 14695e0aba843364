# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a node has for containers: the image and the GPUs that other roles left for them, and what is there itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_route import find_route
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.port_holders import PortHolder, holders, refuse
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.dpkg import lacking
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# Without gpus.json there is no GPU for containers, and whether there is InfiniBand is not known.
NO_GPUS: Mapping[str, Any] = {
    **{"state": "none", "driver": None, "device_ids": [], "uuids": [], "device_nodes": [], "slots": 0},
    **{"nics": [], "infiniband": None, "driver_version": None, "machine": None, "gpus": []},
}


@dataclass(frozen=True)
class Offer:
    """What a node has for containers.

    Attributes:
        image: the one that role images left for them; empty where it left none.
        gpus: the content of gpus.json, which role nvidia leaves; None where there is no such file.
        infiniband: whether the devices of InfiniBand are there.
        machine_id: of the node.
        route: what `ip -j route get` prints for the other node that was asked for; empty for none.
        held: which of the ports that were asked for an account has.
        missing: those of the packages that were asked for that are not installed, or only because others need them.
    """

    image: str
    gpus: Mapping[str, Any] | None
    infiniband: bool
    machine_id: str
    route: str = ""
    held: tuple[PortHolder, ...] = ()
    missing: tuple[str, ...] = ()


def observe(
    image_file: str,
    gpus_file: str,
    run: Run,
    *,
    peer: str = "",
    networks: Sequence[str] = (),
    ports: Iterable[int] = (),
    packages: Sequence[str] = (),
    system: str = "/",
) -> Offer:
    """Look at a node.

    Args:
        image_file, gpus_file: what roles images and nvidia left.
        run: runs `ip`, `getent` and `apt-mark`.
        peer, networks: another node, and the cluster's networks, to which the route is asked for, see
            `node_route.find_route`; empty: none is.
        ports: those of the containers.
        packages: names of packages.
        system: the node's root directory.

    Raises:
        GpusteadError: a file cannot be read, or is damaged; there is no route; it cannot be told who has the ports.
    """
    gpus = _read(gpus_file)
    return Offer(
        image=(_read(image_file) or "").strip(),
        gpus=None if gpus is None else _parse(gpus, gpus_file),
        infiniband=os.path.exists(os.path.join(system, "dev/infiniband")),
        machine_id=(_read(os.path.join(system, "etc/machine-id")) or "").strip(),
        route=find_route(peer, networks, run),
        held=tuple(_held(ports)),
        missing=tuple(lacking(run, packages, packages)) if packages else (),
    )


def offered_image(chosen: str, image_file: str, found: Mapping[str, Any], setting: str, *, check: bool) -> str:
    """The image that containers run; empty where it is not known yet.

    Args:
        chosen: the one that the site has set; empty: what role images left.
        image_file: where that stands.
        found: what module node_offer_info returned; empty before that.
        setting: the variable with which another one is chosen.
        check: whether it is a check, in which no image was pulled yet on a fresh host.

    Raises:
        GpusteadError: there is none.
    """
    image = chosen or str(found.get("image", ""))
    if found and not image and not check:
        remedy = f"Run role images first, or set {setting}."
        raise GpusteadError(f"{image_file} is missing or empty", "the image to run", remedy)
    return image


def refuse_held(ports: Mapping[str, int], found: Mapping[str, Any], remedy: str) -> None:
    """Raise GpusteadError where an account has one of the ports.

    Args:
        ports: port by what is to listen there.
        found: what module node_offer_info returned; empty before that.
        remedy: how another port is chosen, as of `port_holders.refuse`.
    """
    held = [PortHolder(**one) for one in found.get("held", ())]
    refuse(ports, [one for one in held if one.port in ports.values()], remedy)


def _held(ports: Iterable[int]) -> list[PortHolder]:
    try:
        return holders(ports)
    except OSError as error:
        raise of_system(error, "who listens on which port") from error


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        problem = error if isinstance(error, OSError) else OSError(f"no text: {error}")
        raise of_system(problem, path) from error


def _parse(text: str, path: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
        if not isinstance(found, dict):
            raise ValueError("no dictionary")
    except ValueError as error:
        raise GpusteadError(f"{path} is damaged ({error})", "what role nvidia wrote", "Run role nvidia.") from error
    return {**NO_GPUS, **found}
