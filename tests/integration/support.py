"""What the tests of receipts ask of a lab: its receipts, runs of site.yml, and drift.yml's report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from conftest import PROJECT, Host, Lab

STATE = "/var/lib/gpustead/receipts"
READ = " (read by the role)"
# Of the services in the owner's workspace. Written out: nobody's ports move.
PORTS = {"jupyter": 18888, "tensorboard": 16006, "gradio": 17860, "ssh": 10022}
# As the account that owns the layout of the share.
AS_LAYOUT = "setpriv --reuid 941 --regid 941 --clear-groups"
# Prints the reachable ones of "address,port" words, all tried at once; the first word is the seconds for each.
PROBE = """
import concurrent.futures, socket, sys
def reach(word):
    host, port = word.rsplit(',', 1)
    try:
        socket.create_connection((host, int(port)), timeout=float(sys.argv[1])).close()
        return True
    except OSError:
        return False
words = sys.argv[2:]
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    print(*[word for word, ok in zip(words, pool.map(reach, words)) if ok])
"""


@dataclass(frozen=True, order=True)
class Output:
    """One output of one role on one host; `name` is its id, such as ``file /etc/hosts``."""

    host: str
    role: str
    name: str


def ports_of(uid: int) -> dict[str, int]:
    """Those of another's workspace in 19000:19999: four in a row by the uid, 250 places; a fifth lies 1000 above."""
    row = 19000 + 4 * (uid % 250)
    return {service: row + 1000 * (place // 4) + place % 4 for place, service in enumerate(PORTS)}


def probe(pairs: Iterable[tuple[str, int]], seconds: float = 3) -> str:
    """The command that tries these (address, port) pairs; `answered` reads what it prints."""
    words = " ".join(f"{address},{port}" for address, port in pairs)
    return f"python3 - {seconds:g} {words} <<'EOF'\n{PROBE}\nEOF"


def answered(printed: str) -> set[tuple[str, int]]:
    """Those (address, port) pairs that could be connected to."""
    return {(word.rpartition(",")[0], int(word.rpartition(",")[2])) for word in printed.split()}


def members(lab: Lab) -> list[Host]:
    """The hosts of the cluster, in the order of their names."""
    return [host for name, host in sorted(lab.hosts.items()) if name not in lab.groups["lab_others"]]


def receipts(host: Host) -> dict[str, dict[str, Any]]:
    """All receipts of a host, by role."""
    text = host.check_output(f"cd {STATE} && for f in *.json; do tr -d '\\n' < $f; echo; done")
    return {receipt["role"]: receipt for receipt in map(json.loads, text.splitlines())}


def outputs(lab: Lab) -> dict[Output, dict[str, Any]]:
    """Every output of every receipt in the lab, with its options."""
    return {
        Output(host.name, role, f"{kind} {subject['name']}"): subject
        for host in members(lab)
        for role, receipt in receipts(host).items()
        for kind, subject in receipt["outputs"]
    }


def seen(lab: Lab) -> dict[Output, Any]:
    """What every output that may not vary looked like when its role ended."""
    values = {(host.name, role): receipt["seen"] for host in members(lab) for role, receipt in receipts(host).items()}
    return {
        output: values[output.host, output.role][output.name]
        for output, options in outputs(lab).items()
        if not options.get("varies")
    }


def site(lab: Lab, *args: str, environment: Mapping[str, str] | None = None) -> str:
    """A run of site.yml that must succeed; what it printed."""
    done = lab.playbook("site.yml", *args, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def converge(lab: Lab) -> None:
    """Until nothing is stale: an earlier test may have broken something, or a role may have been edited."""
    site(lab)
    assert_fresh(lab)


def forget_share(node: Host, account: str) -> None:
    """Take away an account's directory on the share, where root of a node can do nothing but as its owners."""
    path = f"/mnt/nas/users/{account}"
    node.check_output(
        f"cd /; test -d {path} || exit 0; ids=$(stat -c '--reuid %u --regid %g' {path}) && "
        f"setpriv $ids --clear-groups find {path} -mindepth 1 -delete && {AS_LAYOUT} rmdir {path}"
    )


def stale(text: str) -> dict[str, list[str]]:
    """Host to what the first check of a run said of it."""
    first = text.partition("TASK [Check the receipts of all hosts]")[2].partition("\nPLAY [")[0]
    assert "hosts are as their roles left them" in first, text
    blocks = re.findall(r"^(\S+) is stale:\n((?:  .*\n)+)", first, re.MULTILINE)
    return {host: [line.strip() for line in lines.splitlines()] for host, lines in blocks}


def assert_fresh(lab: Lab) -> None:
    assert stale(site(lab)) == {}


def recap(text: str) -> dict[str, int]:
    """Host to the number of its tasks."""
    return {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=(\d+) ", text, re.MULTILINE)}


def logins(host: Host) -> int:
    return int(host.check_output("journalctl -u ssh --no-pager | grep -c Accepted || true"))


def roles_run(text: str) -> set[tuple[str, str]]:
    """(role, host) for every role that began."""
    found = re.findall(r"^included: gpustead\.cluster\.(\w+) for (.+)$", text, re.MULTILINE)
    return {(role, host.strip()) for role, hosts in found for host in hosts.split(",")}


def drift(lab: Lab, report: Path) -> tuple[int, set[Output]]:
    """drift.yml's exit status and findings; what a role only reads keeps that said behind it."""
    done = lab.playbook("playbooks/drift.yml", "-e", f"drift_report={report}")
    assert report.is_file(), done.stdout + done.stderr
    findings = json.loads(report.read_text())["findings"]
    return done.returncode, {Output(found["host"], found["role"], found["subject"]) for found in findings}


def run_after() -> dict[str, set[str]]:
    """Role to the roles that run again because it does, and because those do."""
    following: dict[str, set[str]] = {}
    for file in sorted((PROJECT / "roles").glob("*/meta/receipt.yml")):
        for cause in yaml.safe_load(file.read_text()).get("after", []):
            following.setdefault(cause, set()).add(file.parent.parent.name)
    return {cause: reached(following, cause) for cause in following}


def reached(following: Mapping[str, set[str]], role: str) -> set[str]:
    found: set[str] = set()
    new = {role}
    while new:
        new = {after for one in new for after in following.get(one, ())} - found
        found |= new
    return found
