# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a container has the GPUs that were meant for it, asked of nvidia-smi inside; and which those are.

A container can lose its GPUs while it runs: a `systemctl daemon-reload` takes away what Docker's hook gave it ("Failed
to initialize NVML: Unknown Error", NVIDIA/nvidia-container-toolkit #48). And nvidia-smi works where CUDA does not:
without /dev/nvidia-uvm, see `nvidia_device_nodes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import UVM
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_list import LIST, usable_uuids
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ANSWER = 1 << 16  # bytes that nvidia-smi -L may print: 64 GPUs with 7 instances each are some 40,000


@dataclass(frozen=True)
class Proof:
    """What one container sees. `said`: the last words of nvidia-smi where it failed; `closed`: what it may not open."""

    container: str
    expected: tuple[str, ...]
    seen: tuple[str, ...]
    said: str
    closed: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        return sorted(set(self.expected) - set(self.seen))

    @property
    def unexpected(self) -> list[str]:
        return sorted(set(self.seen) - set(self.expected))

    @property
    def ok(self) -> bool:
        return not (self.said or self.missing or self.unexpected or self.closed)

    def __str__(self) -> str:
        """What is wrong, in words."""
        parts = [
            f"nvidia-smi fails ({self.said})" if self.said else "",
            f"does not see {', '.join(self.missing)}" if self.missing else "",
            f"sees {', '.join(self.unexpected)}, which it was not given" if self.unexpected else "",
            f"may not open {', '.join(self.closed)}, so that CUDA ends with error 999" if self.closed else "",
        ]
        return " and ".join(filter(None, parts))


def prove(container: str, inside: Sequence[str], uuids: Iterable[str], run: Run, needs_uvm: bool = False) -> Proof:
    """Ask a container.

    Args:
        container: its name, for messages.
        inside: the command that runs another one in it, such as `docker exec NAME`.
        uuids: what it must see.
        run: runs commands.
        needs_uvm: whether CUDA needs /dev/nvidia-uvm on this host.
    """
    code, out, err = run([*inside, "nvidia-smi", *LIST])
    lines = [line.strip() for line in f"{out}\n{err}".splitlines() if line.strip()]
    said = shown(lines[-1] if lines else f"it ended with {code}") if code else ""
    # access(2) asks the cgroup, too. An image without `test` answers otherwise than by 1.
    closed = needs_uvm and not code and run([*inside, "test", "-w", UVM])[0] == 1
    return Proof(container, tuple(uuids), usable_uuids(out), said, (UVM,) if closed else ())


def refusal(project: str, proofs: Iterable[Proof]) -> GpusteadError:
    """The error for containers of a compose project that are not as expected."""
    wrong = [proof for proof in proofs if not proof.ok]
    expected = sorted({uuid for proof in wrong for uuid in proof.expected})
    return GpusteadError(
        f"GPUs in {project}: {'; '.join(f'{proof.container} {proof}' for proof in wrong)}",
        f"exactly {', '.join(expected) or 'no GPU'}",
        "See nvidia-smi on the host; where it is well there, site.yml --tags nvidia looks at Docker's part.",
    )
