# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one error of the library: what is wrong, what was expected, what to do."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

_LONGEST = 4000  # characters of each part: the last words of a build are some lines


class GpusteadError(Exception):
    """A problem that the person who runs the playbook can solve.

    Args:
        what: the thing and its value, for example ``uid 1500 belongs to 'bob'``.
        expected: what should have been there.
        remedy: what to do next, one sentence.

    All of them may quote what an account or a container made up, so each is one line without control characters.
    """

    def __init__(self, what: str, expected: str, remedy: str) -> None:
        self.what, self.expected, self.remedy = (shown(text, _LONGEST) for text in (what, expected, remedy))
        super().__init__(f"{self.what}: expected {self.expected}. {self.remedy}")
