"""What systemd says of itself and of Docker's unit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.nas.nas_info import Observed, look

VERSION = "systemd 255 (255.4-1ubuntu8.8)\n+PAM +AUDIT +SELINUX\n"


def says(version: str = VERSION, reload: str = "no\n", code: int = 0) -> Observed:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        answers = {"--version": version, "show": reload}
        return code, answers[argv[1]], "no bus"

    return look(run)


def test_what_is_there() -> None:
    found = says()
    assert (found.systemd, found.needs_reload) == (255, False)
    assert says(reload="yes\n").needs_reload


def test_what_does_not_answer_is_named() -> None:
    with pytest.raises(GpusteadError, match=r"systemctl .*ended with 1 \(no bus\)"):
        says(code=1)
    with pytest.raises(GpusteadError, match="says no version"):
        says(version="upstart")
