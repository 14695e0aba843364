"""Which containers of a compose project are recreated."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.containers import to_recreate

DRIFTED = ["file /x", "container p/ssh", "container p-bob/jupyter", "container p/web"]


@pytest.mark.parametrize(
    ("drifted", "replaced", "expected"),
    [
        ([], [], []),
        (DRIFTED, [], ["ssh", "web"]),
        (DRIFTED, ["home-bob"], ["ssh", "web"]),
        # They all still see what was mounted there before.
        ([], ["home"], ["jupyter", "ssh", "web"]),
    ],
)
def test_containers_that_run_otherwise_are_recreated(
    drifted: list[str], replaced: list[str], expected: list[str]
) -> None:
    assert to_recreate("p", ["jupyter", "ssh", "web"], drifted, ["home", "shared"], replaced) == expected
