# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What dpkg has: asked once, where apt would take its time to find nothing to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must

_FORMAT = "${db:Status-Abbrev} ${Package} ${Version}\n"
# Wanted in whatever way, installed, and without an error: `ii` and `hi`.
_INSTALLED = re.compile(r"^.i +(\S+) (\S+)$", re.MULTILINE)


def installed(run: Run, names: Iterable[str]) -> dict[str, str]:
    """Those of these packages that are installed, with their versions.

    Raises:
        GpusteadError: dpkg does not say.
    """
    argv = ["dpkg-query", "--show", "--showformat", _FORMAT, *names]
    # 1: one of them is not known to it.
    return dict(_INSTALLED.findall(must(run, argv, good=(0, 1), remedy="Repair dpkg (dpkg --audit), and run again.")))


def lacking(run: Run, names: Sequence[str], there: Iterable[str]) -> list[str]:
    """Those of these packages that apt has to look at.

    With those that are there only because others need them: apt may take them away with these.

    Args:
        there: those that are installed.
    """
    _code, out, _err = run(["apt-mark", "showmanual", *names])
    return [name for name in names if name not in {*there} & {*out.split()}]
