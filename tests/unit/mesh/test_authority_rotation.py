# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A new authority in the place of the old one, with real keys: no step leaves out a node, and a kill is made good."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import authority_rotation, host_keys
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.authority_rotation import (
    NodeTrust,
    Rotation,
    next_of,
    rotate,
    trusted,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.mesh_certificate import (
    DesiredCertificate,
    ensure_authority,
    sign,
    unlocked,
)
from ansible_collections.gpustead.cluster.plugins.modules import mesh_rotation

PASSPHRASE = "correct horse"
NODES = ("a", "b")


class Cluster:
    """Nodes that do what role ssh_mesh would, one by one."""

    def __init__(self, top: Path) -> None:
        self.top, self.key = top, top / "ca"
        self.nodes = dict.fromkeys(NODES, NodeTrust("", ""))
        with unlocked(PASSPHRASE) as (run, _work):
            ensure_authority(run, self.key, PASSPHRASE, False)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(top / "host")], check=True)

    @property
    def public(self) -> str:
        """What the private key says."""
        with unlocked(PASSPHRASE) as (run, _work):
            return ensure_authority(run, self.key, PASSPHRASE, True)[0]

    def site(self, *nodes: str) -> None:
        public = self.public
        lines = "".join(f"@cert-authority * {line}\n" for line in (public, *trusted(self.key)))
        for node in nodes:
            if not self.nodes[node].is_signed_by(public) or not self.nodes[node].certificate:
                wanted = DesiredCertificate((self.top / "host.pub").read_text(), public, node, (node,), 300, 30)
                with unlocked(PASSPHRASE) as (run, work):
                    self.nodes[node] = NodeTrust(lines, sign(run, self.key, wanted, work))
            self.nodes[node] = NodeTrust(lines, self.nodes[node].certificate)

    def step(self, *silent: str, begin: bool = False, check: bool = False) -> Rotation:
        nodes: Mapping[str, NodeTrust | None] = {
            name: None if name in silent else node for name, node in self.nodes.items()
        }
        with unlocked(PASSPHRASE) as (run, _work):
            return rotate(run, self.key, PASSPHRASE, nodes, begin=begin, check=check)

    def all_trust_all(self) -> bool:
        """Whether each trusts the authority that has signed each."""
        publics = [self.public, *trusted(self.key)]
        signers = [public for public in publics for node in self.nodes.values() if node.is_signed_by(public)]
        return len(signers) >= len(self.nodes) and all(
            node.trusts(public) for node in self.nodes.values() for public in signers
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    made.site(*NODES)
    assert made.all_trust_all()
    yield made


def test_from_one_to_the_next(cluster: Cluster) -> None:
    old = cluster.public
    assert cluster.step() == Rotation("none")
    assert cluster.step(begin=True) == Rotation("trusted", True, list(NODES))
    assert cluster.public == old and len(trusted(cluster.key)) == 1
    for node in NODES:
        cluster.site(node)
        assert cluster.all_trust_all()
    assert cluster.step() == Rotation("signed", True, list(NODES))
    assert cluster.public != old and trusted(cluster.key) == [" ".join(old.split()[:2])]
    for node in NODES:
        cluster.site(node)
        assert cluster.all_trust_all()
    assert cluster.step() == Rotation("none", True)
    cluster.site(*NODES)
    assert cluster.all_trust_all() and trusted(cluster.key) == []
    assert not any(node.trusts(old) for node in cluster.nodes.values())
    assert sorted(path.name for path in cluster.top.iterdir()) == ["ca", "ca.pub", "host", "host.pub"]
    assert (cluster.top / "ca.pub").read_text().split()[:2] == cluster.public.split()[:2]
    assert cluster.key.stat().st_mode & 0o077 == 0


def test_a_node_that_is_down_holds_up_the_next_step_alone(cluster: Cluster) -> None:
    cluster.step(begin=True)
    cluster.site("a")
    for silent in ((), ("b",)):  # it has not heard of it, or does not answer
        assert cluster.step(*silent, begin=True) == Rotation("trusted", False, ["b"])
    cluster.site("a")
    assert cluster.all_trust_all()
    cluster.site("b")
    held = cluster.step("b")  # it may be another by now
    assert held.step == "trusted" and "nodes trust the next one as well: this waits for b. Run it" in str(held)
    assert cluster.step().step == "signed"
    cluster.site("a")
    assert cluster.step("b", begin=True) == Rotation("signed", False, ["b"])
    assert cluster.all_trust_all()
    cluster.site("b")
    assert cluster.step() == Rotation("none", True)


def test_a_check_does_nothing(cluster: Cluster) -> None:
    before = {path.name: path.read_bytes() for path in cluster.top.iterdir()}
    assert cluster.step(begin=True, check=True) == Rotation("trusted", True, list(NODES))
    assert {path.name: path.read_bytes() for path in cluster.top.iterdir()} == before


class Killed(Exception):
    pass


@pytest.mark.parametrize("turn", range(3))
def test_killed_while_it_takes_the_old_ones_place_the_next_run_goes_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    old = cluster.public
    cluster.step(begin=True)
    cluster.site(*NODES)
    left, replace, write = [turn], Path.replace, host_keys.replace_whole

    def counted() -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    def replaces(path: Path, target: Path) -> Path:
        counted()
        return replace(path, target)

    def writes(path: Path, text: str) -> None:
        counted()
        write(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replaces)
        patch.setattr(authority_rotation, "replace_whole", writes)
        with pytest.raises(Killed):
            cluster.step()
    assert (cluster.public == old) is (turn < 2) is next_of(cluster.key).exists()
    cluster.site("a")  # somebody runs the site in between
    assert cluster.all_trust_all()
    # Once it was begun, who does not answer does not hold it up.
    assert cluster.step(*(["b"] if turn else [])).step == "signed"
    assert cluster.public != old and trusted(cluster.key) == [" ".join(old.split()[:2])]
    assert (cluster.top / "ca.pub").read_text().split()[:2] == cluster.public.split()[:2]
    assert sorted(path.name for path in cluster.top.iterdir() if "host" not in path.name) == [
        *("ca", "ca.former", "ca.pub")
    ]


def test_without_an_authority_or_its_passphrase_nothing_is_begun(cluster: Cluster) -> None:
    def run(_argv: Sequence[str]) -> tuple[int, str, str]:
        return 255, "", "incorrect passphrase supplied to decrypt private key"

    with pytest.raises(GpusteadError, match="incorrect passphrase"):
        rotate(run, cluster.key, "another horse", {}, begin=True, check=False)
    with pytest.raises(GpusteadError, match=r"Run site\.yml first"):
        rotate(run, cluster.top / "other", PASSPHRASE, {}, begin=True, check=False)
    assert os.listdir(cluster.top).count("ca.next") == 0


def test_half_an_authority_is_not_trusted(cluster: Cluster) -> None:
    following = next_of(cluster.key)
    following.with_name(f"{following.name}.pub").write_text("ssh-ed25519 AAAA next")
    assert trusted(cluster.key) == []


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"known_hosts": "YQ==", "certificate": "Yg=="}, NodeTrust("a", "b")),
        ({"known_hosts": "YQ==", "certificate": ""}, None),
        ({}, None),
        ({"known_hosts": "YQ==", "certificate": "A"}, None),  # as root of a node may have it
        ({"known_hosts": ["a"], "certificate": "é"}, None),
    ],
)
def test_what_a_node_says_holds_up_no_more_than_itself(given: dict[str, Any], found: NodeTrust | None) -> None:
    assert mesh_rotation.trust_of(given) == found


def test_a_line_of_another_kind_is_no_trust() -> None:
    key = "ssh-ed25519 AAAA"
    assert NodeTrust(f"@cert-authority * {key} comment\n", "").trusts(f"{key} another")
    for line in (f"@revoked * {key}", f"* {key}", f"@cert-authority * {key}B", ""):
        assert not NodeTrust(line, "").trusts(key)
    assert not NodeTrust("", "rubbish").is_signed_by(key)
