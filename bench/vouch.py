# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copies the receipts of this host for another of its names; see vouch.yml. Reads its request (JSON) from stdin."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
from pathlib import Path

request = json.load(sys.stdin)
source, target = Path(request["from"], "receipts"), Path(request["to"], "receipts")
os.umask(0o077)
target.mkdir(parents=True, exist_ok=True)
# The same salt: secrets among the outputs are digested with it.
salt = (source / ".salt").read_bytes()
(target / ".salt").write_bytes(salt)
for role, inputs in request["inputs"].items():
    receipt = json.loads((source / f"{role}.json").read_text())
    receipt["host"] = request["host"]
    receipt["inputs"] = {
        part: hmac.new(salt, f"{part}\0{digest}".encode(), hashlib.sha256).hexdigest()[:32]
        for part, digest in inputs.items()
    }
    (target / f"{role}.json").write_text(json.dumps(receipt))
