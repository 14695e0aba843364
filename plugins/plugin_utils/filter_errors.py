# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What filters make of the library's error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError


@contextlib.contextmanager
def filter_errors(setting: str = "") -> Iterator[None]:
    """Around what a filter does, or as its decorator: what the library refuses is an error of the filter.

    `setting`: the variable that the error is about, where it does not say so itself.
    """
    try:
        yield
    except GpusteadError as error:
        raise AnsibleFilterError(f"{setting}: {error}" if setting else str(error)) from None
