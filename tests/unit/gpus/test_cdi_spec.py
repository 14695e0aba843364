"""The CDI specification: whether it is of the GPUs that are there, and how it is made anew."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import cdi_spec
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.cdi_spec import Desired
from hypothesis import given
from hypothesis import strategies as st

ONE, TWO = "GPU-0008bcf4-cae8-0120-a18f-bc344fb1c710", "MIG-7089d0f3-293f-58c9-8f8c-5ea666eedbde"
# As the real tool prints it; the log goes to stderr, and to a terminal in another form.
LISTED = f"""INFO[0000] Found 5 CDI devices
nvidia.com/gpu=0
nvidia.com/gpu=1:0
nvidia.com/gpu={ONE}
nvidia.com/gpu={TWO}
nvidia.com/gpu=all
other.com/gpu=all
"""


def test_names() -> None:
    assert cdi_spec.parse_list(LISTED) == ("0", "1:0", ONE, TWO, "all")


@given(st.text())
def test_any_text_is_a_list(text: str) -> None:
    assert all(" " not in name for name in cdi_spec.parse_list(text))


MADE_FOR = "- hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.590.48.01\n"
GIVES_UVM = "containerEdits:\n  deviceNodes:\n  - path: /dev/nvidiactl\n  - path: /dev/nvidia-uvm\n"
OUTDATED = {
    "up to date": (("0", ONE, "all"), MADE_FOR, Desired([ONE], [ONE], "590.48.01"), ""),
    "empty": ((), "kind: nvidia.com/gpu\n", Desired([ONE], [ONE]), f"it does not name {ONE}"),
    "not made": ((), "", Desired([], []), f"there is no {cdi_spec.PATH}"),
    "an instance is new": (("0", ONE), MADE_FOR, Desired([ONE, TWO], [ONE]), f"it does not name {TWO}"),
    "an instance is gone": (("0", ONE, TWO), MADE_FOR, Desired([ONE], [ONE]), f"it names {TWO}"),
    "a divided GPU is named too": ((ONE, TWO), MADE_FOR, Desired([TWO], [TWO], divided=[ONE]), ""),
    "divided no more": ((ONE, TWO), MADE_FOR, Desired([ONE], [ONE]), f"it names {TWO}"),
    "another driver": ((ONE,), MADE_FOR, Desired([ONE], [ONE], "595.1"), "it is of driver 590.48.01, and 595.1 runs"),
    "driver not known": ((ONE,), MADE_FOR, Desired([ONE], [ONE]), ""),
    "no UVM in it": (
        (ONE,),
        "- path: /dev/nvidiactl\n- path: /dev/nvidia0\n- path: /dev/nvidia-uvm-tools\n",
        Desired([ONE], [ONE], uvm=510),
        "it does not give /dev/nvidia-uvm",
    ),
    "no UVM on the host": ((ONE,), "- path: /dev/nvidiactl\n", Desired([ONE], [ONE]), ""),
    "UVM": ((ONE,), GIVES_UVM, Desired([ONE], [ONE], uvm=510), ""),
    "UVM with its number": ((ONE,), f"{GIVES_UVM}    major: 510\n", Desired([ONE], [ONE], uvm=510), ""),
    "the number of the other node": (
        (ONE,),
        f"{GIVES_UVM}  - path: /dev/x\n    major: 1\n",
        Desired([ONE], [ONE], uvm=510),
        "",
    ),
    "UVM loaded anew": (
        (ONE,),
        f"{GIVES_UVM}    major: 510\n",
        Desired([ONE], [ONE], uvm=509),
        "it gives /dev/nvidia-uvm the number 510, which is 509 now",
    ),
    "no driver in it": ((ONE,), "kind: nvidia.com/gpu\n", Desired([ONE], [ONE], "595.1"), ""),
}


@pytest.mark.parametrize(("names", "text", "desired", "reason"), OUTDATED.values(), ids=list(OUTDATED))
def test_outdated(names: tuple[str, ...], text: str, desired: Desired, reason: str) -> None:
    assert cdi_spec.outdated(names, text, desired) == reason


class Host:
    """A specification, and what makes it anew: the unit, or the command, or nothing."""

    def __init__(
        self, names: Sequence[str], unit: bool = True, unit_works: bool = True, works: bool = True, uvm: bool = True
    ) -> None:
        self.names, self.unit, self.unit_works, self.works = list(names), unit, unit_works, works
        # Whether the specification gives UVM, and whether a new one would.
        self.gives_uvm, self.makes_uvm = uvm, True
        self.asked: list[str] = []

    def read(self, path: str) -> str:
        assert path == cdi_spec.PATH
        return "\n".join([*self.names, *(["- path: /dev/nvidia-uvm"] if self.gives_uvm else [])])

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        command = " ".join(argv)
        self.asked.append(command)
        if command == "nvidia-ctk cdi list --spec-dir=/var/run/cdi":
            return 0, "".join(f"nvidia.com/gpu={name}\n" for name in self.names), ""
        if command == f"systemctl cat {cdi_spec.UNIT}":
            return (0 if self.unit else 1), "", ""
        made = self.unit_works if argv[0] == "systemctl" else self.works
        if made:
            self.names, self.gives_uvm = [ONE, TWO], self.makes_uvm
        return (0, "", "") if made or argv[0] == "systemctl" else (1, "", 'level=error msg="failed to initialize NVML"')


DESIRED = Desired([ONE, TWO], [TWO], uvm=510)
RESTART, GENERATE = f"systemctl restart {cdi_spec.UNIT}", f"nvidia-ctk cdi generate --output={cdi_spec.PATH}"
APPLIED = {
    "up to date": (Host([ONE, TWO]), False, False, "", []),
    "by the unit": (Host([ONE]), False, True, "", [RESTART]),
    "the unit passes over": (Host([ONE], unit_works=False), False, True, "", [RESTART, GENERATE]),
    "no unit": (Host([ONE], unit=False), False, True, "", [GENERATE]),
    "in check mode": (Host([ONE]), True, True, "", []),
    "UVM came after it": (Host([ONE, TWO], uvm=False), False, True, "", [RESTART]),
    "UVM came after it, in check mode": (Host([ONE, TWO], uvm=False), True, True, "", []),
    "UVM came after it, and nothing works": (
        Host([ONE, TWO], unit=False, works=False, uvm=False),
        *(False, False, "it does not give /dev/nvidia-uvm, and CUDA ends with error 999", [GENERATE]),
    ),
    "fails": (Host([ONE], unit=False, works=False), False, False, "failed to initialize NVML", [GENERATE]),
    "fails, and what is needed is there": (Host([TWO], unit=False, works=False), False, False, "", [GENERATE]),
}


@pytest.mark.parametrize(("host", "check_mode", "changed", "problem", "did"), APPLIED.values(), ids=list(APPLIED))
def test_apply(host: Host, check_mode: bool, changed: bool, problem: str, did: list[str]) -> None:
    outcome = cdi_spec.apply(host, host.read, "nvidia-ctk", DESIRED, check_mode)
    assert outcome.changed is changed
    assert (problem in outcome.problem) if problem else not outcome.problem
    assert [command for command in host.asked if command in (RESTART, GENERATE)] == did
