# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The GPUs of a node as they are now, and against what role nvidia left for containers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import (
    GivenGpus,
    container_gpus,
    given_uuids,
    parse_given,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import without_kernels
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Desired, Finding, Findings
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.host import read


def examine_gpus(desired: Desired, host: Host, findings: Findings) -> dict[str, Sequence[str]]:
    """The GPUs as they are now, and against what role nvidia left. Returns those that each project should see."""
    findings.problems.extend(judge_gpus(desired))
    if "state" in desired.gpu_info:
        findings.seen["gpus"] = _seen(desired.gpu_info)
    text, missing = read(desired.gpus_file, host)
    try:
        given = parse_given(text, desired.gpus_file)
    except GpusteadError as error:
        findings.add("GPUs", f"for containers are not known ({missing or error.what})", desired.again)
        return {}
    findings.problems.extend(judge_given(given, desired))
    uuids: dict[str, Sequence[str]] = {}
    for project in desired.projects:
        try:
            uuids[project.name] = (
                given.uuids if project.gpus is None else container_gpus(json.loads(text), project.gpus)["uuids"]
            )
        except GpusteadError as error:
            findings.add(f"GPUs of {project.name}", f"have one that is not there ({error.what})", error.remedy)
    return uuids


def _seen(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the report says of the GPUs that answer."""
    return {"state": info["state"], "models": dict(Counter(gpu.get("name") or "GPU" for gpu in info["gpus"]))}


def judge_gpus(desired: Desired) -> Iterator[Finding]:
    """What is wrong with the GPUs of the host."""
    info, remedy = desired.gpu_info, f"See nvidia-smi on {desired.host}."
    if "state" not in info:
        yield Finding("GPUs", f"cannot be asked ({info.get('msg') or 'no result'})", remedy)
    elif info["state"] in ("unusable", "degraded") and desired.gpus_required:
        ill = [gpu for gpu in info["gpus"] if gpu["health"] == "bad" and not gpu.get("withheld")]
        problems = [problem for gpu in ill for problem in gpu["problems"]]
        sentences = problems if problems and info["reason"] == "unhealthy" else [info["detail"]]
        details = " ".join(sentences).rstrip(".")
        yield Finding("GPUs", f"are {info['state']}, {info['reason']} ({details})", info["remedy"] or remedy)


def judge_kernels(labels: Iterable[str], desired: Desired) -> Iterator[Finding]:
    """GPUs for which there is no code in an image that runs here; each label says its PyTorch, as `2.13.0 cu126`."""
    gpus = [gpu for gpu in desired.gpu_info.get("gpus", ()) if not gpu.get("withheld")]
    capabilities = [str(gpu["compute_capability"]) for gpu in gpus if gpu.get("compute_capability")]
    for label in labels:
        torch, _space, index = label.partition(" ")
        lacking = without_kernels(torch, index, str(desired.gpu_info.get("machine") or "x86_64"), capabilities)
        if lacking:
            yield Finding(
                "image",
                f"has torch {torch} from {index}, without code for GPUs of compute capability {', '.join(lacking)}",
                "Run playbooks/images.yml -e site_force=true on all nodes, then site.yml: an images_torch_index that"
                " ends in auto follows their GPUs; or give these nodes an image of their own (images_variants).",
            )


def judge_given(given: GivenGpus, desired: Desired) -> Iterator[Finding]:
    """What has changed since role nvidia looked, and whether containers have what there is."""
    state = desired.gpu_info.get("state")
    now = given_uuids(desired.gpu_info) if state else []
    remedy = f"Run site.yml --tags nvidia,workspace,ssh_mesh --limit {desired.host}."
    if state and state != given.state:
        yield Finding("GPUs", f"are {state} now, role nvidia found them {given.state}", remedy)
    if given.driver is None and now and desired.gpus_required:
        yield Finding("GPUs", "are not given to containers", remedy)
    if state and given.driver and set(now) != set(given.uuids):
        was, are = (", ".join(sorted(uuids)) or "none" for uuids in (given.uuids, now))
        yield Finding("GPUs", f"are {are} now, containers were given {was}", remedy)
