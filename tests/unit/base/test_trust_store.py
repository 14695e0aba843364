"""When the bundle of authorities is made anew, and that all may read it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.base.trust_store import (
    BUNDLE,
    apply,
    observe_and_plan,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host

ONE, TWO = (f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n" for text in ("MIIone", "MIItwo"))
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="the bundle is root's")


class Store:
    """A host with a bundle and two authorities, and an update-ca-certificates that joins them."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked, self.code = root, list[list[str]](), 0
        self.bundle, self.local = root / BUNDLE[1:], root / "local"
        self.bundle.parent.mkdir(parents=True)
        self.local.mkdir()
        (self.local / "one.crt").write_text(ONE)
        (self.local / "two.crt").write_text(TWO)
        self.host = Host(str(root), run=self.run)

    def run(self, argv: Sequence[str], timeout: float) -> tuple[int, str, str]:
        self.asked.append(list(argv))
        self.bundle.write_text("".join(path.read_text() for path in sorted(self.local.iterdir())))
        self.bundle.chmod(0o600)
        return self.code, "", "no space"

    def update(self, *names: str, anew: bool = False) -> tuple[str, ...]:
        """What was the matter with it."""
        todo = observe_and_plan([f"/local/{name}" for name in names], anew, self.host)
        apply(todo, self.host)
        return todo.reasons


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@needs_root
def test_it_is_made_anew_where_it_lacks_something(store: Store) -> None:
    assert store.update("one.crt") == ("it is not there",)
    assert store.bundle.stat().st_mode & 0o777 == 0o644
    assert store.update("one.crt", "two.crt") == ()
    store.bundle.write_text(ONE)
    assert store.update("one.crt", "two.crt") == ("it lacks /local/two.crt",)
    assert store.update("one.crt", "two.crt") == ()
    assert store.asked == [["update-ca-certificates"]] * 2


@needs_root
def test_what_was_removed_takes_its_link_along(store: Store) -> None:
    store.update()
    (store.local / "two.crt").unlink()
    assert store.update("one.crt") == ()
    assert store.update("one.crt", anew=True) == ("authorities have changed",)
    assert store.asked[-1] == ["update-ca-certificates", "--fresh"] and store.bundle.read_text() == ONE


@needs_root
def test_everybody_can_read_it(store: Store) -> None:
    store.update()
    store.bundle.chmod(0o600)
    assert store.update() == ("not everybody can read it",)
    assert store.bundle.stat().st_mode & 0o777 == 0o644 and len(store.asked) == 1


def test_a_program_that_fails_is_told(store: Store) -> None:
    store.code = 1
    with pytest.raises(GpusteadError, match=r"update-ca-certificates .*ended with 1 \(no space\)"):
        store.update()


def test_a_file_that_is_yet_to_come_is_lacking(store: Store) -> None:
    store.bundle.write_text(ONE)
    assert observe_and_plan(["/local/three.crt"], False, store.host).reasons == ("it lacks /local/three.crt",)
