"""The caches' nginx, as its configuration has it: what it asks a registry for is what it keeps the answer for.

An answer is kept for a year, under a digest, for all nodes: an account that could have it kept under another one would
keep everybody from that image.
"""

from __future__ import annotations

import base64
import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

TEMPLATE = Path(__file__).parents[3] / "roles/registry/templates/cache.conf.j2"
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")
GOOD, EVIL = (f"sha256:{digit * 64}" for digit in "ae")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def render(upstream: str, port: int, **more: Any) -> str:
    environment = Environment(trim_blocks=True)
    environment.filters["b64encode"] = lambda text: base64.b64encode(text.encode()).decode()
    environment.tests["match"] = lambda text, pattern: bool(re.match(pattern, text))
    values = {
        "registry_cached": [{"name": "docker.io", "url": upstream, "port": port}],
        **{
            "__registry_own": "127.0.0.1",
            "__registry_config_dir": "/etc/docker/registry",
            "__registry_caches_cluster": False,
        },
        **{"registry_cache_path": "/var/cache/gpustead-registry", "registry_cache_size": "1g"},
    }
    return environment.from_string(TEMPLATE.read_text()).render({**values, **more})


CLUSTER = {
    **{"__registry_caches_cluster": True, "registry_address": "10.1.0.5:5000", "registry_cache_port": 5010},
    **{"registry_username": "cluster", "registry_password": "hidden", "__registry_first_host": "nas"},
}


def test_only_what_was_matched_is_asked_for_and_kept() -> None:
    text = render("https://registry-1.docker.io", 5001, **CLUSTER)
    kept = re.findall(r"location ~ .*?\n        \}", text, re.DOTALL)
    assert len(kept) == 2
    for location in kept:
        assert re.findall(r"proxy_pass (.*);", location) == ["$upstream/v2/$name/$kind/$digest"]
    assert "proxy_cache_key $server_port/$kind/$digest;" in text


class Upstream(BaseHTTPRequestHandler):
    """A registry that has everything, and remembers what it was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Cache:
    def __init__(self, port: int, asked: list[str]) -> None:
        self.port, self.asked = port, asked

    def get(self, path: str) -> tuple[int, str]:
        """As it is written: neither shortened nor quoted."""
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        link.putrequest("GET", path)
        link.endheaders()
        answer = link.getresponse()
        body = answer.read().decode()
        link.close()
        return answer.status, body


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    place, port = tmp_path_factory.mktemp("nginx"), free_port()
    place.chmod(0o755)
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Upstream,), {"asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    text = render(f"http://127.0.0.1:{server.server_port}", port)
    for pattern, instead in (
        (r" ssl;\n", ";\n"),
        (r" *(ssl_certificate|ssl_certificate_key|user|include) .*;\n", ""),
        (r"access_log .*;", "access_log off;"),
        (r"/run/gpustead-registry-cache.pid", f"{place}/pid"),
        (r"/var/cache/gpustead-registry", f"{place}/cache"),
        (r"worker_rlimit_nofile 4096;", ""),
        (
            r"http \{",
            "".join(
                [
                    "http {\n",
                    *(
                        f"    {kind}_temp_path {place}/{kind};\n"
                        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
                    ),
                ]
            ),
        ),
    ):
        text = re.sub(pattern, instead, text)
    (place / "conf").write_text(f"user root;\n{text}")
    with open(place / "log", "w") as log:
        process = subprocess.Popen([NGINX or "", "-p", place, "-c", place / "conf"], stdout=log, stderr=log)
        try:
            for _attempt in range(100):
                with socket.socket() as link:
                    if link.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (place / "log").read_text()
                time.sleep(0.1)
            yield Cache(port, asked)
        finally:
            process.terminate()
            process.wait(10)
            server.shutdown()


CROOKED = [
    f"/v2/a/b/blobs/{EVIL}/../{GOOD}",
    f"/v2/a/b/blobs/{EVIL}%2f..%2f{GOOD}",
    f"/v2/a/b/manifests/latest%3f/../{GOOD}",
    f"/v2/a/b/blobs/{EVIL}%23/../{GOOD}",
    f"/v2/a/b/blobs/{EVIL}#/../{GOOD}",
    f"/v2/a/b/blobs/{GOOD}?digest={EVIL}",
    f"/v2/a/b/blobs/{GOOD}#/../{EVIL}",
    f"/v2/a/b//blobs/./{GOOD}",
    f"/v2/a/%0d%0ab/blobs/{GOOD}",
    f"/v2/a%20b/blobs/{GOOD}",
    f"/v2/..%2f..%2fv2/a/b/blobs/{GOOD}",
]


@pytest.mark.skipif(not NGINX, reason="needs nginx")
@pytest.mark.parametrize("path", CROOKED)
def test_a_crooked_path_is_kept_under_no_digest_but_its_own(cache: Cache, path: str) -> None:
    cache.asked.clear()
    status, body = cache.get(path)
    straight = re.compile("/v2/[a-z0-9/]+/(blobs|manifests)/sha256:[0-9a-f]{64}")
    # What is not straight is handed on, and not kept.
    if status == 200 and not straight.fullmatch(body):
        cache.asked.clear()
        assert cache.get(path) == (200, body)
        assert cache.asked == [path.partition("#")[0]] or cache.asked == [path]
    for kind in ("blobs", "manifests"):
        name = f"/v2/x/y/{kind}/{GOOD}"
        found, text = cache.get(name)
        assert found == 200
        assert text.endswith(f"/{kind}/{GOOD}") and straight.fullmatch(text), text


@pytest.mark.skipif(not NGINX, reason="needs nginx")
def test_what_has_a_digest_is_asked_for_once_under_its_own_name(cache: Cache) -> None:
    digest = f"sha256:{'7' * 64}"
    cache.asked.clear()
    assert cache.get(f"/v2/library/py-torch_x.y/blobs/{digest}?ns=docker.io")[0] == 200
    assert cache.get(f"/v2/other/blobs/{digest}") == (200, f"/v2/library/py-torch_x.y/blobs/{digest}")
    assert cache.asked == [f"/v2/library/py-torch_x.y/blobs/{digest}"]
    assert cache.get("/v2/library/x/manifests/latest?ns=docker.io") == (
        200,
        "/v2/library/x/manifests/latest?ns=docker.io",
    )
