"""A builder whose Docker keeps its images in containerd's store: zstd layers, provenance, and nodes of the older store.

A host that changes its store sees nothing of the other one, so the node is emptied before and set up anew afterwards.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Host, Lab
from image_trial import STORE as REGISTRY
from image_trial import Trial, changed
from support import site

STORE = {"docker_daemon_settings": {"features": {"containerd-snapshotter": True}}}
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DRIVER = "docker info --format '{{json .DriverStatus}}'"
EMPTY = "docker ps -aq | xargs -r docker rm -f"
NO_IMAGES = "docker image ls -aq | sort -u | xargs -r docker image rm -f; docker builder prune -af"


@pytest.fixture(scope="module")
def builder(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    node = lab.nodes[-1]
    extra = tmp_path_factory.mktemp("store") / "hosts.yml"
    extra.write_text(json.dumps({"gpu_nodes": {"hosts": {node.name: STORE}}}))
    node.check_output(EMPTY)
    try:
        done = lab.playbook("site.yml", "--limit", node.name, "--tags", "docker", inventories=[extra])
        assert done.returncode == 0, done.stdout + done.stderr
        yield node
    finally:
        node.run(f"{EMPTY}; {NO_IMAGES}")
        site(lab)
    assert "io.containerd.snapshotter" not in node.check_output(DRIVER)


@pytest.fixture(scope="module")
def trial(lab: Lab, builder: Host, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return Trial(lab, tmp_path_factory.mktemp("stack"), "containerd", images_builder=builder.name, images_keep=1)


def parts(trial: Trial) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifests that the index in use lists: that of the image and that of its attestations."""
    index = trial.stored(trial.latest()["ref"].partition("@")[2])
    kinds = {"vnd.docker.reference.type" in entry.get("annotations", {}): entry for entry in index["manifests"]}
    assert len(index["manifests"]) == 2
    return kinds[False], kinds[True]


def test_docker_has_the_store(builder: Host) -> None:
    assert "io.containerd.snapshotter" in builder.check_output(DRIVER)


def test_layers_are_zstd_and_their_provenance_is_pushed(trial: Trial) -> None:
    trial.succeed()
    image, attestations = parts(trial)
    # The layers of the base are as its archive has them.
    assert [layer["mediaType"] for layer in trial.stored(image["digest"])["layers"]][-2:] == [ZSTD, ZSTD]
    assert attestations["annotations"]["vnd.docker.reference.digest"] == image["digest"]
    kinds = [
        layer["annotations"]["in-toto.io/predicate-type"] for layer in trial.stored(attestations["digest"])["layers"]
    ]
    assert [kind for kind in kinds if kind.startswith("https://slsa.dev/provenance/")] == kinds != []


def test_the_password_of_a_proxy_is_in_no_attestation(lab: Lab, trial: Trial) -> None:
    password = secrets.token_hex(8)
    trial.edit("top")
    trial.succeed(images_proxy_env={"http_proxy": f"http://site:{password}@127.0.0.1:9"})
    provenance = trial.stored(parts(trial)[1]["digest"])["layers"][-1]
    assert "buildType" in json.dumps(trial.stored(provenance["digest"]))
    assert lab["nas"].run(f"grep -rlF {password} {REGISTRY}").stdout == ""


def test_nodes_of_either_store_pull_and_run_it(lab: Lab, trial: Trial) -> None:
    ref = trial.image_record()["workspace"]["ref"]
    text = {node.check_output(f"docker run --rm --entrypoint cat {ref} /ground /top") for node in lab.nodes}
    assert len(text) == 1


def test_a_second_run_changes_nothing(trial: Trial) -> None:
    assert changed(trial.succeed(site_force=True)) == {"0"}


def test_a_changed_layer_stands_on_what_is_there_and_the_old_index_goes_with_its_parts(trial: Trial) -> None:
    old, before = trial.latest(), parts(trial)
    trial.edit("top")
    text = trial.succeed()
    assert "layer top built after" in text
    assert "layer ground built after" not in text
    assert not trial.known(old["ref"])
    assert not any(trial.on_disk(part["digest"]) for part in before)
