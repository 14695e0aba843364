# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What kind of run this is: one of only some tasks may leave no receipt."""

from __future__ import annotations

from ansible import context

# Molecule always skips its own tags, which no task here bears.
FOREIGN = frozenset({"molecule-notest", "molecule-idempotence-notest", "notest"})


def is_partial() -> bool:
    """Whether only some of the tasks were asked for (--tags, --skip-tags, --start-at-task, --step)."""
    arguments = context.CLIARGS
    return bool(
        set(arguments.get("tags") or ["all"]) != {"all"}
        or set(arguments.get("skip_tags") or []) - FOREIGN
        or arguments.get("start_at_task")
        or arguments.get("step")
    )
