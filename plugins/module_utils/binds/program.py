# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the units run at boot, and an administrator by hand: `gpustead-binds`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.binds import (
    departing_containers,
    fstab,
    returning_shares,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.apply_binds import apply, cover, release
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import DIRECTORY
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.declared import DECLARED, kept, read, uncover
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError


def main(arguments: Sequence[str], directory: str = DIRECTORY, declared: str = DECLARED) -> int:
    """The program of the units: mount all that is declared, or wait until that can be done and start what waited for
    it, or cover it alone, or release all that is mounted; and of an administrator: let a place be as it is that
    containers have written."""
    parser = argparse.ArgumentParser(prog="gpustead-binds", description="Mount the places that containers see.")
    parser.add_argument("verb", choices=["mount", "wait", "cover", "release", "uncover"])
    parser.add_argument("place", nargs="?", default="")
    try:
        given = parser.parse_args(arguments)
        verb = given.verb
        if verb == "uncover":
            uncover(given.place, declared)
            return 0
        if verb == "release":
            departing_containers.end()
            release(directory)
            return 0
        sets = read(declared)
        everything = [place for places in sets.values() for place in places]
        if verb == "cover":
            everything = [place for place in (*everything, *kept(everything, declared)) if place.cover]
            ready = [place for place in everything if not fstab.awaited([place])]
            cover(ready)
            fstab.wait(everything, network=False)
            cover(place for place in everything if place not in ready)
            return 0
        if verb == "wait":
            returning_shares.wait(everything)
            sets = read(declared)  # as a run may have left them meanwhile
        fstab.wait(everything, network=True)
        for name, places in sets.items():
            for refused in apply(name, places, directory=directory, declared=declared).refused:
                error = GpusteadError(refused["what"], refused["expected"], refused["remedy"])
                sys.stderr.write(f"{name}/{refused['name']}: {error}\n")
        if verb == "wait":
            returning_shares.start_containers(directory)
    except (GpusteadError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
