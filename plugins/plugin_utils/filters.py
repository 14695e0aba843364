# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What filters over the library have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError


def filter_module(**filters: Callable[..., Any]) -> type[Any]:
    """The class in which Ansible looks for the filters of a file, by their names."""
    return type("FilterModule", (), {"filters": lambda _self: filters})


@contextlib.contextmanager
def filter_errors(setting: str = "") -> Iterator[None]:
    """Around what a filter does, or as its decorator: what the library refuses is an error of the filter.

    `setting`: the variable that the error is about, where it does not say so itself.
    """
    try:
        yield
    except GpusteadError as error:
        raise AnsibleFilterError(f"{setting}: {error}" if setting else str(error)) from None
