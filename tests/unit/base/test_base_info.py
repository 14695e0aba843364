"""What role base goes by: release, age of the package lists, packages that apt has to look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.base.base_info import Observed, look
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host

NOW = 1_800_000_000.0
STATUS = """Package: dpkg
Status: install ok installed
Architecture: amd64

Package: acl
Status: install ok installed
Architecture: amd64

Package: make
Status: install ok installed
Architecture: amd64

Package: gone
Status: deinstall ok config-files
Architecture: amd64
"""
AUTO = "Package: acl\nArchitecture: amd64\nAuto-Installed: 0\n\nPackage: make\nArchitecture: amd64\nAuto-Installed: 1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("etc", "var/lib/dpkg", "var/lib/apt/lists", "var/lib/apt/periodic"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\n')
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    return tmp_path


def at(root: Path) -> Host:
    return Host(str(root), now=NOW)


def test_a_fresh_host(root: Path) -> None:
    assert look(["acl"], at(root)) == Observed("ubuntu 24.04", None, [])
    (root / "var/lib/apt/lists").rmdir()
    assert look([], at(root)).lists_age is None


def test_the_age_of_the_lists(root: Path) -> None:
    lists, stamp = root / "var/lib/apt/lists", root / "var/lib/apt/periodic/update-success-stamp"
    (lists / "deb.debian.org_dists_trixie_main_binary-amd64_Packages").write_text("")
    os.utime(lists, (NOW - 500, NOW - 500))
    assert look([], at(root)).lists_age == 500
    stamp.write_text("")
    os.utime(stamp, (NOW - 90, NOW - 90))
    assert look([], at(root)).lists_age == 90


def test_which_packages_apt_has_to_look_at(root: Path) -> None:
    packages = ["acl", "acl:amd64", "acl=2.*", "make", "gone", "never"]
    assert look(packages, at(root)).missing == ["acl=2.*", "gone", "never"]
    (root / "var/lib/apt/extended_states").write_text(AUTO)
    assert look(packages, at(root)).missing == ["acl=2.*", "make", "gone", "never"]


@pytest.mark.parametrize("text", ['ID=debian\nVERSION_ID="11"\n', "ID=arch\n", ""])
def test_a_release_that_is_not_known(root: Path, text: str) -> None:
    (root / "etc/os-release").write_text(text)
    with pytest.raises(GpusteadError, match="expected one of debian 12, debian 13, ubuntu"):
        look([], at(root))
