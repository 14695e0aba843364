#!/usr/bin/env python3
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a signed apt repository like Docker's own, of the programs in Debian's packages.

packages.py OUT: OUT/debian, with the five packages that Docker has for a release, under its names and versions, and
with what they say of Debian's (https://download.docker.com/linux/debian/dists/trixie): docker-ce and docker.io cannot
both be there, nor containerd.io and containerd or runc, and dockerd lies in /usr/bin. Needs apt-utils, dpkg-dev, gpg.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """One of Docker's: of which of Debian's its files are, and its relations to others."""

    parts: tuple[str, ...]
    depends: str
    fields: dict[str, str]


def _instead(names: str, **more: str) -> dict[str, str]:
    return {"Conflicts": names, "Replaces": names, **more}


PACKAGES = {
    "docker-ce": Package(
        ("docker.io",),
        "containerd.io, docker-ce-cli, iptables, libseccomp2, libc6, libsystemd0",
        _instead("docker-engine, docker.io", Recommends="git, xz-utils"),
    ),
    "docker-ce-cli": Package(("docker-cli",), "libc6", _instead("docker-engine, docker-engine-cs, docker.io")),
    "containerd.io": Package(
        ("containerd", "runc"), "libc6, libseccomp2", _instead("containerd, runc", Provides="containerd, runc")
    ),
    "docker-buildx-plugin": Package(("docker-buildx",), "libc6", {}),
    "docker-compose-plugin": Package(("docker-compose",), "libc6", {}),
}


def out_of(*argv: str, cwd: Path | None = None) -> str:
    return subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def unpack(name: str, root: Path, work: Path) -> str:
    """The files and scripts of one of Debian's; its version."""
    out_of("apt-get", "download", name, cwd=work)
    (archive,) = work.glob(f"{name}_*.deb")
    out_of("dpkg-deb", "--extract", str(archive), str(root))
    scripts = work / f"{name}.control"
    out_of("dpkg-deb", "--control", str(archive), str(scripts))
    for script in ("postinst", "prerm", "conffiles"):
        if (scripts / script).exists() and not (root / "DEBIAN" / script).exists():
            shutil.copy2(scripts / script, root / "DEBIAN" / script)
    return out_of("dpkg-deb", "--field", str(archive), "Version")


def as_dockers(root: Path) -> None:
    """Where Docker's own has what it has in another place than Debian's."""
    daemon = root / "usr/sbin/dockerd"
    if daemon.exists():
        (root / "usr/bin").mkdir(exist_ok=True)
        daemon.rename(root / "usr/bin/dockerd")
        for unit in root.glob("**/docker.service"):
            unit.write_text(unit.read_text().replace("/usr/sbin/dockerd", "/usr/bin/dockerd"))


def build(name: str, out: Path) -> None:
    package = PACKAGES[name]
    with tempfile.TemporaryDirectory() as folder:
        work, root = Path(folder), Path(folder) / "root"
        (root / "DEBIAN").mkdir(parents=True)
        root.chmod(0o755)
        version, *_others = [unpack(part, root, work) for part in package.parts]
        as_dockers(root)
        upstream = re.sub(r"[+~-].*", "", version)
        fields = {
            "Package": name,
            # Docker's has an epoch: it is the newer one of any two.
            "Version": f"5:{upstream}-1~debian.13~trixie" if name.startswith("docker-ce") else f"{upstream}-1~standin",
            "Architecture": out_of("dpkg", "--print-architecture"),
            "Section": "admin",
            "Priority": "optional",
            "Maintainer": "gpustead developers <nobody@localhost>",
            "Depends": package.depends,
            **package.fields,
            "Description": "stand-in for tests\n The name and relations of Docker's package, Debian's programs.",
        }
        (root / "DEBIAN/control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
        out_of("dpkg-deb", "--root-owner-group", "--build", str(root), str(out))


def sign(repository: Path, suite: str, key: Path) -> None:
    """Index the suite, and sign the index with a key that is made here."""
    architecture = out_of("dpkg", "--print-architecture")
    folder = repository / "dists" / suite
    index = folder / "stable" / f"binary-{architecture}/Packages"
    index.parent.mkdir(parents=True)
    index.write_text(out_of("apt-ftparchive", "packages", "pool", cwd=repository) + "\n")
    options = [f"APT::FTPArchive::Release::{one}" for one in _release(suite, architecture)]
    given = [word for option in options for word in ("-o", option)]
    release = out_of("apt-ftparchive", *given, "release", ".", cwd=folder)
    (folder / "Release").write_text(release + "\n")
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GNUPGHOME": home}

        def gpg(*argv: str) -> None:
            subprocess.run(["gpg", "--batch", "--yes", *argv], env=environment, cwd=folder, check=True)

        gpg("--passphrase", "", "--quick-generate-key", "stand-in <nobody@localhost>", "ed25519", "sign", "never")
        gpg("--clearsign", "--output", "InRelease", "Release")
        gpg("--armor", "--output", str(key), "--export")
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)


def _release(suite: str, architecture: str) -> Iterable[str]:
    return (f"Suite={suite}", f"Codename={suite}", "Components=stable", f"Architectures={architecture}")


def main(out: Path) -> None:
    repository = out / "debian"
    pool = repository / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for name in PACKAGES:
        build(name, pool)
    suite = out_of("sh", "-c", '. /etc/os-release; echo "$VERSION_CODENAME"')
    sign(repository, suite, repository / "gpg")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
