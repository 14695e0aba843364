"""A small stack of a test's own, the runs of images.yml over it, and what they left in the registry."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

from conftest import Lab

BOARD = "/mnt/nas/.cluster/images.json"
STORE = "/var/lib/docker-registry/docker/registry/v2"
HEADS = {"ground": "ARG base\nFROM ${base}\n", "top": "FROM parent\n"}


class Trial:
    """Two layers on the controller, `ground` and `top`, under a repository of their own."""

    def __init__(self, lab: Lab, path: Path, repository: str, **settings: Any) -> None:
        self.lab, self.path, self.repository = lab, path, repository
        self.settings: dict[str, Any] = {
            "images_stack": [{"name": name, "context": str(path / name)} for name in ("ground", "top")],
            "images_repository": repository,
            "images_wheelhouse": "",
            "images_min_free_gb": 1,
            **settings,
        }
        for layer in HEADS:
            (path / layer).mkdir()
            self.edit(layer)

    @property
    def name(self) -> str:
        """The repository with its registry."""
        return f"{self.lab['nas'].address}:5000/{self.repository}"

    def edit(self, layer: str, command: str = "") -> None:
        """What the layer does beyond its parent, by default something that it never did before."""
        command = command or f"echo {secrets.token_hex(8)} > /{layer}"
        (self.path / layer / "Dockerfile").write_text(f"{HEADS[layer]}RUN {command}\n")

    def run(self, *args: str, **settings: Any) -> tuple[int, str]:
        """Exit status and output of a run."""
        settings = {**self.settings, **settings}
        done = self.lab.playbook("playbooks/images.yml", "-e", json.dumps(settings), *args)
        return done.returncode, done.stdout + done.stderr

    def succeed(self, *args: str, **settings: Any) -> str:
        code, text = self.run(*args, **settings)
        assert code == 0, text
        return text

    def image_record(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.lab.nodes[0].check_output(f"cat {BOARD}"))
        return content

    def latest(self) -> dict[str, Any]:
        """The image that is in use: ref, key, layers."""
        image: dict[str, Any] = self.image_record()["history"][0]
        return image

    # The registry

    def known(self, ref: str) -> bool:
        """Whether the registry's API knows a reference."""
        asked = self.lab.nodes[0].run(f"docker manifest inspect {ref}")
        assert asked.rc == 0 or re.search("no such manifest|manifest unknown", asked.stderr), asked.stderr
        return bool(asked.rc == 0)

    def tags(self) -> list[str]:
        """`repository:tag` of all tags below the trial's name."""
        folder = f"{STORE}/repositories/{self.repository}"
        found = self.lab["nas"].check_output(f"find {folder} -path '*/_manifests/tags/*' -name current")
        paths = [line.removeprefix(f"{STORE}/repositories/").split("/") for line in found.splitlines()]
        return sorted(f"{'/'.join(parts[:-4])}:{parts[-2]}" for parts in paths)

    def stored(self, digest: str) -> Any:
        """The content of a manifest on the registry's disk."""
        return json.loads(self.lab["nas"].check_output(f"cat {blob(digest)}"))

    def layers(self, ref: str) -> list[str]:
        """Digests of the layers of an image, by its digest."""
        return [layer["digest"] for layer in self.stored(ref.partition("@")[2])["layers"]]

    def on_disk(self, digest: str) -> bool:
        return bool(self.lab["nas"].run(f"test -e {blob(digest)}").rc == 0)

    def disk(self) -> int:
        """KiB that the registry takes."""
        return int(self.lab["nas"].check_output("du -sk /var/lib/docker-registry").split()[0])


def blob(digest: str) -> str:
    algorithm, _, number = digest.partition(":")
    return f"{STORE}/blobs/{algorithm}/{number[:2]}/{number}/data"


def changed(text: str) -> set[str]:
    """The numbers of changes in a run's recap."""
    return set(re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", text, re.MULTILINE))
