# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What modules support of check and diff mode, and where they run."""

from __future__ import annotations


class ModuleDocFragment:
    """One part for each kind of module. What a module says of its own stands before it."""

    DOCUMENTATION = r"""
attributes:
  check_mode:
    support: full
    description: Tells what would change.
  diff_mode:
    support: full
    description: Shows what is there before and after.
  platform:
    support: full
    platforms: linux
    description: Which hosts it works on.
"""

    NO_DIFF = r"""
attributes:
  check_mode:
    support: full
    description: Tells what would change.
  diff_mode:
    support: none
    description: There is no diff.
  platform:
    support: full
    platforms: linux
    description: Which hosts it works on.
"""

    INFO = r"""
attributes:
  check_mode:
    support: full
    description: Changes nothing, in check mode or not.
  diff_mode:
    support: none
    description: There is no diff.
  platform:
    support: full
    platforms: linux
    description: Which hosts it works on.
"""
