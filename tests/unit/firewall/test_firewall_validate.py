"""What checks the rules of ufw before they are put in place, with a stand-in that is as strict as iptables-legacy."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.tests.unit.role_variables import render

# As Debian's package has it on a host where ufw was never enabled, with our block behind it.
RULES = """# rules.input-after
*filter
:{ufw}-after-input - [0:0]
-A {ufw}-after-input -p udp --dport 137 -j {ufw}-skip-to-policy-input
-A {ufw}-after-input -p tcp --dport 7 --goto {ufw}-logging-deny
COMMIT
*filter
:gpustead-forward - [0:0]
-A gpustead-forward -j RETURN
COMMIT
"""
STRICT = """#!/usr/bin/python3
import sys
assert sys.argv[1:] == ["--test", "--noflush"], sys.argv
targets = {"ACCEPT", "DROP", "RETURN"}
for number, line in enumerate(sys.stdin, 1):
    words = line.split()
    if line.startswith("*"):
        chains = {"INPUT", "FORWARD", "OUTPUT"}
    if line.startswith(":"):
        chains.add(words[0][1:])
    for flag, target in zip(words, words[1:]):
        if flag in ("-j", "-g", "--jump", "--goto") and target not in targets | chains:
            sys.exit(f"Couldn't load target `{target}': No such file or directory. Error occurred at line: {number}")
"""


@pytest.fixture
def accepts(tmp_path: Path) -> list[str]:
    restore = tmp_path / "iptables-restore"
    restore.write_text(STRICT)
    restore.chmod(0o755)
    shown = render(tmp_path, "firewall", ["__firewall_accepts"], {"gpu_nodes": ["a"]}, {})
    return [*shown["__firewall_accepts"], str(restore)]


def check(accepts: list[str], rules: Path, text: str) -> subprocess.CompletedProcess[str]:
    rules.write_text(text)
    argv = [word.replace("%s", str(rules)) for word in accepts]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_chains_that_ufw_will_make_are_there_for_the_check(accepts: list[str], tmp_path: Path) -> None:
    for ufw in ("ufw", "ufw6"):
        done = check(accepts, tmp_path / "after.rules", RULES.format(ufw=ufw))
        assert (done.returncode, done.stderr) == (0, "")


def test_a_chain_that_nobody_makes_is_not(accepts: list[str], tmp_path: Path) -> None:
    done = check(accepts, tmp_path / "after.rules", RULES.format(ufw="ufw").replace("-j RETURN", "-j mine"))
    assert done.returncode != 0 and "`mine'" in done.stderr
