"""Five kinds of nodes, from bare hosts on: states, verdicts, stacks, slots, containers, MIG, and what is refused.

The GPUs, their driver and NVIDIA's toolkit are the stand-ins of tests/nvidia. The tests change the lab and run in the
order in which they stand here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import gpu_bed as bed
import pytest
from conftest import Host, Lab
from support import assert_fresh, site


@dataclass(frozen=True)
class Expected:
    """What is true of a node. `given`: the UUIDs that containers get, `driver` how Docker gives them."""

    state: str
    reason: str | None = None
    driver: str | None = None
    given: tuple[str, ...] = ()
    slots: int = 0
    gpus: int = 0


NODES = {
    "GPU01": Expected("none"),
    "gpu02": Expected("ready", None, "nvidia", tuple(bed.H100), 8, 8),
    "gpu03": Expected("ready", None, "cdi", (*bed.mig_uuids(), bed.A100[1]), 2, 2),
    "gpu04": Expected("unusable", "version_mismatch"),
    "gpu05": Expected("unusable", "gpu_lost"),
}
BROKEN = {
    "gpu04": ("Driver/library version mismatch", "Reboot the host"),
    "gpu05": ("GPU is lost", "power the host off and on"),
}
WELL = [name for name, expected in NODES.items() if expected.given]
CPU_SLOTS = 2
GRACE = "Grace"

# What is there where somebody has followed NVIDIA's instructions: the same repository, with its key in another place.
THEIR_SOURCE = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
THEIR_KEY = "/usr/share/keyrings/nvidia-container-toolkit-keyring.asc"

# Keys of an administrator, laid out as nobody else would.
FOREIGN = """\
{
    "max-concurrent-downloads":   7,
  "labels": ["zone=a",  "rack=3"],
\t"features": { "buildkit": true },
  "shutdown-timeout": 20
}
"""
KEPT = (
    '"max-concurrent-downloads":   7',
    '"labels": ["zone=a",  "rack=3"]',
    '"features": { "buildkit": true',
    '"shutdown-timeout": 20',
)


def containers(host: Host) -> dict[str, list[str]]:
    return {project: bed.seen(host, project, service) for project, service in (bed.WORKSPACE, bed.MESH)}


@pytest.fixture(scope="module")
def first_run(lab: Lab) -> tuple[set[str], str]:
    """site.yml on bare hosts, as it is without settings of ours: every GPU must be usable."""
    host = lab["gpu02"]
    repository, key = (host.variables[f"nvidia_toolkit_{name}_url"] for name in ("repository", "key"))
    # apt itself refuses the two at once: in a lab that is tested once more ours stands already.
    host.check_output("rm -f /etc/apt/sources.list.d/nvidia-container-toolkit.sources; mkdir -p /usr/share/keyrings")
    host.check_output(f'python3 -c \'import urllib.request as u; u.urlretrieve("{key}", "{THEIR_KEY}")\'')
    bed.write(host, THEIR_SOURCE, f"deb [signed-by={THEIR_KEY}] {repository} /")
    lab["gpu03"].check_output("mkdir -p /etc/docker")
    bed.write(lab["gpu03"], bed.DAEMON, FOREIGN)
    for name in BROKEN:
        bed.vary(lab, lab[name])
    # What Debian's Docker 26.1 gets by itself is the runtime, as it does not restart containers with CDI devices.
    bed.vary(lab, lab["gpu03"], nvidia_container_mode="cdi")
    bed.vary(lab, host, cluster_network=bed.connect(host))
    bed.vary(lab, lab["GPU01"], workspace_instances=[{"owner": lab.owner}, {"owner": GRACE}])
    return bed.failed(lab)


@pytest.fixture(scope="module")
def converged(lab: Lab, first_run: tuple[set[str], str]) -> Lab:
    """The same with nodes that may go without their GPUs."""
    for name in BROKEN:
        bed.vary(lab, lab[name], nvidia_required=False)
    output = site(lab)
    for name, (fault, remedy) in BROKEN.items():
        assert fault in output and remedy in output, name
    return lab


def test_a_gpu_that_cannot_be_used_fails_its_host_and_no_other(first_run: tuple[set[str], str]) -> None:
    hosts, output = first_run
    assert hosts == set(BROKEN), output
    for name, (fault, remedy) in BROKEN.items():
        complaint = output.partition(f"{name} has GPUs that containers cannot use")[2][:1500]
        assert fault in complaint
        assert remedy in complaint


@pytest.mark.parametrize("name", NODES)
def test_state(converged: Lab, name: str) -> None:
    info, expected = bed.gpu_info(converged[name]), NODES[name]
    assert (info["state"], info["reason"], len(info["gpus"])) == (expected.state, expected.reason, expected.gpus)


@pytest.mark.parametrize("name", NODES)
def test_what_containers_are_given(converged: Lab, name: str) -> None:
    given, expected = bed.given(converged[name]), NODES[name]
    assert (given["state"], given["driver"], given["slots"]) == (expected.state, expected.driver, expected.slots)
    assert sorted(given["uuids"]) == sorted(expected.given)
    prefix = "nvidia.com/gpu=" if expected.driver == "cdi" else ""
    assert given["device_ids"] == [f"{prefix}{uuid}" for uuid in given["uuids"]]


@pytest.mark.parametrize("project", [bed.WORKSPACE[0], bed.MESH[0]])
@pytest.mark.parametrize("name", NODES)
def test_stacks_reserve_gpus_by_uuid_or_none(converged: Lab, name: str, project: str) -> None:
    given = bed.given(converged[name])
    wanted = [{"driver": given["driver"], "device_ids": given["device_ids"], "capabilities": ["gpu"]}]
    assert bed.reserved(converged[name], project) == (wanted if NODES[name].given else [])


def test_slots(converged: Lab) -> None:
    hostfile = converged["GPU01"].check_output("cat /mnt/nas/.cluster/mesh/hostfile")
    slots = {name: int(count) for name, count in re.findall(r"^(\S+) slots=(\d+)$", hostfile, re.MULTILINE)}
    assert slots == {name: expected.slots or CPU_SLOTS for name, expected in NODES.items()}


def test_a_second_run_changes_nothing(converged: Lab) -> None:
    assert_fresh(converged)
    counts = bed.results(site(converged, "-e", "site_force=true"))
    assert {name: counts[name]["changed"] for name in NODES} == dict.fromkeys(NODES, 0)


def test_a_sensor_that_fails_is_to_know_and_no_problem(converged: Lab, tmp_path: Path) -> None:
    """And nothing else on any node of the cluster is."""
    report = tmp_path / "verify.json"
    with bed.fan_fails(converged["gpu03"]):
        done = converged.playbook("playbooks/verify.yml", "-e", f"verify_report={report}")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 0, said
    told = "to know, gpu03: GPU 0 (NVIDIA A100-SXM4-40GB): nvidia-smi says 'ERR!' for fan_speed."
    assert json.loads(report.read_text())["notices"] == [told]
    assert told in said


@pytest.mark.parametrize(("here", "typed"), [("gpu02", "GPU01"), ("gpu02", "gpu01"), ("GPU01", "gpu02")])
def test_the_mesh_reaches_a_node_that_is_written_in_capital_letters(converged: Lab, here: str, typed: str) -> None:
    command = f"ssh -o BatchMode=yes -o StrictHostKeyChecking=yes {typed} 'hostname; id -un'"
    done = converged[here].compose(*bed.MESH, command, user=converged.owner)
    assert (done.rc, done.stdout.split()) == (0, [typed.lower(), "ada.lovelace"]), done.stderr


def test_an_account_with_a_capital_letter_has_its_workspace(converged: Lab) -> None:
    host = converged["GPU01"]
    assert host.check_output("id -un 1500 && id -un 1501 && id -nG Grace").split() == [
        *("ada.lovelace", GRACE, GRACE, "ML.team")
    ]
    running = host.check_output("docker compose ls --quiet").split()
    (project,) = [name for name in running if re.fullmatch(r"gpustead-workspace-grace-[0-9a-f]{8}", name)]
    done = host.compose(project, "ssh", "sh -c 'id -un; pwd; touch ~/own && stat -c %U ~/own && rm ~/own'", user=GRACE)
    assert (done.rc, done.stdout.split()[::2]) == (0, [GRACE, GRACE]), done.stdout + done.stderr


def test_of_two_interfaces_it_is_the_one_to_the_other_nodes(converged: Lab) -> None:
    """Which are known by name; the network of the cluster is that of both."""
    host = converged["gpu02"]
    environment = host.check_output("cat /etc/gpustead/ssh_mesh/env").splitlines()
    assert {"NCCL_SOCKET_IFNAME==eth0", "GLOO_SOCKET_IFNAME=eth0"} <= set(environment)
    networks = bed.connect(host)
    assert '"dev":"lab0"' in host.check_output(f"ip -j route get {networks[0].partition('/')[0]}")
    unknown = host.module("gpustead.cluster.node_offer_info", {"peer": "gpu09.lab", "networks": networks})
    for words in ("resolves gpu09.lab to no address", "eth0", "lab0", "Set ssh_mesh_interface"):
        assert words in unknown["msg"], unknown


@pytest.mark.parametrize("name", WELL)
def test_containers_see_the_declared_gpus_and_keep_them(converged: Lab, name: str) -> None:
    host, expected = converged[name], sorted(NODES[name].given)
    for disturbance in ("true", "systemctl daemon-reload", "systemctl restart docker && docker compose ls"):
        host.check_output(disturbance)
        for project, found in containers(host).items():
            assert sorted(found) == expected, f"{project} after {disturbance}"
        assert all(bed.has_cuda(host, *one) for one in (bed.WORKSPACE, bed.MESH)), disturbance


@pytest.mark.parametrize("name", WELL)
def test_a_boot_makes_uvm_and_its_loss_is_seen(converged: Lab, name: str) -> None:
    """As after a boot, before the first CUDA program: nvidia-smi does not make it."""
    host = converged[name]
    booted = "rm /dev/nvidia-uvm /dev/nvidia-uvm-tools && nvidia-smi -L && ! test -e /dev/nvidia-uvm"
    host.check_output(booted)
    site(converged, "--limit", name)
    host.check_output("test -c /dev/nvidia-uvm")
    host.check_output(f"{booted} && systemctl restart gpustead-gpus.service && test -c /dev/nvidia-uvm")
    assert_fresh(converged)


@pytest.mark.parametrize("name", WELL)
def test_a_workspace_that_is_to_have_one_of_them_has_this_alone(converged: Lab, name: str) -> None:
    host, (service, place) = converged[name], (bed.WORKSPACE, 1)
    one = {"workspace_instances": [{"owner": converged.owner, "gpus": [place]}]}
    site(converged, "--limit", name, "-e", json.dumps(one))
    for disturbance in ("true", "systemctl daemon-reload"):
        host.check_output(disturbance)
        assert bed.seen(host, *service) == [bed.given(host)["uuids"][place]], disturbance
    assert sorted(bed.seen(host, *bed.MESH)) == sorted(NODES[name].given)
    site(converged, "--limit", name)
    assert sorted(bed.seen(host, *service)) == sorted(NODES[name].given)


def test_what_docker_gives_by_its_hook_alone_is_lost(converged: Lab) -> None:
    """That the stand-ins can show a loss at all: without the device nodes a daemon-reload takes the GPUs away."""
    host, uuid = converged["gpu02"], bed.H100[3]
    image = host.check_output("cat /etc/gpustead/image")
    host.check_output(f"docker run --detach --name bare --gpus '\"device={uuid}\"' --entrypoint sleep {image} 600")
    try:
        assert bed.listed(host.check_output("docker exec bare nvidia-smi -L")) == [uuid]
        host.check_output("systemctl daemon-reload")
        lost = host.run("docker exec bare nvidia-smi -L")
        assert (lost.rc, lost.stdout.strip()) == (254, "Failed to initialize NVML: Unknown Error")
    finally:
        host.check_output("docker rm --force bare")


def test_keys_of_others_in_daemon_json_keep_their_form_and_order(converged: Lab) -> None:
    text = converged["gpu03"].check_output(f"cat {bed.DAEMON}")
    places = [text.find(fragment) for fragment in KEPT]
    assert -1 not in places and places == sorted(places), text
    assert json.loads(text)["features"] == {"buildkit": True, "cdi": True}


def test_another_description_of_the_repository_is_put_aside(converged: Lab) -> None:
    host = converged["gpu02"]
    for path in (THEIR_SOURCE, THEIR_KEY):
        assert host.run(f"test -e {path}").rc != 0
        assert host.run(f"test -e {path}.bak").rc == 0
    host.check_output("apt-get update")


@pytest.mark.parametrize("name", WELL)
def test_the_toolkit_stays_at_one_version(converged: Lab, name: str) -> None:
    host = converged[name]
    pinned = host.variables["nvidia_toolkit_version"]
    packages = "nvidia-container-toolkit nvidia-container-toolkit-base libnvidia-container-tools libnvidia-container1"
    installed = host.check_output(f"dpkg-query --show --showformat '${{Version}}\\n' {packages}").split()
    assert installed == [pinned] * 4
    newer = host.check_output("apt-cache madison nvidia-container-toolkit")
    assert len(newer.splitlines()) == 3, newer
    assert "nvidia" not in host.check_output("apt-get --simulate dist-upgrade | grep ^Inst || true")


CGROUP = "/sys/fs/cgroup/devices$(sed -n 's|^[0-9]*:devices:||p' /proc/1/cgroup | sed 's|/init.scope||')"


def said(host: Host) -> tuple[int, str]:
    result = host.run("nvidia-smi -q -x")
    return int(result.rc), str(result.stdout).strip()


def test_debians_own_nvidia_smi_without_a_driver(converged: Lab) -> None:
    """The real tool, once: from Debian's non-free, on a host that is no node."""
    host = converged["nas"]
    host.check_output(
        "cd /etc/apt; for f in sources.list sources.list.d/debian.sources; do"
        "  [ ! -e $f ] || sed -E 's/\\bmain\\b/contrib non-free/' $f > sources.list.d/non-free.${f##*.};"
        "done; apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nvidia-smi"
    )
    host.check_output("python3 /srv/bed/standins/host.py /srv/bed/kinds/h100 /srv/bed/host files")
    sysfs = {"sysfs_root": "/srv/bed/host/var/lib/nvidia-standin/sys"}
    # Where the host may not open the node that the tool makes, it says what our stand-in says in such a container.
    host.check_output(f"echo 'c 195:* rwm' > {CGROUP}/devices.deny")
    assert said(host) == (254, "Failed to initialize NVML: Unknown Error")
    # The same as in a container whose GPUs were taken away, so it is not passed over.
    cut_off = host.module("gpustead.cluster.gpu_info", {})
    assert (cut_off["state"], cut_off["reason"]) == ("unusable", "unknown"), cut_off
    host.check_output("cd /srv/bed/standins && python3 -c 'import host; host.allow_majors()'")
    code, words = said(host)
    assert code == 9
    assert words.startswith("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")
    assert host.module("gpustead.cluster.gpu_info", {})["state"] == "none"
    with_card = host.module("gpustead.cluster.gpu_info", sysfs)
    assert (with_card["state"], with_card["reason"], len(with_card["pci_gpus"])) == ("unusable", "not_loaded", 8)
    assert with_card["remedy"]


# MIG, on gpu03

# It leaves room for as much again.
LAYOUT = {"nvidia_mig": {"gpu:0": ["2g.10gb", "1g.5gb"]}}
DIVIDE = ("--limit", "gpu03", "-e", json.dumps(LAYOUT))
EACH = ("-e", "cluster_gpu_slots=mig_instances")


def test_a_layout_is_shown_by_a_check_and_not_made(converged: Lab) -> None:
    host = converged["gpu03"]
    before = host.check_output("nvidia-smi -L")
    output = site(converged, "--check", "--diff", *DIVIDE)
    assert re.search(r"2g\.10gb,? 1g\.5gb", output), output
    assert host.check_output("nvidia-smi -L") == before


def test_a_gpu_in_use_is_not_divided(converged: Lab) -> None:
    host = converged["gpu03"]
    before = host.check_output("nvidia-smi -L")
    with bed.at_work(host, bed.A100[0]):
        hosts, output = bed.failed(converged, *DIVIDE)
    assert hosts == {"gpu03"}, output
    assert "4711" in output and "python3" in output
    assert host.check_output("nvidia-smi -L") == before


def test_a_layout_is_made_and_the_stacks_follow(converged: Lab) -> None:
    host = converged["gpu03"]
    site(converged, *DIVIDE, *EACH)
    now = bed.listed(host.check_output("nvidia-smi -L"))
    assert len(now) == 3 and not set(now) & set(bed.mig_uuids())
    given = bed.given(host)
    assert (sorted(given["uuids"]), given["slots"]) == (sorted(now), 3)
    for project in (bed.WORKSPACE[0], bed.MESH[0]):
        assert sorted(bed.reserved(host, project)[0]["device_ids"]) == sorted(f"nvidia.com/gpu={uuid}" for uuid in now)
    assert all(sorted(found) == sorted(now) for found in containers(host).values())
    assert "gpu03 slots=3" in host.check_output("cat /mnt/nas/.cluster/mesh/hostfile")


def test_a_restart_of_docker_leaves_a_layout_and_a_boot_makes_it_anew(converged: Lab) -> None:
    host = converged["gpu03"]
    before = host.check_output("nvidia-smi -L")
    host.check_output("systemctl restart docker && systemctl is-active gpustead-gpus.service")
    assert host.check_output("nvidia-smi -L") == before
    # A reboot forgets the instances.
    host.check_output("nvidia-smi mig -i 0 -dci && nvidia-smi mig -i 0 -dgi && systemctl restart gpustead-gpus.service")
    after = host.check_output("nvidia-smi -L")
    assert after != before
    assert re.findall(r"MIG \S+", after) == re.findall(r"MIG \S+", before)
    site(converged, *DIVIDE, *EACH)
    assert all(sorted(found) == sorted(bed.listed(after)) for found in containers(host).values())


# What is refused

BROKEN_JSON = '{\n  "live-restore": true\n  "debug": true\n}'


def test_a_broken_daemon_json_stops_the_run_and_not_docker(converged: Lab) -> None:
    host = converged["gpu02"]
    running = host.check_output("docker ps --quiet | sort")
    with bed.replaced(host, bed.DAEMON, BROKEN_JSON):
        hosts, output = bed.failed(converged, "--limit", "gpu02", "--tags", "nvidia")
        assert hosts == {"gpu02"}, output
        assert re.search(r"daemon\.json.*line 3 column 3", output), output
        assert host.check_output("systemctl is-active docker") == "active"
        assert host.check_output("docker ps --quiet | sort") == running


TOOLKIT = "/etc/nvidia-container-runtime/config.toml"
DROP_IN = "/etc/systemd/system/docker.service.d/override.conf"


def test_what_is_in_the_way_of_containers_is_named(converged: Lab) -> None:
    """Two in one run, each on a host of its own."""
    mode = '[nvidia-container-runtime]\nmode = "cdi"\n'
    cgroups = "[nvidia-container-cli]\nno-cgroups = true\n"
    with bed.replaced(converged["gpu02"], TOOLKIT, mode), bed.replaced(converged["gpu03"], TOOLKIT, cgroups):
        hosts, output = bed.failed(converged, "--limit", "gpu02,gpu03", "--tags", "nvidia")
    assert hosts == {"gpu02", "gpu03"}, output
    for name, words in {
        "gpu02": ("mode = cdi", "mode=auto"),
        "gpu03": ("no-cgroups = true", "no-cgroups=false"),
    }.items():
        complaint = output.partition(f"{name} has GPUs that containers cannot use")[2][:1500]
        assert all(word in complaint for word in words), output


def test_a_drop_in_that_clashes_with_daemon_json_is_named(converged: Lab) -> None:
    host = converged["gpu02"]
    start = "/usr/sbin/dockerd -H fd:// --add-runtime=nvidia=/usr/bin/nvidia-container-runtime"
    unit = f"[Service]\nExecStart=\nExecStart={start}"
    with bed.replaced(host, DROP_IN, unit):
        host.check_output("systemctl daemon-reload")
        hosts, output = bed.failed(converged, "--limit", "gpu02", "--tags", "nvidia")
    host.check_output("systemctl daemon-reload")
    assert hosts == {"gpu02"}, output
    assert DROP_IN in output and "runtimes" in output, output
    assert host.check_output("systemctl is-active docker") == "active"


# The end


def test_gpus_that_are_left_out_are_nobodys(converged: Lab) -> None:
    """Other cards were put in: two of four are for work."""
    host, excluded = converged["gpu02"], ["DGX Display", "0000:c2:00.0"]
    bed.become(host, "mixed")
    site(converged, "--limit", "gpu02", "-e", json.dumps({"nvidia_exclude": excluded}))
    given = bed.given(host)
    assert (given["state"], given["uuids"], given["slots"]) == ("ready", bed.MIXED[:2], 2)
    assert {"/dev/nvidia0", "/dev/nvidia1"} <= {*given["device_nodes"]}
    assert "/dev/nvidia2" not in given["device_nodes"]
    assert all(sorted(found) == sorted(bed.MIXED[:2]) for found in containers(host).values())
    assert "gpu02 slots=2" in host.check_output("cat /mnt/nas/.cluster/mesh/hostfile")


def test_a_node_whose_gpus_were_taken_out_is_as_one_without(converged: Lab) -> None:
    host = converged["gpu02"]
    bed.become(host, "none")
    site(converged, "--limit", "gpu02")
    given = bed.given(host)
    assert (given["state"], given["driver"], given["uuids"], given["slots"]) == ("none", None, [], 0)
    # The object itself stays: without it Docker would keep its runtimes until it is restarted.
    assert json.loads(host.check_output(f"cat {bed.DAEMON}"))["runtimes"] == {}
    assert "nvidia" not in host.check_output("docker info --format '{{json .Runtimes}}'")
    assert bed.reserved(host, bed.WORKSPACE[0]) == bed.reserved(host, bed.MESH[0]) == []
    assert host.run("ls /etc/apt/sources.list.d/nvidia-container-toolkit.sources").rc != 0
    assert "gpu02 slots=2" in host.check_output("cat /mnt/nas/.cluster/mesh/hostfile")
    assert host.compose(*bed.MESH, "true").rc == 0
