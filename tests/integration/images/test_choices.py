"""Images for some nodes, what changed between two, and an image on the share for enroot."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Host, Lab
from image_trial import BOARD, Trial

WORD = 'true\nARG word\nRUN echo "$word" > /word'
# An account of the lab that is nobody in particular on the nodes.
AS_ADA = "setpriv --reuid 1500 --regid 1500 --clear-groups"
PACKAGE = (
    "printf '\\nPackage: probe\\nStatus: install ok installed\\nMaintainer: x\\nArchitecture: all\\nVersion: 1.0\\n"
    "Description: x\\n' >> /var/lib/dpkg/status"
)


@pytest.fixture(scope="module")
def trial(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    made = Trial(lab, tmp_path_factory.mktemp("choices"), "choices")
    made.settings["images_stack"][1]["args"] = {"word": "usual"}
    made.edit("top", WORD)
    yield made
    for node in lab.nodes:
        node.run(f"docker image ls -q '{made.name}/*' | sort -u | xargs -r docker image rm -f")
    lab.nodes[0].run("rm -f /mnt/nas/images/choices*.sqsh")
    done = lab.playbook("playbooks/images.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def word(node: Host) -> str:
    """What the image that a node is to run says."""
    image = node.check_output("cat /etc/gpustead/image")
    said: str = node.check_output(f"docker run --rm --entrypoint cat {image} /word")
    return said.strip()


def test_the_nodes_of_a_group_have_an_image_of_their_own(lab: Lab, trial: Trial, tmp_path: Path) -> None:
    one, other = lab.nodes[0], lab.nodes[1]
    group = tmp_path / "groups.yml"
    group.write_text(json.dumps({"trial_nodes": {"hosts": {other.name: {}}}}))
    variants = [{"name": "own", "nodes": "trial_nodes", "args": {"word": "another"}}]
    settings = {**trial.settings, "images_variants": variants}
    arguments = ("playbooks/images.yml", "-e", json.dumps(settings))
    done = lab.playbook(*arguments, inventories=[group])
    assert done.returncode == 0, done.stdout + done.stderr
    assert (word(one), word(other)) == ("usual", "another")
    parts = trial.image_record()
    # What is the same is built once.
    assert parts["layers"][0]["ref"] == parts["variants"]["own"]["layers"][0]["ref"]
    assert [part["layers"][0]["seconds"] is None for part in (parts, parts["variants"]["own"])] == [False, True]
    assert parts["workspace"]["ref"] != parts["variants"]["own"]["workspace"]["ref"]

    done = lab.playbook(*arguments, inventories=[group])
    assert done.returncode == 0 and "changed=1" not in done.stdout, done.stdout
    # By the record on the share, without the builder.
    other.check_output("rm /etc/gpustead/image")
    done = lab.playbook(*arguments, "--limit", other.name, inventories=[group])
    assert done.returncode == 0 and word(other) == "another", done.stdout + done.stderr


def test_a_variant_of_no_group_is_refused_before_anything_is_built(trial: Trial) -> None:
    before = trial.image_record()
    code, text = trial.run(images_variants=[{"name": "own", "nodes": "nobody", "args": {"word": "x"}}])
    assert code == 2 and "images_variants, own: nodes is 'nobody'" in " ".join(text.split()), text
    assert trial.image_record() == before


def test_what_changed_between_two_images_is_said(lab: Lab, trial: Trial, tmp_path: Path) -> None:
    trial.succeed()
    former = trial.latest()["key"]
    trial.edit("top", f"{WORD}\nRUN {PACKAGE}")
    trial.succeed()
    latest = trial.latest()["key"]
    keys = {"diff_image": former[:12], "diff_other": latest[:12]}
    done = lab.playbook("playbooks/images_diff.yml", "-e", json.dumps(keys))
    assert done.returncode == 0 and re.search("apt probe(:all)?: not there -> 1.0", done.stdout), (
        done.stdout + done.stderr
    )

    bill = tmp_path / "image.json"
    done = lab.playbook("playbooks/images_diff.yml", "-e", json.dumps({"diff_sbom": str(bill)}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "probe" in [one["name"].partition(":")[0] for one in json.loads(bill.read_text())["components"]]

    done = lab.playbook("playbooks/images_diff.yml", "-e", json.dumps({"diff_other": "0123456789ab"}))
    assert done.returncode == 2 and "image '0123456789ab' is not kept" in " ".join((done.stdout + done.stderr).split())


def unpacked(node: Host, name: str) -> str:
    """Where ada has unpacked an image of the share, as enroot does."""
    node.check_output("apt-get install -y --no-install-recommends squashfs-tools")
    place = node.check_output(f"{AS_ADA} mktemp -d /var/tmp/sqsh.XXXXXX").strip()
    node.check_output(f"{AS_ADA} unsquashfs -quiet -no-progress -no-xattrs -d {place}/root /mnt/nas/images/{name}.sqsh")
    return f"{place}/root"


def inside(node: Host, root: str, command: str) -> str:
    """What a command prints in an unpacked root file system, as ada, who is root of it alone."""
    bound = " && ".join(f"mount --rbind /{name} {root}/{name}" for name in ("dev", "proc"))
    outer = f"{bound} && exec chroot {root} /bin/sh -c {shlex.quote(command)}"
    said: str = node.check_output(f"{AS_ADA} unshare --map-root-user --mount sh -c {shlex.quote(outer)}")
    return said.strip()


def test_an_image_is_on_the_share_for_enroot(lab: Lab, trial: Trial) -> None:
    trial.succeed(images_squash=True)
    first = lab.nodes[1].check_output("readlink /mnt/nas/images/choices.sqsh")
    assert trial.latest()["ref"].rpartition(":")[2].startswith(first.partition("-")[2].partition(".")[0])
    root = unpacked(lab.nodes[1], "choices")
    assert inside(lab.nodes[1], root, "/bin/sh /etc/rc cat /word") == "usual"
    lab.nodes[1].run(f"rm -rf {Path(root).parent}")

    assert "changed=0" in trial.succeed(images_squash=True)
    trial.edit("top", f"{WORD}\nRUN echo more > /more")
    trial.succeed(images_squash=True)
    there = lab.nodes[1].check_output("ls /mnt/nas/images").split()
    assert first in there and lab.nodes[1].check_output("readlink /mnt/nas/images/choices.sqsh") != first
    assert lab.nodes[1].check_output("stat -c %u:%g:%a /mnt/nas/images/" + first) == "941:941:644"


def test_pytorch_is_imported_from_the_share_without_root(lab: Lab, trial: Trial) -> None:
    """In the lab's own image: by name, and as its rc runs it."""
    done = lab.playbook("playbooks/images.yml", "-e", "images_squash=true")
    assert done.returncode == 0, done.stdout + done.stderr
    node = lab.nodes[0]
    assert "torch" in json.loads(node.check_output(f"cat {BOARD}"))["history"][0]["contents"]["pip"]
    root = unpacked(node, "gpustead")
    command = "python -c 'import torch; print(torch.ones(2).sum().item())'"
    for words in (command, f"sh /etc/rc {command}"):
        assert inside(node, root, f"set -a; . /etc/environment; HOME=/tmp; {words}") == "2.0"
    node.run(f"rm -rf {Path(root).parent}; rm -f /mnt/nas/images/gpustead*.sqsh")


def test_layers_by_choice_are_built_and_said_to_be_in_the_image(lab: Lab, trial: Trial, tmp_path: Path) -> None:
    """Those of our layers that come from Debian, PyPI and npm alone."""
    site = tmp_path / "site"
    (site / "start.d").mkdir(parents=True)
    (site / "bashrc").write_text("export SITE=ours\n")
    (site / "start.d/10-mark").write_text('#!/bin/sh\necho "$HOME ${XDG_CACHE_HOME-none}" > /started\n')
    (tmp_path / "requirements.txt").write_text("einops>=0.8\n")
    trial.succeed(
        images_stack=[
            {"name": "base"},
            {"name": "ssh"},
            {"name": "uv", "args": {"uv_version": "{{ images_uv_version }}"}},
        ],
        images_packages=["humanize"],
        images_requirements=str(tmp_path / "requirements.txt"),
        images_tools=["tmux", "zsh"],
        images_coding_tools=["opencode"],
        images_site=str(site),
    )
    inside = trial.latest()["contents"]
    assert {"einops", "humanize"} <= {*inside["pip"]} and {"node", "opencode-ai"} <= {*inside["npm"]}
    assert "tmux" in {name.partition(":")[0] for name in inside["apt"]}

    node = lab.nodes[1]
    home = node.check_output("mktemp -d /var/tmp/home.XXXXXX && chown 1500:1500 /var/tmp/home.*").strip()
    image = node.check_output("cat /etc/gpustead/image").strip()
    words = "-e GPUSTEAD_USER=ada -e GPUSTEAD_SHELL=zsh -e XDG_CACHE_HOME=/home/ada/cache"
    command = 'cat /started; bash -ic "echo \\$SITE" 2>/dev/null; id -u; python -c "import einops"; opencode --version'
    said = node.check_output(f"docker run --rm {words} -v {home}:/home/ada {image} bash -c {shlex.quote(command)}")
    assert said.split()[:4] == ["/root", "none", "ours", "1500"] and len(said.split()) == 5
    node.run("rm -rf /var/tmp/home.*")
