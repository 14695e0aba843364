"""The builder over a Docker and a registry that keep their images in dictionaries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_builder as builder
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import parse, plan

REPOSITORY = "10.1.0.5:5000/gpustead"
CONTAINERD = '[["driver-type","io.containerd.snapshotter.v1"]]'


@dataclass
class Docker:
    """The docker command: local images by tag, the registry's tags, and what it was asked to do (builds by name)."""

    local: dict[str, str] = field(default_factory=dict)
    pushed: set[str] = field(default_factory=set)
    archive: dict[str, str] = field(default_factory=dict)
    hub: dict[str, str] = field(default_factory=dict)
    refuses: str = ""
    status: str = "[]"
    output: Sequence[str] = ()
    said: list[str] = field(default_factory=list)
    bake: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    asked: list[Sequence[str]] = field(default_factory=list)

    def __call__(self, argv: Sequence[str]) -> tuple[int, str, str]:
        answers: dict[str, Callable[[Sequence[str]], tuple[int, str, str]]] = {
            "image": self.image, "load": self.load, "pull": self.pull, "push": self.push,
            "run": self.run, "manifest": self.manifest, "tag": self.tag, "info": lambda argv: (0, self.status, ""),
        }  # fmt: skip
        return answers[argv[1]](argv)

    def image(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if argv[2] == "rm":
            del self.local[argv[-1]]
            return 0, "", ""
        lines = []
        for ref in argv[5:]:
            if ref in self.local:
                row = {"id": self.local[ref], "size": 5, "digests": self.digests(ref), "tags": [ref]}
                lines.append(json.dumps(row) if "tags" in argv[4] else self.local[ref])
        return int(len(lines) < len(argv) - 5), "\n".join(lines) + "\n", "No such image"

    def digests(self, ref: str) -> list[str] | None:
        return [f"{ref.rpartition(':')[0]}@sha256:{self.local[ref]}"] if ref in self.pushed else None

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.asked.append(argv)
        return (0, "apt bash 5.2\npip torch 2.13.0\n", "") if argv[-3] in self.local else (125, "", "no such image")

    def load(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.local.update(self.archive)
        return 0, "", ""

    def pull(self, argv: Sequence[str]) -> tuple[int, str, str]:
        ref = argv[-1]
        if ref in self.pushed or ref in self.hub:
            self.local[ref] = self.hub.get(ref, "remote")
            return 0, "", ""
        return 1, "", "denied: no such repository"

    def push(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.said.append(f"push {argv[-1]}")
        if self.refuses:
            return 1, "", self.refuses
        self.pushed.add(argv[-1])
        return 0, "", ""

    def manifest(self, argv: Sequence[str]) -> tuple[int, str, str]:
        if self.refuses:
            return 1, "", self.refuses
        return (0, "{}", "") if argv[-1] in self.pushed else (1, "", f"no such manifest: {argv[-1]}")

    def tag(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.local[argv[-1]] = self.local[argv[-2]]
        return 0, "", ""

    def stream(self, argv: Sequence[str], listen: Callable[[str], None]) -> tuple[int, str]:
        self.bake = json.loads(Path(argv[4]).read_text())
        for target in self.bake["target"].values():
            for secret in target.get("secret", []):
                name, path = secret.removeprefix("id=").split(",src=")
                self.secrets[name] = Path(path).read_text()
        for line in self.output:
            listen(line)
        if self.output:
            return 1, ""
        for name, target in self.bake["target"].items():
            self.said.append(f"build {name}")
            for tag in target["tags"]:
                self.local[tag] = f"built {name}"
                listen(f"#9 naming to {tag} done")
        return 0, ""


class Bench:
    """A stack of three layers, a Docker, and the runs of the module over both."""

    def __init__(self, path: Path) -> None:
        self.path, self.docker = path, Docker(local={"debian:12": "base"})
        self.stack: list[dict[str, Any]] = []
        self.told: list[Any] = []
        for name in ("base", "torch", "top"):
            (path / name).mkdir()
            (path / name / "Dockerfile").write_text("ARG base\n" if name == "base" else f"FROM parent\nRUN {name}\n")
            self.stack.append({"name": name, "context": str(path / name)})

    def run(self, check: bool = False, **options: Any) -> dict[str, Any]:
        tools = builder.Tools(self.docker, self.docker.stream, self.told.append, str(self.path))
        params = {
            "base": "debian:12", "base_archive": None, "push": True, "target": self.stack[-1]["name"], "contexts": {},
            "repository": REPOSITORY, "secrets": {}, "proxies": {}, "compression": "zstd", "attestations": [],
            "contents_known": [],
        }  # fmt: skip
        self.docker.said.clear()
        return builder.apply(tools, parse(self.stack), {**params, **options}, check)

    def ref(self, name: str) -> str:
        planned = plan(parse(self.stack), "debian:12", self.docker.local["debian:12"], {}, REPOSITORY)
        return next(item.ref for item in planned if item.layer.name == name)

    def change(self, name: str) -> None:
        with (self.path / name / "Dockerfile").open("a") as file:
            file.write("RUN more\n")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_an_image_that_was_built_is_asked_once_what_is_in_it(bench: Bench) -> None:
    bench.stack[1]["contexts"] = {"source": f"https://example.org/a.git#{'0' * 40}"}
    assert bench.run(check=True)["contents"] == {}
    assert bench.run()["contents"] == {
        "base": {"debian:12": "base"},
        "git": {"https://example.org/a.git": "0" * 40},
        "apt": {"bash": "5.2"},
        "pip": {"torch": "2.13.0"},
    }
    (argv,) = bench.docker.asked
    assert "--network none --read-only --cap-drop ALL" in " ".join(argv)
    key = bench.run(check=True)["key"]
    assert bench.run(contents_known=[key])["contents"] == {} and len(bench.docker.asked) == 1
    # A record that has lost it, or is of a version that did not ask.
    assert bench.run(contents_known=["0" * 64])["contents"]["apt"] == {"bash": "5.2"}
    assert [bench.run(check=True, contents_known=known)["unasked"] for known in ([key], [])] == [False, True]


def test_the_first_run_builds_and_pushes_all_and_the_second_nothing(bench: Bench) -> None:
    first = bench.run()
    assert bench.docker.said == [
        "build base", "build top", "build torch", *(f"push {bench.ref(name)}" for name in ("base", "torch", "top"))
    ]  # fmt: skip
    assert first["changed"] and first["built"] == ["base", "torch", "top"] and first["store"] == "classic"
    assert first["ref"] == f"{bench.ref('top').rpartition(':')[0]}@sha256:built top"
    assert [row["size"] for row in first["layers"]] == [5, 5, 5]
    assert {event["state"] for event in bench.told} == {"built", "pushed"}
    second = bench.run()
    assert not second["changed"] and bench.docker.said == [] and second["ref"] == first["ref"]


def test_a_changed_layer_is_built_with_its_children_on_what_is_there(bench: Bench) -> None:
    bench.run()
    bench.change("torch")
    assert bench.run()["built"] == ["torch", "top"]
    assert bench.docker.bake["target"]["torch"]["contexts"]["parent"] == f"docker-image://{bench.ref('base')}"


def test_a_new_builder_takes_from_the_registry_what_is_there(bench: Bench) -> None:
    bench.run()
    bench.docker.local = {"debian:12": "base"}
    result = bench.run()
    assert result["changed"] and result["built"] == [] and bench.docker.said == []
    assert result["ref"].endswith("@sha256:remote")
    bench.docker.local = {"debian:12": "base"}
    bench.change("top")
    assert bench.run()["built"] == ["top"]


def test_a_check_tells_and_does_nothing(bench: Bench) -> None:
    result = bench.run(check=True)
    assert result["changed"] and result["built"] == ["base", "torch", "top"] and result["ref"] == ""
    assert result["diff"]["after"].splitlines() == [bench.ref(name) for name in ("base", "torch", "top")]
    assert bench.docker.said == [] and bench.docker.bake == {}


def test_what_could_not_be_pushed_is_pushed_by_the_next_run(bench: Bench) -> None:
    bench.run(push=False)
    assert bench.docker.said == ["build base", "build top", "build torch"]
    result = bench.run()
    assert result["built"] == [] and result["pushed"] == [bench.ref(name) for name in ("base", "torch", "top")]


def test_a_registry_that_lost_its_disk_gets_all_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()
    bench.docker.pushed.remove(bench.ref("top"))
    monkeypatch.setattr(bench.docker, "digests", lambda ref: [f"{ref.rpartition(':')[0]}@sha256:{ref[-3:]}"])
    result = bench.run()
    assert result["built"] == [] and result["pushed"] == [bench.ref(name) for name in ("base", "torch", "top")]
    assert not bench.run()["changed"]


def test_a_silent_registry_stops_nothing_where_nothing_is_to_do(bench: Bench) -> None:
    bench.run()
    bench.docker.refuses = "connection refused"
    assert not bench.run()["changed"]


def test_a_push_that_fails_says_why(bench: Bench) -> None:
    bench.run(push=False)
    bench.docker.refuses = "denied: no space left"
    with pytest.raises(GpusteadError, match=r"debian12_base.* could not be pushed: denied: no space left"):
        bench.run()


def test_a_registry_that_refuses_is_found_before_anything_is_built(bench: Bench) -> None:
    bench.docker.refuses = "unauthorized: authentication required"
    with pytest.raises(GpusteadError, match=r"the registry was asked for .* and answers: unauthorized"):
        bench.run()
    assert bench.docker.said == []


def test_a_layer_that_fails_is_named_and_nothing_is_pushed(bench: Bench) -> None:
    bench.docker.output = [
        "#8 [top 2/2] RUN torch", "#8 ERROR: process did not complete", "------", " > [top 2/2] RUN torch:",
        "E: no such package", "------",
    ]  # fmt: skip
    with pytest.raises(GpusteadError, match=r"layer 'torch' at 'RUN torch' does not build: .*E: no such package"):
        bench.run()
    assert bench.docker.said == []
    bench.docker.output = ["ERROR: no space left on device"]
    with pytest.raises(GpusteadError, match="the stack does not build: ERROR: no space left"):
        bench.run()


def test_tags_are_set_and_moved(bench: Bench) -> None:
    bench.stack[1]["tags"] = ["stable"]
    stable = f"{bench.ref('torch').rpartition(':')[0]}:stable"
    assert stable in bench.run()["pushed"]
    assert not bench.run()["changed"]
    bench.change("torch")
    assert bench.run()["pushed"][-1] == stable
    assert bench.docker.local[stable] == bench.docker.local[bench.ref("torch")]


def test_a_tag_that_the_registry_does_not_take_is_taken_back(bench: Bench) -> None:
    bench.run()
    bench.stack[1]["tags"] = ["stable"]
    bench.docker.refuses = "denied"
    with pytest.raises(GpusteadError, match="stable could not be pushed"):
        bench.run()
    assert not [ref for ref in bench.docker.local if ref.endswith(":stable")]


def test_containerds_store_takes_zstd_and_attestations(bench: Bench) -> None:
    bench.docker.status = CONTAINERD
    assert bench.run(attestations=["provenance", "sbom"])["store"] == "containerd"
    assert bench.docker.bake["target"]["top"]["output"] == ["type=image,compression=zstd,oci-mediatypes=true"]
    assert bench.docker.bake["target"]["top"]["attest"] == ["type=provenance,mode=max", "type=sbom"]


def test_more_than_one_platform_needs_containerds_store(bench: Bench) -> None:
    bench.stack[2]["platforms"] = ["linux/amd64", "linux/arm64"]
    with pytest.raises(GpusteadError, match="layer 'top' has the platforms linux/amd64, linux/arm64"):
        bench.run()
    bench.docker.status = CONTAINERD
    assert bench.run()["changed"]


def test_secrets_reach_the_build_as_files_and_no_key(bench: Bench) -> None:
    bench.run(secrets={"token": "s3cret"})
    assert bench.docker.secrets == {"token": "s3cret"}
    assert "s3cret" not in json.dumps(bench.docker.bake)
    assert not bench.run(secrets={"token": "another"})["changed"]


def test_a_target_that_is_not_in_the_stack_is_refused(bench: Bench) -> None:
    with pytest.raises(GpusteadError, match="target 'jupyter': expected one of base, torch, top"):
        bench.run(target="jupyter")


def test_a_target_below_the_top_is_built_where_it_is_missing(bench: Bench) -> None:
    bench.run(push=False)
    del bench.docker.local[bench.ref("torch")]
    result = bench.run(push=False, target="torch")
    # By its id: no registry has it.
    assert result["built"] == ["torch"] and result["ref"] == bench.docker.local[bench.ref("torch")]


def test_the_base_is_pulled_or_loaded_from_its_archive() -> None:
    assert builder.have_base(Docker(hub={"b:1": "h"}), "b:1", "") == "h"
    assert builder.have_base(Docker(archive={"b:1": "a"}), "b:1", "/b.tar") == "a"
    with pytest.raises(GpusteadError, match="base image 'b:1' is not to be had: denied"):
        builder.have_base(Docker(), "b:1", "")


def test_a_docker_that_does_not_answer_is_said() -> None:
    with pytest.raises(GpusteadError, match="Docker does not answer: Cannot connect"):
        builder.store(lambda argv: (1, "", "Cannot connect to the Docker daemon"))


WAY = {"http_proxy": "http://site:hunter2@proxy:3128"}


def test_the_proxys_password_reaches_the_build_and_no_provenance(bench: Bench) -> None:
    bench.docker.status = CONTAINERD
    bench.run(proxies=WAY, attestations=["provenance"])
    target = bench.docker.bake["target"]["torch"]
    assert target["args"] == {**WAY, "HTTP_PROXY": WAY["http_proxy"]}
    assert target["attest"] == ["type=provenance,mode=min"]
    for name in ("base", "torch", "top"):
        bench.change(name)
    bench.run(proxies={"http_proxy": "http://proxy:3128"}, attestations=["provenance"])
    assert bench.docker.bake["target"]["torch"]["attest"] == ["type=provenance,mode=max"]


def test_a_layer_that_would_keep_the_password_is_not_built(bench: Bench) -> None:
    with (bench.path / "torch/Dockerfile").open("a") as file:
        file.write("ARG http_proxy\n")
    with pytest.raises(GpusteadError, match=r"layer 'torch'.* http_proxy"):
        bench.run(proxies=WAY)
    assert bench.docker.said == []


def test_what_a_failed_build_printed_is_told_without_secrets(bench: Bench) -> None:
    bench.docker.output = [
        "#5 0.1 http_proxy=http://site:hunter2@proxy:3128",
        "#5 0.1 Proxy-Authorization: Basic c2l0ZTpodW50ZXIy",
        "#5 0.2 token is swordfish",
        "#5 ERROR: it failed by site:hunter2",
    ]
    with pytest.raises(GpusteadError) as error:
        bench.run(proxies=WAY, secrets={"token": "swordfish\n"})
    assert "it failed" in str(error.value)
    assert not [word for word in ("hunter2", "c2l0ZTpodW50ZXIy", "swordfish") if word in str(error.value)]
