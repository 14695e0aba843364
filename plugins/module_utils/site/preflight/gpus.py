# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is declared for GPUs, as far as that can be told without one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import (
    gpu_exclusion,
    mig_layout,
    nvidia_choice,
    nvidia_settings,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import HostVariables

# What is wrong with a value that is declared for a GPU.
_VALUES: dict[str, Callable[[Any], str]] = {
    mig_layout.VARIABLE: mig_layout.bad_layout,
    nvidia_settings.VARIABLE: nvidia_settings.bad_limit,
}


def check_exclusion(host: HostVariables) -> None:
    names = host.get(gpu_exclusion.VARIABLE, list, [])
    try:
        gpu_exclusion.check([str(name) for name in names])
    except GpusteadError as error:
        host.refuse(
            gpu_exclusion.VARIABLE, f"{error.what.partition(': ')[2]} is none: expected {error.expected}", error.remedy
        )


def check_keys(host: HostVariables) -> None:
    """Models, UUIDs and numbers, and what is declared for them."""
    for name, wrong in _VALUES.items():
        for key, value in host.get(name, dict, {}).items():
            try:
                nvidia_choice.check(name, str(key))
            except GpusteadError as error:
                host.refuse(name, f"{error.what.partition(': ')[2]} is none: expected {error.expected}", error.remedy)
            what = wrong(value)
            if what:
                host.refuse(name, f"{key} has {what}", _EXAMPLES[name])


_EXAMPLES = {
    mig_layout.VARIABLE: "Write a list of profiles as nvidia-smi mig -lgip names them, such as [3g.40gb, 1g.10gb].",
    nvidia_settings.VARIABLE: "Write a number of watts above 0, such as 400.",
}
