# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates: from whom, for whom, and whether they last. Their dates pass, so they are no part of the value."""

from __future__ import annotations

import calendar
import hashlib
import re
import socket
import time
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Iterator

from ansible_collections.gpustead.cluster.plugins.module_utils.mesh import mesh_certificate as ssh_cert
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes.host import (
    Host,
    Subject,
    Value,
    each,
    path_of,
)

_DAY = 86400
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----")
_UNREADABLE = {"readable": False}
_ALTERNATIVE_NAME, _AUTHORITY_KEY = b"\x55\x1d\x11", b"\x55\x1d\x23"
_KINDS = {1: "user", 2: "host"}

_Element = tuple[int, bytes]  # tag and content of an element of DER


def _certificate(subject: Subject, host: Host) -> Value:
    data = host.read(path_of(subject))
    if data is None:
        return None
    until = host.now + int(subject.get("days", 30)) * _DAY
    return _ssh(subject, data, until, host) if subject.get("kind") == "ssh" else _x509(data, until, host)


def _ssh(subject: Subject, data: bytes, until: float, host: Host) -> Value:
    found = ssh_cert.parse_certificate(data.decode(errors="replace"))
    if found is None:
        return _UNREADABLE
    public = host.read(re.sub(r"-cert\.pub\Z", ".pub", path_of(subject))) or b""
    fingerprint = b2a_base64(hashlib.sha256(found.authority).digest(), newline=False).decode().rstrip("=")
    return {
        "issuer": f"SHA256:{fingerprint}",
        "type": _KINDS.get(found.kind, str(found.kind)),
        "key_id": found.key_id,
        "principals": sorted(found.principals),
        "for_key": found.public_key in _decoded(public.split()[1:2]),  # the host's own, which lies beside it
        "renewed": found.valid_from <= host.now and found.valid_until > until,
    }


def _decoded(words: list[bytes]) -> bytes:
    try:
        return a2b_base64(words[0]) if words else b""
    except Error:
        return b""


def _elements(data: bytes) -> Iterator[_Element]:
    """The elements that stand one after the other in DER; ValueError where it is none."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1] if at + 1 < len(data) else 0, at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data) or at > len(data):
            raise ValueError("ends too early")
        yield tag, data[at : at + length]
        at += length


def _first(data: bytes) -> bytes:
    for _tag, content in _elements(data):
        return content
    return b""


def _x509(data: bytes, until: float, host: Host) -> Value:
    """The first certificate of a PEM file. Its signature is checked by everyone who connects."""
    try:
        issuer, owner, start, end, extensions = _parsed(data)
        identifier = _first(extensions.get(_AUTHORITY_KEY, b""))
        return {
            "issuer": issuer,
            "issuer_key": next((content.hex() for tag, content in _elements(identifier) if tag == 0x80), ""),
            "subject": owner,
            "names": sorted(_alternatives(extensions.get(_ALTERNATIVE_NAME, b""))),
            "renewed": start <= _stamp(host.now) and end > _stamp(until),
        }
    except (ValueError, IndexError, Error):
        return _UNREADABLE


def _parsed(data: bytes) -> tuple[str, str, str, str, dict[bytes, bytes]]:
    """Issuer, subject, begin, end and extensions of the first certificate; ValueError and the like where it is none."""
    block = _BLOCK.search(data)
    ((_tag, whole),) = _elements(a2b_base64(block.group(1)) if block else data)
    fields = [element for element in _elements(_first(whole)) if element[0] != 0xA0]  # the version
    (_serial, _algorithm, (_tag, issuer), (_tag, validity), (_tag, owner), _key, *rest) = fields
    start, end = (_moment(element) for element in _elements(validity))
    return _name(issuer), _name(owner), start, end, dict(_extensions(rest))


def last_day(data: bytes, kind: str = "x509") -> tuple[str, float] | None:
    """Of whom a certificate is (its subject, or the key id of SSH), and its end in seconds since the epoch.

    None where it is none. Those who renew certificates ask by their value; this is for who tells people.
    """
    if kind == "ssh":
        found = ssh_cert.parse_certificate(data.decode(errors="replace"))
        return (found.key_id, float(found.valid_until)) if found else None
    try:
        _issuer, owner, _start, end, _extensions = _parsed(data)
        return owner, float(calendar.timegm(time.strptime(end, "%Y%m%d%H%M%SZ")))
    except (ValueError, IndexError, Error):
        return None


def _stamp(moment: float) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(moment))


def _moment(element: _Element) -> str:
    """Times as text that compares; the short form has its century from RFC 5280."""
    text = element[1].decode("ascii")
    return text if element[0] == 0x18 else ("19" if text[:2] >= "50" else "20") + text


def _name(data: bytes) -> str:
    """The attributes of a distinguished name, in order, each with the end of its identifier: 3=common name."""
    parts = []
    for _tag, several in _elements(data):
        for _tag, attribute in _elements(several):
            (_tag, identifier), (tag, content) = _elements(attribute)
            parts.append(f"{identifier[-1]}={content.decode('utf-16-be' if tag == 0x1E else 'utf-8', 'replace')}")
    return ", ".join(parts)


def _extensions(rest: list[_Element]) -> Iterator[tuple[bytes, bytes]]:
    for tag, content in rest:
        if tag == 0xA3:
            for _tag, extension in _elements(_first(content)):
                parts = list(_elements(extension))  # identifier, perhaps whether it is critical, value
                yield parts[0][1], parts[-1][1]


def _alternatives(data: bytes) -> Iterator[str]:
    for tag, content in _elements(_first(data)):
        if tag == 0x87:
            yield "IP:" + socket.inet_ntop(socket.AF_INET6 if len(content) == 16 else socket.AF_INET, content)
        elif tag in (0x81, 0x82, 0x86):
            yield {0x81: "email:", 0x82: "DNS:", 0x86: "URI:"}[tag] + content.decode(errors="replace")


certificate = each(_certificate)
