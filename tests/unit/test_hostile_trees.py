"""Whatever lies in a home, on the share or in a local place, and changes meanwhile: root touches nothing outside.

5,000 trees in all. GPUSTEAD_FUZZ_SEED and GPUSTEAD_FUZZ_TREES choose others, and another number.
"""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import apply_authorized_keys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts import renumber_files as accounts_files
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.authorized_keys import DesiredKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.accounts.host_accounts import Renumbering
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.bind import Bind
from ansible_collections.gpustead.cluster.plugins.module_utils.binds.observe_place import open_place
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas import apply_nas_files, nas_files, node_records
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import probes
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import local_place
from ansible_collections.gpustead.cluster.tests.unit.hostile_trees import (
    ADA,
    ADAS_NEXT,
    BOB,
    CARL,
    SERVICE,
    Canary,
    Names,
    attacked,
    plant,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="takes the ids of other users")
SEED = int(os.environ.get("GPUSTEAD_FUZZ_SEED", "17"))
TREES = int(os.environ.get("GPUSTEAD_FUZZ_TREES", "5000"))
SLOWEST = 15  # seconds for one call, on a machine that does other work too: it must not wait for an account
WHO = Identity(ADA, ADA)

HOME = Names((".ssh", "a", "a/b"), (".ssh/authorized_keys", ".ssh/x", "a/b/file", "a/x", "file"))
# One in which nobody else writes, as sshd wants it.
OWN = Names(HOME.directories, HOME.entries, (ADA, ADA, ADA, 0), (0o755, 0o700, 0o755, 0o777))
SHARE = Names(
    (".cluster", "users", "users/ada"),
    ("users/ada/token", "users/ada/link", ".cluster/images.json"),
    (SERVICE, SERVICE, SERVICE, ADA, 0),
)
RECORDS = Names(
    (".cluster", ".cluster/nodes"), (".cluster/nodes/a.json", ".cluster/nodes/b.json", ".cluster/nodes/.c.json")
)
PLACE = Names(("cache", "vscode-server"), ("cache/file", "cache", "vscode-server"))

RENUMBERING = Renumbering("ada", (ADA,), (ADA,), ADAS_NEXT, ADAS_NEXT, True, "/home/ada", ("/home",))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1fyk4lzHXzWnMPJLmtlhkbCbzFYVBbCYyUS3mTWfBm ada@laptop"


def entry(path: str, state: str, owner: int = ADA, mode: str = "0640", **more: Any) -> nas_files.ShareEntry:
    return nas_files.parse({"path": path, "state": state, "owner": owner, "group": owner, "mode": mode, **more})


MADE = [
    entry("users", "directory", SERVICE, "0755"),
    entry("users/ada", "directory", mode="0700", through=SERVICE),
    entry("users/ada/token", "file", generate=32, mode="0600"),
    entry(".cluster/images.json", "file", SERVICE, content="new\n"),
]
REMOVED = [
    entry(".cluster/images.json", "existing", SERVICE, "0600", former=[ADA]),
    entry("users/ada/link", "link", target="/local/x", mode=""),
    entry("users/ada/token", "absent"),
]


def make(entries: list[nas_files.ShareEntry]) -> Callable[[Path], object]:
    """All entries, also after one was refused."""
    return lambda top: apply_nas_files.apply_all(str(top), entries, False, 10, refused=[], trusted=(SERVICE,))


def replace(top: Path) -> None:
    def work() -> None:
        with as_account.parent(str(top), ".ssh/authorized_keys") as (directory, name):
            as_account.put(directory, name, b"new\n", 0o600)

    with contextlib.suppress(PermissionError):
        as_account.run(work, WHO, timeout=10)


def authorize(top: Path) -> object:
    desired = DesiredKeys("ada", ADA, ADA, str(top), keys=(KEY,), exclusive=len(top.name) % 2 == 0)
    return apply_authorized_keys.apply_as_account(desired, False)


def retire(top: Path) -> object:
    return apply_authorized_keys.retire_as_account(DesiredKeys("ada", ADA, ADA, str(top)))


def take_in(top: Path) -> object:
    """Settings, as they are copied."""
    tree = local_place.collect(
        local_place.PlaceOwner(top.name, ADA, ADA, str(top.parent)), [".ssh", "a/b/file", "file"]
    )
    return [base64.b64decode(one["data"] or "") for one in tree.values()]


def keep_a_place(top: Path) -> object:
    account = local_place.PlaceOwner(top.name, ADA, ADA)
    return local_place.apply(str(top.parent), account, ["cache", "vscode-server"], None, False)


def open_for_a_container(top: Path) -> None:
    """What is opened is mounted: it must be ada's, and in the tree."""

    def work() -> list[Any]:
        place = open_place(Bind("home-ada", str(top), "users/ada", ADA))
        return [os.fstat(place).st_uid, os.readlink(f"/proc/self/fd/{place}")]

    uid, path = as_account.run(work, Identity(0, 0), timeout=10)
    assert uid == ADA
    assert path.startswith(f"{top}/")


def probe(top: Path) -> object:
    specs: list[probes.Spec] = [
        ("file", {"name": f"{top}/a/b/file", "as": str(ADA)}),
        ("tree", {"name": f"{top}/a", "as": str(ADA)}),
        *(
            ("lines", {"name": f"{top}/{path}", "below": str(top), "lines": ["x"], "exclusive": True, "as": str(ADA)})
            for path in (".ssh/authorized_keys", "a/x")
        ),
    ]
    values = probes.observe(specs, probes.Host(), timeout=10)
    assert sorted(values) == sorted(f"{kind} {subject['name']}" for kind, subject in specs)
    return values


@dataclass(frozen=True)
class Target:
    """A way in which root works on what is not root's; `share` of the trees is for it."""

    name: str
    names: Names
    call: Callable[[Path], object]
    share: float
    attacker: int = BOB


TARGETS = [
    Target("renumbers a home", HOME, lambda top: accounts_files.renumber_files(str(top), RENUMBERING), 0.16),
    Target(
        "renumbers the home of who attacks",
        OWN,
        lambda top: accounts_files.renumber_files(str(top), RENUMBERING),
        0.16,
        ADA,
    ),
    Target("authorizes keys", HOME, authorize, 0.08),
    Target("authorizes keys of who attacks", OWN, authorize, 0.08, ADA),
    Target("takes keys away", OWN, retire, 0.05, ADA),
    Target("reads a file", HOME, lambda top: as_account.read(str(top), "a/b/file", WHO, owner=ADA, timeout=10), 0.10),
    Target("replaces a file", HOME, replace, 0.05),
    Target("makes files on the share", SHARE, make(MADE), 0.06),
    Target("makes files where their owner attacks", SHARE, make(MADE), 0.04, ADA),
    Target("takes away from the share", SHARE, make(REMOVED), 0.04),
    Target("reads the records", RECORDS, lambda top: node_records.read_records(str(top), WHO, timeout=10), 0.04),
    Target("copies settings", OWN, take_in, 0.04, ADA),
    Target("makes places on the node", PLACE, keep_a_place, 0.04),
    Target("opens what containers bind", SHARE, open_for_a_container, 0.03),
    Target("looks for receipts", HOME, probe, 0.03),
]


@contextlib.contextmanager
def within_limits() -> Iterator[None]:
    """What would wait for an account, or read without end, is stopped: an exception that is not ours."""

    def stop(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"it took more than {SLOWEST} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    former = signal.signal(signal.SIGALRM, stop)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), hard))
    signal.alarm(SLOWEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def children_end(seconds: float = 10) -> bool:
    """Whether no child is left: one that was killed may take its time on a machine that does other work."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
        except ChildProcessError:
            return True
    return False


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A place in memory, where there is one, that others may pass."""
    memory = Path("/dev/shm")
    top = Path(tempfile.mkdtemp(prefix="gpustead-", dir=memory if os.access(memory, os.W_OK | os.X_OK) else None))
    top.chmod(0o711)
    yield top
    # Not by Python, which recurses.
    subprocess.run(["rm", "-rf", "--", str(top)], check=True)


def test_each_part_of_the_trees_is_for_somebody() -> None:
    assert sum(target.share for target in TARGETS) == pytest.approx(1)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_nothing_outside_changes_and_every_end_is_ours(target: Target, base: Path) -> None:
    folder = base / target.name.replace(" ", "-")
    folder.mkdir(mode=0o755)
    canary = Canary(base / f"{folder.name}-outside", CARL if target.attacker == ADA else ADA)
    descriptors = len(os.listdir("/proc/self/fd"))
    with attacked(folder, target.attacker, target.names, canary, SEED) as attacker:
        for number in range(1, round(TREES * target.share) + 1):
            where = f"tree {number} of seed {SEED}, {target.name}"
            top = folder / f"t{number}"
            plant(top, target.names, canary, Random(f"{SEED} {target.name} {number}"))
            attacker.at(number if number % 5 else 0)  # each fifth is left as it was planted
            try:
                with within_limits():
                    said = target.call(top)
            except GpusteadError as error:
                said = error
            except Exception as error:
                pytest.fail(f"{where}: {type(error).__name__}: {error}")
            assert canary.changed() == [], where
            assert canary.told(said) == [], where
    assert attacker.did() > 0
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
    assert children_end()
