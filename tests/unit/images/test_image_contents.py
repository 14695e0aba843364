# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is in an image: read, compared, as a lock and as a bill of materials."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpustead.cluster.plugins.filter.image_contents import FilterModule
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_contents import _ASK, ask, parse
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_record import read
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import parse as parse_stack
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import plan

contents = FilterModule().filters()["image_contents"]
OLD = {
    "base": {"debian:12": "sha256:1"},
    "apt": {"bash": "5.2", "git": "1:2.47"},
    "pip": {"torch": "2.12.0+cu126", "PyYAML": "6.0", "ours": "file:///opt/projects/ours"},
}
NEW = {
    "base": {"debian:12": "sha256:2"},
    "apt": {"bash": "5.2", "zsh": "5.9"},
    "pip": {"torch": "2.13.0+cu126", "PyYAML": "6.0"},
    "npm": {"@scope/tool": "1.0"},
    "git": {"https://example.org/a.git": "0" * 40},
}


def image(letter: str, inside: dict[str, Any] | None) -> dict[str, Any]:
    return {"ref": f"r:5000/x@sha256:{letter * 64}", "key": letter * 64, "layers": [], "contents": inside}


RECORD = {"history": [image("b", NEW), image("a", OLD)], "variants": {"v": {"history": [image("c", None)]}}}


def test_what_changed_between_two_images() -> None:
    assert contents(RECORD, "aa", "bb")["diff"] == [
        "base debian:12: sha256:1 -> sha256:2",
        "apt git: 1:2.47 -> gone",
        "apt zsh: not there -> 5.9",
        "pip ours: file:///opt/projects/ours -> gone",
        "pip torch: 2.12.0+cu126 -> 2.13.0+cu126",
        "npm @scope/tool: not there -> 1.0",
        f"git https://example.org/a.git: not there -> {'0' * 40}",
    ]
    assert contents(RECORD)["key"] == "b" * 64 and contents(RECORD)["diff"] == []


def test_a_lock_names_each_package_of_an_index() -> None:
    assert contents(RECORD, "a")["lock"] == "PyYAML==6.0\ntorch==2.12.0+cu126\n"


STACK = Path(__file__).parents[3] / "roles/images/files/stack"


def keys(builder: Path, lock: str, base: str = "debian@sha256:1") -> list[str]:
    """Of layers that take from the lock, on a builder of their own."""
    (builder / "wheelhouse").mkdir(parents=True)
    (builder / "wheelhouse/python.lock").write_text(lock)
    layers = [{"name": name, "context": str(STACK / name)} for name in ("base", "uv", "torch")]
    contexts = {"wheelhouse": str(builder / "wheelhouse")}
    return [one.key for one in plan(parse_stack(layers), base, "sha256:1", contexts, "r:5000/x")]


def test_a_lock_of_an_image_gives_the_same_keys_on_each_builder(tmp_path: Path) -> None:
    lock = contents(RECORD, "a")["lock"]
    built = keys(tmp_path / "one", lock)
    assert keys(tmp_path / "two", lock) == built
    other = keys(tmp_path / "three", contents(RECORD, "b")["lock"])
    assert other[:2] == built[:2] and other[2] != built[2]


def test_a_bill_of_materials() -> None:
    bill = json.loads(contents(RECORD, "b")["sbom"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert [one["purl"] for one in bill["components"]] == [
        "pkg:deb/bash@5.2",
        "pkg:deb/zsh@5.9",
        "pkg:pypi/pyyaml@6.0",
        "pkg:pypi/torch@2.13.0%2Bcu126",
        "pkg:npm/%40scope/tool@1.0",
        f"pkg:generic/a.git?vcs_url=git%2Bhttps%3A%2F%2Fexample.org%2Fa.git%40{'0' * 40}",
    ]


@pytest.mark.parametrize(
    ("key", "words"),
    [("d", "image 'd' is not kept: expected the beginning of a key that is: bbbbbbbbbbbb, aaaaaaaaaaaa, cccccc"),
     ("c", "what is in image cccccccccccc was not recorded")],
)  # fmt: skip
def test_an_image_that_cannot_be_compared_is_named(key: str, words: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        contents(RECORD, "a", key)
    assert str(caught.value).startswith(words)


def test_what_is_no_line_of_it_is_passed_over() -> None:
    assert parse("apt bash 5.2\npip torch\nrpm x 1\npip \x1b[0m 1\n\x1b[0m\napt bash 5.2 x\n") == {
        "apt": {"bash": "5.2"}
    }


TOOLS = {
    "dpkg-query": "printf 'apt bash 5.2\\napt libc6:amd64 2.41\\n'",
    "uv": "test $VIRTUAL_ENV = /opt/venv && printf 'torch==2.13.0+cu126\\nours @ file:///opt/projects/ours\\n-e /x\\n'",
    "node": "echo v24.19.0",
    "npm": "test $2 = --global && printf '/lib/npm:npm@10.8.2:/x\\n/lib/@a/b:@a/b@1.0\\n' "
    "|| printf '/opt/coding::\\n/opt/coding/node_modules/code-server:code-server@4.1:\\n'",
}


def asked(tmp_path: Path, script: str) -> dict[str, dict[str, str]]:
    environment = {"PATH": str(tmp_path), "VIRTUAL_ENV": "/opt/venv"}
    done = subprocess.run(["/bin/sh", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return parse(done.stdout)


def stub(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / name).chmod(0o755)


@pytest.mark.parametrize("there", [[], ["dpkg-query"], list(TOOLS)])
def test_an_image_is_asked_with_the_tools_that_it_has(tmp_path: Path, there: list[str]) -> None:
    (tmp_path / "sed").symlink_to("/usr/bin/sed")
    for name in there:
        stub(tmp_path, name, TOOLS[name])
    expected = {
        "dpkg-query": {"apt": {"bash": "5.2", "libc6:amd64": "2.41"}},
        "uv": {"pip": {"torch": "2.13.0+cu126", "ours": "file:///opt/projects/ours"}},
        "node": {},
        "npm": {"npm": {"node": "24.19.0", "npm": "10.8.2", "@a/b": "1.0", "code-server": "4.1"}},
    }
    assert asked(tmp_path, _ASK) == {kind: value for name in there for kind, value in expected[name].items()}


def test_environments_beside_the_usual_one_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "sed").symlink_to("/usr/bin/sed")
    stub(tmp_path, "uv", 'echo "${VIRTUAL_ENV##*/}==1.0"')
    (tmp_path / "opt/tensorflow").mkdir(parents=True)
    (tmp_path / "opt/mamba/conda-meta").mkdir(parents=True)
    (tmp_path / "opt/mamba/conda-meta/ca-certificates-2026.1-h0_0.json").touch()
    (tmp_path / "opt/mamba/conda-meta/history").touch()
    (tmp_path / "opt/mamba/envs/vision/conda-meta").mkdir(parents=True)
    (tmp_path / "opt/mamba/envs/vision/conda-meta/opencv-5.1-py311_0.json").touch()
    script = _ASK.replace("/opt/tensorflow", f"{tmp_path}/opt/tensorflow").replace(
        "/opt/mamba", f"{tmp_path}/opt/mamba"
    )
    assert asked(tmp_path, script) == {
        "pip": {"venv": "1.0"},
        "tensorflow": {"tensorflow": "1.0"},
        "conda": {"ca-certificates": "2026.1", "vision/opencv": "5.1"},
    }


def test_who_is_asked_has_a_place_for_a_cache_and_nothing_else() -> None:
    """uv does not list what is there where it cannot make its cache."""
    words: list[str] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        words.extend(argv)
        return 0, "pip torch 2.13.0\n", ""

    assert ask(run, "r:5000/x") == {"pip": {"torch": "2.13.0"}}
    assert {"--read-only", "none", "no-new-privileges"} < {*words}
    cache = next(word for word in words if word.startswith("UV_CACHE_DIR=")).partition("=")[2]
    assert cache.startswith(f"{words[words.index('--tmpfs') + 1]}/")


def test_a_record_that_is_none_is_not_said_to_keep_nothing() -> None:
    with pytest.raises(AnsibleFilterError, match="the record of the images: the text: expected a JSON object"):
        contents({**read("{}x"), "history": []})
