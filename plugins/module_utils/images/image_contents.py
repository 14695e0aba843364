# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What went into an image: Debian's packages, Python's, npm's, git revisions and the base, each by its version.

It stands in the record of the images beside each that was built; here it is read out of an image, compared, and written
as a lock or as an SBOM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_stack import Layer, is_git
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# {kind: {name: version}}
Contents = Mapping[str, Mapping[str, str]]

KINDS = {
    "base": "the image that it is built on",
    "apt": "packages of the distribution",
    "pip": "packages of Python",
    "tensorflow": "packages of Python in TensorFlow's environment",
    "conda": "packages of mamba",
    "npm": "packages of Node.js, and itself",
    "git": "git revisions",
}
_ASK = r"""
frozen() {
  VIRTUAL_ENV=$2 uv pip freeze 2>/dev/null |
    sed -n 's/^\([^ =]*\)==\([^ ]*\)$/'$1' \1 \2/p; s/^\([^ =]*\) @ \(.*\)$/'$1' \1 \2/p'
}
dpkg-query --show --showformat 'apt ${binary:Package} ${Version}\n' 2>/dev/null
frozen pip "$VIRTUAL_ENV"
if [ -d /opt/tensorflow ]; then frozen tensorflow /opt/tensorflow; fi
for file in /opt/mamba/conda-meta/*.json /opt/mamba/envs/*/conda-meta/*.json; do
  echo "$file" | sed -n 's,^.*/mamba/,,; s,^envs/,,; s,conda-meta/,,; s/^\([^*]*\)-\([^-]*\)-[^-]*.json$/conda \1 \2/p'
done
node --version 2>/dev/null | sed -n 's/^v/npm node /p'
for where in --global --prefix=/opt/coding; do
  npm ls $where --depth=0 --parseable --long 2>/dev/null | sed -n 's/^[^:]*:\(.*\)@\([^@:]*\).*/npm \1 \2/p'
done
true
"""
_LINE = re.compile("(apt|pip|tensorflow|conda|npm) ([!-~]{1,200}) ([!-~]{1,500})")
# It can neither write nor reach anything; but uv says nothing without a place for its cache.
_ALONE = ("--network", "none", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
_SCRATCH = ("--tmpfs", "/tmp", "--env", "HOME=/tmp", "--env", "TMPDIR=/tmp", "--env", "UV_CACHE_DIR=/tmp/uv")


def ask(run: Run, ref: str) -> dict[str, dict[str, str]]:
    """Ask an image of this host what is in it, in a container that keeps nothing and reaches nothing.

    Empty where it cannot be asked: an image is not worse for it.
    """
    code, out, _err = run(["docker", "run", "--rm", *_ALONE, *_SCRATCH, "--entrypoint", "/bin/sh", ref, "-c", _ASK])
    return parse(out) if code == 0 else {}


def parse(text: str) -> dict[str, dict[str, str]]:
    """Lines `<kind> <name> <version>`; what is none is passed over."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            found.setdefault(match[1], {})[match[2]] = match[3]
    return found


def declared(layers: Iterable[Layer], base: str, base_id: str) -> dict[str, dict[str, str]]:
    """What is known without a look at the image: its base, and the revisions of its git sources."""
    sources = sorted(source for layer in layers for source in layer.contexts.values() if is_git(source))
    git = {url: commit for url, _mark, commit in (source.rpartition("#") for source in sources)}
    return {"base": {base: base_id}, **({"git": git} if git else {})}


def diff(before: Contents, after: Contents) -> list[str]:
    """A line for each thing that is new, gone or another: `pip torch: 2.12.0 -> 2.13.0`."""
    lines = []
    for kind in KINDS:
        old, new = before.get(kind, {}), after.get(kind, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                lines.append(f"{kind} {name}: {old.get(name, 'not there')} -> {new.get(name, 'gone')}")
    return lines


def lock(contents: Contents) -> str:
    """The packages of Python, each at its version, as `images_python_lock` takes them."""
    lines = [f"{name}=={version}\n" for name, version in sorted(contents.get("pip", {}).items()) if "/" not in version]
    return "".join(lines)


def sbom(contents: Contents, name: str) -> dict[str, Any]:
    """The contents as a software bill of materials (CycloneDX 1.5, https://cyclonedx.org/docs/1.5/json/)."""
    components = [
        {"type": "library", "name": package, "version": version, "purl": _purl(kind, package, version)}
        for kind in KINDS
        if kind != "base"
        for package, version in sorted(contents.get(kind, {}).items())
    ]
    about = {"component": {"type": "container", "name": name}}
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": about, "components": components}


def _purl(kind: str, name: str, version: str) -> str:
    """Source: https://github.com/package-url/purl-spec, types deb, pypi, conda, npm and generic."""
    if kind == "git":
        return f"pkg:generic/{quote(name.rpartition('/')[2])}?vcs_url={quote(f'git+{name}@{version}', safe='')}"
    if kind == "apt":
        package, _colon, architecture = name.partition(":")
        return f"pkg:deb/{quote(package)}@{quote(version)}{f'?arch={architecture}' if architecture else ''}"
    if kind in ("pip", "tensorflow"):
        return f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}"
    package = name.rpartition("/")[2] if kind == "conda" else name  # of a named environment
    return f"pkg:{kind}/{quote(package)}@{quote(version)}"


def of_key(history: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, Any]:
    """The image of a history whose key begins so; of none: the one in use, which is the first.

    Raises:
        GpusteadError: there is none, or it is not known what is in it.
    """
    found = next((image for image in history if image["key"].startswith(key)), None)
    kept = ", ".join(image["key"][:12] for image in history) or "none"
    if not found:
        raise GpusteadError(f"image {key!r} is not kept", f"the beginning of a key that is: {kept}", "Correct it.")
    if not found.get("contents"):
        remedy = "It was built by an earlier version: build one anew to compare with."
        raise GpusteadError(f"what is in image {found['key'][:12]} was not recorded", "an image that was asked", remedy)
    return found
