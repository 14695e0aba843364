# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What runs on a host for receipts: one request (JSON) in, one answer out. Sent over stdin by the action plugins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts import receipts
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, accounts, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.receipt_store import ReceiptStore


def machine_id() -> str:
    with open("/etc/machine-id", encoding="ascii") as file:
        return file.read().strip()


def check(request: Mapping[str, Any]) -> dict[str, Any]:
    """Judge the receipts of the roles in `roles`, {role: {part: digest}}. Changes nothing.

    `current`, {role: [[kind, subject], ...]}, must be as the subjects expect it now, whatever the receipts say.

    Returns {"roles": {role: {"reasons": [...], "drifted": [...]}}, "left": other roles that have receipts here,
    "refused": roles whose last run had to leave something undone, which are their reasons, and those in whose way
    nothing is but accounts' own doing}.
    """
    store = ReceiptStore(request["state_dir"])
    salt, machine = store.salt(), machine_id()
    missing: dict[str, list[list[str]]] = {}
    found: dict[str, receipts.Receipt] = {}
    for role in request["roles"]:
        try:
            found[role] = store.read(role)
        except GpusteadError as error:
            missing[role] = store.run(role)["refused"] or [["receipt", str(error)]]
            # The one before vouches for nothing, and still tells the role what to heal.
            last = store.last(role)
            found.update({role: last} if last else {})
    current = {
        role: specs for role, specs in request.get("current", {}).items() if role in found and role not in missing
    }
    left = [spec for receipt in found.values() for spec in receipt.specs]
    specs = {receipts.identify(spec): (spec[0], spec[1]) for spec in [*left, *chain.from_iterable(current.values())]}
    seen = observe(list(specs.values()), Host(salt=salt))
    verdicts = {role: receipts.Judgement(reasons, []) for role, reasons in missing.items()}
    for role, receipt in found.items():
        inputs = receipts.salted(request["roles"][role], salt)
        verdict = receipts.judge(receipt, request["host"], machine, inputs, seen)
        reasons = [*verdict.reasons, *receipts.not_current(current.get(role, []), seen)]
        verdicts[role] = receipts.Judgement(missing.get(role) or reasons, verdict.drifted)
    return {
        "roles": {role: verdict._asdict() for role, verdict in verdicts.items()},
        "left": [role for role in store.roles() if role not in request["roles"]],
        "refused": [
            role
            for role, verdict in verdicts.items()
            if (
                store.run(role)["refused"]
                if role in missing
                else receipts.only_of_accounts(found[role], verdict.reasons)
            )
        ],
    }


def undone(state_dir: str) -> list[tuple[str, str, str]]:
    """What the last runs of roles had to leave undone: role, subject, what is the matter with it and what to do."""
    store = ReceiptStore(state_dir)
    return [(role, subject, what) for role in store.begun() for subject, what in store.run(role)["refused"]]


def previous(request: Mapping[str, Any]) -> dict[str, Any]:
    """What roles may have left, and whether their last runs did not come to their end. Changes nothing.

    Returns {"roles": {role: {"previous": [[kind, subject], ...], "seen": {id: value}, "unfinished": ...}}}.
    `seen` is of the last receipt.
    """
    store = ReceiptStore(request["state_dir"])
    return {"roles": {one["role"]: _left(store, one["role"]) for one in request["roles"]}}


def _left(store: ReceiptStore, role: str) -> dict[str, Any]:
    last, run = store.newest(role), store.run(role)
    return {
        "previous": _together(last.outputs if last else [], run["outputs"]),
        "seen": last.seen if last else {},
        "unfinished": run["unfinished"],
    }


def _together(specs: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    return [*specs, *(spec for spec in more if spec not in specs)]


def begin(request: Mapping[str, Any]) -> dict[str, Any]:
    """The run `nonce` of `roles`, [{role, inputs, outputs}, ...], begins: their receipts vouch no longer.

    They run in this order. `outputs` are those that are known already. Should the run die, the next one takes them back
    where they are not declared any more; but not what was there before: that is not the role's. Returns what `previous`
    does.
    """
    store, roles = ReceiptStore(request["state_dir"]), request["roles"]
    host = Host(salt=store.prepare())
    # Before any of them is noted: whether a run has come to a role is told by the notes of those before it.
    left, runs = previous(request), {one["role"]: store.run(one["role"]) for one in roles}
    last = {role: store.newest(role) for role in runs}
    new = {
        one["role"]: [spec for spec in one["outputs"] if spec not in left["roles"][one["role"]]["previous"]]
        for one in roles
    }
    seen = observe(list(chain.from_iterable(new.values())), host)
    found = observe([spec for receipt in last.values() if receipt for spec in receipt.outputs], host)
    for number, one in enumerate(roles):
        role, earlier = one["role"], runs[one["role"]]["outputs"]
        coming = [[kind, subject] for kind, subject in receipts.to_come(new[role], seen)]
        had = last[role]
        run = {
            "nonce": request["nonce"],
            "inputs": receipts.salted(one["inputs"], host.salt),
            "found": {name: found[name] for name in map(receipts.identify, had.outputs if had else [])},
            "outputs": _together(earlier, coming),
            "earlier": earlier,
            "undone": runs[role]["refused"],
            "before": list(runs)[:number],
            "unfinished": runs[role]["unfinished"],
            "ended": False,
        }
        _begin(store, role, run)
    return left


def _begin(store: ReceiptStore, role: str, run: Mapping[str, Any]) -> None:
    store.note(role, run)
    try:
        receipt = store.read(role)
        store.write(store.path(role, "last"), receipt.dump().encode())
    except GpusteadError:
        pass  # none, or one that nothing can be learned from
    store.remove(role)


def end(request: Mapping[str, Any]) -> dict[str, Any]:
    """The run `nonce` of `role` has ended and may leave no receipt: keep in mind what it left, `outputs`.

    `refused`: what it had to leave undone, as reasons. The next checks tell them, until a run leaves a receipt.
    `failed`: whether nothing runs after it.
    """
    store, role = ReceiptStore(request["state_dir"]), request["role"]
    run = store.run(role)
    if run["nonce"] == request["nonce"]:
        outputs = _together(run["outputs"], request["outputs"])
        ended = {"ended": True, "goes_on": not request.get("failed"), "refused": request.get("refused", [])}
        store.note(role, {**run, "outputs": outputs, **ended})
    return {}


def write(request: Mapping[str, Any]) -> dict[str, Any]:
    """The run `nonce` of `role` has ended: look at what it left and write the receipt, or say why not.

    Returns {"changed": the outputs differ from those of the last receipt, "problems": [...], "refused": [...]}; with
    problems also "acceptable": whether `accept` would do away with all of them. `refused` is what accounts have made of
    what is theirs, as reasons: then no receipt is written, and the role has ended well for all others.
    """
    store, role = ReceiptStore(request["state_dir"]), request["role"]
    run = store.run(role)
    if run["nonce"] != request["nonce"]:
        return {
            "changed": False,
            "problems": ["another run of this role has begun on this host in the meantime"],
            "refused": [],
            "acceptable": False,
        }
    salt = store.prepare()
    reads, outputs = ([tuple(pair) for pair in request[part]] for part in ("reads", "outputs"))
    host = Host(salt=salt)
    receipt = receipts.Receipt(
        role=role,
        host=request["host"],
        machine=machine_id(),
        inputs=receipts.with_new_files(run["inputs"], request["files"], salt),
        reads=reads,
        outputs=outputs,
        seen=observe([*reads, *outputs], host),
    )
    last = store.last(role)
    problems = list(receipts.unmet(outputs, receipt.seen))
    gone = receipts.undeclared(_together(last.outputs if last else [], run["outputs"]), outputs)
    still = observe(gone.values(), host)
    problems += [
        receipts.UnmetOutput.of(spec, "it is not declared any more, and still there")
        for name, spec in gone.items()
        if receipts.must_go(spec, still[name])
        and not (spec[0] == "user" and accounts.is_of_directory(spec[1]["name"], host))
    ]
    changed = list(receipts.not_restored(last, receipt, run["found"])) if last and not request["accept"] else []
    of_host = [problem.text for problem in (*problems, *changed) if not problem.account]
    of_accounts = [problem.reason() for problem in (*problems, *changed) if problem.account]
    if of_host or of_accounts:
        end({**request, "refused": [] if of_host else of_accounts, "failed": bool(of_host)})
        return {
            "changed": False,
            "problems": [problem.text for problem in (*problems, *changed)] if of_host else [],
            "refused": [] if of_host else of_accounts,
            "acceptable": not problems,
        }
    store.write(store.path(role), receipt.dump().encode())
    os.unlink(store.path(role, "run"))
    # Another reason to vouch for the same outputs is no change of the host.
    anew = last is None or last.seen != receipts.parse(receipt.dump()).seen
    return {"changed": anew, "problems": [], "refused": []}


OPERATIONS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "check": check,
    "previous": previous,
    "begin": begin,
    "end": end,
    "write": write,
}


def answer(request: str) -> str:
    """Carry one request out. Errors come back as {"error": ...}: a traceback would tell the user nothing."""
    try:
        data = json.loads(request)
        return json.dumps(OPERATIONS[data["operation"]](data))
    except GpusteadError as error:
        return json.dumps({"error": str(error)})
    except OSError as error:
        doing = f"the receipts in {json.loads(request).get('state_dir')}"
        return json.dumps({"error": str(of_system(error, doing))})
