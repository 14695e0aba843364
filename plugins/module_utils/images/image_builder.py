# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The builder of a stack: what is there, on the host or in the registry, and what builds and pushes the rest."""

from __future__ import annotations

import json
import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials import proxy_plan
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import forms, without
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.files.progress_file import Report
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_contents
from ansible_collections.gpustead.cluster.plugins.module_utils.images.build_output import (
    elapsed,
    events,
    failed_step,
    last_words,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import (
    Inputs,
    Layer,
    Planned,
    bake_file,
    check_proxies,
    dockerfile,
    plan,
    to_build,
    wanted,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# Runs a command and hands every line of its output on as it comes; returns the exit status, and why it was killed.
Stream = Callable[[Sequence[str], Callable[[str], None]], "tuple[int, str]"]

LINES = 2000  # of a build are kept, for what is said of one that fails

# What registries and Docker say of a reference that nobody pushed.
UNKNOWN = re.compile(r"no such manifest|manifest unknown|name unknown|not found", re.IGNORECASE)


@dataclass(frozen=True)
class Tools:
    """How the builder is spoken to.

    Attributes:
        run: runs a command to its end.
        stream: runs a command and hands its lines on.
        report: is called with what has just been reached.
        work: directory of root's for the bake file and secrets.
    """

    run: Run
    stream: Stream
    report: Report
    work: str


@dataclass(frozen=True)
class Image:
    """An image on the builder.

    Attributes:
        id: of the image.
        size: bytes, unpacked.
        digests: `name@sha256:…` of every registry that it was pushed to or pulled from.
    """

    id: str
    size: int
    digests: Sequence[str] = ()

    def digest(self, ref: str) -> str:
        """`name@sha256:…` in the registry of `ref`; empty when it was neither pushed nor pulled there."""
        name = ref.rpartition(":")[0]
        return next((digest for digest in self.digests if digest.split("@")[0] == name), "")


FORMAT = '{"id": {{json .Id}}, "size": {{json .Size}}, "digests": {{json .RepoDigests}}, "tags": {{json .RepoTags}}}'


def images(run: Run, refs: Sequence[str]) -> dict[str, Image]:
    """The images of the host that have one of these tags (registry, name and tag in full), in one call."""
    _code, out, _err = run(["docker", "image", "inspect", "--format", FORMAT, *refs])
    found: dict[str, Image] = {}
    for line in filter(None, out.splitlines()):  # an empty one stands for what is not there
        raw: dict[str, Any] = json.loads(line)
        image = Image(raw["id"], int(raw["size"]), tuple(raw["digests"] or ()))
        found.update(dict.fromkeys(raw["tags"] or (), image))
    return {ref: found[ref] for ref in refs if ref in found}


def image_id(run: Run, ref: str) -> str:
    """The id of a local image by any of its names; empty when there is none."""
    code, out, _err = run(["docker", "image", "inspect", "--format", "{{.Id}}", ref])
    return out.strip() if code == 0 else ""


@dataclass(frozen=True)
class ImageStore:
    """What the image store of a Docker engine can do.

    Attributes:
        containerd: images lie in containerd's store, which takes zstd layers, attestations and more than one platform.
    """

    containerd: bool

    def target(self, compression: str, attestations: Sequence[str], secret: bool = False) -> dict[str, list[str]]:
        """What every target of a bake file gets; an older store builds without it.

        Provenance of mode=max quotes all build arguments, so with `secret` ones among them it is mode=min.
        Source: https://docs.docker.com/build/exporters/image-registry/,
        https://docs.docker.com/build/metadata/attestations/slsa-provenance/
        """
        if not self.containerd:
            return {}
        kinds = {"provenance": f"type=provenance,mode={'min' if secret else 'max'}", "sbom": "type=sbom"}
        return {
            "output": [f"type=image,compression={compression},oci-mediatypes=true"],
            "attest": [kinds[name] for name in attestations],
        }


def store(run: Run) -> ImageStore:
    """Look which image store the engine has.

    Raises:
        GpusteadError: no engine answers.
    """
    code, out, err = run(["docker", "info", "--format", "{{json .DriverStatus}}"])
    if code:
        raise GpusteadError(f"Docker does not answer: {last_words(err, 3)}", "a running engine", "Start Docker.")
    return ImageStore("io.containerd.snapshotter" in out)


def in_registry(run: Run, ref: str) -> bool:
    """Whether the registry has a reference.

    Raises:
        GpusteadError: the registry does not answer, or refuses the login of this host.
    """
    code, _out, err = run(["docker", "manifest", "inspect", ref])
    if code and not UNKNOWN.search(err):
        raise GpusteadError(
            f"the registry was asked for {ref} and answers: {last_words(err, 3)}",
            "a registry that answers and takes the login of this host",
            "Nothing was built. Look at the registry, and at the login (role registry).",
        )
    return code == 0


def has_lost(run: Run, ref: str) -> bool:
    """Whether the registry answers that it does not know a reference."""
    code, _out, err = run(["docker", "manifest", "inspect", ref])
    return code != 0 and bool(UNKNOWN.search(err))


def have_base(run: Run, base: str, archive: str) -> str:
    """The id of the base image: local, or pulled, or loaded from an archive made by `docker save`."""
    found = image_id(run, base)
    if found:
        return found
    code, _out, err = run(["docker", "pull", "--quiet", base])
    if code and archive:
        code, _out, err = run(["docker", "load", "--quiet", "--input", archive])
    found = image_id(run, base)
    if not found:
        raise GpusteadError(
            f"base image {base!r} is not to be had: {last_words(err, 3)}",
            "an image that is on the builder, in a registry, or in images_base_archive",
            "Correct images_base, or save the image to an archive and set images_base_archive.",
        )
    return found


def transfer(run: Run, verb: str, ref: str) -> None:
    """Push or pull (`verb`) one reference.

    Raises:
        GpusteadError: the registry does not take or give it.
    """
    code, out, err = run(["docker", verb, "--quiet", ref])
    if code:
        raise GpusteadError(
            f"{ref} could not be {verb}ed: {last_words(err or out, 3)}",
            "a registry that takes and gives images",
            "Look at the registry, both disks and the login of this host, and run again: what was built is kept.",
        )


@dataclass(frozen=True)
class Order:
    """What a run has to do.

    Attributes:
        planned: all layers, parents first.
        here: their images on the host, by reference.
        build: names of the layers to be built, parents first.
        push: references by key to be pushed, parents first.
        tag: pairs of a reference by key and a further one, which is to be set and pushed.
    """

    planned: Sequence[Planned]
    here: Mapping[str, Image]
    build: Sequence[str]
    push: Sequence[str]
    tag: Sequence[tuple[str, str]]

    @property
    def empty(self) -> bool:
        return not (self.build or self.push or self.tag)


def order(run: Run, planned: Sequence[Planned], target: str, pushes: bool) -> Order:
    """Compare the layers' keys with the host's images and, where those lack something, with the registry's.

    Of what was pushed before, the registry is asked for the wanted layers alone: it may have lost its disk. One that is
    silent then stops nothing.
    """
    here = images(run, [ref for item in planned for ref in item.refs])
    layers = {item.layer.name: item for item in planned}

    def there(name: str) -> bool:
        return layers[name].ref in here or (pushes and in_registry(run, layers[name].ref))

    asked = wanted([item.layer for item in planned], target)
    build = to_build(planned, asked, there)
    pushed = [layers[name].ref for name in asked if layers[name].ref in here]
    lost = pushes and any(has_lost(run, ref) for ref in pushed if here[ref].digest(ref))
    push, tag = [], []
    for item in planned:
        image = here.get(item.ref)
        if item.layer.name in build or (image and (lost or not image.digest(item.ref))):
            push.append(item.ref)
        for ref in item.refs[1:]:
            if item.layer.name in build or not (image and here.get(ref) == image):
                tag.append((item.ref, ref))
    return Order(planned, here, build, push if pushes else [], tag)


def discreet(tools: Tools, params: Mapping[str, Any]) -> Tools:
    """The same tools, which do not hand on the secrets of the build that a command prints."""
    hidden = [form for way in proxy_plan.plan(params["proxies"]).full.values() for form in forms(way)]
    hidden += [line for value in params["secrets"].values() for line in (str(value), *str(value).split())]

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        code, out, err = tools.run(argv)
        return code, out, without(err, hidden)

    def stream(argv: Sequence[str], listen: Callable[[str], None]) -> tuple[int, str]:
        return tools.stream(argv, lambda line: listen(without(line, hidden)))

    return replace(tools, run=run, stream=stream)


def apply(tools: Tools, layers: Sequence[Layer], params: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Observe, plan, apply; returns the module's result.

    Args:
        layers: parents first.
        params: the other options of module image_stack.
        check: only say what would be done.
    """
    base, pushes, target = params["base"], params["push"], params["target"]
    tools = discreet(tools, params)
    if target not in [layer.name for layer in layers]:
        raise GpusteadError(f"target {target!r}", f"one of {', '.join(layer.name for layer in layers)}", "Correct it.")
    there = image_id(tools.run, base) if check else have_base(tools.run, base, params["base_archive"] or "")
    planned = plan(layers, base, there, params["contexts"], params["repository"])
    todo = order(tools.run, planned, target, pushes)
    targeted = next(item for item in planned if item.layer.name == target)
    pulls = targeted.ref not in todo.here and target not in todo.build
    seconds: dict[str, float] = {}
    kind = None
    if not check:
        if todo.build:
            kind = store(tools.run)
            seconds = build(todo, tools, _write_bake(tools, planned, todo.build, params, kind))
        _publish(todo, tools, pushes)
        if pulls:
            transfer(tools.run, "pull", targeted.ref)
    here = todo.here if check or (todo.empty and not pulls) else images(tools.run, [item.ref for item in planned])
    image = here.get(targeted.ref)
    contents: dict[str, dict[str, str]] = {}
    unasked = bool(image) and (target in todo.build or targeted.key not in params["contents_known"])
    if unasked and not check:
        inside = image_contents.ask(tools.run, targeted.ref)
        below = _with_parents(planned, target)
        contents = {**image_contents.declared(below, base, there), **inside} if inside else {}
    return {
        "changed": pulls or not todo.empty,
        "layers": [_row(item, here, seconds) for item in planned],
        "key": targeted.key,
        "ref": ((image.digest(targeted.ref) if pushes else image.id) if image else ""),
        "built": list(todo.build),
        "contents": contents,
        "unasked": unasked and check,
        "pushed": [*todo.push, *(further for _first, further in todo.tag)],
        "store": ("containerd" if kind.containerd else "classic") if kind else None,
        "diff": {
            "before": "",
            "after": "".join(f"{item.ref}\n" for item in planned if item.layer.name in todo.build),
        },
    }


def _with_parents(planned: Sequence[Planned], target: str) -> list[Layer]:
    """A layer, and all that it stands on."""
    layers = {item.layer.name: item.layer for item in planned}
    found: list[Layer] = []
    while target:
        found.append(layers[target])
        target = layers[target].parent
    return found


def _row(item: Planned, here: Mapping[str, Image], seconds: Mapping[str, float]) -> dict[str, Any]:
    image = here.get(item.ref)
    return {
        "name": item.layer.name,
        "key": item.key,
        "chain": item.chain,
        "ref": item.ref,
        "size": image.size if image else None,
        "seconds": seconds.get(item.layer.name),
    }


def _write_bake(
    tools: Tools, planned: Sequence[Planned], names: Sequence[str], params: Mapping[str, Any], kind: ImageStore
) -> str:
    """Write the bake file and the secrets into the work directory; returns the path of the first."""
    secrets = {}
    for number, (name, value) in enumerate(sorted(params["secrets"].items())):
        secrets[name] = os.path.join(tools.work, f"secret{number}")
        with open(secrets[name], "w", encoding="utf-8") as file:
            file.write(str(value))
    ways = proxy_plan.plan(params["proxies"])
    options = kind.target(params["compression"], params["attestations"], bool(ways.secret))
    _check_platforms(planned, names, kind)
    for item in planned:
        if ways.secret and item.layer.name in names:
            check_proxies(item.layer)
    bake = os.path.join(tools.work, "bake.json")
    with open(bake, "w", encoding="utf-8") as file:
        inputs = Inputs(params["base"], params["contexts"], proxy_plan.both_cases(ways.full), secrets, options)
        file.write(bake_file(planned, names, inputs))
    return bake


def _check_platforms(planned: Sequence[Planned], names: Sequence[str], kind: ImageStore) -> None:
    for item in planned:
        if item.layer.name in names and len(item.layer.platforms) > 1 and not kind.containerd:
            raise GpusteadError(
                f"layer {item.layer.name!r} has the platforms {', '.join(item.layer.platforms)}",
                "one, where Docker does not keep its images in containerd's store",
                "Set docker_daemon_settings: {features: {containerd-snapshotter: true}} for the builder.",
            )


def _publish(todo: Order, tools: Tools, pushes: bool) -> None:
    """Push what was built and set further tags; everything is built by then."""
    names = {item.ref: item.layer.name for item in todo.planned}
    for ref in todo.push:
        transfer(tools.run, "push", ref)
        tools.report({"layer": names[ref], "state": "pushed"})
    for ref, further in todo.tag:
        set_tag(tools.run, ref, further, pushes)


def build(todo: Order, tools: Tools, bake: str) -> dict[str, float]:
    """Run the bake file; returns the seconds that each layer took.

    Raises:
        GpusteadError: a layer does not build: which one, where, and the end of the builder's output.
    """
    refs = {item.ref: item.layer.name for item in todo.planned}
    texts = {item.layer.name: dockerfile(item.layer) for item in todo.planned if item.layer.name in todo.build}
    began, ready = time.monotonic(), {}
    output: deque[str] = deque(maxlen=LINES)

    def listen(line: str) -> None:
        output.append(line)
        for event in events([line], refs, texts):
            after = round(time.monotonic() - began, 1)
            if event.ready:
                ready[event.layer] = after
            state = "built" if event.ready else "at"
            tools.report({"layer": event.layer, "state": state, "instruction": event.instruction, "after": after})

    code, why = tools.stream(["docker", "buildx", "bake", "--file", bake, "--progress", "plain"], listen)
    if code:
        text = "\n".join([*output, *filter(None, [why])])
        raise GpusteadError(
            f"{failed_step(text, texts) or 'the stack'} does not build: {last_words(text)}",
            "a build that ends well",
            "Nothing was pushed; mend the layer's Dockerfile or arguments and run again.",
        )
    parents = {item.layer.name: item.layer.parent for item in todo.planned}
    return elapsed(parents, ready, todo.build)


def set_tag(run: Run, ref: str, further: str, pushes: bool) -> None:
    """Give an image a further tag, here and in the registry; here only when the registry has taken it."""
    if not image_id(run, ref):
        transfer(run, "pull", ref)
    code, _out, err = run(["docker", "tag", ref, further])
    if code:
        raise GpusteadError(f"{ref} cannot be tagged {further}: {last_words(err, 3)}", "an image", "Run again.")
    if pushes:
        try:
            transfer(run, "push", further)
        except GpusteadError:
            run(["docker", "image", "rm", further])
            raise
