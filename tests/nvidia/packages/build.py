#!/usr/bin/env python3
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Build a signed apt repository like NVIDIA's, with the stand-ins of the container toolkit.

build.py OUT VERSION…: OUT/gpgkey and OUT/stable/deb/<arch>/, a flat repository with the four packages in each version.
The key is made here and thrown away with OUT. Needs dpkg-deb, apt-ftparchive and gpg.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLKIT = HERE.parent / "standins/toolkit.py"
UNITS = ("nvidia-cdi-refresh.path", "nvidia-cdi-refresh.service")
# Names of programs by package; all of them are one file.
PROGRAMS = {
    "nvidia-container-toolkit-base": ("nvidia-ctk", "nvidia-container-runtime", "nvidia-cdi-hook"),
    "nvidia-container-toolkit": ("nvidia-container-runtime-hook",),
    "libnvidia-container-tools": ("nvidia-container-cli",),
    "libnvidia-container1": (),
}
DEPENDS = {
    "nvidia-container-toolkit-base": "python3",
    "nvidia-container-toolkit": "libnvidia-container-tools (>= {version}), libnvidia-container-tools (<< 2.0.0), "
    "nvidia-container-toolkit-base (= {version})",
    "libnvidia-container-tools": "libnvidia-container1 (>= {version})",
    "libnvidia-container1": "libc6",
}
# The real ones come with units that write the CDI specification from this version on.
REFRESHES = (1, 18)
POSTINST = """#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
/usr/bin/nvidia-ctk --quiet config --config-file=/etc/nvidia-container-runtime/config.toml --in-place
"""
REFRESH = """systemctl daemon-reload
systemctl enable --now nvidia-cdi-refresh.path || echo 'Warning: Failed to enable nvidia-cdi-refresh.path' >&2
systemctl enable --now nvidia-cdi-refresh.service || echo 'Warning: Failed to enable nvidia-cdi-refresh.service' >&2
"""


def architecture() -> str:
    return subprocess.run(
        ["dpkg", "--print-architecture"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def build(package: str, version: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        control = root / "DEBIAN"
        control.mkdir()
        fields = {
            "Package": package,
            "Version": version,
            "Architecture": architecture(),
            "Section": "utils",
            "Priority": "optional",
            "Maintainer": "gpustead developers <nobody@localhost>",
            "Depends": DEPENDS[package].format(version=version),
            "Description": "stand-in for tests\n It has the name and the commands of NVIDIA's package, not its code.",
        }
        (control / "control").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
        for name in PROGRAMS[package]:
            path = root / "usr/bin" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TOOLKIT.read_text().replace("@VERSION@", version.rpartition("-")[0]))
            path.chmod(0o755)
        if package == "nvidia-container-toolkit-base":
            add_base(root, version)
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", folder, str(out)], check=True)


def add_base(root: Path, version: str) -> None:
    script = POSTINST
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) >= REFRESHES:
        script += REFRESH
        units = root / "usr/lib/systemd/system"
        units.mkdir(parents=True)
        for unit in UNITS:
            shutil.copy(HERE / unit, units)
    (root / "DEBIAN/postinst").write_text(script)
    (root / "DEBIAN/postinst").chmod(0o755)


def sign(out: Path, folder: Path) -> None:
    """Index the folder and sign the index with a key made for it."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GNUPGHOME": home}

        def gpg(*argv: str) -> None:
            subprocess.run(["gpg", "--batch", "--yes", *argv], env=environment, cwd=folder, check=True)

        def index(*argv: str) -> str:
            command = ["apt-ftparchive", *argv, "."]
            return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout

        (folder / "Packages").write_text(index("packages"))
        (folder / "Release").write_text(index("-o", "APT::FTPArchive::Release::Origin=stand-in", "release"))
        gpg("--passphrase", "", "--quick-generate-key", "stand-in <nobody@localhost>", "ed25519", "sign", "never")
        gpg("--clearsign", "--output", "InRelease", "Release")
        gpg("--armor", "--output", str(out / "gpgkey"), "--export")
        subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)


def main(out: Path, versions: list[str]) -> None:
    folder = out / "stable/deb" / architecture()
    folder.mkdir(parents=True, exist_ok=True)
    for version in versions:
        for package in PROGRAMS:
            build(package, version, folder)
    sign(out, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
