# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role images builds, writes, pulls and removes, from its settings and from what was found on a node."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_record
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_contexts import MARK, OWN
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import NAME, declared, is_git
from ansible_collections.gpustead.cluster.plugins.module_utils.images.requirements import refuse_requirements
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import index_of_nodes, refuse_index

# A tag that is a key, or none at all: any other is somebody's own.
_OF_STACK = re.compile(r".*:([0-9a-f]{12}|<none>)")
_REGISTRY = re.compile("^[^/]+")
# Stands for a registry in the names of images that none has. They are run by their ids: nothing is asked of it.
HERE = "localhost"
_ID = re.compile("sha256:[0-9a-f]{64}")
_PLACE = re.compile("[^:]+:[0-9]+")
# The last part of an index that follows the GPUs of the nodes, and the index that it is while that serves them all.
AUTO, USUAL_INDEX = "/auto", "cu126"
_CAPABILITY = re.compile(r"[0-9]+[.][0-9]([+]PTX)?")


@dataclass(frozen=True)
class Settings:
    """The variables of role images that are the same for all nodes, without `images_` before each.

    Attributes:
        files: the role's own directory with contexts.
        python: version of the Python that packages are installed for; empty: that of the base.
        packages, requirements: further Python packages, and a file on the controller that names some.
        requirements_text: what it holds; None: there is no such file.
        flash_attn_version, flash_attn_index: of wheels that somebody has built.
        optional: layers of ours on top of the stack, each with `when`: whether the site wants it.
        site: directory on the controller with the site's bashrc, zshrc and start.d; empty: none.
        site_found: whether that is a directory.
        base, variants: the image that the stack is built on; images beside it for some nodes, with what is otherwise.
        wheelhouse, python_lock: wheels of the site's own, and the lock of the Python packages; empty: none.
        lock_found: whether the lock is a file on the controller.
        alone: whether there is no other node: then no registry is needed.
    """

    files: str
    build_dir: str
    repository: str
    stack: Sequence[Mapping[str, Any]]
    tools: Sequence[str] = ()
    projects: Sequence[Mapping[str, Any]] = ()
    bake_users: Sequence[Mapping[str, Any]] = ()
    ca_certificates: Sequence[str] = ()
    wheelhouse: str = ""
    python_lock: str = ""
    lock_found: bool = True
    cuda_architectures: Sequence[Any] = ()
    tag: Any = ""
    keep: Any = 3
    extra: Sequence[str] = ()
    alone: bool = False
    python: str = ""
    packages: Sequence[str] = ()
    requirements: str = ""
    requirements_text: str | None = ""
    flash_attn_version: str = ""
    flash_attn_index: str = ""
    optional: Sequence[Mapping[str, Any]] = ()
    site: str = ""
    site_found: bool = True
    base: str = ""
    variants: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Observed:
    """Where a node has its images from, and what was found there; what is left out is not known yet.

    Attributes:
        registry, pull_from: host and port that the builder pushes to, and that this node pulls from; empty: the only
            node runs the image that it has built.
        caches: host and port of all caches of the registry.
        previous: what the role left last time, as its receipt says: kind and subject.
        record: the text of root's own record on the builder.
        former: the text of the record on the share, as the builder found it.
        built: what module image_stack returned.
        built_variants: the same for each of the variants, in their order.
        nodes: what role nvidia left on the nodes of this run (gpus.json); the builder alone sees it.
        members: hosts of each group of the inventory; the builder alone sees them.
        variant: name of the variant that this node runs; empty: what all others run.
        announced: the text of the record that the builder wrote in this run.
        shared: the text of the record on the share, as this node read it.
        unread: why it could not be read; or empty.
        local: a line for each name of an image of the stack: id, name with tag, name with digest.
        used: images that have a container.
        extra_recorded: the names that the role remembers to have pulled beside the stack.
        pulled: results of the pulls of this run.
        former_extra: results of docker_image_info of images beside the stack that are no longer declared.
    """

    registry: str = ""
    pull_from: str = ""
    caches: Sequence[str] = ()
    previous: Sequence[tuple[str, Mapping[str, Any]]] = ()
    record: str = ""
    former: str = ""
    built: Mapping[str, Any] = field(default_factory=dict)
    announced: str = ""
    shared: str = ""
    unread: str = ""
    local: Sequence[str] = ()
    used: Sequence[str] = ()
    extra_recorded: Sequence[str] = ()
    pulled: Sequence[Mapping[str, Any]] = ()
    former_extra: Sequence[Mapping[str, Any]] = ()
    built_variants: Sequence[Mapping[str, Any]] = ()
    nodes: Mapping[str, Any] = field(default_factory=dict)
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    variant: str = ""


@dataclass(frozen=True)
class Context:
    """A directory of the controller and where the builder has it."""

    name: str
    source: str
    destination: str


@dataclass(frozen=True)
class Plan:
    """What the role does on a node.

    Attributes:
        problem: what of the settings cannot be met; or empty.
        place: registry and repository under whose name the builder has the images.
        pushes: whether there is such a registry.
        layers: for module image_stack.
        variants: the same for each variant, with its name and base.
        contents_known: keys of the images of which the record has what is in them.
        follows_gpus: whether the GPUs of the nodes choose an index of PyTorch.
        contexts: what is copied to the builder.
        sources: directories of the controller that Dockerfiles take from.
        files: single files that are copied beside them.
        known: whether the receipt says that the role made its directories on the builder.
        own_mark: the file that says the same.
        recorded: whether the builder has a record of its own.
        former: what was in use before this run.
        selected: the earlier images that the setting `tag` names.
        announcement: the record of the images in use, after this run of the builder; empty before it.
        handed: the same without what is in the images, for the nodes of this run.
        record: of the images in use, as this node sees it.
        ref: the image in use, by its digest and by where this node pulls it from, or by its id where there is no
            registry; empty where there is none.
        unrecorded: what is then to be said of the record on the share.
        wanted: all images that the node is to have.
        places: by the names of which registries images of the stack may lie on the node.
        former_extra: images beside the stack that are no longer declared.
        removable: those of them that the role pulled itself, and that can be pulled again.
        extra_pulled: images beside the stack that the role has pulled.
        superfluous: names of images of the stack on the node that may go.
        registry_kept: what stays in the registry, beside what the nodes run.
        squashes: images for module image_squash, that of most nodes first.
    """

    problem: str
    place: str
    pushes: bool
    layers: Sequence[Mapping[str, Any]]
    variants: Sequence[Mapping[str, Any]]
    contents_known: Sequence[str]
    follows_gpus: bool
    contexts: Sequence[Context]
    sources: Sequence[str]
    files: Sequence[Mapping[str, str]]
    known: bool
    own_mark: str
    recorded: bool
    former: Mapping[str, Any]
    selected: Sequence[Mapping[str, Any]]
    announcement: Mapping[str, Any]
    handed: Mapping[str, Any]
    record: Mapping[str, Any]
    ref: str
    unrecorded: str
    wanted: Sequence[str]
    places: Sequence[str]
    former_extra: Sequence[str]
    removable: Sequence[str]
    extra_pulled: Sequence[str]
    superfluous: Sequence[str]
    registry_kept: Sequence[str]
    squashes: Sequence[Mapping[str, Any]]


def plan(settings: Settings, found: Observed) -> Plan:
    """The whole plan. A field that needs what is not known yet is empty."""
    place = _place(settings, found)
    own_record = image_record.read(found.record)
    recorded = bool(own_record["workspace"])
    former = own_record if recorded else image_record.read(found.former, place)
    record = image_record.read(found.announced) if found.announced else image_record.read(found.shared, place)
    own = record.get("variants", {}).get(found.variant, image_record.empty()) if found.variant else record
    ref = _here(own["workspace"].get("ref", ""), found)
    # Those of the time before there was a registry go as others do.
    local = [HERE] if not found.registry or any(one.startswith(f"{HERE}/") for one in _refs(former)) else []
    places = _unique(filter(None, [found.registry, found.pull_from, *found.caches, *local]))
    stack = _stack(settings)
    _check_stack(settings, stack)
    sources = [*_sources(settings, stack)]
    gpus = _known_gpus(former, found)
    announcement = _announcement(settings, former, found, gpus if _follows_gpus(stack) else {})
    built, problem = _images(settings, found, stack, gpus)
    return Plan(
        problem=_problem(settings, found.registry) or problem,
        place=place,
        pushes=bool(found.registry),
        layers=built[0]["layers"],
        variants=built[1:],
        contents_known=sorted({
            image["key"] for part in _parts(former) for image in part["history"] if image.get("contents")
        }),
        follows_gpus=_follows_gpus(stack),
        contexts=[*(Context(layer["name"], _context(settings, layer), _directory(settings, layer)) for layer in stack),
                  *sources],
        sources=[source.source for source in sources],
        files=[*_files(settings)],
        known={f"{settings.build_dir}/{name}" for name in OWN} <= {*_subjects(found, "tree")},
        own_mark=f"{settings.build_dir}/{MARK}",
        recorded=recorded,
        former=former,
        selected=[image for part in _parts(former) for image in _selected(settings, part, place)],
        announcement=announcement,
        handed=_without_contents(announcement),
        record=record,
        ref=ref,
        unrecorded="" if ref else _unrecorded(found, record),
        wanted=[*([ref] if ref else []), *settings.extra],
        places=places,
        former_extra=_former_extra(settings, found, places),
        removable=sorted({
            one["item"]
            for one in found.former_extra
            if one.get("images") and one["images"][0].get("RepoDigests") and one["item"] in found.extra_recorded
        }),
        extra_pulled=sorted(
            {*(one["item"] for one in found.pulled if one.get("changed")), *found.extra_recorded} & {*settings.extra}
        ),
        superfluous=_superfluous(found, [*_refs(record), ref]),
        registry_kept=sorted({
            *(part["workspace"]["ref"] for part in _parts(record) if part["workspace"]),
            *_refs(record),
            *(layer for part in _parts(record) for image in part["history"] for layer in image["layers"]),
        }),
        squashes=_squashes(settings, record, found),
    )  # fmt: skip


def _unrecorded(found: Observed, record: Mapping[str, Any]) -> str:
    if found.unread:
        return "cannot be read"
    if not (found.announced or found.shared):
        return "is not there: no image was pushed yet"
    if record["problem"]:
        # A registry that has moved since leaves a record that is whole.
        sound = not image_record.read(found.shared)["problem"]
        return "names an image of another registry or repository" if sound else "is damaged"
    return f"has no image for the nodes of {found.variant} (images_variants) yet" if found.variant else "names no image"


def _problem(settings: Settings, registry: str) -> str:
    """The first of the settings that cannot be met."""
    try:
        _refuse(settings, registry)
    except GpusteadError as error:
        return str(error)
    return ""


def _refuse(settings: Settings, registry: str) -> None:
    if not _PLACE.fullmatch(registry) and (registry or not settings.alone):
        remedy = "Put a host into group registry, or set cluster_registry."
        raise GpusteadError(f"images_registry is {registry!r}", "host:port", remedy)
    if not isinstance(settings.tag, str):
        remedy = "Put it in quotes, since digits may be lost otherwise."
        raise GpusteadError(f"images_tag is {settings.tag}", "a text", remedy)
    wrong = [str(one) for one in settings.cuda_architectures if not _CAPABILITY.fullmatch(str(one))]
    if wrong:
        what, expected = f"images_cuda_architectures has {', '.join(wrong)}", 'compute capabilities such as "8.0"'
        raise GpusteadError(what, expected, "Write them in quotes; the GPUs' are in gpus.json of each node.")
    accounts = [(user.get("name", ""), user.get("uid", 0)) for user in settings.bake_users]
    if any(len({*filter(None, values)}) < len(accounts) for values in zip(*accounts)):
        named = ", ".join(f"{name or '?'} {uid or '?'}" for name, uid in accounts)
        what = f"images_bake_users has {named} (name and uid)"
        raise GpusteadError(what, "a name and a uid of each, and none of them twice", "Correct them.")
    if settings.python_lock and not settings.lock_found:
        what = f"images_python_lock is {settings.python_lock!r}, no file on the controller"
        raise GpusteadError(what, "the lock of the Python packages", "Correct it, or empty it.")
    if settings.requirements and settings.requirements_text is None:
        what = f"images_requirements is {settings.requirements!r}, no file on the controller"
        raise GpusteadError(what, "a requirements.txt", "Correct it, or empty it.")
    refuse_requirements(f"images_requirements, {settings.requirements}", settings.requirements_text or "")
    if settings.site and not settings.site_found:
        what = f"images_site is {settings.site!r}, no directory on the controller"
        raise GpusteadError(what, "one with bashrc, zshrc or start.d in it", "Correct it, or empty it.")
    if settings.python and "uv" not in [layer["name"] for layer in settings.stack]:
        what = f"images_python is {settings.python!r}, and images_stack has no layer uv"
        raise GpusteadError(what, "one, which makes the environment", "Add it, or empty images_python.")
    if settings.flash_attn_index and not settings.flash_attn_version:
        remedy = "Set it to that of a wheel there, such as 2.8.3+cu12torch2.8cxx11abiTRUE."
        raise GpusteadError("images_flash_attn_index is set, images_flash_attn_version is not", "a version", remedy)


def _images(
    settings: Settings, found: Observed, stack: Sequence[Mapping[str, Any]], gpus: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str]:
    """What the builder builds, the image of most nodes first; and why a part of it cannot be had."""
    images: list[dict[str, Any]] = []
    problem = ""
    groups: dict[str, Mapping[str, Any]] = {"": {}, **{str(one["name"]): one for one in settings.variants}}
    for name, one in groups.items():
        layers = _replaced(stack, one.get("args") or {})
        try:
            if name:
                _refuse_variant(settings, found, one, stack)
                _check_stack(settings, layers)
            layers = _indexed(layers, [gpus[node] for node in gpus if _variant_of(settings, found, node) == name])
        except GpusteadError as error:
            problem = problem or f"{f'images_variants, {name}: ' if name else ''}{error}"
        base = str(one.get("base") or settings.base)
        images.append({"name": name, "base": base, "layers": [_on_builder(settings, layer) for layer in layers]})
    return images, problem


def _refuse_variant(
    settings: Settings, found: Observed, one: Mapping[str, Any], stack: Sequence[Mapping[str, Any]]
) -> None:
    taken = {str(name) for layer in stack for name in layer.get("args") or {}}
    unknown = sorted({*map(str, one.get("args") or {})} - taken)
    if not NAME.fullmatch(str(one["name"])):
        raise GpusteadError(f"its name {one['name']!r}", "lower-case letters, digits, . _ -", "Rename it.")
    if [other["name"] for other in settings.variants].count(one["name"]) > 1:
        raise GpusteadError("it is there twice", "names used once", "Rename one of them.")
    if unknown:
        raise GpusteadError(f"args has {', '.join(unknown)}", f"one of {', '.join(sorted(taken))}", "Correct it.")
    if found.members and one["nodes"] not in found.members:
        raise GpusteadError(f"nodes is {one['nodes']!r}", "a group of the inventory", "Correct it, or make the group.")
    own = {*found.members.get(one["nodes"], ())}
    for other in settings.variants:
        both = sorted(own & {*found.members.get(other["nodes"], ())}) if other["name"] != one["name"] else []
        if both:
            raise GpusteadError(f"{both[0]} is in {other['name']}, too", "one image for each node", "Part the groups.")


def _variant_of(settings: Settings, found: Observed, node: str) -> str:
    names = (str(one["name"]) for one in settings.variants if node in found.members.get(one["nodes"], ()))
    return next(names, "")


def _replaced(stack: Sequence[Mapping[str, Any]], args: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The layers with other values for arguments of these names."""
    return [
        {**layer, "args": {name: args.get(name, value) for name, value in layer["args"].items()}}
        if layer.get("args")
        else layer
        for layer in stack
    ]


def _follows_gpus(stack: Sequence[Mapping[str, Any]]) -> bool:
    return any(_index(layer).endswith(AUTO) for layer in stack)


def _index(layer: Mapping[str, Any]) -> str:
    return str((layer.get("args") or {}).get("torch_index", ""))


def _indexed(stack: Sequence[Mapping[str, Any]], hosts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The layers with the index that serves these hosts, where they ask for it."""
    versions = [str((layer.get("args") or {}).get("torch_version", "")) for layer in stack]
    torch = next(filter(None, versions), "")

    def indexed(layer: Mapping[str, Any]) -> Mapping[str, Any]:
        index = _index(layer)
        if not index.endswith(AUTO):
            return layer
        chosen = index_of_nodes(hosts, torch, USUAL_INDEX)
        return {**layer, "args": {**layer["args"], "torch_index": f"{index[: -len(AUTO)]}/{chosen}"}}

    return [indexed(layer) for layer in stack]


def _known_gpus(former: Mapping[str, Any], found: Observed) -> dict[str, dict[str, Any]]:
    """GPUs of the nodes: as they are in this run, and of others as the builder last saw them.

    A node that joins without the builder is seen by it in the first run of the role that both are in.
    """
    nodes = found.members.get("gpu_nodes", ())
    known = {one["host"]: one for one in former.get("gpus", ()) if one["host"] in nodes}
    return {**known, **{host: _gpus(host, left) for host, left in found.nodes.items() if left and host in nodes}}


def _gpus(host: str, left: Mapping[str, Any]) -> dict[str, Any]:
    """Of what role nvidia left, what an index goes by."""
    usable = [gpu for gpu in left.get("gpus") or () if not gpu.get("withheld") and gpu.get("compute_capability")]
    return {
        "host": host,
        "machine": left.get("machine") or "x86_64",
        "driver": left.get("driver_version"),
        "compute_capabilities": sorted({str(gpu["compute_capability"]) for gpu in usable}),
    }


def _parts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The record of the image of most nodes, and of those of others."""
    return [record, *record.get("variants", {}).values()]


def _selected(settings: Settings, part: Mapping[str, Any], place: str) -> list[Mapping[str, Any]]:
    """Earlier images that the tag names, of where all nodes get them now."""
    images = (image for image in part["history"] if image["key"].startswith(str(settings.tag)))
    return [image for image in images if image_record.lies_in(image, place)]


def _announcement(
    settings: Settings, former: Mapping[str, Any], found: Observed, gpus: Mapping[str, Any]
) -> dict[str, Any]:
    """The record after this run of the builder; empty before it."""
    place = _place(settings, found)
    record = _new_record(settings, former, found.built, place)
    before = former.get("variants", {})
    variants = {}
    for one, built in zip(settings.variants, [*found.built_variants, *[{}] * len(settings.variants)]):
        variants[one["name"]] = _new_record(settings, before.get(one["name"], image_record.empty()), built, place)
    more = {"gpus": [*gpus.values()], "variants": {name: part for name, part in variants.items() if part}}
    return {**record, **{name: value for name, value in more.items() if value}} if record else {}


def _squashes(settings: Settings, record: Mapping[str, Any], found: Observed) -> list[dict[str, Any]]:
    """By digest; what no registry has is on this node by its id."""
    name = settings.repository.rpartition("/")[2]
    parts = {name: record, **{f"{name}-{one}": part for one, part in record.get("variants", {}).items()}}
    return [
        {
            "name": one,
            "image": part["workspace"]["ref"] if found.registry else _here(part["workspace"]["ref"], found),
            "keep": [image["ref"] for image in part["history"]],
        }
        for one, part in parts.items()
        if part["workspace"]
    ]


def _without_contents(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [{key: image[key] for key in image if key != "contents"} for image in value]
        if name == "history"
        else {variant: _without_contents(part) for variant, part in value.items()}
        if name == "variants"
        else value
        for name, value in record.items()
    }


def _place(settings: Settings, found: Observed) -> str:
    return f"{found.registry or HERE}/{settings.repository}"


def _here(ref: str, found: Observed) -> str:
    """How this node names an image of a record: as it pulls it, or by its id."""
    return _REGISTRY.sub(lambda _ignored: found.pull_from, ref) if found.registry else ref.rpartition("@")[2]


def _unique(values: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(values)]


def _stack(settings: Settings) -> list[Mapping[str, Any]]:
    """The layers, with those of the tools, of the projects and of the accounts on top."""
    layers = _with_python(settings.stack, settings.python) if settings.python else [*settings.stack]
    if settings.flash_attn_index:
        # Not by the name that layer deepspeed has for what it compiles: one of the variants may have another wheel.
        given = {"flash_attn_wheel": settings.flash_attn_version, "flash_attn_index": settings.flash_attn_index}
        layers.append({"name": "flash-attn", "args": given})
    layers += [{"name": one["name"], "args": one["args"]} for one in settings.optional if one["when"]]
    if settings.packages or settings.requirements:
        index = next(filter(None, map(_index, layers)), "")
        given = {"further_packages": " ".join(settings.packages), "torch_index": index}
        layers.append({"name": "packages", "args": given})
    if settings.tools:
        layers.append({"name": "tools", "args": {"tools": " ".join(settings.tools)}})
    for project in settings.projects:
        layers.append({
            "name": project["name"],
            "context": f"{settings.files}/stack/project",
            "args": {"project": project["name"]},
            "contexts": {"source": project["source"]},
        })  # fmt: skip
    if settings.site:
        layers.append({"name": "site", "contexts": {"site": settings.site}})
    if settings.bake_users:
        layers.append({"name": "users", "args": {"accounts": " ".join(map(_account, settings.bake_users))}})
    return layers


def _with_python(stack: Sequence[Mapping[str, Any]], version: str) -> list[Mapping[str, Any]]:
    """The layers with one on that of uv, which makes the environment anew; what stood on that stands on this one."""
    layers: list[Mapping[str, Any]] = []
    for layer in stack:
        layers.append({**layer, "parent": "python"} if layer.get("parent") == "uv" else layer)
        if layer["name"] == "uv":
            layers.append({"name": "python", "args": {"python_version": version}})
    return layers


def _check_stack(settings: Settings, stack: Sequence[Mapping[str, Any]]) -> None:
    """Refuse layers that cannot be built; whether their directories are whole is seen where they are copied."""
    ours = sorted(os.listdir(f"{settings.files}/stack")) if os.path.isdir(f"{settings.files}/stack") else []
    for layer in stack:
        if ours and not layer.get("context") and layer["name"] not in ours:
            meant = get_close_matches(str(layer["name"]), ours, 1)
            raise GpusteadError(
                f"images_stack: layer {str(layer['name'])!r} has no context and is none of ours",
                f"one of {', '.join(ours)}",
                f"Did you mean {meant[0]}?" if meant else "Correct its name, or give it a context.",
            )
        arguments = layer.get("args") or {}
        # A site's own wheels may be of any CUDA.
        if not settings.wheelhouse and not settings.python_lock:
            place = f"images_stack: layer {layer['name']}"
            refuse_index(place, str(arguments.get("torch_version", "")), str(arguments.get("torch_index", "")))
    declared([{**layer, "context": _context(settings, layer)} for layer in stack])


def _account(user: Mapping[str, Any]) -> str:
    uid = user.get("uid", "")
    return ":".join(map(str, (user.get("name", ""), uid, user.get("gid", uid), ",".join(user.get("groups") or []))))


def _context(settings: Settings, layer: Mapping[str, Any]) -> str:
    return str(layer.get("context", f"{settings.files}/stack/{layer['name']}"))


def _directory(settings: Settings, layer: Mapping[str, Any]) -> str:
    return f"{settings.build_dir}/stack/{layer['name']}"


def _sources(settings: Settings, stack: Sequence[Mapping[str, Any]]) -> Iterator[Context]:
    for layer in stack:
        for name, path in (layer.get("contexts") or {}).items():
            if not is_git(str(path)):
                place = f"{settings.build_dir}/sources/{layer['name']}/{name}"
                yield Context(f"{layer['name']} {name}", str(path), place)


def _on_builder(settings: Settings, layer: Mapping[str, Any]) -> dict[str, Any]:
    brought = {source.name.partition(" ")[2]: source.destination for source in _sources(settings, [layer])}
    return {
        **layer,
        "context": _directory(settings, layer),
        "contexts": {**(layer.get("contexts") or {}), **brought},
    }


def _subjects(found: Observed, kind: str) -> list[str]:
    return [subject["name"] for one, subject in found.previous if one == kind]


def _files(settings: Settings) -> Iterator[dict[str, str]]:
    for path in settings.ca_certificates:
        place = f"{_directory(settings, settings.stack[0])}/ca/{os.path.basename(path)}"
        yield {"source": path, "destination": place}
    if settings.requirements:
        place = f"{settings.build_dir}/stack/packages/requirements.txt"
        yield {"source": settings.requirements, "destination": place}
    if settings.python_lock:
        yield {"source": settings.python_lock, "destination": f"{settings.build_dir}/wheelhouse/python.lock"}


def _new_record(settings: Settings, former: Mapping[str, Any], built: Mapping[str, Any], place: str) -> dict[str, Any]:
    """What the builder records of an image: the earlier one that is to run again, or the one of this run."""
    if settings.tag:
        # What the tag names for some nodes alone leaves the others theirs.
        stays = [one for one in [former["workspace"]] if one and image_record.lies_in(one, place)]
        selected = [*_selected(settings, former, place), *stays]
        used = {name: selected[0][name] for name in ("ref", "key")} if selected else None
        layers, history = former["layers"], former["history"]
    else:
        used = {"ref": _recorded_ref(built), "key": built["key"]} if built.get("ref") else None
        layers = [_recorded_layer(layer, former["layers"]) for layer in built.get("layers") or []]
        earlier = [image for image in former["history"] if image["key"] != built.get("key")]
        same: Mapping[str, Any] = next((image for image in former["history"] if image["key"] == built.get("key")), {})
        inside = built.get("contents") or same.get("contents")
        latest = {
            **(used or {}),
            "layers": [layer["ref"] for layer in layers],
            **({"contents": inside} if inside else {}),
        }
        history = [latest, *earlier][: int(settings.keep)]
    return {"schema": 1, "workspace": used, "layers": layers, "history": history} if used else {}


def _recorded_ref(built: Mapping[str, Any]) -> str:
    """The target by its digest; one that was not pushed has none, and is recorded under its name by its id."""
    if "/" in built["ref"]:
        return str(built["ref"])
    tagged = next(layer["ref"] for layer in built["layers"] if layer["key"] == built["key"])
    return f"{tagged.rpartition(':')[0]}@{built['ref']}"


def _recorded_layer(layer: Mapping[str, Any], former: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A layer that was not built in this run took the seconds that it took when it was."""
    before = next((one for one in former if one["key"] == layer["key"]), {})
    return {
        **{name: layer[name] for name in ("name", "chain", "key", "ref")},
        **{name: before.get(name) if layer[name] is None else layer[name] for name in ("size", "seconds")},
    }


def _former_extra(settings: Settings, found: Observed, places: Sequence[str]) -> list[str]:
    of_stack = re.compile(f"({'|'.join(map(re.escape, places))})/.+@")
    names = [name for name in _subjects(found, "image") if not of_stack.match(name) and not _ID.fullmatch(name)]
    return sorted({*names} - {*settings.extra})


def _refs(record: Mapping[str, Any]) -> list[str]:
    return [entry["ref"] for part in _parts(record) for entry in [*part["history"], *part["layers"]]]


def _superfluous(found: Observed, refs: Sequence[str]) -> list[str]:
    """Names of images that are neither in the record nor run. An image is kept by each of its names."""
    kept_names = {*refs, *(_here(ref, found) for ref in refs), *found.used}
    lines = [line.split(" ") for line in found.local]
    kept = {names[0] for names in lines if kept_names.intersection(names)}
    return sorted({
        fixed if tagged.endswith(":<none>") else tagged
        for identity, tagged, fixed in lines
        if identity not in kept and _OF_STACK.fullmatch(tagged)
    })  # fmt: skip
