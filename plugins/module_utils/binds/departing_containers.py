# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Containers that Docker leaves running when a host goes down: ended while what they write to is still there.

With live-restore Docker ends none of them when it stops, and systemd none before all else has stopped (runc makes their
scopes without its default dependencies). A container that has files open on a share without a network then keeps the
host from going down, and loses what it has not written yet.
"""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.run import run

_SCOPES = "docker-*.scope"
_ANSWERING = 10.0  # seconds for systemd to say how it is
_ENDING = 20.0  # seconds for containers to end by themselves, as long as Docker gives them at most by default


def end() -> None:
    """End all containers of Docker's where the host is going down, and Docker has stopped. Otherwise they stay.

    They are not Docker's to stop: those that it is told to stop it does not start again at the next boot.
    """
    if run(["systemctl", "is-system-running"], _ANSWERING)[1].strip() != "stopping":
        return
    run(["systemctl", "stop", "--", _SCOPES], _ENDING)
    run(["systemctl", "kill", "--signal=KILL", "--", _SCOPES], _ANSWERING)
