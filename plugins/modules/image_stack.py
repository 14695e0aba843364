#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build the layers of an image stack that have changed, and push them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_stack
short_description: Build the layers of an image stack that have changed, and push them
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Gives every layer a key, the digest of all that goes into it and of the layer below, and tags it with that key.
    A layer that is on the builder or in the registry under its key is not built.
  - Builds with C(docker buildx bake), in one call, layers that do not stand on one another side by side. What is there
    already is the ground for what is not.
  - Nothing is pushed before everything is built.
  - Builds in the background of the host, so that a lost connection does not end it at once, and prints a line for every
    layer that is ready, and one every half minute that says what is worked on.
requirements: [docker, docker buildx]
options:
  layers:
    description: The layers. Each stands on the one before it in the list, unless it names its O(layers[].parent).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the layer, and of its part in the image's name.
        type: str
        required: true
      context:
        description: Directory on the builder with the layer's Dockerfile, which begins with C(FROM parent).
        type: path
        required: true
      args:
        description: Build arguments.
        type: dict
      parent:
        description: Layer that it stands on; empty for the base image. By default the one before it.
        type: str
      contexts:
        description: >-
          Sources that its Dockerfile uses with C(from=<name>): a directory on the builder, or the URL of a git
          repository that ends in C(#) and the 40 digits of a commit.
        type: dict
      tags:
        description: Tags beside the key.
        type: list
        elements: str
      platforms:
        description: Platforms such as C(linux/arm64); more than one needs containerd's image store.
        type: list
        elements: str
  target:
    description: Layer that is returned as RV(ref). By default the last in the list.
    type: str
  base:
    description: Image that layers without a parent stand on, as build argument C(base).
    type: str
    required: true
  base_archive:
    description: Archive made by C(docker save), for a base image that cannot be pulled.
    type: path
  repository:
    description: Registry and name under which the layers are tagged, such as C(10.1.0.5:5000/gpustead).
    type: str
    required: true
  contexts:
    description: Further directories that Dockerfiles of all layers can use with C(from=<name>).
    type: dict
    default: {}
  proxies:
    description: >-
      Variables C(http_proxy), C(https_proxy) and the like for builds and Docker's client. They stay in no image.
    type: dict
    default: {}
  secret_proxies:
    description:
      - Those of them that have a password. They go before O(proxies) and are shown nowhere.
      - With one, provenance is of C(mode=min), which quotes no build arguments; and a layer whose Dockerfile declares
        one of the variables is refused.
    type: dict
    default: {}
  secrets:
    description: >-
      Values for C(RUN --mount=type=secret,id=<name>). They lie in files of root's in C(/run) while the build runs, stay
      in no image, and do not count for the keys.
    type: dict
    default: {}
  compression:
    description: Compression of the layers. Counts where Docker keeps images in containerd's store; else it is gzip.
    type: str
    choices: [zstd, gzip, estargz, uncompressed]
    default: zstd
  attestations:
    description: >-
      What is pushed beside the images. Counts where Docker keeps images in containerd's store. V(sbom) needs the image
      C(docker/buildkit-syft-scanner).
    type: list
    elements: str
    choices: [provenance, sbom]
    default: [provenance]
  contents_known:
    description: Keys of images that are not asked for their RV(contents), where they are not built.
    type: list
    elements: str
    default: []
  push:
    description: Whether to push.
    type: bool
    default: true
  timeout:
    description: Seconds until the build is given up.
    type: int
    default: 7200
  progress:
    description:
      - File that gets a line of JSON for everything that is reached while it runs; the last one is of state C(ended).
    type: path
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells which layers would be built. Nothing is built, pulled or pushed.
  diff_mode:
    description: Shows the references that are new.
seealso:
  - module: gpustead.cluster.image_contexts
  - module: gpustead.cluster.registry_prune
  - module: community.docker.docker_image_build
"""

EXAMPLES = r"""
- name: Build and push
  gpustead.cluster.image_stack:
    base: nvidia/cuda:12.8.1-devel-ubuntu24.04
    repository: 10.1.0.5:5000/gpustead
    layers:
      - {name: ssh, context: /var/lib/gpustead/images/ssh}
      - {name: torch, context: /var/lib/gpustead/images/torch, args: {torch_version: 2.13.0}}
      - {name: ffmpeg, context: /var/lib/gpustead/images/ffmpeg, parent: ssh, tags: [stable]}
    target: torch

- name: Build with a secret and through a proxy, and push nothing
  gpustead.cluster.image_stack:
    base: debian:bookworm
    repository: 10.1.0.5:5000/gpustead
    layers:
      - {name: private, context: /var/lib/gpustead/images/private}
    secrets: {netrc: "{{ vault_netrc }}"}
    proxies: {https_proxy: "http://proxy.example.org:3128"}
    push: false
  register: built

- name: Build for two architectures, with a list of what is in it
  gpustead.cluster.image_stack:
    base: ubuntu:24.04
    repository: registry.example.org/team
    layers:
      - {name: tools, context: /srv/images/tools, platforms: [linux/amd64, linux/arm64]}
    attestations: [provenance, sbom]
"""

RETURN = r"""
layers:
  description: The layers, parents first.
  returned: success
  type: list
  elements: dict
  contains:
    name: {description: Name., type: str}
    key: {description: Digest of what went into it., type: str}
    chain: {description: "What it is made of, such as C(cuda1281-ubuntu2404_ssh_torch).", type: str}
    ref: {description: Reference with the key as tag., type: str}
    size: {description: "Bytes on the builder, of the layers below too; null when it is not there.", type: int}
    seconds: {description: Seconds that its build took in this run; null when it was not built., type: float}
ref:
  description: The target by digest (by its id when it was not pushed; empty when it is yet to be built).
  returned: success
  type: str
key:
  description: Key of the target.
  returned: success
  type: str
built:
  description: Names of the layers that were built, or would be.
  returned: success
  type: list
  elements: str
contents:
  description:
    - What is in the target, where it was built in this run or O(contents_known) has not its key. Versions by name, for
      each of C(base), C(apt), C(pip), C(tensorflow), C(conda), C(npm) and C(git). Empty where it could not be asked.
  returned: success
  type: dict
unasked:
  description: Whether a run that is no check would ask an image that is there for its RV(contents).
  returned: success
  type: bool
pushed:
  description: References that were pushed, or would be.
  returned: success
  type: list
  elements: str
store:
  description: C(containerd) or C(classic), the image store of the builder's Docker; null when nothing was built.
  returned: success
  type: str
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials import proxy_plan
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.files.progress_file import reporter
from ansible_collections.gpustead.cluster.plugins.module_utils.images import image_builder as builder
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import parse
from ansible_collections.gpustead.cluster.plugins.module_utils.run import stream, within

LAYER = {
    "name": {"type": "str", "required": True},
    "context": {"type": "path", "required": True},
    "args": {"type": "dict"},
    "parent": {"type": "str"},
    "contexts": {"type": "dict"},
    "tags": {"type": "list", "elements": "str"},
    "platforms": {"type": "list", "elements": "str"},
}
ARGUMENTS = {
    "layers": {"type": "list", "elements": "dict", "required": True, "options": LAYER},
    "target": {"type": "str"},
    "base": {"type": "str", "required": True},
    "base_archive": {"type": "path"},
    "repository": {"type": "str", "required": True},
    "contexts": {"type": "dict", "default": {}},
    "proxies": {"type": "dict", "default": {}},
    "secret_proxies": {"type": "dict", "default": {}, "no_log": True},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "compression": {"type": "str", "choices": ["zstd", "gzip", "estargz", "uncompressed"], "default": "zstd"},
    "attestations": {
        "type": "list",
        "elements": "str",
        "choices": ["provenance", "sbom"],
        "default": ["provenance"],
    },
    # Digests, and no keys of anything.
    "contents_known": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "push": {"type": "bool", "default": True},
    "timeout": {"type": "int", "default": 7200},
    "progress": {"type": "path"},
}
RUN = "/run"
PRIVATE = "gpustead-build-"
LOCK = "/run/gpustead-builder.lock"
# Attestations are asked for by name.
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


@contextlib.contextmanager
def alone(check: bool) -> Iterator[None]:
    """Waits until no other build of ours runs on the host: one goes on after the connection that started it is lost."""
    if check:
        yield
        return
    # Whoever may read a file may lock it, and keep us waiting.
    lock = os.open(LOCK, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def private(check: bool) -> Iterator[str]:
    """A directory for files with secrets. Those that stayed of builds that were killed go: we are alone.

    Files of progress go after a day: a build that waits for its turn has one already.
    """
    for old in [] if check else Path(RUN).glob(f"{PRIVATE}*"):
        shutil.rmtree(old)
    for old_progress in [] if check else Path(RUN).glob("gpustead-progress.*"):
        if old_progress.lstat().st_mtime < time.time() - 86400:
            old_progress.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=RUN, prefix=PRIVATE) as work:
        yield work


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    timeout = module.params["timeout"]
    environment = dict(ENVIRONMENT)
    run = within(timeout, environment=environment)

    def listened(argv: Sequence[str], listen: Callable[[str], None]) -> tuple[int, str]:
        return stream(argv, listen, timeout, environment=environment)

    try:
        # Docker's client speaks to registries itself; what it runs with, root alone can read.
        ways = {**module.params["proxies"], **module.params["secret_proxies"]}
        environment.update(proxy_plan.both_cases(proxy_plan.plan(ways).full))
        layers = parse(module.params["layers"])
        target = module.params["target"] or module.params["layers"][-1]["name"]
        with (
            alone(module.check_mode),
            private(module.check_mode) as work,
            reporter(module.params["progress"]) as report,
        ):
            environment["BUILDX_CONFIG"] = work  # it keeps the arguments of its builds
            tools = builder.Tools(run, listened, report, work)
            params = {**module.params, "target": target, "proxies": ways}
            result = builder.apply(tools, layers, params, module.check_mode)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, "the files of the build in /run")))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
