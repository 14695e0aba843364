"""Which packages are installed, as dpkg tells."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.packages.dpkg import installed, lacking
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run

# As dpkg-query 1.21 prints them; what it never heard of is on its stderr alone.
DPKG = """\
hi  containerd.io 1.7.27-1
rc  docker-ce 5:28.0.1-1
ii  docker.io 26.1.5+dfsg1-9
iiR docker-cli 26.1.5
un  docker-compose\x20
iU  iptables 1.8.11-2
"""


def said(code: int, out: str = "", err: str = "") -> Run:
    return lambda argv: (code, out, err)


def test_what_is_installed_is_told_from_what_is_known_or_left_half_way() -> None:
    assert installed(said(1, DPKG), ["docker.io"]) == {"containerd.io": "1.7.27-1", "docker.io": "26.1.5+dfsg1-9"}
    assert installed(said(1, "", "dpkg-query: no packages found matching docker.io"), ["docker.io"]) == {}


def test_what_only_others_need_is_lacking_like_what_is_not_there() -> None:
    """apt takes it away with these: its module, too, marks what is named."""
    names = ["ufw", "iptables", "docker-cli", "docker.io"]
    assert lacking(said(0, "ufw\ndocker-cli\n"), names, ["ufw", "iptables"]) == ["iptables", "docker-cli", "docker.io"]
    assert lacking(said(127, "", "apt-mark: not found"), names, names) == names


def test_a_dpkg_that_fails_is_told() -> None:
    with pytest.raises(GpusteadError, match=r"ended with 2 \(dpkg-query: error: .* status\).*dpkg --audit"):
        installed(said(2, "", "dpkg-query: error: failed to open package info\nfile status"), ["docker.io"])
