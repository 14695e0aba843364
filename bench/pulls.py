# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What it costs that several nodes pull an image at once: time beside one node's, and bytes that the registry sends.

The hosts share the processor and the disk of one machine, which real nodes do not. What that takes is measured by
itself: as many hosts unpack the very same layers at once, each from an archive of its own, without network or registry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from lab import NAME, Host, Lab, call, inside, step
from timing import Failed

AT_ONCE = (1, 2, 3)
REPOSITORY, LOADED = "bench-pulls/image", "by-load/image:1"
# As many layers as Docker fetches side by side, of files such as images hold.
LAYERS = 3
DOCKERFILE = "FROM {base}\n" + "".join(f"RUN cp -a /usr /copy{number}\n" for number in range(LAYERS))
# On the same file system as what is unpacked.
ARCHIVE = "/var/lib/docker/bench-pulls.tar"

# Runs on the registry's host: packs what a manifest stands for as `docker load` takes it, compressed as it is sent.
PACK = """
import json, pathlib, sys, tarfile
store, digest, tag, target = sys.argv[1:]
def blob(digest):
    number = digest.split(":")[1]
    return pathlib.Path(store, "docker/registry/v2/blobs/sha256", number[:2], number, "data")
manifest = json.loads(blob(digest).read_text())
parts = [manifest["config"], *manifest["layers"]]
names = [part["digest"].replace(":", "/") for part in parts]
image = {"Config": names[0], "RepoTags": [tag], "Layers": names[1:]}
pathlib.Path("/tmp/manifest.json").write_text(json.dumps([image]))
with tarfile.open(target, "w") as tar:
    for name, part in dict(zip(names, parts)).items():
        tar.add(blob(part["digest"]), name)
    tar.add("/tmp/manifest.json", "manifest.json")
print(json.dumps([part["size"] for part in manifest["layers"]]))
"""
# Runs on the registry's host: the bytes of layers in its log of answers, on its standard input. A blob that begins like
# JSON is an image's configuration.
SENT = r"""
import json, pathlib, re, sys
store, found = sys.argv[1], 0
answer = re.compile(r'"GET /v2/\S+/blobs/sha256:(\w+)\S* HTTP/[\d.]+" 20[06] (\d+)')
for number, size in answer.findall(sys.stdin.read()):
    with open(pathlib.Path(store, "docker/registry/v2/blobs/sha256", number[:2], number, "data"), "rb") as file:
        found += int(size) if file.read(1) != b"{" else 0
print(found)
"""


@dataclass
class Wave:
    """Seconds of so many nodes at once, round by round: pulling, and unpacking alone."""

    nodes: int
    pulls: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)


@dataclass
class Result:
    """The waves, that of one node first, and bytes.

    Attributes:
        size: bytes of the layers that a node did not have.
        sent: bytes of layers that the registry sent for the largest wave, in each round.
        fetchers: how many asked the registry in that wave: the caches, or the nodes themselves.
        idle: bytes of layers that it sent for a forced run of images.yml in which nothing had changed.
    """

    waves: Sequence[Wave]
    size: int
    sent: Sequence[int]
    fetchers: int
    idle: int


class Pulls:
    """An image in the registry of a converged lab, and the hosts that take it."""

    def __init__(self, lab: Lab) -> None:
        text = call("ansible-inventory", "-i", str(lab.inventory), "--list")
        listing = json.loads(text[text.index("{") :])
        self.lab, self.hosts, self.variables = lab, lab.hosts, listing["_meta"]["hostvars"]
        name = listing["registry"]["hosts"][0]
        self.registry = Host(name, self._address(name), f"gpustead-{NAME}-{name}")
        self.store: str = self.variables[name].get("registry_storage_path", "/var/lib/docker-registry")
        # The registry has no cache beside itself.
        self.caches = [cache for cache in listing.get("registry_caches", {}).get("hosts", []) if cache != name]
        self.digest = ""
        self.size = 0

    def __enter__(self) -> Pulls:
        builder = self.hosts[0]
        tag = f"{self.registry.address}:5000/{REPOSITORY}:1"
        dockerfile = DOCKERFILE.format(base=self.variables[builder.name]["images_base"])
        inside(builder, ["docker", "buildx", "build", "--provenance=false", "--tag", tag, "-"], dockerfile)
        inside(builder, ["docker", "push", "--quiet", tag])
        shown = inside(builder, ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", tag])
        self.digest = next(name for name in json.loads(shown) if name.startswith(tag[:-2])).partition("@")[2]
        packed = inside(self.registry, ["python3", "-", self.store, self.digest, LOADED, "/root/pulls.tar"], PACK)
        # The nodes have those of the base.
        self.size = sum(json.loads(packed)[-LAYERS:])
        self._hand_out()
        self._forget()
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        for host in self.hosts[: max(AT_ONCE)]:
            inside(host, ["rm", "-f", ARCHIVE])

    def waves(self, rounds: int) -> tuple[list[Wave], list[int]]:
        """All numbers of nodes in every round, pulling and unpacking each first in its turn; and the bytes sent."""
        waves, sent = [Wave(nodes) for nodes in AT_ONCE if nodes <= len(self.hosts)], []
        for number in range(rounds):
            for wave in waves:
                if number % 2:
                    wave.loads.append(self._at_once(wave.nodes, self._load))
                begin = self._cursor()
                wave.pulls.append(self._at_once(wave.nodes, self._pull))
                if wave is waves[-1]:
                    sent.append(self._sent(begin))
                if not number % 2:
                    wave.loads.append(self._at_once(wave.nodes, self._load))
        return waves, sent

    def idle(self) -> int:
        """Bytes of layers that are sent where nothing has changed, though every node runs the role."""
        begin = self._cursor()
        call("ansible-playbook", "-i", str(self.lab.inventory), "playbooks/images.yml", "-e", "site_force=true")
        return self._sent(begin)

    def fetchers(self, nodes: int) -> int:
        """How many hosts ask the registry when so many nodes pull."""
        return len({self._source(host) for host in self.hosts[:nodes]}) if self.caches else nodes

    def _address(self, name: str) -> str:
        known: Mapping[str, Any] = self.variables[name]
        return str(known.get("cluster_address", known["ansible_host"]))

    def _source(self, host: Host) -> str:
        """Where a node pulls from, as roles registry and images choose it: its cache, or the registry."""
        if not self.caches:
            return f"{self.registry.address}:5000"
        cache = self.caches[self.hosts.index(host) % len(self.caches)]
        return f"{self._address(cache)}:{self.variables[cache].get('cluster_registry_cache_port', 5010)}"

    def _pull(self, host: Host) -> None:
        inside(host, ["docker", "pull", "--quiet", f"{self._source(host)}/{REPOSITORY}@{self.digest}"])

    def _load(self, host: Host) -> None:
        inside(host, ["docker", "load", "--quiet", "--input", ARCHIVE])

    def _at_once(self, nodes: int, action: Callable[[Host], None]) -> float:
        """Seconds until the last of the first so many hosts is done; none has the image before or after."""
        with ThreadPoolExecutor(nodes) as pool:
            began = time.monotonic()
            list(pool.map(action, self.hosts[:nodes]))
            seconds = time.monotonic() - began
        self._forget()
        return seconds

    def _hand_out(self) -> None:
        """Put the archive on the hosts."""
        path = self.lab.work / "pulls.tar"
        call("docker", "cp", f"{self.registry.container}:/root/pulls.tar", str(path))
        inside(self.registry, ["rm", "/root/pulls.tar"])
        for host in self.hosts[: max(AT_ONCE)]:
            call("docker", "cp", str(path), f"{host.container}:{ARCHIVE}")
        path.unlink()

    def _forget(self) -> None:
        """Remove the image by all its names, what the builder keeps of it, and what caches have."""
        names = f"grep -E '(/{REPOSITORY}|^{LOADED.partition(':')[0]})[@:]'"
        listed = "{ docker image ls --format '{{.Repository}}:{{.Tag}}'; "
        listed += "docker image ls --digests --format '{{.Repository}}@{{.Digest}}'; } | grep -v '<none>'"
        script = f"{listed} | {names} | sort -u | xargs -r docker image rm\ndocker builder prune --all --force\n"
        for host in self.hosts[: max(AT_ONCE)]:
            inside(host, ["sh", "-c", script])
        for cache in self.caches:
            folder = self.variables[cache].get("registry_cache_path", "/var/cache/gpustead-registry")
            inside(Host(cache, "", f"gpustead-{NAME}-{cache}"), ["find", folder, "-type", "f", "-delete"])

    def _cursor(self) -> str:
        """The place that the registry's journal has reached."""
        shown = inside(self.registry, ["journalctl", "--unit", "docker-registry", "--lines", "1", "--show-cursor"])
        place = shown.partition("-- cursor: ")[2].strip()
        if not place:
            raise Failed(f"{self.registry.name}: the journal of docker-registry tells no place: {shown.strip()}")
        return place

    def _sent(self, begin: str) -> int:
        """Bytes of layers that the registry has sent since then."""
        time.sleep(1)  # the journal takes lines a little later
        argv = ["journalctl", "--unit", "docker-registry", "--output", "cat", "--after-cursor", begin]
        log = inside(self.registry, argv)
        return int(inside(self.registry, ["python3", "-c", SENT, self.store], log))


def measure(lab: Lab, rounds: int) -> Result:
    with Pulls(lab) as pulls:
        step(f"images: nodes that pull {pulls.size / 1e6:.0f} MB at once, {rounds} rounds")
        waves, sent = pulls.waves(rounds)
        idle, fetchers = pulls.idle(), pulls.fetchers(waves[-1].nodes)
    for wave in waves:
        print(f"    {wave.nodes} at once: pulled in {median(wave.pulls):.2f} s, unpacked in {median(wave.loads):.2f} s")
    print(
        f"    sent: {median(sent) / 1e6:.0f} MB to {fetchers}, and {idle} bytes where nothing had changed", flush=True
    )
    return Result(waves, pulls.size, sent, fetchers, idle)


def ratios(one: Sequence[float], several: Sequence[float]) -> list[float]:
    """Within the rounds: what slows a whole round down does not count."""
    return [more / alone for more, alone in zip(several, one)]


def growths(result: Result, wave: Wave) -> tuple[float, float, float]:
    """A wave to one node: pulling, unpacking alone, and the former over the latter."""
    first = result.waves[0]
    pulls, loads = ratios(first.pulls, wave.pulls), ratios(first.loads, wave.loads)
    return median(pulls), median(loads), median(ratios(loads, pulls))


def figures(result: Result) -> dict[str, float]:
    found: dict[str, float] = {}
    for wave in result.waves[1:]:
        pulls, _, explained = growths(result, wave)
        found[f"pulls_{wave.nodes}_vs_1"] = pulls
        found[f"pulls_{wave.nodes}_vs_1_explained"] = explained
    found["pull_bytes_vs_size"] = median(result.sent) / (result.size * result.fetchers)
    found["pull_bytes_no_change"] = result.idle
    return found


HEAD = (
    "nodes at once",
    "pulled in, s",
    "unpacked in, s",
    "pulling to one",
    "unpacking to one",
    "the one over the other",
)


def table(result: Result) -> list[list[str]]:
    """Rows: nodes, seconds of pulling and of unpacking, and both to one node."""
    rows = []
    for wave in result.waves:
        pulls, loads, explained = growths(result, wave)
        seconds = [f"{median(wave.pulls):.2f}", f"{median(wave.loads):.2f}"]
        rows.append([str(wave.nodes), *seconds, f"{pulls:.2f}", f"{loads:.2f}", f"{explained:.2f}"])
    return rows
