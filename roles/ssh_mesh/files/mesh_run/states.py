# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nodes that take no new runs, as the share says: playbooks/drain.yml leaves a record there for each.

One whose line was deleted from the inventory is no node any more, and its record nobody's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from mesh_run import names, places
from mesh_run.request import Refused

_DRAINED = "drained"


def left_out() -> dict[str, str]:
    """Why nodes take no new runs, by their names. Raises Refused where the share does not say.

    A record that cannot be read is one nevertheless: whoever drained the node is at work there.
    """
    place = places.MESH / _DRAINED
    try:
        found = sorted(name[: -len(".json")] for name in os.listdir(place) if name.endswith(".json"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refused(f"{place}: {error.strerror}") from None
    try:
        nodes = names.parse(places.read(places.MESH / "nodes.json")) if found else {}
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"which nodes there are cannot be read: {places.shown(error)}") from None
    return {name: f"is drained{_more(place / f'{name}.json')}" for name in found if name in nodes}


def _more(path: Path) -> str:
    try:
        record = json.loads(places.read(path))
        return places.shown(f" since {record['since']} by {record['by']}: {record['reason']}")
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        return places.shown(f"; its record cannot be read ({error})")
