# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one error of the library: what is wrong, what was expected, what to do."""

from __future__ import annotations


class GpusteadError(Exception):
    """A problem that the person who runs the playbook can solve.

    Args:
        what: the thing and its value, for example ``uid 1500 belongs to 'bob'``.
        expected: what should have been there.
        remedy: what to do next, one sentence.
    """

    def __init__(self, what: str, expected: str, remedy: str) -> None:
        self.what = what
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{what}: expected {expected}. {remedy}")
