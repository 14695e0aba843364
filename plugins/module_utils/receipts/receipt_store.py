# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The receipts that lie on a host, and what is noted of runs that left none: those that were killed, or failed."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import receipts


class ReceiptStore:
    """The receipts of this host, in `<state dir>/receipts`, for root alone.

    Of each role: `<role>.json` vouches; `<role>.last` is the one before, once a run has begun; `<role>.run` names the
    run that may write the next, what that run is made with, what runs have left since that receipt, and what the last
    of them had to leave undone.
    """

    def __init__(self, state_dir: str) -> None:
        self.folder = os.path.join(state_dir, "receipts")
        self.salt_file = os.path.join(self.folder, ".salt")

    def path(self, role: str, suffix: str = "json") -> str:
        return os.path.join(self.folder, f"{role}.{suffix}")

    def roles(self) -> list[str]:
        try:
            return sorted(name[:-5] for name in os.listdir(self.folder) if name.endswith(".json"))
        except FileNotFoundError:
            return []

    def begun(self) -> list[str]:
        """The roles whose last runs left no receipt."""
        try:
            return sorted(name[:-4] for name in os.listdir(self.folder) if name.endswith(".run"))
        except FileNotFoundError:
            return []

    def salt(self) -> bytes:
        """The salt of this host; empty before the first role began."""
        try:
            with open(self.salt_file, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    def prepare(self) -> bytes:
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        os.chmod(self.folder, 0o700)
        if len(self.salt()) < 32:
            self.write(self.salt_file, os.urandom(32))
        return self.salt()

    def read(self, role: str, suffix: str = "json") -> receipts.Receipt:
        """A receipt.

        Raises:
            GpusteadError: there is none, or it cannot be used.
        """
        remedy = "The role runs again and writes a new one."
        try:
            with open(self.path(role, suffix), encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            raise GpusteadError(self._missing(role), "a receipt", remedy) from None
        except (OSError, UnicodeDecodeError) as error:
            raise GpusteadError("the receipt cannot be read", f"a file ({error})", remedy) from None
        receipt = receipts.parse(text)
        if receipt.role != role:
            raise GpusteadError(f"the receipt is of role {receipt.role}", f"one of {role}", remedy)
        return receipt

    def _missing(self, role: str) -> str:
        """Why there is no receipt."""
        noted = self._noted(role)
        if noted["ended"] and noted["nonce"] is None:
            return "it has not run here"
        if noted["ended"] or self._has_come_to(noted):
            return "its last run did not come to its end, or was a part of it"
        return "a run ended before it came to this role"

    def run(self, role: str) -> dict[str, Any]:
        """The run that began last, if it left no receipt.

        `nonce`; `inputs`: what the role is run with (salted); `found`: what was there of its outputs; `outputs`: what
        runs may have left since the last receipt; `unfinished`: whether one of them has not come to its end; `refused`:
        what it had to leave undone, as reasons.
        """
        noted = self._noted(role)
        if noted["ended"]:
            return {**noted, "unfinished": False}
        # One that came no further than to a role before this one has left what there was before it.
        if self._has_come_to(noted):
            return {**noted, "unfinished": True}
        return {**noted, "outputs": noted["earlier"], "refused": noted["undone"]}

    def _noted(self, role: str) -> dict[str, Any]:
        """That run as it was noted; nothing where there is none.

        `ended`: whether it came to its end; `goes_on`: whether the roles after it ran then; `before`: the roles that
        began with it and run before it; `earlier`, `undone`: `outputs` and `refused` of the runs before this one.
        """
        nothing: dict[str, Any] = {
            "nonce": None,
            "inputs": {},
            "found": {},
            "outputs": [],
            "earlier": [],
            "undone": [],
            "before": [],
            "unfinished": False,
            "ended": False,
            "goes_on": False,
            "refused": [],
        }
        try:
            with open(self.path(role, "run"), encoding="utf-8") as file:
                return {**nothing, **json.load(file)}
        except FileNotFoundError:
            return {**nothing, "ended": True}
        except (ValueError, TypeError):
            return nothing

    def _has_come_to(self, noted: Mapping[str, Any]) -> bool:
        """Whether a run that was noted has begun with the role itself: those before it have ended."""
        others = map(self._noted, noted["before"])
        return all(other["goes_on"] or other["nonce"] != noted["nonce"] for other in others)

    def last(self, role: str) -> receipts.Receipt | None:
        try:
            return self.read(role, "last")
        except GpusteadError:
            return None

    def newest(self, role: str) -> receipts.Receipt | None:
        """The receipt, else the one before."""
        try:
            return self.read(role)
        except GpusteadError:
            return self.last(role)

    def note(self, role: str, run: Mapping[str, Any]) -> None:
        self.write(self.path(role, "run"), json.dumps(run).encode())

    def remove(self, role: str) -> None:
        """Remove the receipt; something else in its place is put aside, since nothing of it is ours."""
        path = self.path(role)
        if os.path.isdir(path) and not os.path.islink(path):
            os.rename(path, f"{path}.{time.time_ns()}.aside")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def write(self, path: str, content: bytes) -> None:
        """In one step: whoever reads sees the old file or the new one."""
        draft = f"{path}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except OSError:  # a full disk is not made fuller
            os.unlink(draft)
            raise
