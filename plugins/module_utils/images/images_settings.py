# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What role images is told by its variables, and what it has found on a node."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.requirements import refuse_requirements

_PLACE = re.compile("[^:]+:[0-9]+")
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


def refuse_settings(settings: Settings, registry: str) -> None:
    """Refuse the first of the settings that cannot be met.

    Args:
        registry: host and port that the builder pushes to; empty: none.

    Raises:
        GpusteadError: one that names the variable, its value and the remedy.
    """
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
