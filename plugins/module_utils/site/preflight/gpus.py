# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is declared for GPUs."""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import gpu_exclusion
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import HostVariables


def check_exclusion(host: HostVariables) -> None:
    names = host.get(gpu_exclusion.VARIABLE, list, [])
    try:
        gpu_exclusion.check([str(name) for name in names])
    except GpusteadError as error:
        host.refuse(
            gpu_exclusion.VARIABLE, f"{error.what.partition(': ')[2]} is none: expected {error.expected}", error.remedy
        )
