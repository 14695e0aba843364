# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The hosts of a run, from the file that BENCH_TARGETS names."""

from __future__ import annotations

import json
import os
from pathlib import Path

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
