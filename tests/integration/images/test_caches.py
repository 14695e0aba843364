"""Caches of registries: one of the nodes caches a registry outside, and the cluster's own, for all of them.

The registry outside is Debian's docker-registry on a host that is none of the cluster; its own log says what was
fetched of it. It stands in for Docker Hub.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import secrets
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Host, Lab
from support import assert_fresh

PORT, CLUSTER_PORT = 5001, 5010
CONFIG = """version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: ":5000", secret: none}
"""
# Kills the registry when so many bytes have left the host.
CUT = """sent() { cat /sys/class/net/eth0/statistics/tx_bytes; }
start=$(sent)
while [ $(($(sent) - start)) -lt BYTES ]; do sleep 0.01; done
systemctl kill -s KILL docker-registry"""
# The status of an answer.
ASK = """import ssl, urllib.error, urllib.request
try:
    print(urllib.request.urlopen({}, context=ssl.create_default_context(cafile={})).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
IMAGE = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Outside:
    """The registry outside."""

    def __init__(self, host: Host, other: Host, path: Path) -> None:
        self.host, self.url = host, f"http://{host.address}:5000"
        # The host has no way to Debian's packages; the other one has.
        other.check_output(
            "rm -rf /var/tmp/debs && mkdir -m 777 /var/tmp/debs && cd /var/tmp/debs && apt-get -qq update"
        )
        other.check_output("cd /var/tmp/debs && apt-get -qq download adduser docker-registry")
        for package in other.check_output("ls /var/tmp/debs").split():
            there = f"/var/tmp/debs/{package}"
            other.module("ansible.builtin.fetch", {"src": there, "dest": f"{path}/", "flat": True})
            host.module("ansible.builtin.copy", {"src": str(path / package), "dest": f"/var/tmp/{package}"})
        host.check_output("dpkg --install /var/tmp/adduser_*.deb /var/tmp/docker-registry_*.deb")
        host.check_output(
            f"cat > /etc/docker/registry/config.yml <<'END'\n{CONFIG}END\nsystemctl restart docker-registry"
        )
        self.answers()

    def answers(self) -> None:
        self.host.check_output("for i in $(seq 50); do nc -z localhost 5000 && exit 0; sleep 0.2; done; exit 1")

    def push(self, name: str, *sizes: int) -> list[str]:
        """Push library/<name>:1 with layers of random bytes, by the registry's own API; returns its blobs."""
        layers, ids = [], []
        for number, size in enumerate(sizes):
            raw = io.BytesIO()
            with tarfile.open(fileobj=raw, mode="w") as tar:
                member = tarfile.TarInfo(f"file{number}")
                member.size = size
                tar.addfile(member, io.BytesIO(secrets.token_bytes(size)))
            ids.append(digest(raw.getvalue()))
            layers.append(gzip.compress(raw.getvalue(), compresslevel=1))
        config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": ids}}
        image = json.dumps(config).encode()
        blobs = [(IMAGE, image), *((LAYER, layer) for layer in layers)]
        for _, data in blobs:
            self._upload(f"library/{name}", data)
        described = [{"mediaType": kind, "size": len(data), "digest": digest(data)} for kind, data in blobs]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
        self._send("PUT", f"{self.url}/v2/library/{name}/manifests/1", json.dumps(manifest).encode(), MANIFEST)
        return [str(blob["digest"]) for blob in described]

    def _upload(self, name: str, data: bytes) -> None:
        where = self._send("POST", f"{self.url}/v2/{name}/blobs/uploads/", b"").headers["Location"]
        self._send("PUT", f"{where}&digest={digest(data)}", data)

    @staticmethod
    def _send(method: str, url: str, data: bytes, kind: str = "application/octet-stream") -> Any:
        request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
        return urllib.request.urlopen(request, timeout=60)

    def fetched(self, blob: str) -> int:
        return fetched(self.host, blob)


def fetched(host: Host, blob: str) -> int:
    """How often a blob was fetched of a host's registry, as its log says."""
    lines = host.check_output(f"journalctl -u docker-registry --no-pager -o cat | grep -F /blobs/{blob} || true")
    return len(re.findall(r'"GET [^"]+" 200 ', lines))


class Cached:
    """The lab with a cache on its first node."""

    def __init__(self, lab: Lab, outside: Outside, path: Path) -> None:
        self.lab, self.outside = lab, outside
        self.inventory = path / "caches.yml"
        self.inventory.write_text(f"registry_caches: {{hosts: {{{lab.nodes[0].name}: }}}}\n")
        self.extra: list[str] = []

    def run(self, playbook: str = "site.yml") -> tuple[int, str]:
        registries = [{"name": "docker.io", "url": self.outside.url, "port": PORT}]
        settings = {"cluster_cached_registries": registries, "images_extra": self.extra, "images_min_free_gb": 1}
        done = self.lab.playbook(playbook, "-e", json.dumps(settings), inventories=[self.inventory])
        return done.returncode, done.stdout + done.stderr

    def succeed(self) -> str:
        code, text = self.run()
        assert code == 0, text
        return text


@pytest.fixture(scope="module")
def cached(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cached]:
    outside = Outside(lab["outsider"], lab["nas"], tmp_path_factory.mktemp("debs"))
    yield Cached(lab, outside, tmp_path_factory.mktemp("caches"))
    done = lab.playbook("site.yml")
    outside.host.check_output("dpkg --purge docker-registry && rm -rf /var/lib/docker-registry /var/tmp/*.deb")
    lab["nas"].check_output("rm -r /var/tmp/debs")
    assert done.returncode == 0, done.stdout + done.stderr


def here(node: Host, image: str) -> bool:
    return bool(node.run(f"docker image inspect {image}").rc == 0)


def changed(text: str) -> set[str]:
    return set(re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", text, re.MULTILINE))


def test_nodes_that_pull_at_once_have_each_layer_fetched_once(lab: Lab, cached: Cached) -> None:
    blobs = cached.outside.push("trial", 20_000_000, 5_000_000, 1_000)
    cached.extra = ["trial:1"]
    cached.succeed()
    assert all(here(node, "trial:1") for node in lab.nodes)
    assert {blob: cached.outside.fetched(blob) for blob in blobs} == dict.fromkeys(blobs, 1)


def test_a_second_run_changes_nothing(cached: Cached) -> None:
    assert changed(cached.succeed()) == {"0"}


def test_the_stack_comes_through_the_cache_and_by_the_same_digest(lab: Lab) -> None:
    builder, *others = lab.nodes
    names = {node.name: node.check_output("cat /etc/gpustead/image") for node in lab.nodes}
    assert names[builder.name].startswith(f"{lab['nas'].address}:5000/")
    rest = names[builder.name].partition("/")[2]
    for node in others:
        assert names[node.name] == f"{builder.address}:{CLUSTER_PORT}/{rest}"
        assert names[node.name] in node.check_output("docker inspect --format '{{.Config.Image}}' $(docker ps -q)")


def test_the_registry_gives_each_layer_once_too_and_rests_then(lab: Lab) -> None:
    builder, *others = lab.nodes
    registry, place = lab["nas"], f"{builder.address}:{CLUSTER_PORT}"
    base = builder.check_output("cat /etc/gpustead/image")
    token = secrets.token_hex(8)
    own = f"{registry.address}:5000/trial/cached:{token}"
    builder.check_output(
        f"docker build -q -t {own} - <<'END'\nFROM {base}\nRUN head -c 20000000 /dev/urandom > /trial\nEND\n"
        f"docker push -q {own}"
    )
    ref = builder.check_output(f"docker image inspect --format '{{{{index .RepoDigests 0}}}}' {own}")
    ref = f"{place}/{ref.partition('/')[2]}"
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda node: node.check_output(f"docker pull -q {ref}"), others))
    manifest = json.loads(builder.check_output(f"docker manifest inspect {own}"))
    assert fetched(registry, manifest["layers"][-1]["digest"]) == 1
    # What is cached is there without it.
    node = others[0]
    node.check_output(f"docker image rm {ref}")
    registry.check_output("systemctl stop docker-registry")
    try:
        node.check_output(f"docker pull -q {ref}")
    finally:
        registry.check_output("systemctl start docker-registry")
    for node in others:
        node.check_output(f"docker image rm {ref}")
    builder.check_output(f"docker image rm {own}")


def test_who_has_no_account_has_no_image_of_the_cluster(lab: Lab) -> None:
    node, cache = lab.nodes[1], lab.nodes[0].address
    name = lab.nodes[0].check_output("cat /etc/gpustead/image").partition("/")[2]
    path = name.replace("@", "/manifests/")
    for port, status in ((CLUSTER_PORT, "401"), (PORT, "404")):
        url = repr(f"https://{cache}:{port}/v2/{path}")
        authority = repr(f"/etc/docker/certs.d/{cache}:{port}/ca.crt")
        assert node.check_output(f"python3 - <<'END'\n{ASK.format(url, authority)}END") == status
    assert lab["client"].run(f"nc -z -w 3 {cache} {PORT}").rc != 0


CROOKED = """import http.client, ssl
context = ssl.create_default_context(cafile={authority!r})
for path in {paths!r}:
    link = http.client.HTTPSConnection({host!r}, {port}, context=context)
    link.putrequest("GET", path)
    link.endheaders()
    print(link.getresponse().status)
"""


def test_a_crooked_path_keeps_nothing_under_another_digest(lab: Lab, cached: Cached) -> None:
    """Any account of a node reaches the cache."""
    node, cache = lab.nodes[1], lab.nodes[0].address
    blobs = cached.outside.push("straight", 100_000, 100_000)
    evil, good = blobs[:2]
    paths = [
        f"/v2/library/straight/blobs/{evil}%23/../{good}",
        f"/v2/library/straight/blobs/{evil}%2f..%2f{good}",
        f"/v2/library/straight/blobs/{good}?digest={evil}",
    ]
    authority = f"/etc/docker/certs.d/{cache}:{PORT}/ca.crt"
    script = CROOKED.format(authority=authority, paths=paths, host=cache, port=PORT)
    node.check_output(f"python3 - <<'END'\n{script}END")
    cached.extra = ["trial:1", "straight:1"]
    cached.succeed()
    assert all(here(one, "straight:1") for one in lab.nodes)


def test_a_registry_that_goes_away_in_the_middle_leaves_no_half_image(lab: Lab, cached: Cached) -> None:
    blobs = cached.outside.push("large", 200_000_000)
    cached.extra = ["trial:1", "large:1"]
    with ThreadPoolExecutor() as pool:
        cut = pool.submit(cached.outside.host.check_output, CUT.replace("BYTES", "50000000"))
        time.sleep(1)
        code, text = cached.run("playbooks/images.yml")
        cut.result(timeout=60)
    assert code == 2, text
    assert "large" in text
    assert [node.name for node in lab.nodes if here(node, "large:1")] == []
    cached.outside.host.check_output("systemctl start docker-registry")
    cached.outside.answers()
    cached.succeed()
    assert all(here(node, "large:1") for node in lab.nodes)
    assert cached.outside.fetched(blobs[1]) == 1


def test_an_image_that_is_not_declared_any_more_goes(lab: Lab, cached: Cached) -> None:
    cached.extra = ["trial:1"]
    cached.succeed()
    assert [node.name for node in lab.nodes if here(node, "large:1")] == []
    assert all(here(node, "trial:1") for node in lab.nodes)


def test_a_host_that_caches_no_more_is_as_before(lab: Lab, cached: Cached) -> None:
    done = lab.playbook("site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    cache = lab.nodes[0]
    assert cache.run("systemctl is-active gpustead-registry-cache").rc != 0
    assert cache.run("systemctl is-enabled gpustead-registry-cache").rc != 0
    left = "/etc/systemd/system/gpustead-registry-cache.service /etc/docker/registry/*"
    assert cache.run(f"ls {left}").stdout == ""
    assert f"{PORT}" not in cache.check_output("ufw status")
    for node in lab.nodes:
        assert "registry-mirrors" not in node.check_output("cat /etc/docker/daemon.json")
        files = node.check_output("find /etc/docker/certs.d -type f").splitlines()
        assert files == [f"/etc/docker/certs.d/{lab['nas'].address}:5000/ca.crt"]
        assert f":{CLUSTER_PORT}" not in node.check_output("cat /root/.docker/config.json")
        assert node.check_output("cat /etc/gpustead/image").startswith(f"{lab['nas'].address}:5000/")
        assert not here(node, "trial:1")
    assert_fresh(lab)
