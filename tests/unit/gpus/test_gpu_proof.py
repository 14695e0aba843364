# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What containers see of the GPUs, from what nvidia-smi and Docker really print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import GivenGpus, parse_given
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_proof import Proof, prove, refusal
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_smi_list import usable_uuids
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "gpu_proof"
QUADROS = ("GPU-c7b57be0-94ff-d352-a59b-d0ee00aeed43", "GPU-d6de6afc-bdfe-75c4-5273-0544439153fc")
MIGS = (
    "MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde",
    "MIG-56c30729-347f-5dd6-8da0-c3cc59e969e0",
    "MIG-9d14fb21-4ae1-546f-a636-011582899c39",
    "MIG-0f709664-740c-52b0-ae79-3e4c9ede6d3b",
)
LISTS: dict[str, tuple[str, ...]] = {
    "2x-quadro-rtx4000": QUADROS,
    "l40s": ("GPU-00000000-0000-0000-0000-000000000000",),
    "h100-mig-mixed-realuuid": MIGS,
    "a100-40gb-mig-on-gpu5-partial": (
        "GPU-d8d7e984-7a52-6ad0-676c-222f4be482b9",
        "GPU-658c3ec8-b842-8f3d-96b8-e919d699d17f",
        "GPU-143664cc-e9e6-dea8-c036-a112f4f4cf2e",
        "GPU-41c37062-3644-9e82-f1e5-4cf9832c5294",
        "GPU-b2210207-2f27-05df-a93d-8d060db4eabb",
        "MIG-8c4c5a27-e508-5556-b2ea-7e549465741e",
        "MIG-1d89abd8-d10a-5361-bd06-77a807048472",
        "MIG-c6b63f1b-a006-5803-b4f4-cc1b2867b34b",
        "MIG-0f03f623-f28d-5831-bc51-f450dad99b8c",
    ),
    "container-lost-gpu-unknown-error": (),
}


def text(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", LISTS)
def test_listed(name: str) -> None:
    assert usable_uuids(text(name)) == LISTS[name]


def test_a_gpu_after_a_divided_one_stands_for_itself() -> None:
    assert usable_uuids(text("h100-mig-mixed-realuuid") + text("2x-quadro-rtx4000")) == MIGS + QUADROS


@given(st.text())
def test_any_text_lists_something_or_nothing(text: str) -> None:
    assert all(uuid in text for uuid in usable_uuids(text))


# What was expected, what the command answered, and what is wrong then.
PROOFS: dict[str, tuple[Sequence[str], tuple[int, str, str], str]] = {
    "all of them": (QUADROS[::-1], (0, text("2x-quadro-rtx4000"), ""), ""),
    "MIG instances": (MIGS, (0, text("h100-mig-mixed-realuuid"), ""), ""),
    "one is missing": ([*QUADROS, "GPU-3"], (0, text("2x-quadro-rtx4000"), ""), "does not see GPU-3"),
    "one too many": (QUADROS[:1], (0, text("2x-quadro-rtx4000"), ""), f"sees {QUADROS[1]}, which it was not given"),
    "others": (
        ["GPU-3"],
        (0, text("2x-quadro-rtx4000"), ""),
        f"does not see GPU-3 and sees {', '.join(QUADROS)}, which it was not given",
    ),
    "lost by a daemon-reload": (
        ["GPU-3"],
        (255, text("container-lost-gpu-unknown-error"), ""),
        "nvidia-smi fails (Failed to initialize NVML: Unknown Error) and does not see GPU-3",
    ),
    "a warning beside the list": (QUADROS, (0, text("2x-quadro-rtx4000"), "WARNING: infoROM is corrupted"), ""),
    "a failure beside the list": (
        QUADROS,
        (15, text("2x-quadro-rtx4000"), "GPU is lost.\n"),
        "nvidia-smi fails (GPU is lost.)",
    ),
    "no words": (["GPU-3"], (124, "", ""), "nvidia-smi fails (it ended with 124) and does not see GPU-3"),
    "nothing": (["GPU-3"], (0, "", ""), "does not see GPU-3"),
}


@pytest.mark.parametrize("case", PROOFS)
def test_proof(case: str) -> None:
    expected, answer, words = PROOFS[case]
    asked: list[Sequence[str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(argv)
        return answer

    proof = prove("mesh", ["docker", "exec", "m"], expected, run)
    assert asked == [["docker", "exec", "m", "nvidia-smi", "-L"]]
    assert str(proof) == words
    assert proof.ok is (not words)


# What `test -w /dev/nvidia-uvm` answers in the container, and what is wrong then.
UVM = {
    "there": ((0, "", ""), ""),
    "not there, or not allowed": ((1, "", ""), "may not open /dev/nvidia-uvm, so that CUDA ends with error 999"),
    "no such program": ((127, "", "executable file not found"), ""),
    "no answer": ((124, "", "no answer within 60 s"), ""),
}


@pytest.mark.parametrize(("answer", "words"), UVM.values(), ids=list(UVM))
def test_a_container_without_uvm_has_no_cuda(answer: tuple[int, str, str], words: str) -> None:
    asked: list[str] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        asked.append(" ".join(argv))
        return (0, text("2x-quadro-rtx4000"), "") if argv[0] == "nvidia-smi" else answer

    assert str(prove("mesh", [], QUADROS, run, needs_uvm=True)) == words
    assert asked == ["nvidia-smi -L", "test -w /dev/nvidia-uvm"]
    proof = prove("mesh", [], QUADROS, run, needs_uvm=False)
    assert proof.ok
    assert len(asked) == 3


def test_where_nvidia_smi_fails_nothing_more_is_asked() -> None:
    answers = iter([(255, text("container-lost-gpu-unknown-error"), "")])
    assert not prove("mesh", [], QUADROS, lambda _: next(answers), needs_uvm=True).ok


def test_a_program_that_is_not_in_the_image_is_told() -> None:
    proof = prove("mesh", [], QUADROS, lambda _: (126, "", text("docker-exec-not-found-in-path")))
    assert 'exec: "nvidia-smi": executable file not found' in str(proof)


def test_the_refusal_names_what_was_expected_and_seen() -> None:
    proofs = [Proof("jupyter", ("GPU-1",), ("GPU-1",), ""), Proof("ssh", ("GPU-1",), ("GPU-2",), "")]
    error = refusal("gpustead-workspace", proofs)
    assert error.what == "GPUs in gpustead-workspace: ssh does not see GPU-1 and sees GPU-2, which it was not given"
    assert error.expected == "exactly GPU-1"


GIVEN = {"schema": 1, "state": "ready", "driver": "cdi", "uuids": ["GPU-1"], "slots": 1}


def test_what_role_nvidia_wrote_is_read() -> None:
    assert parse_given(json.dumps(GIVEN), "gpus.json") == GivenGpus("ready", "cdi", ("GPU-1",))


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({**GIVEN, "uuids": None}), "is damaged"),
        (json.dumps({"schema": 1}), "is damaged"),
        (json.dumps({**GIVEN, "schema": 2}), "has schema 2"),
    ],
)
def test_a_damaged_file_is_refused(damaged: str, words: str) -> None:
    with pytest.raises(GpusteadError, match=f"gpus.json {words}"):
        parse_given(damaged, "gpus.json")
