"""The module itself, with an nvidia-smi that is a script and a sysfs that is a folder."""

from __future__ import annotations

import json
import time
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.module_utils.gpus.gpu_info import GpuReport, observe
from ansible_collections.gpustead.cluster.plugins.modules import gpu_info
from ansible_collections.gpustead.cluster.tests.unit import smi_xml
from ansible_collections.gpustead.cluster.tests.unit.captures import OWN, PROJECT, capture
from ansible_collections.gpustead.cluster.tests.unit.gpu_host import Device, make_sysfs

ASKED = "--query-gpu=uuid,compute_cap --format=csv"
EIGHT = [Device(address, driver="nvidia", numa_node="0") for address in smi_xml.ADDRESSES]


def module(capsys: pytest.CaptureFixture[str], **options: object) -> dict[str, Any]:
    with patch_module_args(options), pytest.raises(SystemExit):
        gpu_info.main()
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def host(tmp_path: Path) -> dict[str, object]:
    """A host with eight GPUs whose nvidia-smi also notes that it was started; what the module is given for it."""
    make_sysfs(tmp_path / "sys", *EIGHT)
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(capture("proc-driver-version/mismatch-580"))
    (tmp_path / "log.xml").write_text(smi_xml.host(8))
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        f"""#!/bin/sh
echo "$@" >>{tmp_path}/started
case "$1" in
-q) cat {tmp_path}/log.xml ;;
--query-gpu=uuid,compute_cap) echo "{smi_xml.UUIDS[7]}, 10.0" ;;
topo) cat {OWN}/topo/8xh100-8nic-full.txt ;;
esac
"""
    )
    smi.chmod(0o755)
    return {"nvidia_smi_path": str(smi), "sysfs_root": str(tmp_path / "sys"), "proc_root": str(tmp_path / "proc")}


def test_ready(capsys: pytest.CaptureFixture[str], host: dict[str, object], tmp_path: Path) -> None:
    result = module(capsys, **host)
    assert (result["changed"], result["state"], result["reason"], result["remedy"]) == (False, "ready", None, None)
    assert (result["driver_version"], result["cuda_version"], result["kernel_module"]) == (
        *("590.48.01", "13.1", "proprietary"),
    )
    assert result["pci_gpus"] == list(smi_xml.ADDRESSES)
    assert [gpu["uuid"] for gpu in result["gpus"]] == list(smi_xml.UUIDS)
    assert result["gpus"][5]["nics"] == ["mlx5_5"]
    assert len(result["topology"]["links"]) == 28
    assert (tmp_path / "started").read_text() == f"-q -x\n{ASKED}\ntopo -m\n"
    assert [gpu["compute_capability"] for gpu in result["gpus"]] == ["9.0"] * 7 + ["10.0"]


def test_the_topology_is_not_asked_for(
    capsys: pytest.CaptureFixture[str], host: dict[str, object], tmp_path: Path
) -> None:
    assert module(capsys, **host, topology=False, _ansible_check_mode=True)["topology"] == {"links": []}
    assert (tmp_path / "started").read_text() == f"-q -x\n{ASKED}\n"


def test_an_nvidia_smi_that_hangs(capsys: pytest.CaptureFixture[str], host: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nsleep 60\n")
    begin = time.monotonic()
    result = module(capsys, **host, timeout=1)
    assert (result["state"], result["reason"]) == ("unusable", "unknown")
    assert "hangs" in result["remedy"]
    assert time.monotonic() - begin < 20


def test_an_nvidia_smi_that_is_not_there(capsys: pytest.CaptureFixture[str], host: dict[str, object]) -> None:
    result = module(capsys, **{**host, "nvidia_smi_path": "/nowhere/nvidia-smi"})
    assert (result["state"], result["reason"], result["gpus"]) == ("unusable", "not_installed", [])


def test_nvidia_smi_is_found_on_the_path(
    capsys: pytest.CaptureFixture[str], host: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del host["nvidia_smi_path"]
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert module(capsys, **host)["state"] == "ready"
    (tmp_path / "nvidia-smi").unlink()
    assert module(capsys, **host)["reason"] == "not_installed"


def test_gpus_are_left_out(capsys: pytest.CaptureFixture[str], host: dict[str, object]) -> None:
    result = module(capsys, **host, exclude=["gpu:1", smi_xml.ADDRESSES[3]])
    assert [gpu["index"] for gpu in result["gpus"] if gpu["withheld"] == "excluded"] == [1, 3]
    assert module(capsys, **host, exclude=["gpu:one"])["msg"].startswith("nvidia_exclude: the key 'gpu:one': expected")


def test_a_time_limit_must_be_one(capsys: pytest.CaptureFixture[str], host: dict[str, object]) -> None:
    assert "timeout is 0: expected" in module(capsys, **host, timeout=0)["msg"]


def test_it_costs_little_beside_nvidia_smi(tmp_path: Path) -> None:
    """Less than 100 ms of CPU, with eight of the longest GPUs that were captured."""
    text = capture("smi-xml/telegraf-rtx-3080-v13").replace("<attached_gpus>1<", "<attached_gpus>8<")
    begin, end = text.index("\t<gpu id"), text.index("</gpu>\n") + len("</gpu>\n")
    answers = {
        ASKED.split(maxsplit=1)[0]: "",
        "-q": text[:begin] + text[begin:end] * 8 + text[end:],
        "topo": capture("topo/8xh100-8nic-full"),
    }
    make_sysfs(tmp_path, *EIGHT)
    took = []
    for _ in range(3):
        begun = time.process_time()
        assert len(observe(lambda argv: (0, answers[argv[1]], ""), "nvidia-smi", tmp_path, tmp_path).gpus) == 8
        took.append(time.process_time() - begun)
    assert min(took) < 0.1


def structure(kind: Any) -> dict[str, Any] | None:
    """The names of the values of a dataclass, and of those in it."""
    inner = next((part for part in (kind, *get_args(kind)) if is_dataclass(part)), None)
    if inner is None:
        return None
    hints = get_type_hints(inner)
    return {field.name: structure(hints[field.name]) for field in fields(inner)}


def documented(values: dict[str, Any]) -> dict[str, Any]:
    return {name: documented(value["contains"]) if "contains" in value else None for name, value in values.items()}


def test_every_value_is_documented() -> None:
    assert documented(yaml.safe_load(gpu_info.RETURN)) == structure(GpuReport)


def test_every_documented_value_has_type_and_sample() -> None:
    def check(values: dict[str, Any]) -> None:
        for value in values.values():
            assert value["description"]
            assert value["type"]
            assert "contains" in value or "sample" in value
            check(value.get("contains", {}))

    check(yaml.safe_load(gpu_info.RETURN))


def test_every_option_is_documented() -> None:
    options = yaml.safe_load(gpu_info.DOCUMENTATION)["options"]
    assert {
        name: {key: option[key] for key in ("type", "elements", "default") if key in option}
        for name, option in options.items()
    } == gpu_info.SPEC


def test_the_module_is_a_thin_shell() -> None:
    source = (PROJECT / "plugins/modules/gpu_info.py").read_text()
    assert len(source.split('RETURN = r"""')[1].split('"""', 1)[1].splitlines()) < 80
