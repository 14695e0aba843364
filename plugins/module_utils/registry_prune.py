# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a stack's images may leave the registry: those under keys that nobody keeps."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.image_stack import KEY_LENGTH
from ansible_collections.gpustead.cluster.plugins.module_utils.registry_api import Manifest, Refused, Registry

# Any other tag is somebody's own.
KEY = re.compile(f"[0-9a-f]{{{KEY_LENGTH}}}")


@dataclass(frozen=True)
class Removal:
    """A manifest that goes, with all its tags; without a tag it is part of an index that goes."""

    repository: str
    digest: str
    tags: Sequence[str] = ()


@dataclass(frozen=True)
class Pruned:
    """What went, or would go; and why the registry let the rest stay, if it did."""

    removed: Sequence[Removal]
    refused: str = ""


def names(refs: Collection[str]) -> set[str]:
    """The references without their registry, which may have been known by another name."""
    return {ref.partition("/")[2] for ref in refs}


def stale(repository: str, tag: str, kept: Collection[str]) -> bool:
    """Whether a tag is a key that nobody keeps."""
    return bool(KEY.fullmatch(tag)) and f"{repository}:{tag}" not in kept


def superfluous(repository: str, tags: Mapping[str, Manifest], kept: Collection[str]) -> list[Removal]:
    """The manifests that may go, in the order in which they must: an index that lost its parts is found again.

    Args:
        repository: its name.
        tags: all its tags.
        kept: `repository:tag` and `repository@digest` of all that is kept.
    """
    under: dict[str, list[str]] = {}
    for tag, manifest in tags.items():
        under.setdefault(manifest.digest, []).append(tag)
    going = {
        digest: sorted(own)
        for digest, own in under.items()
        if f"{repository}@{digest}" not in kept and all(stale(repository, tag, kept) for tag in own)
    }
    staying = {
        digest
        for manifest in tags.values()
        if manifest.digest not in going
        for digest in (manifest.digest, *manifest.children)
    }
    parts = {child for manifest in tags.values() if manifest.digest in going for child in manifest.children}
    parts = {part for part in parts - staying - going.keys() if f"{repository}@{part}" not in kept}
    return [Removal(repository, digest, going.get(digest, ())) for digest in [*sorted(parts), *sorted(going)]]


def prune(registry: Registry, prefix: str, keep: Collection[str], check: bool) -> Pruned:
    """Delete what is superfluous in all repositories below `prefix`.

    Args:
        registry: where.
        prefix: the beginning of their names, without the last slash.
        keep: references, by tag or by digest, that are kept.
        check: only tell what would go.

    Raises:
        GpusteadError: nothing is to be kept: whoever asks for that does not know what is.
    """
    if not keep:
        raise GpusteadError("keep is empty", "the images that are kept, one at least", "Announce an image first.")
    kept, removed = names(keep), []
    try:
        for repository in registry.repositories(prefix):
            for removal in _found(registry, repository, kept):
                if not check:
                    registry.delete(repository, removal.digest)
                removed.append(removal)
    except Refused as reason:
        return Pruned(removed, str(reason))
    return Pruned(removed)


def _found(registry: Registry, repository: str, kept: Collection[str]) -> list[Removal]:
    tags = registry.tags(repository)
    if not any(stale(repository, tag, kept) for tag in tags):
        return []
    manifests = {tag: manifest for tag in tags if (manifest := registry.manifest(repository, tag))}
    return superfluous(repository, manifests, kept)
