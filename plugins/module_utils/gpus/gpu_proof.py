# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a container has the GPUs that were meant for it, asked of nvidia-smi inside; and which those are.

A container can lose its GPUs while it runs: a `systemctl daemon-reload` takes away what Docker's hook gave it ("Failed
to initialize NVML: Unknown Error", NVIDIA/nvidia-container-toolkit #48).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

SCHEMA = 1
ANSWER = 1 << 16  # bytes that nvidia-smi -L may print: 64 GPUs with 7 instances each are some 40,000
# A line of nvidia-smi -L: "GPU 0: name (UUID: GPU-…)", its MIG instances indented below it.
_LISTED = re.compile(r"^(\s*)(?:GPU|MIG)\s.*\(UUID: ([A-Za-z0-9/-]{1,80})\)")


@dataclass(frozen=True)
class GivenGpus:
    """What role nvidia left in gpus.json for the containers of a node.

    `driver`: how Docker gives them (cdi or nvidia); None: there are none for containers.
    """

    state: str
    driver: str | None
    uuids: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What one container sees. `said`: the last words of a command that failed, else empty."""

    container: str
    expected: tuple[str, ...]
    seen: tuple[str, ...]
    said: str

    @property
    def missing(self) -> list[str]:
        return sorted(set(self.expected) - set(self.seen))

    @property
    def unexpected(self) -> list[str]:
        return sorted(set(self.seen) - set(self.expected))

    @property
    def ok(self) -> bool:
        return not (self.said or self.missing or self.unexpected)

    def __str__(self) -> str:
        """What is wrong, in words."""
        parts = [
            f"nvidia-smi fails ({self.said})" if self.said else "",
            f"does not see {', '.join(self.missing)}" if self.missing else "",
            f"sees {', '.join(self.unexpected)}, which it was not given" if self.unexpected else "",
        ]
        return " and ".join(filter(None, parts))


def parse_given(text: str, place: str) -> GivenGpus:
    """gpus.json as role nvidia writes it.

    Raises:
        GpusteadError: it is damaged, or of another version.
    """
    try:
        data = json.loads(text)
        given = GivenGpus(data["state"], data["driver"], tuple(data["uuids"]))
        schema = data["schema"]
    except (ValueError, TypeError, KeyError) as error:
        raise GpusteadError(
            f"{place} is damaged", f"JSON with schema {SCHEMA} ({error!r})", "Run role nvidia."
        ) from None
    if schema != SCHEMA:
        raise GpusteadError(f"{place} has schema {schema!r}", f"schema {SCHEMA}", "Run role nvidia.")
    return given


def listed_uuids(text: str) -> tuple[str, ...]:
    """What can be computed on, from `nvidia-smi -L`: MIG instances, and GPUs that show none."""
    found: list[tuple[bool, str]] = []
    for match in filter(None, map(_LISTED.match, text.splitlines())):
        instance = bool(match.group(1))
        if instance and found and not found[-1][0]:
            found.pop()  # the GPU that is divided
        found.append((instance, match.group(2)))
    return tuple(uuid for _, uuid in found)


def prove(container: str, inside: Sequence[str], uuids: Iterable[str], run: Run) -> Proof:
    """Ask a container. `inside`: the command that runs another one in it, such as `docker exec NAME`."""
    code, out, err = run([*inside, "nvidia-smi", "-L"])
    lines = [line.strip() for line in f"{out}\n{err}".splitlines() if line.strip()]
    said = shown(lines[-1] if lines else f"it ended with {code}") if code else ""
    return Proof(container, tuple(uuids), listed_uuids(out), said)


def refusal(project: str, proofs: Iterable[Proof]) -> GpusteadError:
    """The error for containers of a compose project that are not as expected."""
    wrong = [proof for proof in proofs if not proof.ok]
    expected = sorted({uuid for proof in wrong for uuid in proof.expected})
    return GpusteadError(
        f"GPUs in {project}: {'; '.join(f'{proof.container} {proof}' for proof in wrong)}",
        f"exactly {', '.join(expected) or 'no GPU'}",
        "See nvidia-smi on the host; where it is well there, site.yml --tags nvidia looks at Docker's part.",
    )
