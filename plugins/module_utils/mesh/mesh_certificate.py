# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ed25519 host certificates of OpenSSH: read one, decide whether it is due, sign a new one."""

from __future__ import annotations

import base64
import binascii
import contextlib
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run, must, within

DAY = 86400
_CERTIFICATE_TYPE = "ssh-ed25519-cert-v01@openssh.com"
_HOST = 2


@dataclass(frozen=True)
class Certificate:
    public_key: bytes  # the 32 bytes of the key that is certified
    authority: bytes  # wire form of the key that signed
    kind: int
    key_id: str
    principals: tuple[str, ...]
    valid_from: int
    valid_until: int


@dataclass(frozen=True)
class DesiredCertificate:
    """What a certificate is to be.

    `principals` are in small letters, however they are given: so OpenSSH writes host names and HostKeyAlias before it
    looks for them in a certificate (ssh.c, lowercase), and there it tells letters apart.
    """

    public_key: str  # lines as in a .pub file
    authority: str
    key_id: str
    principals: tuple[str, ...]
    days: int
    renew_days: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "principals", tuple(dict.fromkeys(name.lower() for name in self.principals)))
        if not 0 < self.renew_days < self.days:
            raise GpusteadError(
                f"renewal {self.renew_days} days before the end of {self.days} days",
                "less than the validity, and at least one day",
                "Correct the two numbers.",
            )
        bad = [name for name in self.principals if not name or "," in name or name.split() != [name]]
        if bad or not self.principals:
            raise GpusteadError(
                f"principals {list(self.principals)}",
                "at least one name, without commas and spaces",
                "Correct the names of the host.",
            )


class _Reader:
    """Cursor over the wire format of RFC 4251."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise ValueError("ends too early")
        self._at += count
        return self._data[self._at - count : self._at]

    def string(self) -> bytes:
        return self.take(self.number(">I"))

    def number(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def end(self) -> bool:
        return self._at == len(self._data)


def key_blob(line: str) -> bytes:
    """The wire form of the key in a line such as ``ssh-ed25519 AAAA… comment``."""
    fields = line.split()
    try:
        return base64.b64decode(fields[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise GpusteadError(
            f"public key {line.strip()[:40]!r}", "a line 'type base64 comment'", "Remove the damaged key."
        ) from error


def parse_certificate(line: str) -> Certificate | None:
    """Read a certificate; None where there is none, or none that can be read (it is then replaced)."""
    try:
        reader = _Reader(key_blob(line))
        if reader.string().decode() != _CERTIFICATE_TYPE:
            return None
        reader.string()  # nonce
        public_key = reader.string()
        reader.number(">Q")  # serial
        kind = reader.number(">I")
        key_id = reader.string().decode()
        names = _Reader(reader.string())
        principals = []
        while not names.end():
            principals.append(names.string().decode())
        valid_from, valid_until = reader.number(">Q"), reader.number(">Q")
        for _unused in ("critical options", "extensions", "reserved"):
            reader.string()
        authority = reader.string()
        reader.string()  # signature: checked by everyone who connects
    except (GpusteadError, ValueError):
        return None
    return Certificate(public_key, authority, kind, key_id, tuple(principals), valid_from, valid_until)


def reason_to_sign(current: Certificate | None, desired: DesiredCertificate, now: float) -> str:
    """Why a new certificate is due; empty when the current one is what is desired."""
    if current is None:
        return "there is none"
    key = _Reader(key_blob(desired.public_key))
    key.string()  # its type
    left = current.valid_until - now
    faults = {
        "it is not a host certificate": current.kind != _HOST,
        "the host has another key": current.public_key != key.string(),
        "another authority signed it": current.authority != key_blob(desired.authority),
        f"it is for {current.key_id} ({', '.join(current.principals)})": (
            current.key_id != desired.key_id or set(current.principals) != set(desired.principals)
        ),
        "it is not valid yet": current.valid_from > now,
        f"it ends in {max(0, int(left // DAY))} days": left < desired.renew_days * DAY,
        f"it is valid for more than {desired.days} days": left > (desired.days + 1) * DAY,
    }
    return next((reason for reason, found in faults.items() if found), "")


@contextlib.contextmanager
def unlocked(passphrase: str) -> Iterator[tuple[Run, Path]]:
    """Commands whose questions are answered with the passphrase, and a private directory to work in.

    The answers come from a script that does not contain it.
    """
    with tempfile.TemporaryDirectory(prefix="gpustead-") as work:
        script = Path(work, "askpass")
        script.write_text("#!/bin/sh\nprintf '%s\\n' \"$GPUSTEAD_PASSPHRASE\"\n")
        script.chmod(0o700)
        answers = {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force", "GPUSTEAD_PASSPHRASE": passphrase}
        yield within(60, environment=answers), Path(work)


def ensure_authority(run: Run, key: Path, passphrase: str, check_mode: bool) -> tuple[str, bool]:
    """Public key of the authority, and whether it is new. `run` answers questions with the passphrase.

    The public key is taken from the private one each time: that checks the passphrase before any signing.
    """
    if len(passphrase) < 12 or not passphrase.isprintable():
        remedy = "Set a longer one in cluster_ca_passphrase, in a vault."
        raise GpusteadError(f"the passphrase of {key}", "at least 12 printable characters", remedy)
    if key.exists():
        remedy = f"Set the passphrase that {key} was made with, or restore the file from a backup."
        return must(run, ["ssh-keygen", "-y", "-f", str(key)], remedy=remedy).strip(), False
    if check_mode:
        return "", True
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    work = key.with_name(f".{key.name}.new")
    work_public, public = (path.with_name(path.name + ".pub") for path in (work, key))
    for leftover in (work, work_public):
        leftover.unlink(missing_ok=True)
    remedy = "See that OpenSSH 8.4 or newer is installed on the controller."
    must(run, ["ssh-keygen", "-q", "-t", "ed25519", "-C", key.name, "-f", str(work)], remedy=remedy)
    work_public.replace(public)
    work.rename(key)  # last: where the private key is, the work was done
    return public.read_text().strip(), True


def sign(run: Run, authority: Path, desired: DesiredCertificate, work: Path) -> str:
    """Sign in the private directory `work` and return the certificate."""
    public = work / "host.pub"
    public.write_text(desired.public_key.strip() + "\n")
    # One hour back, for nodes whose clock is a little behind.
    validity = ["-V", f"-1h:+{desired.days}d"]
    names = ["-I", desired.key_id, "-n", ",".join(desired.principals)]
    argv = ["ssh-keygen", "-q", "-s", str(authority), "-h", *names, *validity, str(public)]
    must(run, argv, remedy=f"Look at {authority} and its passphrase.")
    return (work / "host-cert.pub").read_text()
