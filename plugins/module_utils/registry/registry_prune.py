# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a stack's images may leave the registry: those that we made, under keys that nobody keeps."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import KEY_LABEL, KEY_LENGTH
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_api import (
    DIGEST,
    Manifest,
    Refused,
    Registry,
    UnreadableResponse,
)

# Any other tag is somebody's own.
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


@dataclass(frozen=True)
class Deletion:
    """A manifest that goes, with all its tags; without a tag it is part of an index that goes."""

    repository: str
    digest: str
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Pruned:
    """What went, or would go; why the registry let the rest stay, if it did; and why a repository was left as it is."""

    removed: Sequence[Deletion]
    refused: str = ""
    unread: Sequence[str] = ()


@dataclass(frozen=True)
class Shelf:
    """What is known of a repository.

    Attributes:
        tags: each with the digest that it stands for.
        below: of each manifest that was read, the digests that it lists.
        keys: of each image that has one, the key in its label; an index has that of the images in it.
        about: of each manifest, those that refer to it.
    """

    tags: Mapping[str, str]
    below: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def whole(self, digests: Iterable[str]) -> set[str]:
        """Manifests with all that they list, down to the leaves."""
        return _reached(digests, self.below)

    def needed(self, digests: Iterable[str]) -> set[str]:
        """The same with what refers to any of it (signatures, attestations)."""
        return _reached(digests, self.below, self.about)

    def made(self, digest: str) -> set[str]:
        """The keys under which it was made by us."""
        return {self.keys[part][:KEY_LENGTH] for part in self.whole([digest]) if part in self.keys}


def _reached(start: Iterable[str], *graphs: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    new = set(start)
    while new:
        found |= new
        new = {child for digest in new for graph in graphs for child in graph.get(digest, ())} - found
    return found


def names(refs: Collection[str]) -> set[str]:
    """The references without their registry, which may have been known by another name."""
    return {ref.partition("/")[2] for ref in refs}


def stale(repository: str, tag: str, kept: Collection[str]) -> bool:
    """Whether a tag looks like a key that nobody keeps."""
    return bool(KEY.fullmatch(tag)) and f"{repository}:{tag}" not in kept


def kept_digests(repository: str, kept: Collection[str]) -> set[str]:
    """What is kept of a repository by its digest."""
    pairs = (name.split("@", 1) for name in kept if "@" in name)
    return {digest for name, digest in pairs if name == repository and DIGEST.fullmatch(digest)}


def superfluous(repository: str, shelf: Shelf, kept: Collection[str]) -> list[Deletion]:
    """The manifests that may go, in the order in which they must: an index that lost its parts is found again.

    Whatever stays, stays with all that it lists, and with all that those list.

    Args:
        repository: its name.
        shelf: all its tags, and what is below them and below what is kept.
        kept: `repository:tag` and `repository@digest` of all that is kept.
    """
    under: dict[str, list[str]] = {}
    for tag, digest in shelf.tags.items():
        under.setdefault(digest, []).append(tag)
    held = shelf.needed(kept_digests(repository, kept))
    going = {
        digest: sorted(own)
        for digest, own in under.items()
        if digest not in held
        and all(stale(repository, tag, kept) for tag in own)
        # A tag like a key may be somebody's own: a commit of git's has such digits, too.
        and shelf.made(digest) >= set(own)
    }
    while True:
        staying = held | shelf.needed(under.keys() - going.keys())
        listed = going.keys() & staying
        if not listed:
            break
        # One that is part of something that stays takes what it lists along.
        going = {digest: own for digest, own in going.items() if digest not in listed}
    parts = shelf.whole(going) - going.keys() - staying
    return [Deletion(repository, digest, going.get(digest, ())) for digest in [*_upwards(shelf, parts), *sorted(going)]]


def _upwards(shelf: Shelf, parts: Collection[str]) -> list[str]:
    """Each after all that it lists."""
    return sorted(parts, key=lambda digest: (len(shelf.whole([digest])), digest))


def prune(registry: Registry, prefix: str, keep: Collection[str], check: bool) -> Pruned:
    """Delete what is superfluous in all repositories below `prefix`.

    Args:
        registry: where.
        prefix: the beginning of their names, without the last slash.
        keep: references, by tag or by digest, that are kept.
        check: only say what would go.

    Raises:
        GpusteadError: nothing is to be kept: whoever asks for that does not know what is.
    """
    if not keep:
        raise GpusteadError("keep is empty", "the images that are kept, one at least", "Build an image first.")
    kept = names(keep)
    removed: list[Deletion] = []
    unread: list[str] = []
    try:
        for repository in registry.repositories(prefix):
            try:
                found = _found(registry, repository, kept)
            except UnreadableResponse as reason:
                # It may list anything of this repository.
                unread.append(f"{repository} keeps all that it has, since {reason}")
                continue
            for removal in found:
                if not check:
                    registry.delete(repository, removal.digest)
                removed.append(removal)
    except (Refused, UnreadableResponse) as reason:
        return Pruned(removed, str(reason), unread)
    return Pruned(removed, unread=unread)


def _found(registry: Registry, repository: str, kept: Collection[str]) -> list[Deletion]:
    tags = registry.tags(repository)
    if not any(stale(repository, tag, kept) for tag in tags):
        return []
    return superfluous(repository, _shelf(registry, repository, tags, kept), kept)


def _shelf(registry: Registry, repository: str, tags: Sequence[str], kept: Collection[str]) -> Shelf:
    """Read what the tags and the kept digests stand for, down to the leaves, and what refers to any of it.

    Raises:
        UnreadableResponse: something of it.
    """
    tagged: dict[str, str] = {}
    below: dict[str, Sequence[str]] = {}
    about: dict[str, Sequence[str]] = {}
    configs: dict[str, str] = {}
    new: dict[str, Manifest | None] = {}
    for tag in tags:
        manifest = registry.manifest(repository, tag)
        if manifest:
            tagged[tag] = manifest.digest
            new[manifest.digest] = manifest
    for digest in kept_digests(repository, kept) - new.keys():
        new[digest] = registry.manifest(repository, digest)
    while new:
        for digest, manifest in new.items():
            below[digest] = manifest.children if manifest else ()
            if manifest:  # one that is listed may not be there: a platform that nobody pushed
                about[digest] = registry.referrers(repository, digest)
            if manifest and manifest.config:
                configs[digest] = manifest.config
        listed = _reached(new, below, about) - below.keys()
        new = {digest: registry.manifest(repository, digest) for digest in sorted(listed)}
    gone = Shelf(tagged, below).whole(tagged[tag] for tag in tagged if stale(repository, tag, kept))
    keys = {digest: registry.labels(repository, configs[digest]).get(KEY_LABEL, "") for digest in gone & configs.keys()}
    return Shelf(tagged, below, {digest: key for digest, key in keys.items() if key}, about)
