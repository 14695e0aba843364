# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stack of image layers: order, names, keys that change with what goes in, and the bake file that builds them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import (
    has_credentials,
    masked,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

KEY_LENGTH = 12
# What images that we made have; that of the key in full.
KEY_LABEL = "org.gpustead.key"
# Release of PyTorch and its index, as `2.13.0 cu126`: for which GPUs there is code in the image.
TORCH_LABEL = "org.gpustead.torch"
NAME = re.compile("[a-z0-9]+(?:[._-][a-z0-9]+)*")
TAG = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Flavours of nvidia/cuda, which say nothing that the layers above do not.
FLAVOURS = frozenset({"base", "devel", "runtime", "latest"})


@dataclass(frozen=True)
class Layer:
    """One layer of the stack.

    Attributes:
        name: a component of an image name.
        context: directory with its Dockerfile, whose `FROM parent` is the layer below.
        args: build arguments.
        parent: name of the layer below; empty for one that stands on the base image (`ARG base`).
        contexts: further sources for its Dockerfile (`from=<name>`): a directory, or a git URL with its commit.
        tags: tags beside its key.
        platforms: such as `linux/arm64`; empty for the builder's own.
    """

    name: str
    context: str
    args: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""
    contexts: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    platforms: Sequence[str] = ()


@dataclass(frozen=True)
class Planned:
    """A layer with its key and its names.

    Attributes:
        chain: what it is made of, from the ground up: `cuda1281-ubuntu2404_ssh_uv_torch`.
        ref: registry, chain and the beginning of the key as the tag.
    """

    layer: Layer
    key: str
    chain: str
    ref: str

    @property
    def refs(self) -> list[str]:
        """All references that it is tagged with, that of its key first."""
        return [self.ref, *(f"{self.ref.rpartition(':')[0]}:{tag}" for tag in self.layer.tags)]


def parse(raw: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """Make layers of a module's argument, parents first; each stands on the one before unless it names its parent.

    Raises:
        GpusteadError: as `declared`, and where there is no Dockerfile or source.
    """
    layers = declared(raw)
    for layer in layers:
        _check_sources(layer)
    return layers


def declared(raw: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """The same without a look at the directories.

    Raises:
        GpusteadError: a bad name or tag, a name used twice, a parent that is not there, a cycle, a git source without
            its commit, a password in the URL of an argument or source.
    """
    layers: list[Layer] = []
    for item in raw:
        parent = item.get("parent")
        layers.append(
            Layer(
                name=str(item["name"]),
                context=str(item["context"]),
                args={str(key): str(value) for key, value in (item.get("args") or {}).items()},
                parent=str(parent) if parent is not None else (layers[-1].name if layers else ""),
                contexts={str(key): str(value) for key, value in (item.get("contexts") or {}).items()},
                tags=tuple(str(tag) for tag in item.get("tags") or ()),
                platforms=tuple(str(platform) for platform in item.get("platforms") or ()),
            )
        )
    if not layers:
        raise GpusteadError("the stack has no layer", "at least one", "Set images_stack.")
    _check_names(layers)
    for layer in layers:
        _check_open(layer)
        _check_commits(layer)
    return _parents_first(layers)


def _check_names(layers: Sequence[Layer]) -> None:
    seen: set[str] = set()
    for layer in layers:
        if not NAME.fullmatch(layer.name):
            raise GpusteadError(f"layer name {layer.name!r}", "lower-case letters, digits, . _ -", "Rename the layer.")
        if layer.name in seen:
            raise GpusteadError(f"two layers named {layer.name!r}", "names used once", "Rename one of them.")
        seen.add(layer.name)
        for tag in layer.tags:
            if not TAG.fullmatch(tag):
                raise GpusteadError(
                    f"tag {tag!r} of layer {layer.name!r}", "letters, digits, _ . -, at most 128", "Correct the tag."
                )


def _check_open(layer: Layer) -> None:
    """Refuse passwords in what everybody sees who has the image."""
    for kind, values in (("argument", layer.args), ("source", layer.contexts)):
        for name, value in values.items():
            if has_credentials(value):
                raise GpusteadError(
                    f"layer {layer.name!r}: the {kind} {name} is {masked(value)!r}, a URL with a password or token",
                    "a URL without: it stands in the image's history and provenance",
                    "Put the password into images_build_secrets: as GIT_AUTH_TOKEN for a git source, else for "
                    "RUN --mount=type=secret in the layer's Dockerfile.",
                )


def _check_commits(layer: Layer) -> None:
    for name, source in layer.contexts.items():
        if is_git(source) and not re.search("#[0-9a-f]{40}$", source):
            raise GpusteadError(
                f"layer {layer.name!r}: {name} is {source!r}",
                "a git URL that ends in # and the 40 hex digits of a commit",
                "Name the commit: a branch would build something else tomorrow under the same key.",
            )


def _check_sources(layer: Layer) -> None:
    path = os.path.join(layer.context, "Dockerfile")
    # Of a link that leads out of the context root would read, and quote, what lies there on the builder.
    if os.path.islink(path) or not os.path.isfile(path):
        raise GpusteadError(f"layer {layer.name!r}: {path}", "a file, and no link", "Correct the layer's context.")
    for name, source in layer.contexts.items():
        if not is_git(source) and not os.path.isdir(source):
            raise GpusteadError(
                f"layer {layer.name!r}: {name} is {source!r}", "a directory", "Correct the path, or bring it there."
            )


def _parents_first(layers: Sequence[Layer]) -> list[Layer]:
    """The layers in an order in which each comes after the one that it stands on."""
    names = {layer.name for layer in layers}
    for layer in layers:
        if layer.parent and layer.parent not in names:
            raise GpusteadError(
                f"layer {layer.name!r} stands on {layer.parent!r}, which is not in the stack",
                f"one of {', '.join(sorted(names - {layer.name})) or 'none'}",
                "Correct parent, or add that layer.",
            )
    ordered: list[Layer] = []
    rest = list(layers)
    while rest:
        done = {layer.name for layer in ordered}
        ready = [layer for layer in rest if not layer.parent or layer.parent in done]
        if not ready:
            raise GpusteadError(
                f"the stack has a cycle: {_cycle(rest)}",
                "layers that stand on one another from the ground up",
                "Correct parent of one of them; an empty parent is the base image.",
            )
        ordered += ready
        rest = [layer for layer in rest if layer not in ready]
    return ordered


def _cycle(layers: Sequence[Layer]) -> str:
    """`a -> b -> a`: who stands on whom, among layers of which each stands on another of them."""
    parents = {layer.name: layer.parent for layer in layers}
    path = [layers[0].name]
    while parents[path[-1]] not in path:
        path.append(parents[path[-1]])
    start = path.index(parents[path[-1]])
    return " -> ".join([*path[start:], path[start]])


def is_git(source: str) -> bool:
    """Whether a context is fetched by BuildKit itself. Source: https://docs.docker.com/build/concepts/context/."""
    return bool(re.match(r"(?:https?://|ssh://|git://|git@)", source))


def base_name(base: str) -> str:
    """The beginning of a chain: `nvidia/cuda:12.8.1-devel-ubuntu24.04` is `cuda1281-ubuntu2404`."""
    path, _separator, _after = base.partition("@")
    name, _separator, tag = path.rpartition("/")[2].partition(":")
    parts = [part.replace(".", "").lower() for part in tag.split("-") if part and part not in FLAVOURS]
    glue = "" if parts and parts[0].isdigit() else "-"
    joined = re.sub("[^a-z0-9]+", "-", (name.lower() + glue + "-".join(parts))).strip("-")
    return joined or "base"


def digest_of_tree(directory: str) -> str:
    """A digest over names, executable bits and contents of all files below a directory, `.git` left out."""
    digest = hashlib.sha256()
    for path in sorted(Path(directory).rglob("*")):
        relative = path.relative_to(directory)
        if relative.parts[0] != ".git" and (path.is_symlink() or path.is_file()):
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            executable = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
            head = f"{relative}\0{executable}\0{len(content)}\0"
            digest.update(head.encode())
            digest.update(content)
    return digest.hexdigest()


def plan(
    layers: Sequence[Layer], base: str, base_id: str, contexts: Mapping[str, str], repository: str
) -> list[Planned]:
    """Give every layer its key: a digest of its files, arguments, sources, and of what it stands on.

    Args:
        layers: parents first.
        base: reference of the base image, for the names.
        base_id: id of the base image, so that a new base makes new layers.
        contexts: name to directory; counts for the layers whose Dockerfile uses `from=<name>`.
        repository: prefix of the references, such as `10.1.0.5:5000/gpustead`.
    """
    made: dict[str, Planned] = {}
    for layer in layers:
        parent = made.get(layer.parent)
        sources = {**_used(layer, contexts), **layer.contexts}
        parts = {
            "parent": parent.key if parent else base_id,
            "args": dict(sorted(layer.args.items())),
            "context": digest_of_tree(layer.context),
            "contexts": {
                name: source if is_git(source) else digest_of_tree(source) for name, source in sorted(sources.items())
            },
            "platforms": sorted(layer.platforms),
        }
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        chain = f"{parent.chain if parent else base_name(base)}_{layer.name}"
        made[layer.name] = Planned(layer, key, chain, f"{repository}/{chain}:{key[:KEY_LENGTH]}")
    return list(made.values())


def dockerfile(layer: Layer) -> str:
    """The text of the layer's Dockerfile."""
    return Path(layer.context, "Dockerfile").read_text(encoding="utf-8")


# Source: https://docs.docker.com/build/building/variables/#pre-defined-build-arguments
PREDEFINED = re.compile(r"^\s*(?:ARG|ENV)\b.*\b((?:https?|ftp|all|no)_proxy)\b", re.IGNORECASE | re.MULTILINE)


def check_proxies(layer: Layer) -> None:
    """Refuse a Dockerfile that would put the proxies, and their password, into the image.

    Raises:
        GpusteadError: it declares one of BuildKit's predefined arguments.
    """
    found = PREDEFINED.search(re.sub(r"\\\n", " ", dockerfile(layer)))
    if found:
        raise GpusteadError(
            f"layer {layer.name!r}: its Dockerfile declares {found.group(1)}, and the proxy has a password",
            "no ARG and no ENV of that name: it would stand in the image's history",
            "Remove it: every RUN has the proxies without.",
        )


def _used(layer: Layer, contexts: Mapping[str, str]) -> dict[str, str]:
    """Those of the stack's contexts that the layer's Dockerfile takes from."""
    text = dockerfile(layer)
    return {name: path for name, path in contexts.items() if f"from={name}" in text}


@dataclass(frozen=True)
class Inputs:
    """What all layers of a build get.

    Attributes:
        base: reference of the base image.
        contexts: name to directory.
        arguments: proxies and the like: predefined arguments of BuildKit, which stay in neither image nor cache key.
            Provenance of mode=max has them.
        secrets: id to the file that holds it, for `RUN --mount=type=secret,id=…`.
        options: `output` and `attest`.
    """

    base: str
    contexts: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)


def _torch_label(layer: Layer) -> dict[str, str]:
    """Of a layer with PyTorch from an index that is told by its name. Layers above have it of their parent."""
    found = re.search(r"/(cu\d+|cpu)/?$", layer.args.get("torch_index", ""))
    return {TORCH_LABEL: f"{layer.args.get('torch_version', '')} {found[1]}"} if found else {}


def bake_file(planned: Sequence[Planned], build: Collection[str], inputs: Inputs) -> str:
    """The layers named in `build` for `docker buildx bake`; one call builds all, independent ones side by side.

    A parent that is built is linked as a target, one that is there as an image.
    Source: https://docs.docker.com/build/bake/contexts/
    """
    refs = {item.layer.name: item.ref for item in planned}
    targets: dict[str, Any] = {}
    for item in planned:
        layer = item.layer
        if layer.name not in build:
            continue
        linked = {}
        if layer.parent:
            built = layer.parent in build
            linked["parent"] = f"target:{layer.parent}" if built else f"docker-image://{refs[layer.parent]}"
        target = {
            "context": layer.context,
            "contexts": {**linked, **inputs.contexts, **layer.contexts},
            "args": {**({} if layer.parent else {"base": inputs.base}), **layer.args, **inputs.arguments},
            "tags": [item.ref],
            "labels": {
                KEY_LABEL: item.key,
                "org.gpustead.chain": item.chain,
                "org.opencontainers.image.base.name": inputs.base,
                **_torch_label(layer),
            },
            "secret": [f"id={name},src={path}" for name, path in inputs.secrets.items()],
            "platforms": list(layer.platforms),
            **inputs.options,
        }
        targets[layer.name] = {name: value for name, value in target.items() if value}
    return json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}, indent=2, sort_keys=True)


def to_build(planned: Sequence[Planned], wanted: Sequence[str], there: Callable[[str], bool]) -> list[str]:
    """Names of the layers to be built, parents first: those wanted that are not there, and what they lack below.

    Args:
        planned: all layers.
        wanted: names of those asked for.
        there: tells whether a layer's image is on the builder or in the registry; is asked once for each at most.
    """
    layers = {item.layer.name: item.layer for item in planned}
    known: dict[str, bool] = {}
    for name in wanted:
        below = name
        while below and below not in known:
            known[below] = there(below)
            below = "" if known[below] else layers[below].parent
    return [name for name in layers if known.get(name) is False]


def wanted(layers: Sequence[Layer], target: str) -> list[str]:
    """The layers that must be had: those that no other stands on, those with tags of their own, and the target."""
    parents = {layer.parent for layer in layers}
    return [layer.name for layer in layers if layer.name not in parents or layer.tags or layer.name == target]
