# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hosts of a run, from the file that BENCH_TARGETS names."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from paramiko import Transport

if os.environ.get("BENCH_NODELAY"):
    # pyinfra's SSH library leaves Nagle's algorithm on, and every command waits 40 ms for a delayed acknowledgement.
    # Not what its users get, but what a line in it would give them.
    _start = Transport.__init__

    def _start_at_once(self: Transport, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _start(self, sock, *args, **kwargs)

    Transport.__init__ = _start_at_once

targets = json.loads(Path(os.environ["BENCH_TARGETS"]).read_text())
hosts = [
    (
        host["name"],
        {
            "ssh_hostname": host["address"],
            "ssh_user": "root",
            "ssh_key": targets["key"],
            "ssh_known_hosts_file": targets["known_hosts"],
            "ssh_strict_host_key_checking": "yes",
            "ssh_allow_agent": False,
            "ssh_look_for_keys": False,
            "desired": json.loads(Path(host["state"], "state.json").read_text()),
            "files": str(Path(host["state"], "files")),
        },
    )
    for host in targets["hosts"]
]
