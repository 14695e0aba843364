"""Which runtimes of containers have a hole that is known."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.runtime import is_open, judge_runtime


@pytest.mark.parametrize(
    "version", ["1.0.0-rc93", "1.1.5", "1.1.15", "v1.2.7", "1.3.0", "1.3.2", "1.4.0-rc.1", "1.4.0-rc2"]
)
def test_those_that_let_root_out(version: str) -> None:
    assert is_open(version)
    (said,) = judge_runtime([{"Name": "Engine", "Version": "1.0.0"}, {"Name": "runc", "Version": version}])
    assert said.what.startswith(f"is {version}, in which root in a container becomes root of the host")


@pytest.mark.parametrize(
    "version",
    ["1.2.8", "1.2.9", "1.3.3", "1.4.0", "1.4.0-rc.3", "1.5.1", "2.0.0", "1.1.5+ds1", "1.3.0-0ubuntu2", "", "9" * 5000],
)
def test_those_that_do_not_or_of_which_nothing_is_known(version: str) -> None:
    assert not is_open(version)
    assert judge_runtime([{"Name": "runc", "Version": version}, {"Name": "runc"}, {}]) == []
