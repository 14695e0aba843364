"""The stand-ins of tests/nvidia: what gpu_info concludes from each kind of host, and MIG as the tool is replayed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus import cdi_spec, mig_layout, nvidia_device_nodes
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_info import GpuReport, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_offer import (
    all_devices,
    complaints,
    container_gpus,
    offer,
    warnings,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.nvidia_device_nodes import UVM
from ansible_collections.gpustead.cluster.plugins.module_utils.run import within

NVIDIA = Path(__file__).resolve().parents[2] / "nvidia"


@dataclass(frozen=True)
class Standin:
    root: Path

    def toolkit(self, program: str, *argv: str) -> tuple[int, str, str]:
        """One of the toolkit's programs, which are one file under several names."""
        path = self.root / program
        if not path.exists():
            path.symlink_to(NVIDIA / "standins/toolkit.py")
        return within(60)([sys.executable, str(path), *argv])

    def smi(self, *argv: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, str(self.root / "usr/bin/nvidia-smi"), *argv], capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def report(self, *exclude: str) -> GpuReport:
        smi = self.root / "usr/bin/nvidia-smi"
        state = self.root / "var/lib/nvidia-standin"
        return observe(within(30), str(smi) if smi.exists() else None, state / "sys", state / "proc", exclude=exclude)


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    script = NVIDIA / "standins/host.py"
    subprocess.run(
        [sys.executable, str(script), str(NVIDIA / "kinds" / request.param), str(tmp_path), "files"], check=True
    )
    monkeypatch.setenv("NVIDIA_STANDIN", str(tmp_path / "usr/lib/nvidia-standin"))
    monkeypatch.setenv("NVIDIA_STANDIN_DEV", str(tmp_path / "dev"))
    monkeypatch.setenv("NVIDIA_STANDIN_SMI", str(tmp_path / "usr/bin/nvidia-smi"))
    return Standin(tmp_path)


# Kind of host: state, reason, GPUs on the bus, GPUs that answer, their MIG instances.
KINDS = {
    "none": ("none", None, 0, 0, 0),
    "h100": ("ready", None, 8, 8, 0),
    "a100": ("ready", None, 2, 2, 4),
    "mismatch": ("unusable", "version_mismatch", 2, 0, 0),
    "lost": ("unusable", "gpu_lost", 2, 0, 0),
    "mixed": ("degraded", "no_devices", 4, 3, 0),
}


@pytest.mark.parametrize(
    ("host", "expected"), [pytest.param(kind, value, id=kind) for kind, value in KINDS.items()], indirect=["host"]
)
def test_each_kind_of_host_is_told_apart(host: Standin, expected: tuple[object, ...]) -> None:
    report = host.report()
    instances = sum(len(gpu.mig.instances) for gpu in report.gpus)
    assert (report.state, report.reason, len(report.pci_gpus), len(report.gpus), instances) == expected


@pytest.mark.parametrize("host", ["mixed"], indirect=True)
def test_what_is_left_out_of_a_mixed_host(host: Standin) -> None:
    everything = asdict(host.report())
    assert [gpu["compute_capability"] for gpu in everything["gpus"]] == ["8.0", "8.0", "7.5"]
    said = "\n".join(warnings(everything))
    assert re.findall("(GPU .).*(fan_speed|3911 MiB)", said) == [("GPU 2", "fan_speed"), ("GPU 2", "3911 MiB")]
    rest = asdict(host.report("DGX Display", "0000:c2:00.0"))
    assert (rest["state"], complaints(rest), warnings(rest)) == ("ready", [], [])
    offered = offer(rest, "runtime", observed={"nodes": [f"/dev/nvidia{n}" for n in range(3)]})
    assert (offered["slots"], offered["device_nodes"]) == (2, ["/dev/nvidia0", "/dev/nvidia1"])
    assert all_devices(rest) == [gpu["uuid"] for gpu in everything["gpus"]]  # what the CDI specification names


@pytest.mark.parametrize("host", ["h100"], indirect=True)
def test_a_host_shows_only_the_gpus_whose_nodes_it_has(host: Standin) -> None:
    for index in (0, 1, 2, 4, 5, 6):
        (host.root / f"dev/nvidia{index}").unlink()
    listed = host.smi("-L").splitlines()
    assert [re.sub(r"^(GPU \d): .*(GPU-\w{8}).*", r"\1 \2", line) for line in listed] == [
        "GPU 0 GPU-afe9f2ed",
        "GPU 1 GPU-b0fe4996",
    ]


@pytest.mark.parametrize("host", ["a100"], indirect=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="as with the real one, only root may change a GPU")
def test_a_layout_is_made_anew_under_other_names(host: Standin) -> None:
    before = {one.uuid for one in host.report().gpus[0].mig.instances}
    assert "In use by another client" in host.smi("mig", "-i", "0", "-dgi", status=19)
    host.smi("mig", "-i", "0", "-dci")
    host.smi("mig", "-i", "0", "-dgi")
    assert "No GPU instances found" in host.smi("mig", "-lgi", status=6)
    host.smi("mig", "-i", "0", "-cgi", "9,14,19,1g.5gb", "-C")
    after = host.report().gpus[0].mig.instances
    assert [one.profile for one in after] == ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"]
    assert len({one.uuid for one in after} - before) == 4
    assert "Insufficient Resources" in host.smi("mig", "-i", "0", "-cgi", "9", status=23)


@pytest.mark.parametrize("host", ["h100"], indirect=True)
def test_uvm_is_there_only_after_it_was_asked_for(host: Standin) -> None:
    """As after a boot: nvidia-smi works, and a specification that is made then gives containers no UVM."""
    dev, proc = host.root / "dev", host.root / "var/lib/nvidia-standin/proc"
    assert len(host.smi("-L").splitlines()) == 8
    first = host.toolkit("nvidia-ctk", "cdi", "generate")[1]
    uuids = [gpu.uuid for gpu in host.report().gpus]
    assert cdi_spec.outdated(uuids, first, cdi_spec.Desired(uuids, uuids)) == ""
    assert cdi_spec.outdated(uuids, first, cdi_spec.Desired(uuids, uuids, uvm=510)) == f"it does not give {UVM}"
    outcome = nvidia_device_nodes.apply(lambda argv: host.toolkit(*argv), dev, proc, check_mode=False)
    assert (outcome.changed, outcome.problem, UVM in outcome.nodes.paths) == (True, "", True)
    assert list(outcome.nodes.minors.values()) == list(range(8))
    by_runtime = offer(asdict(host.report()), "runtime", observed=vars(outcome.nodes) | {"nodes": outcome.nodes.paths})
    assert UVM in by_runtime["device_nodes"]
    second = host.toolkit("nvidia-ctk", "cdi", "generate")[1]
    assert cdi_spec.outdated(uuids, second, cdi_spec.Desired(uuids, uuids, uvm=510)) == ""


@pytest.mark.parametrize("host", ["a100"], indirect=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="as with the real one, only root makes nodes")
def test_the_command_of_libnvidia_container_makes_all_nodes(host: Standin) -> None:
    code, out, _err = host.toolkit("nvidia-container-cli", "--load-kmods", "info")
    assert (code, len(out.splitlines())) == (0, 6)
    made = {path.name for path in (host.root / "dev").rglob("nvidia*")}
    assert {"nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"} < made
    assert len([name for name in made if name.startswith("nvidia-cap") and name != "nvidia-caps"]) == 8


@pytest.mark.parametrize("host", ["a100"], indirect=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="as the driver, only root makes the nodes of instances")
def test_mig_instances_are_given_with_their_nodes(host: Standin) -> None:
    host.smi("-L")  # makes them
    report = asdict(host.report())
    observed = nvidia_device_nodes.observe(host.root / "dev", host.root / "var/lib/nvidia-standin/proc")
    given = offer(report, "runtime", "gpus", vars(observed) | {"nodes": observed.paths})
    instance = container_gpus(given, [0])
    (spec,) = re.findall(
        rf"- name: {instance['uuids'][0]}\n(?:.*\n)*?(?= *- name)", host.toolkit("nvidia-ctk", "cdi", "generate")[1]
    )
    assert sorted(instance["device_nodes"]) == sorted(["/dev/nvidiactl", *re.findall(r"path: (\S+)", spec)])


@pytest.mark.parametrize("host", ["h100"], indirect=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="as with the real one, only root may change a GPU")
def test_a_layout_with_media_extensions_is_found_as_declared(host: Standin) -> None:
    """The compute instance in 1g.10gb+me is named 1g.10gb."""
    smi, gpus = str(host.root / "usr/bin/nvidia-smi"), [asdict(host.report().gpus[0])]
    layouts, run = {"gpu:0": ["1g.10gb+me", "3g.40gb"]}, within(30)
    mig_layout.apply(run, smi, gpus, mig_layout.plan(gpus, layouts, mig_layout.observe(run, smi)))
    assert "MIG 1g.10gb " in host.smi("mig", "-lci")
    assert mig_layout.observe(run, smi).layout(0) == ["3g.40gb", "1g.10gb+me"]


@pytest.mark.parametrize("host", ["h100"], indirect=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="as with the real one, only root may change a GPU")
def test_the_profiles_of_mig_look_as_captured(host: Standin) -> None:
    """The first of four H100, as published (tests/nvidia/SOURCES.md)."""
    captured = (NVIDIA / "captures/mig-lgip-4xh100.txt").read_text().splitlines()
    assert host.smi("-i", "0", "-mig", "1").splitlines() == ["Enabled MIG Mode for GPU 00000000:19:00.0", "All done."]
    said = host.smi("mig", "-lgip").splitlines()
    assert said == captured[: len(said)]
    assert len(said) == 5 + 3 * 7


BAD = "</processes><gpu_recovery_action>Reset</gpu_recovery_action>"
FORGED = "x</process_name></process_info></processes></gpu>\n\t<gpu id='0'>\n<uuid>GPU-forged</uuid>\n<processes>"


@pytest.mark.parametrize("host", ["h100"], indirect=True)
@pytest.mark.parametrize("name", ["</process_name><", BAD, FORGED])
def test_no_name_of_a_process_changes_what_is_reported(host: Standin, name: str) -> None:
    file = host.root / "usr/lib/nvidia-standin/state.json"
    state = json.loads(file.read_text())
    for gpu in list(state["gpus"].values())[:2]:
        gpu["processes"] = [{"pid": 7, "name": "train", "used_mib": 5}]
    file.write_text(json.dumps(state))
    before = host.report()
    for gpu in list(state["gpus"].values())[:2]:
        gpu["processes"][0]["name"] = name
    file.write_text(json.dumps(state))
    assert name in host.smi("-q", "-x")
    after = host.report()
    assert [(gpu.uuid, gpu.health, gpu.problems) for gpu in after.gpus] == [
        (gpu.uuid, gpu.health, gpu.problems) for gpu in before.gpus
    ]
    assert (after.state, after.reason, after.driver_version) == (before.state, before.reason, before.driver_version)
