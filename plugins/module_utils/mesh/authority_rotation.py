# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A new authority for the mesh in the place of the old one, with nobody left out between: step by step.

1. `<authority>.next` is made, and nodes trust it beside the old one.
2. Once all of them do, it takes the place of the old one and signs; `<authority>.former` keeps what the old one is
   known by, which is trusted still.
3. Once all nodes have a certificate of the new one, the old one is forgotten.

A node that is down holds up the next step, and nothing else: what runs goes on, and the run after finishes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import replace_whole
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import (
    ensure_authority,
    key_blob,
    parse_certificate,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run


@dataclass(frozen=True)
class NodeTrust:
    """What a node has.

    Attributes:
        known_hosts: whom it trusts, as its file says.
        certificate: of its host key.
    """

    known_hosts: str
    certificate: str
    FIELDS: ClassVar[Sequence[str]] = ("known_hosts", "certificate")

    def trusts(self, public: str) -> bool:
        """Whether it trusts an authority."""
        wanted = " ".join(public.split()[:2])
        lines = (line.split() for line in self.known_hosts.splitlines())
        return any(words[:1] == ["@cert-authority"] and " ".join(words[2:4]) == wanted for words in lines)

    def is_signed_by(self, public: str) -> bool:
        """Whether an authority has signed its certificate."""
        found = parse_certificate(self.certificate)
        return found is not None and found.authority == key_blob(public)


@dataclass(frozen=True)
class Rotation:
    """Where a rotation is.

    Attributes:
        step: `none`, none is under way; `trusted`, nodes learn to trust the next one; `signed`, it signs.
        changed: whether that is new.
        waits_for: the nodes that hold up the next step.
    """

    step: str
    changed: bool = False
    waits_for: Sequence[str] = ()

    def __str__(self) -> str:
        if self.step == "none":
            return "The mesh has one authority, and nobody trusts a former one."
        far = {
            "trusted": "The former authority signs, and nodes trust the next one as well",
            "signed": "The new authority signs, and the former one is trusted still",
        }
        return f"{far[self.step]}: this waits for {', '.join(self.waits_for)}. Run it again when they answer."


def next_of(key: Path) -> Path:
    """Where the private key of the next authority lies."""
    return key.with_name(f"{key.name}.next")


def former_of(key: Path) -> Path:
    """Where it stands what the one before is known by."""
    return key.with_name(f"{key.name}.former")


def trusted(key: Path) -> list[str]:
    """Public keys that are trusted beside the authority's own, each as type and key."""
    following = next_of(key)
    # What is public of the next one is there first: a run that was killed has left nobody who could sign.
    paths = [following.with_name(f"{following.name}.pub")] if following.exists() else []
    texts = [path.read_text(encoding="utf-8") for path in (*paths, former_of(key)) if path.exists()]
    return list(dict.fromkeys(" ".join(line.split()[:2]) for text in texts for line in text.splitlines() if line))


def rotate(
    run: Run, key: Path, passphrase: str, nodes: Mapping[str, NodeTrust | None], *, begin: bool, check: bool
) -> Rotation:
    """Do the next step, where all nodes have done the one before.

    Args:
        run: ssh-keygen, whose questions are answered with the passphrase.
        key: private key of the authority.
        nodes: of each node of the inventory what it has; None where it does not answer.
        begin: whether to begin one where none is under way.
        check: change nothing.

    Raises:
        GpusteadError: there is no authority, or its passphrase is another one.
    """
    following, former = next_of(key), former_of(key)
    if not key.exists():
        raise GpusteadError(f"the authority {key}", "one that is to be replaced", "Run site.yml first: it makes it.")
    public = ensure_authority(run, key, passphrase, True)[0]
    if following.exists():
        successor = ensure_authority(run, following, passphrase, True)[0]
        waits_for = [name for name, node in nodes.items() if node is None or not node.trusts(successor)]
        # Once it stands there that the old one is the former, the step was begun.
        if waits_for and not former.exists():
            return Rotation("trusted", False, waits_for)
        if not check:
            if not former.exists():
                replace_whole(former, f"{public}\n")
            following.replace(key)
            _put_right(key, successor)
        return Rotation("signed", True, list(nodes))
    if former.exists():
        if not check:
            _put_right(key, public)
        waits_for = [name for name, node in nodes.items() if node is None or not node.is_signed_by(public)]
        if waits_for:
            return Rotation("signed", False, waits_for)
        if not check:
            former.unlink()
        return Rotation("none", True)
    if begin and not check:
        ensure_authority(run, following, passphrase, False)
    return Rotation("trusted" if begin else "none", begin, list(nodes) if begin else ())


def _put_right(key: Path, public: str) -> None:
    """What is public of the authority, where a run was killed before it came to that."""
    place, leftover = key.with_name(f"{key.name}.pub"), next_of(key).with_name(f"{next_of(key).name}.pub")
    if not place.exists() or place.read_text(encoding="utf-8").split()[:2] != public.split()[:2]:
        replace_whole(place, f"{public}\n")
    leftover.unlink(missing_ok=True)
