# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The page for a browser that playbooks/summary.yml writes, of a small and of a large cluster; Chromium looks at it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_report import report

ROOT = Path(__file__).parents[3]
TEMPLATES = ROOT / "playbooks/templates"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = (4, 120)
WIDTHS = (390, 1400)
SECRETS = {"workspace_jupyter_token": "s3cret-token", "cluster_ca_passphrase": "s3cret-passphrase"}
EVIL = "<script>alert('x')</script>\"><img src=x>"
# Elements without an end.
VOID = {"meta", "link"}


def inventory(size: int, **more: Any) -> dict[str, Any]:
    """Nodes of several people, a NAS and a registry."""
    hosts: dict[str, Any] = {f"gpu{number:03}": {"ansible_host": f"10.20.0.{number}"} for number in range(1, size + 1)}
    hosts["gpu002"]["workspace_instances"] = [{"owner": "ada"}, {"owner": "grace"}]
    hosts["gpu003"]["workspace_service_bind"] = {"tensorboard": ["127.0.0.1"]}
    hosts["gpu004"]["cluster_address"] = "fd00:20::4"
    settings = {
        "ansible_user": "ops",
        "cluster_name": "turing",
        "cluster_network": ["10.20.0.0/24", "fd00:20::/64"],
        "cluster_clients": ["10.30.0.0/16"],
        "cluster_users": [{"name": "ada", "uid": 1500}, {"name": "grace", "uid": 1501}],
        "cluster_workspace_port_range": "19000:19999",
        "firewall_extra_rules": [{"from_ip": "10.9.0.5", "to_port": "9100", "proto": "tcp", "comment": "metrics"}],
        **more,
    }
    groups = {"gpu_nodes": hosts, "registry": {"gpu001": None}, "nas_server": {"nas": {"ansible_host": "10.20.0.250"}}}
    return {"all": {"vars": settings}, **{name: {"hosts": members} for name, members in groups.items()}}


def verified(size: int, sources: list[str], gpu: str = "NVIDIA H100 80GB HBM3") -> dict[str, Any]:
    """What verify.yml would have written of them."""
    results: dict[str, Any] = {
        f"gpu{number:03}": {"seen": {"gpus": {"state": "ready", "models": {gpu: 8}}}, "problems": []}
        for number in range(1, size + 1)
    }
    ill = {"subject": "GPUs", "what": f"are degraded, unhealthy (GPU 3 of {gpu} has a row remapping that failed)"}
    results["gpu003"] = {
        "seen": {"gpus": {"state": "degraded", "models": {gpu: 8}}},
        "problems": [{**ill, "remedy": "See nvidia-smi on gpu003."}],
        "notices": [{"subject": "the registry's authority", "what": "ends on 2026-12-20", "remedy": "Renew it."}],
    }
    results["gpu004"] = {"unreachable": True, "msg": "No route to host"}
    return report(results, "2026-11-29T13:04:01Z", sources)


def write(folder: Path, hosts: dict[str, Any], seen: dict[str, Any] | None = None) -> str:
    """The page, as the playbook writes it."""
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    if seen:
        (folder / "verify.json").write_text(json.dumps(seen))
    places = {"summary_file": f"{folder}/summary.txt", "verify_report": f"{folder}/verify.json"}
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", f"{folder}/hosts.yml", "-e", json.dumps(places), "playbooks/summary.yml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "summary.html").read_text()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The folder of the page of a cluster of each size."""
    folders = {size: tmp_path_factory.mktemp(f"summary-{size}") for size in SIZES}
    for size, folder in folders.items():
        write(folder, inventory(size, **SECRETS), verified(size, [f"{folder}/hosts.yml"]))
    return folders


@pytest.fixture(scope="module", params=SIZES)
def page(pages: dict[int, Path], request: pytest.FixtureRequest) -> str:
    return (pages[request.param] / "summary.html").read_text()


class Outline(HTMLParser):
    """The elements of a page, in their order, with what is in them; it fails where one is not ended."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(" ".join(data.split()))

    def of(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]


def test_nothing_comes_from_elsewhere_and_nothing_runs(page: str) -> None:
    outline = Outline(page)
    assert outline.of("script", "img", "iframe", "object", "embed", "form", "base", "svg") == []
    names = {name for _, attributes in outline.elements for name in attributes}
    assert {name for name in names if name.startswith("on") or name in ("src", "srcset", "style")} == set()
    assert [one["href"][:19] for one in outline.of("link")] == ["data:image/svg+xml,"]
    (policy,) = [one["content"] for one in outline.of("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; ")
    assert re.findall(r"url\(|@import", page) == []


def test_links_lead_somewhere(page: str) -> None:
    outline = Outline(page)
    links = [one["href"] for one in outline.of("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= {one["id"] for one in outline.of("section")}
    services = [urlsplit(link) for link in links if not link.startswith("#")]
    assert {link.scheme for link in services} == {"http"}
    assert [link for link in services if not link.hostname or not link.port or link.path != "/"] == []
    assert "http://[fd00:20::4]:18888/" in links


def test_it_can_be_read_without_seeing_it(page: str) -> None:
    outline = Outline(page)
    assert outline.of("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert [(one, other) for one, other in zip(levels, levels[1:]) if other > one + 1] == []
    assert {one["aria-labelledby"] for one in outline.of("section")} <= {one["id"] for one in outline.of("h2")}
    assert len(outline.of("table")) == len(outline.of("caption")) == 1
    assert {one["scope"] for one in outline.of("th")} == {"col", "row"}


def test_it_says_what_there_is(pages: dict[int, Path]) -> None:
    texts = Outline((pages[4] / "summary.html").read_text()).texts
    assert "4 nodes · 24 GPUs · 5 workspaces" in texts
    assert {"2 problems on 4 hosts", "2026-11-29 13:04 UTC", "8 \N{MULTIPLICATION SIGN} NVIDIA H100 80GB HBM3"} <= {
        *texts
    }
    assert [text for text in texts if text in ("well", "problems")] == ["well", "well", "problems", "problems"]
    assert {"ssh -p 10022 ada@10.20.0.1", "ssh -p 19007 grace@10.20.0.2", "http://127.0.0.1:16006/"} <= {*texts}
    rows = " ".join(" ".join(texts[texts.index("SSH to the host") :]).split())
    assert rows.startswith(
        "SSH to the host 22 on all hosts yes yes yes yes JupyterLab 18888 on all nodes no yes yes yes "
    )
    assert (
        "TensorBoard 16006 on gpu001, gpu002, gpu004 no yes yes yes TensorBoard 16006 on gpu003 no no no yes " in rows
    )
    assert "metrics 9100 on all hosts some: 10.9.0.5 some no no yes " in rows


def test_no_secret_is_in_it(page: str) -> None:
    assert "s3cret" not in page
    assert "The token is <code>workspace_jupyter_token</code>" in page


def test_whatever_a_host_or_an_inventory_says_is_text(tmp_path: Path) -> None:
    hosts = inventory(4, cluster_name=EVIL, ansible_user=EVIL, cluster_nas_path=EVIL, cluster_clients=[EVIL])
    hosts["gpu_nodes"]["hosts"]["gpu001"]["cluster_address"] = EVIL
    hosts["all"]["vars"]["firewall_extra_rules"][0]["comment"] = EVIL
    seen = verified(4, [f"{tmp_path}/hosts.yml"], gpu=f"{EVIL}{{{{ 7 * 7 }}}}")
    page = write(tmp_path, hosts, {**seen, "summary": EVIL, "at": EVIL, "notices": [EVIL]})
    outline = Outline(page)
    assert outline.of("script", "img") == []
    assert "<title>&lt;script&gt;" in page
    # Of the time its first characters alone are shown.
    assert sum(EVIL in text for text in outline.texts) >= 8, page
    # No expression either.
    assert "{{ 7 * 7 }}" in page


def test_the_template_escapes_whatever_it_fills_in() -> None:
    template = (TEMPLATES / "summary.html.j2").read_text()
    filled = re.findall(r"{{.*?}}", template, re.DOTALL)
    assert len(filled) > 30
    assert [one for one in filled if not one.endswith(" | e }}")] == []
    assert "| safe" not in template


def test_before_verify_has_run_it_says_so(tmp_path: Path) -> None:
    other = verified(4, ["/another/inventory"])
    page = write(tmp_path, inventory(4, firewall_enabled=False), other)
    assert "Not verified yet" in page and "H100" not in page and 'class="badge' not in page
    assert '<span class="cell unknown">?</span>' in page and "firewall_enabled is false there" in page


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# What is written on what.
WRITTEN = [
    *((text, back) for text in ("text", "soft", "link") for back in ("page", "card", "code")),
    *(("well", "well-back"), ("ill", "ill-back"), ("some", "some-back")),
]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out(theme: int) -> None:
    """By the contrast of WCAG 2.2, level AA (https://www.w3.org/TR/WCAG22/#contrast-minimum)."""
    colors = dict(re.findall(r"--([\w-]+): (#\w{6})", (TEMPLATES / "summary.css").read_text().split("@media")[theme]))
    for text, back in WRITTEN:
        light, dark = sorted((luminance(colors[text]), luminance(colors[back])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, back)


# Shows a page at each width, and writes what it found into its own body.
LOOK = """<!doctype html><title>look</title><body><script>
const found = {};
const widths = JSON.parse(decodeURIComponent(location.hash.slice(1)));
let waiting = widths.length;
for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 844; frame.src = "summary.html";
  frame.onload = () => {
    const page = frame.contentDocument;
    const wide = [...page.querySelectorAll("body *")].filter(
      (one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline");
    found[width] = {
      width: frame.contentWindow.innerWidth, needed: page.scrollingElement.scrollWidth, nodes:
      page.querySelectorAll("#nodes li").length, cut: wide.map((one) => one.outerHTML.slice(0, 80)),
      styled: getComputedStyle(page.querySelector(".cards")).display,
    };
    if (--waiting === 0) document.body.textContent = "found" + JSON.stringify(found) + "end";
  };
  document.body.append(frame);
}
</script>"""


@pytest.fixture(scope="module")
def served(pages: dict[int, Path]) -> Iterator[str]:
    """Where a browser finds the pages. Files would be strangers to one another."""
    folder = pages[SIZES[0]].parent
    for path in pages.values():
        (path / "look.html").write_text(LOOK)
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_words: Any) -> None:
        """Of what is asked nobody needs to know."""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here: apt-get install --no-install-recommends chromium")
@pytest.mark.parametrize("size", SIZES)
def test_a_browser_shows_it_on_a_phone_and_on_a_screen(
    pages: dict[int, Path], served: str, size: int, tmp_path: Path
) -> None:
    url = f"{served}/{pages[size].name}/look.html#{json.dumps(WIDTHS)}"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    options = [
        "--headless",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-proxy-server",
        f"--user-data-dir={tmp_path}",
        *sandbox,
    ]
    log = ["--enable-logging=stderr", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *options, *log, url], capture_output=True, text=True, timeout=120, check=False
    )
    said = re.search(r"found(\{.*\})end", done.stdout)
    assert said, done.stdout[-2000:] + done.stderr[-2000:]
    found = {int(width): one for width, one in json.loads(said[1]).items()}
    assert {width: (one["width"], one["needed"]) for width, one in found.items()} == {
        width: (width, width) for width in WIDTHS
    }
    assert [(one["nodes"], one["styled"], one["cut"]) for one in found.values()] == [(size, "grid", [])] * len(WIDTHS)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
