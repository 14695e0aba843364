"""MIG: what the tables say, what it takes to divide GPUs as declared, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import mig_layout as mig
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "mig"
PROFILES = mig.parse_profiles((FIXTURES / "4xh100-full.txt").read_text())
UUID = "GPU-b4895dbf-9350-2524-a89b-98161ddd9fe4"
A100_PROFILES = (
    mig.Profile(0, "1g.5gb", 19, 7, 7, 4.75),
    mig.Profile(0, "2g.10gb", 14, 3, 3, 9.75),
    mig.Profile(0, "3g.20gb", 9, 2, 2, 19.62),
    mig.Profile(0, "7g.40gb", 0, 1, 1, 39.38),
)


PIECES = ["|", "0", "MIG", "1g.5gb", "19", "7/7", "4.75", "0:1", "|\n", "+=-", "٣", "9" * 5000]


def fixture(name: str) -> str:
    return (FIXTURES / f"{name}.txt").read_text()


def gpu(index: int = 0, current: bool | None = True, **more: Any) -> dict[str, Any]:
    own = {"index": index, "uuid": f"{UUID[:-1]}{index}", "name": "NVIDIA H100 80GB HBM3", "processes": 0}
    return {**own, "mig": {"current": current, "pending": current, "instances": []}, **more}


def divided(*layout: str, index: int = 0, profiles: tuple[mig.Profile, ...] = PROFILES) -> mig.State:
    whole = [mig.GpuInstance(index, name, number, 0, 1) for number, name in enumerate(layout)]
    return mig.State(
        profiles,
        tuple(whole),
        tuple(mig.ComputeInstance(index, one.number, one.profile, 0) for one in whole),
    )


def test_profiles_as_printed() -> None:
    assert len(PROFILES) == 28
    assert PROFILES[1] == mig.Profile(0, "1g.10gb+me", 20, 1, 1, 9.75)
    assert PROFILES[-1] == mig.Profile(3, "7g.80gb", 0, 1, 1, 79.25)
    assert [one.name for one in mig.parse_profiles(fixture("b200-partial"))] == [
        "1g.23gb",
        "1g.23gb+me",
        "1g.45gb",
        "2g.45gb",
    ]


def test_instances_as_printed() -> None:
    instances = mig.parse_gpu_instances(fixture("lgi-mixed"))
    assert instances[0] == mig.GpuInstance(0, "1g.5gb", 9, 6, 1)
    parts = mig.parse_compute_instances(fixture("lci-mixed"))
    assert parts[1] == mig.ComputeInstance(0, 3, "1c.2g.10gb", 0)
    state = mig.State((), instances, parts)
    assert state.layout(0) == ["4g.20gb", "2g.10gb (in parts)", "1g.5gb"]
    assert state.layout(1) == ["3g.20gb (in parts)"]  # it has no compute instance at all
    assert len(mig.parse_compute_instances(fixture("lci-before-470"))) == 2


# A GPU instance, its compute instances, and whether it is one whole device.
DEVICES = {
    "plain": ("1g.10gb", ["1g.10gb"], True),
    "media extensions": ("1g.10gb+me", ["1g.10gb"], True),
    "media extensions that its compute instance names": ("1g.10gb+me", ["1g.10gb+me"], True),
    "all media extensions": ("1g.24gb+me.all", ["1g.24gb"], True),
    "without media extensions": ("2g.48gb-me", ["2g.48gb"], True),
    "graphics": ("1g.24gb+gfx", ["1g.24gb"], True),
    "a part of it": ("2g.20gb", ["1c.2g.20gb"], False),
    "a part of one with media extensions": ("2g.24gb+me", ["1c.2g.24gb"], False),
    "two parts": ("2g.20gb", ["1c.2g.20gb", "1c.2g.20gb"], False),
    "of another size": ("1g.20gb+me", ["1g.10gb"], False),
    "no compute instance": ("1g.10gb+me", [], False),
}


@pytest.mark.parametrize(("profile", "inside", "whole"), DEVICES.values(), ids=list(DEVICES))
def test_a_whole_device_is_known_by_its_size(profile: str, inside: list[str], whole: bool) -> None:
    parts = tuple(mig.ComputeInstance(0, 13, name, number) for number, name in enumerate(inside))
    state = mig.State(PROFILES, (mig.GpuInstance(0, profile, 13, 0, 1),), parts)
    assert state.layout(0) == [profile if whole else f"{profile} (in parts)"]


def test_a_layout_with_media_extensions_is_made_once() -> None:
    """As the tables have it: the compute instance of 1g.10gb+me is named 1g.10gb."""
    state = mig.State(
        PROFILES, mig.parse_gpu_instances(fixture("lgi-me")), mig.parse_compute_instances(fixture("lci-me"))
    )
    declared = {"H100": ["1g.10gb+me", "3g.40gb"]}
    assert mig.plan([gpu()], declared, state).steps == ()
    mig.check_made([gpu()], declared, state)


@pytest.mark.parametrize(
    ("parse", "row"),
    [
        (mig.parse_profiles, "|   0  MIG 1g.10gb       19     7         9.75       No     16     1     0   |"),
        (mig.parse_gpu_instances, "|   0  MIG 1g.10gb          19        9              |"),
        (mig.parse_compute_instances, "|   0      9       MIG 1g.10gb          0         x          0:1     |"),
    ],
)
def test_a_row_that_is_cut_off_is_refused(parse: Callable[[str], Any], row: str) -> None:
    with pytest.raises(GpusteadError, match=r"nvidia-smi mig printed '\|   0"):
        parse(row)


@pytest.mark.parametrize("parse", [mig.parse_profiles, mig.parse_gpu_instances, mig.parse_compute_instances])
@given(text=st.one_of(st.text(), st.lists(st.sampled_from(PIECES)).map(" ".join)))
def test_any_text_is_a_value_or_the_error(parse: Callable[[str], Any], text: str) -> None:
    try:
        assert isinstance(parse(text), tuple)
    except GpusteadError as error:
        assert "nvidia-smi mig printed" in error.what


@given(text=st.text(), cut=st.integers(0, 3000))
@pytest.mark.parametrize(
    ("parse", "name"), [(mig.parse_profiles, "4xh100-full"), (mig.parse_gpu_instances, "lgi-mixed")]
)
def test_a_damaged_table_is_a_value_or_the_error(parse: Callable[[str], Any], name: str, text: str, cut: int) -> None:
    whole = fixture(name)
    try:
        assert isinstance(parse(whole[:cut] + text + whole[cut:]), tuple)
    except GpusteadError as error:
        assert error.remedy


NOW = {
    "as declared": (divided("1g.10gb", "3g.40gb", "1g.10gb"), gpu(), ["3g.40gb", "1g.10gb", "1g.10gb"], []),
    "off, to be on": (
        mig.State(),
        gpu(current=False),
        ["1g.10gb", "4g.40gb"],
        [["-i", "0", "-mig", "1"], ["mig", "-i", "0", "-cgi", "4g.40gb,1g.10gb", "-C"]],
    ),
    "on and empty": (
        mig.State(PROFILES),
        gpu(),
        ["7g.80gb"],
        [["mig", "-i", "0", "-cgi", "7g.80gb", "-C"]],
    ),
    "another layout": (
        divided("7g.80gb"),
        gpu(),
        ["1g.10gb"] * 7,
        [
            ["mig", "-i", "0", "-dci"],
            ["mig", "-i", "0", "-dgi"],
            ["mig", "-i", "0", "-cgi", "1g.10gb," * 6 + "1g.10gb", "-C"],
        ],
    ),
    "without compute instances": (
        mig.State(PROFILES, divided("7g.80gb").gpu_instances),
        gpu(),
        ["7g.80gb"],
        [["mig", "-i", "0", "-dgi"], ["mig", "-i", "0", "-cgi", "7g.80gb", "-C"]],
    ),
    "to be off": (
        divided("7g.80gb"),
        gpu(),
        [],
        [["mig", "-i", "0", "-dci"], ["mig", "-i", "0", "-dgi"], ["-i", "0", "-mig", "0"]],
    ),
    "off already": (mig.State(), gpu(current=False), [], []),
    "has no MIG and needs none": (mig.State(), gpu(current=None), [], []),
}


@pytest.mark.parametrize(("state", "one", "wanted", "commands"), NOW.values(), ids=list(NOW))
def test_plan(state: mig.State, one: dict[str, Any], wanted: list[str], commands: list[list[str]]) -> None:
    steps = mig.plan([one], {"H100": wanted}, state).steps
    assert [list(command) for step in steps for command in step.commands] == commands


@pytest.mark.parametrize(
    ("key", "name", "meant"),
    [
        ("A10", "NVIDIA A100-SXM4-40GB", False),
        ("H200", "NVIDIA GH200 480GB", False),
        ("A100", "NVIDIA A100X", False),
        ("A100 SXM4", "NVIDIA A100-SXM4-40GB", True),
    ],
)
def test_a_model_names_whole_words(key: str, name: str, meant: bool) -> None:
    state = divided("7g.40gb", profiles=A100_PROFILES)
    assert bool(mig.plan([gpu(name=name)], {key: ["3g.20gb"]}, state).steps) is meant
    assert bool(mig.at_boot([gpu(name=name)], {key: ["3g.20gb"]})) is meant


def test_a_gpu_that_is_not_named_is_left_alone() -> None:
    state = divided("7g.80gb", index=1)
    plan = mig.plan([gpu(0, current=False), gpu(1)], {"A100": ["1g.5gb"], "gpu:0": []}, state)
    assert plan.steps == ()
    assert plan.before == ("GPU 0 (NVIDIA H100 80GB HBM3): MIG off",)


def test_the_plan_shows_the_layouts() -> None:
    plan = mig.plan([gpu(), gpu(1, False)], {"H100": ["1g.10gb", "3g.40gb"]}, divided("7g.80gb"))
    assert plan.before == ("GPU 0 (NVIDIA H100 80GB HBM3): 7g.80gb", "GPU 1 (NVIDIA H100 80GB HBM3): MIG off")
    assert plan.after[1] == "GPU 1 (NVIDIA H100 80GB HBM3): 3g.40gb, 1g.10gb"
    assert [step.text for step in plan.steps if step.gpu == 1] == ["switch MIG on", "create 3g.40gb, 1g.10gb"]


REFUSED = {
    "no such profile": (gpu(), {"H100": ["1g.5gb"]}, "no profile 1g.5gb: expected some of 1g.10gb"),
    "too many": (gpu(), {"H100": ["3g.40gb"] * 3}, "3 of 3g.40gb: expected at most 2"),
    "too many slices": (gpu(), {"H100": ["4g.40gb", "3g.40gb", "1g.10gb"]}, "8 compute slices: expected at most 7"),
    "too much memory": (
        gpu(),
        {"H100": ["3g.40gb", "3g.40gb", "1g.10gb"]},
        "88.75 GiB of memory: expected at most 79.25",
    ),
    "no profile at all": (gpu(), {"H100": ["half"]}, "the profile 'half'"),
    "no MIG": (gpu(current=None), {"H100": ["1g.10gb"]}, "expected a GPU that has MIG"),
    "two models": (gpu(), {"H100": ["1g.10gb"], "80GB": []}, "'H100' and '80GB' mean GPU 0"),
    "bad number": (gpu(), {"gpu:first": []}, "the key 'gpu:first'"),
}


@pytest.mark.parametrize(("one", "declared", "message"), REFUSED.values(), ids=list(REFUSED))
def test_refused(one: dict[str, Any], declared: dict[str, list[str]], message: str) -> None:
    with pytest.raises(GpusteadError) as error:
        mig.plan([one], declared, mig.State(PROFILES))
    assert message in str(error.value)
    assert "nvidia_mig" in str(error.value)


def test_what_fits_in_an_a100() -> None:
    one = gpu(name="NVIDIA A100-SXM4-40GB")
    mig.check_fit(one, ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"], A100_PROFILES)
    with pytest.raises(GpusteadError, match="memory"):
        mig.check_fit(one, ["3g.20gb", "3g.20gb", "1g.5gb"], A100_PROFILES)


class Tool:
    """Answers of nvidia-smi by the first words that fit; what it was asked for."""

    def __init__(self, answers: Mapping[str, tuple[int, str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        command = " ".join(argv[1:])
        self.asked.append(command)
        code, out = next((answer for words, answer in self.answers.items() if words in command), (0, ""))
        return code, out, ""


def test_observe() -> None:
    tool = Tool(
        {
            "-lgip": (0, fixture("4xh100-full")),
            "-lgi": (0, fixture("lgi-mixed")),
            "-lci": (6, "No compute instances found: Not Found"),
        }
    )
    state = mig.observe(tool, "nvidia-smi")
    assert (len(state.profiles), len(state.gpu_instances), state.compute_instances) == (28, 4, ())
    assert mig.observe(Tool({"mig": (6, "No MIG-enabled devices found.")}), "nvidia-smi") == mig.State()
    with pytest.raises(GpusteadError, match="ended with 4: Insufficient Permissions"):
        mig.observe(Tool({"-lgi": (4, "Insufficient Permissions")}), "nvidia-smi")


def test_apply() -> None:
    plan = mig.plan([gpu(current=False)], {"H100": ["7g.80gb"]}, mig.State(PROFILES))
    tool = Tool({"mig.mode.current": (0, "Enabled\n")})
    mig.apply(tool, "nvidia-smi", [gpu(current=False)], plan)
    assert tool.asked[1:] == [
        "-i 0 -mig 1",
        "-i 0 --query-gpu=mig.mode.current --format=csv,noheader",
        "mig -lgip",
        "mig -i 0 -cgi 7g.80gb -C",
    ]
    mig.check_made([gpu()], {"H100": ["7g.80gb"]}, divided("7g.80gb"))


FAILS = {
    "in use": (
        {"query-compute-apps": (0, f"{UUID[:-1]}0, 4711, python, train.py\n")},
        gpu(),
        "in use: 4711 python, train.py",
    ),
    "nobody knows": ({"query-compute-apps": (3, "Function not found")}, gpu(), "ended with 3: Function not found"),
    "in use by somebody": ({}, gpu(processes=2), "in use: 2 processes"),
    "pending": (
        {"-mig 1": (0, "Warning: MIG mode is in pending enable state"), "mig.mode.current": (0, "Disabled")},
        gpu(),
        "nvidia-smi --gpu-reset -i 0 or reboot",
    ),
    "refused": (
        {"mig.mode.current": (0, "Enabled"), "-cgi": (23, "Insufficient Resources")},
        gpu(),
        "Insufficient Resources",
    ),
}


@pytest.mark.parametrize(("answers", "one", "message"), FAILS.values(), ids=list(FAILS))
def test_apply_fails(answers: dict[str, tuple[int, str]], one: dict[str, Any], message: str) -> None:
    tool = Tool(answers)
    plan = mig.plan([gpu(current=False)], {"H100": ["7g.80gb"]}, mig.State(PROFILES))
    with pytest.raises(GpusteadError) as error:
        mig.apply(tool, "nvidia-smi", [one], plan)
    assert message in str(error.value)
    if "in use" in message:
        assert len(tool.asked) == 1  # nothing was touched


def test_a_layout_that_turns_out_not_to_fit_leaves_mig_off() -> None:
    plan = mig.plan([gpu(current=False)], {"H100": ["1g.5gb"]}, mig.State())
    tool = Tool({"-lgip": (0, fixture("4xh100-full")), "mig.mode.current": (0, "Enabled\n")})
    with pytest.raises(GpusteadError, match="no profile 1g"):
        mig.apply(tool, "nvidia-smi", [gpu(current=False)], plan)
    assert tool.asked[-1] == "-i 0 -mig 0"


def test_what_the_driver_did_not_make_is_told() -> None:
    with pytest.raises(GpusteadError, match=r"has 7g\.80gb: expected 3g\.40gb"):
        mig.check_made([gpu()], {"H100": ["3g.40gb"]}, divided("7g.80gb"))
    mig.check_made([gpu()], {"H100": []}, mig.State())


def test_at_boot_by_uuid() -> None:
    gpus = [gpu(0), gpu(1)]
    assert mig.at_boot(gpus, {"gpu:1": ["1g.10gb", "3g.40gb"], "gpu:0": []}) == [
        ["-i", gpus[1]["uuid"], "-mig", "1"],
        ["mig", "-i", gpus[1]["uuid"], "-cgi", "3g.40gb,1g.10gb", "-C"],
    ]
