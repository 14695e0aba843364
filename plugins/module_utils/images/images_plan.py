# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role images builds, writes, pulls and removes, from its settings and from what was found on a node."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_record, images_layers
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_contexts import MARK, OWN
from ansible_collections.gpustead.cluster.plugins.module_utils.images.images_layers import Context
from ansible_collections.gpustead.cluster.plugins.module_utils.images.images_settings import (
    Observed,
    Settings,
    refuse_settings,
)

# A tag that is a key, or none at all: any other is somebody's own.
_OF_STACK = re.compile(r".*:([0-9a-f]{12}|<none>)")
_REGISTRY = re.compile("^[^/]+")
# Stands for a registry in the names of images that none has. They are run by their ids: nothing is asked of it.
HERE = "localhost"
_ID = re.compile("sha256:[0-9a-f]{64}")


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
    stack = images_layers.layers_of(settings)
    images_layers.refuse_layers(settings, stack)
    gpus = images_layers.known_gpus(former, found)
    announcement = _announcement(settings, former, found, gpus if images_layers.follows_gpus(stack) else {})
    built, problem = images_layers.images_of(settings, found, stack, gpus)
    return Plan(
        problem=_problem(settings, found.registry) or problem,
        place=place,
        pushes=bool(found.registry),
        layers=built[0]["layers"],
        variants=built[1:],
        contents_known=sorted(
            {image["key"] for part in _parts(former) for image in part["history"] if image.get("contents")}
        ),
        follows_gpus=images_layers.follows_gpus(stack),
        contexts=images_layers.contexts(settings, stack),
        sources=[source.source for source in images_layers.sources(settings, stack)],
        files=images_layers.files(settings),
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
        removable=sorted(
            {
                one["item"]
                for one in found.former_extra
                if one.get("images") and one["images"][0].get("RepoDigests") and one["item"] in found.extra_recorded
            }
        ),
        extra_pulled=sorted(
            {*(one["item"] for one in found.pulled if one.get("changed")), *found.extra_recorded} & {*settings.extra}
        ),
        superfluous=_superfluous(found, [*_refs(record), ref]),
        registry_kept=sorted(
            {
                *(part["workspace"]["ref"] for part in _parts(record) if part["workspace"]),
                *_refs(record),
                *(layer for part in _parts(record) for image in part["history"] for layer in image["layers"]),
            }
        ),
        squashes=_squashes(settings, record, found),
    )


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
        refuse_settings(settings, registry)
    except GpusteadError as error:
        return str(error)
    return ""


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


def _subjects(found: Observed, kind: str) -> list[str]:
    return [subject["name"] for one, subject in found.previous if one == kind]


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
