"""The registry keeps the last images_keep images with the layers below them, what runs, and what is somebody's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Lab
from image_trial import Trial, changed

BIG = "head -c 30000000 /dev/urandom > /big"  # nothing compresses it
COLLECTED = "journalctl --no-pager --unit gpustead-registry-collect | grep -c 'eligible for deletion' || true"


@pytest.fixture(scope="module")
def trial(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    made = Trial(lab, tmp_path_factory.mktemp("retention"), "retention", images_keep=2)
    yield made
    for node in lab.nodes:
        node.run(f"docker rm -f holder; docker image ls -q '{made.name}/*' | sort -u | xargs -r docker image rm -f")
    done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_oldest_goes_and_its_space_comes_back(lab: Lab, trial: Trial) -> None:
    builder, other, nas = lab.nodes[0], lab.nodes[1], lab["nas"]
    trial.edit("top", BIG)
    trial.succeed()
    oldest = trial.latest()
    ground = oldest["layers"][0]
    mine = f"{ground.rpartition(':')[0]}:mine"
    builder.check_output(f"docker tag {ground} {mine} && docker push --quiet {mine}")

    trial.edit("top")
    trial.succeed()
    kept = trial.latest()
    own = set(trial.layers(oldest["ref"])) - set(trial.layers(kept["ref"]))
    assert own and trial.known(oldest["ref"])

    before, collections = trial.disk(), int(nas.check_output(COLLECTED))
    trial.edit("top")
    trial.succeed()
    latest = trial.latest()
    assert not trial.known(oldest["layers"][1])
    assert not trial.known(oldest["ref"])
    assert not any(trial.on_disk(digest) for digest in own)
    assert before - trial.disk() > 20000
    assert int(nas.check_output(COLLECTED)) > collections
    assert nas.check_output("systemctl is-active docker-registry") == "active"

    for ref in (kept["ref"], latest["ref"], mine):
        other.run(f"docker image rm {ref}")
        other.check_output(f"docker pull --quiet {ref}")
    assert all(trial.known(layer) for layer in (*kept["layers"], *latest["layers"]))


def test_a_second_run_changes_nothing(trial: Trial) -> None:
    tags = trial.tags()
    assert changed(trial.succeed()) == {"0"}
    assert changed(trial.succeed(site_force=True)) == {"0"}
    assert trial.tags() == tags


def test_a_check_deletes_nothing(trial: Trial) -> None:
    tags = trial.tags()
    trial.edit("ground")
    trial.succeed("--check", "--diff", images_keep=1)
    assert trial.tags() == tags


def test_the_layers_below_a_kept_image_stay_as_long_as_it(trial: Trial) -> None:
    before = trial.latest()
    trial.edit("ground")
    trial.succeed()
    assert all(trial.known(layer) for layer in before["layers"])
    trial.edit("ground")
    trial.succeed()
    # The ground has another tag, which is somebody's own.
    assert [trial.known(layer) for layer in before["layers"]] == [True, False]


def test_what_a_node_runs_stays(lab: Lab, trial: Trial) -> None:
    running = trial.latest()
    node = lab.nodes[2]
    node.check_output(f"docker run -d --name holder --entrypoint sleep {running['ref']} infinity")
    trial.edit("top")
    trial.succeed(images_keep=1)
    assert trial.known(running["ref"])
    node.check_output("docker rm -f holder")
    trial.edit("top")
    trial.succeed(images_keep=1)
    assert not trial.known(running["ref"])


def test_a_run_without_the_registry_leaves_the_space_to_the_next(lab: Lab, trial: Trial) -> None:
    old = trial.latest()
    layer = trial.layers(old["ref"])[-1]
    trial.edit("top")
    trial.succeed("--limit", "gpu_nodes", images_keep=1)
    assert not trial.known(old["ref"])
    assert trial.on_disk(layer)
    done = lab.playbook("playbooks/collect.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not trial.on_disk(layer)


def test_a_collection_that_fails_leaves_the_registry_running(lab: Lab, trial: Trial) -> None:
    done = lab.playbook("playbooks/collect.yml", "-e", "__registry_config_dir=/nowhere")
    assert done.returncode == 2
    assert "Read 'journalctl --unit gpustead-registry-collect' there" in " ".join(
        done.stdout.replace("''", "'").split()
    )
    assert lab["nas"].check_output("systemctl is-active docker-registry") == "active"
    assert trial.known(trial.latest()["ref"])


def test_a_registry_that_does_not_delete_is_said_and_no_error(lab: Lab, trial: Trial) -> None:
    nas = lab["nas"]
    config = "/etc/docker/registry/config.yml"
    restart = "systemctl restart docker-registry && sleep 2"
    tags = trial.tags()
    nas.check_output(
        f"cp -p {config} /root/config.kept && sed -i '/delete:/,/enabled/s/true/false/' {config} && {restart}"
    )
    try:
        trial.edit("top")
        text = trial.succeed(images_keep=1)
    finally:
        nas.check_output(f"cp -p /root/config.kept {config} && rm /root/config.kept && {restart}")
    assert "it does not delete: status 405" in " ".join(text.split())
    assert set(tags) < set(trial.tags())
    trial.edit("top")
    trial.succeed(images_keep=1)
    assert not {tag for tag in tags if "_top:" in tag} & set(trial.tags())
