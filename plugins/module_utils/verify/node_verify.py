# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host of the cluster compared with what is declared for it. Nothing is changed, and no problem hides another.

What a receipt looks at, too, is looked at by its probe.
"""

from __future__ import annotations

from ansible_collections.gpustead.cluster.plugins.module_utils.receipts.probes import Host, observe
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.containers import examine_containers
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.findings import Desired, Findings
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.firewall import (
    examine_firewall,
    examine_listeners,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.gpus import examine_gpus
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.share import (
    Observe,
    examine_covers,
    examine_mount,
    examine_share,
    observe_share,
)


def examine(desired: Desired, run: Run, host: Host, look: Observe = observe_share) -> Findings:
    """Look at the host.

    Args:
        desired: what is declared for it.
        run: for what verify alone asks: other containers and nodes.
        host: for the probes.
        look: looks at the share as its owner.
    """
    findings = Findings()
    if desired.node:
        findings.seen["hostname"] = run(["hostname"])[1].strip()
        _accounts(desired, host, findings)
        if examine_mount(desired, run, host, findings):
            examine_share(desired, look, findings)
        examine_covers(desired, host, findings)
        examine_containers(desired, examine_gpus(desired, host, findings), run, host, findings)
    examine_listeners(desired, host, findings)
    if desired.firewall:
        examine_firewall(desired, host, findings)
    return findings


def _accounts(desired: Desired, host: Host, findings: Findings) -> None:
    seen = observe([("user", {"name": account.name, "fields": ["uid", "gid"]}) for account in desired.accounts], host)
    ids = {}
    for account in desired.accounts:
        value, subject = seen[f"user {account.name}"], f"account {account.name}"
        ids[account.name] = "{uid}:{gid}".format(**value) if value and "error" not in value else ""
        if value is None:
            findings.add(subject, "is missing", desired.again)
        elif "error" in value:
            findings.add(subject, f"cannot be looked at ({value['error']})", desired.again)
        elif ids[account.name] != account.ids:
            findings.add(subject, f"has the ids {ids[account.name]}, declared are {account.ids}", desired.again)
    findings.seen["accounts"] = ids
