# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A stack of image layers: keys that change with what goes into a layer, and the bake file that builds it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

Run = Callable[[Sequence[str]], "tuple[int, str, str]"]

KEY_LENGTH = 12


@dataclass(frozen=True)
class Layer:
    """One layer of the stack.

    Attributes:
        name: a component of an image name.
        context: directory with its Dockerfile, whose `FROM parent` is the layer below.
        args: build arguments.
        parent: name of the layer below; empty for one that stands on the base image (`ARG base`).
    """

    name: str
    context: str
    args: Mapping[str, str] = field(default_factory=dict)
    parent: str = ""


@dataclass(frozen=True)
class Built:
    """A layer with its key and the reference it is tagged with."""

    layer: Layer
    key: str
    ref: str


def parse(raw: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """Make layers of a module's argument; each stands on the one before unless it names its parent.

    Raises:
        GpusteadError: a name that is bad or used twice, a parent that does not come before, no Dockerfile.
    """
    layers: list[Layer] = []
    for item in raw:
        name = str(item["name"])
        names = [layer.name for layer in layers]
        if not re.fullmatch("[a-z0-9]+(?:[._-][a-z0-9]+)*", name):
            raise GpusteadError(f"layer name {name!r}", "lower-case letters, digits, . _ -", "Rename the layer.")
        if name in names:
            raise GpusteadError(f"two layers named {name!r}", "names used once", "Rename one of them.")
        parent = item.get("parent")
        if parent is None:
            parent = names[-1] if names else ""
        if parent and parent not in names:
            raise GpusteadError(
                f"layer {name!r} stands on {parent!r}",
                f"a layer before it ({', '.join(names) or 'none'})",
                "Correct parent, or the order of the layers.",
            )
        context = str(item["context"])
        if not os.path.isfile(os.path.join(context, "Dockerfile")):
            raise GpusteadError(f"layer {name!r}: {context}/Dockerfile", "a file", "Correct the layer's context.")
        args = {str(key): str(value) for key, value in (item.get("args") or {}).items()}
        layers.append(Layer(name, context, args, parent))
    if not layers:
        raise GpusteadError("the stack has no layer", "at least one", "Set images_stack.")
    return layers


def digest_of_tree(directory: str) -> str:
    """A digest over names, executable bits and contents of all files below a directory."""
    digest = hashlib.sha256()
    for path in sorted(Path(directory).rglob("*")):
        if path.is_symlink() or path.is_file():
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            executable = not path.is_symlink() and bool(path.stat().st_mode & 0o100)
            head = f"{path.relative_to(directory)}\0{executable}\0{len(content)}\0"
            digest.update(head.encode())
            digest.update(content)
    return digest.hexdigest()


def keys(layers: Sequence[Layer], base: str, contexts: Mapping[str, str], repository: str) -> list[Built]:
    """Give every layer its key: a digest of its files, arguments, named contexts, and of what it stands on.

    Args:
        base: id of the base image, so that a new base makes new layers.
        contexts: name to directory; counts for the layers whose Dockerfile uses `from=<name>`.
        repository: prefix of the references, such as `10.1.0.5:5000/gpustead`.
    """
    made: dict[str, Built] = {}
    for layer in layers:
        dockerfile = Path(layer.context, "Dockerfile").read_text(encoding="utf-8")
        used = {name: digest_of_tree(path) for name, path in sorted(contexts.items()) if f"from={name}" in dockerfile}
        parts = {
            "parent": made[layer.parent].key if layer.parent else base,
            "args": dict(sorted(layer.args.items())),
            "context": digest_of_tree(layer.context),
            "contexts": used,
        }
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        made[layer.name] = Built(layer, key, f"{repository}/{layer.name}:{key[:KEY_LENGTH]}")
    return list(made.values())


def bake_file(built: Sequence[Built], base: str, contexts: Mapping[str, str], proxies: Mapping[str, str]) -> str:
    """The stack for `docker buildx bake`; parents are linked as contexts, so that one call builds all.

    Proxies are predefined arguments of BuildKit: they reach the build and stay in neither image nor cache key.
    Source: https://docs.docker.com/build/bake/contexts/
    """
    targets: dict[str, Any] = {}
    for item in built:
        layer = item.layer
        linked = {"parent": f"target:{layer.parent}"} if layer.parent else {}
        args = {**({} if layer.parent else {"base": base}), **layer.args, **proxies}
        targets[layer.name] = {
            "context": layer.context,
            "contexts": {**linked, **contexts},
            "args": args,
            "tags": [item.ref],
            "labels": {"org.gpustead.key": item.key},
        }
    group = {"default": {"targets": [item.layer.name for item in built]}}
    return json.dumps({"group": group, "target": targets}, indent=2, sort_keys=True)


def image_id(run: Run, ref: str) -> str:
    """The id of a local image; empty when there is none."""
    code, out, _ = run(["docker", "image", "inspect", "--format", "{{.Id}}", ref])
    return out.strip() if code == 0 else ""


def repo_digest(run: Run, ref: str) -> str:
    """`name@sha256:…` of a local image that was pushed to or pulled from the registry of `ref`; empty if neither."""
    code, out, _ = run(["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", ref])
    if code:
        return ""
    name = ref.rsplit(":", 1)[0]
    return next((digest for digest in json.loads(out or "[]") or [] if digest.split("@")[0] == name), "")


def have_base(run: Run, base: str, archive: str) -> str:
    """The id of the base image: local, or pulled, or loaded from an archive made by `docker save`."""
    found = image_id(run, base)
    if found:
        return found
    code, _, err = run(["docker", "pull", "--quiet", base])
    if code and archive:
        code, _, err = run(["docker", "load", "--quiet", "--input", archive])
    found = image_id(run, base)
    if not found:
        raise GpusteadError(
            f"base image {base!r} is not to be had: {last_words(err, 3)}",
            "an image that is on the builder, in a registry, or in images_base_archive",
            "Correct images_base, or save the image to an archive and set images_base_archive.",
        )
    return found


def last_words(text: str, lines: int = 15) -> str:
    """The end of what a tool said, on one line."""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:] if line.strip())


def failed_step(output: str, layers: Sequence[Layer]) -> str:
    """The layer and the instruction at which `docker buildx bake` stopped; empty when the output names none.

    The builder names the target it was asked for, which can be a child: the instruction tells whose it is.
    """
    step = re.search(r"^ > \[(\S+) [^\]]*\] (.*?):?$", output, re.MULTILINE)
    if not step:
        return ""
    target, instruction = step.groups()
    start = " ".join(instruction.split()[:2])
    owners = [layer.name for layer in layers if start in Path(layer.context, "Dockerfile").read_text(encoding="utf-8")]
    name = target if target in owners or not owners else owners[0]
    return f"layer {name!r} at {instruction[:80]!r}"


def build(run: Run, bake: str, layers: Sequence[Layer]) -> None:
    """Run the bake file; raises GpusteadError with the layer and the end of the builder's output."""
    code, out, err = run(["docker", "buildx", "bake", "--file", bake, "--progress", "plain"])
    if code:
        output = f"{out}\n{err}"
        raise GpusteadError(
            f"{failed_step(output, layers) or 'the stack'} does not build: {last_words(output)}",
            "a build that ends well",
            "Nothing was pushed; mend the layer's Dockerfile or arguments and run again.",
        )


def push(run: Run, ref: str) -> str:
    """Push one reference and return it by digest."""
    code, out, err = run(["docker", "push", "--quiet", ref])
    digest = repo_digest(run, ref)
    if code or not digest:
        raise GpusteadError(
            f"{ref} could not be pushed: {last_words(err or out, 3)}",
            "a registry that takes it",
            "Look at the registry, its disk and the login of this host, and run again.",
        )
    return digest
