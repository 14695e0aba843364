"""The site's secrets through a whole run: no process, log, receipt, report, image or journal has one of them.

The proxy really asks for its password, so that what is kept from everybody is seen to reach those who need it.
"""

from __future__ import annotations

import base64
import json
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from auth_proxy import AuthProxy, auth_proxy
from conftest import Host, Lab
from image_trial import Trial
from process_watch import Watch, watch
from support import site

MARK = f"mk{secrets.token_hex(6)}"
# Root's own files that have to hold a secret: apt's, Docker's, and its logins.
KEPT = (
    "/etc/apt/auth.conf.d/90gpustead-proxy.conf",
    "/etc/docker/daemon.json",
    "/root/.docker/config.json",
)
PLACES = "/etc /root /tmp /var/tmp /var/log /var/lib/gpustead /var/lib/cloud /home /run /opt /srv"
# What the build does: it has the secret, it reaches the mirror through the proxy, and says what it was given.
BUILD = (
    "--mount=type=secret,id=token test -s /run/secrets/token && apt-get update >/dev/null"
    ' && rm -rf /var/lib/apt/lists/* && echo "by ${http_proxy}" && cat /run/secrets/token && false'
)


@dataclass
class Traces:
    """What a run with marked secrets left."""

    lab: Lab
    needles: dict[str, str]
    proxy: AuthProxy
    trial: Trial
    watched: Watch
    logs: dict[str, str] = field(default_factory=dict)
    passed: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def node(self) -> Host:
        return self.lab.nodes[1]

    def run(self, name: str, *args: str, code: int | None = 0) -> None:
        """A playbook, as talkative as one who looks for a fault would have it, with this exit status or any."""
        before = dict(self.proxy.passed)
        done = self.lab.playbook(*args, "-vvv", "--diff")
        self.logs[name] = done.stdout + done.stderr
        self.passed[name] = {host: count - before.get(host, 0) for host, count in self.proxy.passed.items()}
        assert code is None or done.returncode == code, self.logs[name][-4000:]


def hosts(lab: Lab) -> list[Host]:
    return [*lab.nodes, lab["nas"]]


def found(text: str, needles: Mapping[str, str]) -> list[str]:
    return [name for name, needle in needles.items() if needle in text]


def secrets_of(lab: Lab) -> dict[str, str]:
    """The marked ones, and those that the lab made for itself."""
    kept = lab.inventory / ".secrets"
    registry = (kept / "registry_password").read_text().split()[0]
    token = f"/export/brick/users/{lab.owner}/.config/gpustead/jupyter_token"
    return {
        "a marked secret": MARK,
        "the proxy's header": base64.b64encode(f"site:{MARK}proxy".encode()).decode(),
        "the registry's password": registry,
        "the registry's header": base64.b64encode(f"cluster:{registry}".encode()).decode(),
        "the passphrase": (kept / "ca_passphrase").read_text().strip(),
        "the owner's token": lab["nas"].check_output(f"cat {token}"),
    }


@pytest.fixture(scope="module")
def traces(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traces]:
    place = tmp_path_factory.mktemp("secrets")
    gateway = lab["nas"].check_output("ip -4 route show default").split()[2]
    needles = secrets_of(lab)
    node = lab.nodes[1]
    limit = ("--limit", f"{node.name},nas")
    trial = Trial(lab, place, "hostile", images_keep=1)
    with auth_proxy(gateway, "site", f"{MARK}proxy") as proxy:
        way = f"http://site:{MARK}proxy@{proxy.place}"
        variables = {
            # Without the registry: Docker is to pull through the proxy.
            "cluster_proxy_env": {"http_proxy": way, "https_proxy": way, "no_proxy": "localhost,127.0.0.1"},
            "base_cache_valid_time": 0,
            "site_force": True,
        }
        given, building = place / "site.json", place / "build.json"
        given.write_text(json.dumps(variables))
        building.write_text(
            json.dumps({**trial.settings, **variables, "images_build_secrets": {"token": f"{MARK}token"}})
        )
        try:
            with watch(needles) as watched:
                left = Traces(lab, needles, proxy, trial, watched)
                left.run("site", "site.yml", "-e", f"@{given}", *limit)
                trial.edit("top", BUILD)
                left.run("failed build", "playbooks/images.yml", "-e", f"@{building}", code=2)
                trial.edit("top", BUILD.removesuffix(" && false"))
                left.run("build", "playbooks/images.yml", "-e", f"@{building}")
                node.check_output("sed -i s/proxy@/other@/ /etc/docker/daemon.json")
                report = place / "drift.json"
                left.run("drift", "playbooks/drift.yml", "-e", f"@{given}", "-e", f"drift_report={report}", code=2)
                left.logs["drift report"] = report.read_text()
                node.check_output("sed -i s/other@/proxy@/ /etc/docker/daemon.json")
                report = place / "verify.json"
                left.run(
                    "verify", "playbooks/verify.yml", "-e", f"@{given}", "-e", f"verify_report={report}", code=None
                )
                left.logs["verify report"] = report.read_text()
            yield left
        finally:
            for file in (given, building):
                file.unlink()
            for host in lab.nodes:
                host.run(f"docker image ls -q '{trial.name}/*' | sort -u | xargs -r docker image rm -f")
            site(lab)


def test_the_watch_sees_what_a_process_shows() -> None:
    needle = secrets.token_hex(8)
    with watch({"it": needle}) as watched:
        # Long enough for a machine that is busy.
        subprocess.run(["sh", "-c", "sleep 1", needle], check=True)
        subprocess.run(["sleep", "1"], env={"A": needle}, user=65534, check=True)
        subprocess.run(["sleep", "1"], env={"B": needle}, check=True)
    assert watched.found == {"it in the command line of sh -c sleep 1 <it> ", "it in the environment of sleep 1 "}


def test_those_who_need_the_way_out_have_it(traces: Traces) -> None:
    assert traces.passed["site"]["deb.debian.org"] > 0  # apt
    assert traces.passed["build"][traces.lab["nas"].address] > 0  # Docker, which pulls the image
    assert traces.passed["build"]["deb.debian.org"] > 0  # the build; the nodes ask apt for nothing there
    assert traces.node.check_output("docker info --format '{{.HTTPProxy}}'").startswith("http://xxxxx:xxxxx@")


def test_processes(traces: Traces) -> None:
    assert traces.watched.started > 1000
    assert traces.watched.found == set()


def test_logs_diffs_and_reports(traces: Traces) -> None:
    told = {name: found(text, traces.needles) for name, text in traces.logs.items()}
    assert told == {name: [] for name in traces.logs}
    # They are there, and say what is the matter.
    assert "/etc/apt/auth.conf.d/90gpustead-proxy.conf" in traces.logs["site"]
    assert "proxies.http-proxy was sha256:" in traces.logs["drift report"]
    assert "by http://***@" in traces.logs["failed build"]


def test_files_of_hosts(traces: Traces) -> None:
    patterns = " ".join(f"-e {shlex.quote(needle)}" for needle in traces.needles.values())
    for host in hosts(traces.lab):
        files = host.run(f"grep -rlsF --devices=skip {patterns} {PLACES}").stdout.splitlines()
        others = [file for file in files if file not in KEPT and not file.startswith("/etc/docker/daemon.json.")]
        # nginx and the registry of a host that has them.
        assert [file for file in others if not file.startswith("/etc/docker/registry/")] == []
        if files:
            modes = host.check_output(f"stat -c '%a %U' {' '.join(files)}").splitlines()
            assert set(modes) <= {"600 root"}, dict(zip(files, modes))


def test_the_share(traces: Traces) -> None:
    patterns = " ".join(f"-e {shlex.quote(needle)}" for needle in traces.needles.values())
    shared = "/export/brick/.cluster /export/brick/shared"
    assert traces.lab["nas"].run(f"grep -rlsF {patterns} {shared}").stdout == ""


def test_journals(traces: Traces) -> None:
    for host in hosts(traces.lab):
        assert found(host.check_output("journalctl --no-pager --quiet"), traces.needles) == []


def test_images_and_containers(traces: Traces) -> None:
    ref = traces.trial.latest()["ref"]
    for command in (
        "docker image ls -q | sort -u | xargs docker image history --no-trunc",
        "docker image ls -q | sort -u | xargs docker image inspect",
        "docker ps -aq | xargs -r docker inspect",
    ):
        for host in traces.lab.nodes:
            text = host.check_output(command.replace("xargs docker image history", "xargs -n 1 docker image history"))
            assert found(text, traces.needles) == []
    patterns = " ".join(f"-e {shlex.quote(needle)}" for needle in traces.needles.values())
    assert traces.lab.nodes[0].run(f"docker save {ref} | grep -caF {patterns}").stdout.strip() == "0"


def test_the_registry(traces: Traces) -> None:
    patterns = " ".join(f"-e {shlex.quote(needle)}" for needle in traces.needles.values())
    assert traces.lab["nas"].run(f"grep -rlsF {patterns} /var/lib/docker-registry").stdout == ""


def test_what_an_account_can_read(traces: Traces) -> None:
    asked = (
        "env; cat /etc/environment; apt-config dump; systemctl show docker.service; cat /etc/docker/daemon.json;"
        " cat /etc/apt/apt.conf.d/*; cat /etc/docker/*.bak; cat /proc/*/cmdline /proc/*/environ;"
        " cat /etc/apt/auth.conf.d/*; journalctl --no-pager"
    )
    said = traces.node.run(f"runuser -l {traces.lab.owner} -c {shlex.quote(asked)} | tr '\\0' ' '").stdout
    assert "http_proxy=" in said
    assert found(said, traces.needles) == []
    # apt works for it as before.
    assert traces.node.run(f"runuser -u {traces.lab.owner} -- apt-cache policy bash").stderr == ""


def test_the_controllers_own_places(traces: Traces) -> None:
    marked = [MARK, traces.needles["the proxy's header"]]
    patterns = " ".join(f"-e {needle}" for needle in marked)
    places = [Path.home() / ".ansible", Path("/var/log"), traces.lab.inventory]
    done = subprocess.run(
        f"grep -rlsF {patterns} {' '.join(map(str, places))}", shell=True, capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
