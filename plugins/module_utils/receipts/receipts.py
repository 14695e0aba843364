# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a role that has converged leaves on the host: what it was run with, and what its outputs looked like.

A receipt vouches for a role only while the role would be run with the same inputs, reads the same on the host, and
every output looks as it did when the role ended. Everything here is a pure function over values; `receipt_store`
reads and writes the files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import masked
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.kernel.mountinfo import HARMLESS

VERSION = 1

# (kind, subject): what to look at; see `probes`. A list when it comes from JSON.
Spec = tuple[str, Mapping[str, Any]]
# Id of an output ("file /etc/hosts") to what was seen: a flat object, or None where there is nothing.
Seen = Mapping[str, Any]

# Parts of the inputs that are code and no decision of the site's.
CODE = ("its file ", "the collection's plugins", "ansible-core", "collection ")
# The digest of a file that is not there.
ABSENT = "absent"
# Beside what a role reads, in reasons.
_READ = " (read by the role)"
# What must be seen where nothing else is asked for.
EXPECTED: Mapping[str, Mapping[str, Any]] = {
    "unit": {"enabled": "enabled", "active": "active"},
    "container": {"state": "running", "health": "ok"},
    "docker": {"answers": True},
    "gluster": {"started": True},
    "bind": dict.fromkeys(HARMLESS, True),
    "package": {"installed": True},
    "certificate": {"readable": True, "renewed": True, "for_key": True},
}
# What stays when it is no longer declared: others may use it, or it holds data.
KEPT = frozenset({"package", "unit", "image", "tree", "docker", "ufw", "group", "mountpoint", "contains"})


class Receipt(NamedTuple):
    """One role's receipt on one host.

    `inputs` are digests (salted) of what the role was run with, by part ("variable x", "file y"); `reads` and
    `outputs` are what is looked at, `seen` what was there when the role ended, by id.
    """

    role: str
    host: str
    machine: str
    inputs: dict[str, str]
    reads: list[Spec]
    outputs: list[Spec]
    seen: dict[str, Any]

    def dump(self) -> str:
        return json.dumps({"version": VERSION, **self._asdict()}, indent=1, sort_keys=True) + "\n"

    @property
    def specs(self) -> list[Spec]:
        return [*self.reads, *self.outputs]


class Judgement(NamedTuple):
    """Whether a receipt vouches: no reasons, then it does. A reason is [subject, what is the matter with it].

    `drifted`: ids of outputs that differ.
    """

    reasons: list[list[str]]
    drifted: list[str]


class UnmetOutput(NamedTuple):
    """What no receipt may be written over: what it is, and whose own to change it is (`account`), if anybody's."""

    text: str
    account: str = ""

    @classmethod
    def of(cls, spec: Spec, text: str) -> UnmetOutput:
        return cls(f"{identify(spec)}: {text}", account_of(spec))

    def reason(self) -> list[str]:
        """As a reason why a role is stale, under the account's name."""
        name = self.account
        remedy = f"It is {name}'s own to change: see what runs in that name (ps -fu {name}; docker ps), run again."
        return [name, f"{self.text}: expected it to stay as the role leaves it. {remedy}"]


def identify(spec: Spec) -> str:
    """The id of what a spec looks at, such as ``file /etc/hosts``."""
    return f"{spec[0]} {spec[1]['name']}"


def account_of(spec: Spec) -> str:
    """Whose own to change it is: that account alone is stopped by what becomes of it; empty where it is the host's."""
    return str(spec[1].get("account") or "")


def parse(text: str) -> Receipt:
    """A receipt as `Receipt.dump` wrote it.

    Raises:
        GpusteadError: it is damaged, or of another version.
    """
    remedy = "The role runs again and writes a new one."
    try:
        data = json.loads(text)
        version = data.pop("version")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise GpusteadError("the receipt is damaged", f"version {VERSION} of it ({error})", remedy) from None
    if version != VERSION:
        raise GpusteadError(f"the receipt has version {version!r}", f"version {VERSION}", remedy)
    try:
        receipt = Receipt(**data)
        well_formed = (
            all(isinstance(value, str) for value in (receipt.role, receipt.host, receipt.machine))
            and all(isinstance(value, dict) for value in (receipt.inputs, receipt.seen))
            and all(
                isinstance(spec[0], str) and isinstance(spec[1], dict) and spec[1]["name"] for spec in receipt.specs
            )
            and all(identify(spec) in receipt.seen for spec in receipt.specs)
        )
    except (TypeError, KeyError, IndexError) as error:
        raise GpusteadError("the receipt is damaged", f"all of its fields ({error})", remedy) from None
    if not well_formed:
        raise GpusteadError("the receipt is damaged", "fields of the right types", remedy)
    return receipt


def salted(inputs: Mapping[str, str], salt: bytes) -> dict[str, str]:
    """The digests as they lie in a receipt: whoever reads it cannot try passwords against them elsewhere."""
    return {
        part: hmac.new(salt, f"{part}\0{digest}".encode(), hashlib.sha256).hexdigest()[:32]
        for part, digest in inputs.items()
    }


def with_new_files(inputs: Mapping[str, str], files: Mapping[str, str], salt: bytes) -> dict[str, str]:
    """A role's inputs (salted) at its end, with the files on the controller that it has made itself in between.

    A file that was there and has changed during the run counts as it was: the role may not have seen the change.
    """
    nothing = salted(dict.fromkeys(files, ABSENT), salt)
    made = {part: digest for part, digest in salted(files, salt).items() if inputs.get(part) == nothing[part]}
    return {**inputs, **made}


def judge(receipt: Receipt, host: str, machine: str, inputs: Mapping[str, str], seen: Seen) -> Judgement:
    """Compare a receipt with what the role would be run with now (`inputs`, salted) and with what is there now."""
    reasons: list[list[str]] = []
    if receipt.host != host:
        reasons.append(["receipt", f"it is of {receipt.host}, expected {host}"])
    if receipt.machine != machine:
        reasons.append(["receipt", "it is of another machine (machine-id)"])
    reasons += input_changes(receipt.inputs, inputs)
    reads = {identify(spec) for spec in receipt.reads}
    drifted = []
    for name in (identify(spec) for spec in receipt.specs):
        differences = compare(receipt.seen[name], seen.get(name, {"error": "it was not looked at"}))
        if differences and name in reads:
            reasons.append([f"{name}{_READ}", differences])
        elif differences:
            reasons.append([name, differences])
            drifted.append(name)
    return Judgement(reasons, drifted)


def only_of_accounts(receipt: Receipt, reasons: Sequence[Sequence[str]]) -> bool:
    """Whether these reasons against a receipt are all accounts' own doing."""
    own = {identify(spec) for spec in receipt.specs if account_of(spec)}
    return bool(reasons) and all(subject.removesuffix(_READ) in own for subject, _what in reasons)


def input_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[list[str]]:
    """What has changed of what a role is run with, in words."""
    return [
        [part, "changed" if part in before and part in after else "new" if part in after else "gone"]
        for part in sorted({**before, **after})
        if before.get(part) != after.get(part)
    ]


def compare(before: Any, after: Any) -> str:
    """How two values of one output differ, in words; empty where they are equal.

    What could not be read is never equal: nothing vouches for it.
    """
    if isinstance(after, dict) and "error" in after:
        return f"it cannot be read: {after['error']}"
    if before == after:
        return ""
    if after is None:
        return "it is gone"
    if before is None:
        return "it is there, and should not be"
    fields = sorted({**before, **after})
    return "; ".join(_field(field, before, after) for field in fields if before.get(field) != after.get(field))


def _field(field: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    old, new = before.get(field), after.get(field)
    if isinstance(old, list) and isinstance(new, list):
        lost = [item for item in old if item not in new]
        gained = [item for item in new if item not in old]
        words = [f"without {_short(lost)}"] * bool(lost) + [f"with {_short(gained)}"] * bool(gained)
        return f"{field} {' and '.join(words) or 'is in another order'}"
    return f"{field} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    text = masked(value if isinstance(value, str) else json.dumps(value))
    # Digests: enough of them to tell one from another. Of a list, which somebody has to put right, as much as fits.
    most = 3000 if isinstance(value, list) else 300
    return text[:12] if len(text) in (32, 64) and " " not in text else text if len(text) < most else f"{text[:most]}…"


def not_current(specs: Sequence[Spec], seen: Seen) -> Iterator[list[str]]:
    """What is not as its subject expects it, as reasons: what several hosts write, and no receipt knows."""
    for spec in specs:
        name = identify(spec)
        differences = compare(spec[1]["expect"], seen.get(name, {"error": "it was not looked at"}))
        if differences:
            yield [f"{name} (of all hosts)", differences]


def unmet(outputs: Sequence[Spec], seen: Seen) -> Iterator[UnmetOutput]:
    """What is not as the role should have left it: no receipt may be written over it."""
    for spec in outputs:
        kind, subject = spec
        value = seen.get(identify(spec), {"error": "it was not looked at"})
        if isinstance(value, dict) and "error" in value:
            yield UnmetOutput.of(spec, f"it cannot be read: {value['error']}")
        elif subject.get("absent"):
            if value is not None:
                yield UnmetOutput.of(spec, "it is there, and should not be")
        elif value is None:
            yield UnmetOutput.of(spec, "it is not there")
        else:
            usual = {field: wanted for field, wanted in EXPECTED.get(kind, {}).items() if field in value}
            for field, wanted in {**usual, **subject.get("expect", {})}.items():
                if value.get(field) != wanted:
                    yield UnmetOutput.of(spec, f"{field} should be {_short(wanted)}, is {_short(value.get(field))}")


def not_restored(last: Receipt, receipt: Receipt, found: Seen) -> Iterator[UnmetOutput]:
    """What the role left otherwise than before, although it was run with the same and read the same.

    Somebody changed it, and the role did not put it back: a new receipt would vouch for that change. Where only code
    has changed, the role may leave other things than before; but not those that it `found` so when it began. What an
    account changed of what is read from it explains what is otherwise of that account, and of nobody else.
    """
    changed = [part for part, _second in input_changes(last.inputs, receipt.inputs)]
    if any(not part.startswith(CODE) for part in changed):
        return
    otherwise = _read_otherwise(last, receipt)
    if "" in otherwise:
        return
    before = {identify(spec) for spec in last.outputs}
    for spec in receipt.outputs:
        name = identify(spec)
        if name in before and not spec[1].get("varies") and account_of(spec) not in otherwise:
            was, now = last.seen[name], receipt.seen[name]
            differences = compare(*_common(was, now)) if changed else compare(was, now)
            if differences and (not changed or found.get(name, receipt) == receipt.seen[name]):
                yield UnmetOutput.of(spec, f"{differences}, and the role did not put it back")


def _read_otherwise(last: Receipt, receipt: Receipt) -> set[str]:
    """The accounts of which something else was read than before; "" for what is no account's."""
    before, now = (
        {identify(spec): (account_of(spec), one.seen[identify(spec)]) for spec in one.reads} for one in (last, receipt)
    )
    names = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    return {of[name][0] for of in (before, now) for name in names if name in of}


def _common(before: Any, after: Any) -> tuple[Any, Any]:
    """The fields that both have: other code may look at others."""
    if not isinstance(before, dict) or not isinstance(after, dict) or "error" in after:
        return before, after
    fields = before.keys() & after.keys()
    return {field: before[field] for field in fields}, {field: after[field] for field in fields}


def undeclared(before: Sequence[Spec], outputs: Sequence[Spec]) -> dict[str, Spec]:
    """What the role had left before and no longer declares, by id."""
    declared = {identify(spec) for spec in outputs}
    return {identify(spec): spec for spec in before if identify(spec) not in declared}


def must_go(spec: Spec, value: Any) -> bool:
    """Whether an output that is not declared any more must disappear, as it is now."""
    if spec[0] in KEPT or spec[1].get("keep") or spec[1].get("absent") or value is None:
        return False
    return not (isinstance(value, dict) and value.get("type") == "directory")


def to_come(outputs: Sequence[Spec], seen: Seen) -> Iterator[Spec]:
    """What of the outputs is not there before the role has run, and so will be its own doing."""
    for kind, subject in outputs:
        value = seen[identify((kind, subject))]
        if value is None:
            yield kind, subject
        elif "error" in value:
            continue
        elif kind == "json_keys":
            keys = [key for key in subject["keys"] if value.get(key if isinstance(key, str) else ".".join(key)) is None]
            yield from [(kind, {**subject, "keys": keys})] if keys else []
        elif kind == "lines":
            lines = [line for line in subject.get("lines", []) if not value.get("present", {}).get(str(line).strip())]
            yield from [(kind, {**subject, "lines": lines})] if lines else []
