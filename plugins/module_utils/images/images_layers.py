# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The layers that the builder of role images builds, for most nodes and for some, and what they are made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import NAME, declared, is_git
from ansible_collections.gpustead.cluster.plugins.module_utils.images.images_settings import Observed, Settings
from ansible_collections.gpustead.cluster.plugins.module_utils.images.torch_wheel import index_of_nodes, refuse_index

# The last part of an index that follows the GPUs of the nodes, and the index that it is while that serves them all.
AUTO, USUAL_INDEX = "/auto", "cu126"


@dataclass(frozen=True)
class Context:
    """A directory of the controller and where the builder has it."""

    name: str
    source: str
    destination: str


def layers_of(settings: Settings) -> list[Mapping[str, Any]]:
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


def refuse_layers(settings: Settings, stack: Sequence[Mapping[str, Any]]) -> None:
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


def sources(settings: Settings, stack: Sequence[Mapping[str, Any]]) -> list[Context]:
    """Directories of the controller that Dockerfiles take from."""
    return [
        Context(f"{layer['name']} {name}", str(path), f"{settings.build_dir}/sources/{layer['name']}/{name}")
        for layer in stack
        for name, path in (layer.get("contexts") or {}).items()
        if not is_git(str(path))
    ]


def contexts(settings: Settings, stack: Sequence[Mapping[str, Any]]) -> list[Context]:
    """The directories with Dockerfiles, and those that they take from."""
    own = [Context(layer["name"], _context(settings, layer), _directory(settings, layer)) for layer in stack]
    return [*own, *sources(settings, stack)]


def files(settings: Settings) -> list[dict[str, str]]:
    """Single files that are copied beside the contexts: source and destination."""
    return [
        *(
            {"source": path, "destination": f"{_directory(settings, settings.stack[0])}/ca/{os.path.basename(path)}"}
            for path in settings.ca_certificates
        ),
        *_file(settings.requirements, f"{settings.build_dir}/stack/packages/requirements.txt"),
        *_file(settings.python_lock, f"{settings.build_dir}/wheelhouse/python.lock"),
    ]


def _file(source: str, destination: str) -> list[dict[str, str]]:
    return [{"source": source, "destination": destination}] if source else []


def images_of(
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
                refuse_layers(settings, layers)
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


def follows_gpus(stack: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the GPUs of the nodes choose an index of PyTorch."""
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


def known_gpus(former: Mapping[str, Any], found: Observed) -> dict[str, dict[str, Any]]:
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


def _on_builder(settings: Settings, layer: Mapping[str, Any]) -> dict[str, Any]:
    brought = {source.name.partition(" ")[2]: source.destination for source in sources(settings, [layer])}
    return {
        **layer,
        "context": _directory(settings, layer),
        "contexts": {**(layer.get("contexts") or {}), **brought},
    }
