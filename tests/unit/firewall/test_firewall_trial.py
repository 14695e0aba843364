# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules on trial: what is kept, what brings it back, and who decides; and how ufw is enabled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall import ufw_trial
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.foreign_openings import (
    close,
    complaint,
    without,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.openings import Opening, Origin
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.saved_rules import parse_save
from ansible_collections.gpustead.cluster.plugins.module_utils.firewall.ufw_enabled import UfwState, observe, plan

SAVED = (Path(__file__).parents[1] / "fixtures/probes/iptables-save.txt").read_text()


def test_what_is_undone_are_the_firewalls_chains_and_no_containers() -> None:
    text = ufw_trial.undo(SAVED)
    before, after = parse_save(SAVED), parse_save(text)
    for name in ("INPUT", "OUTPUT", "DOCKER-USER", "gpustead-forward", "ufw-user-input", "ufw-before-input"):
        assert after[name] == before[name]
    assert [line for line in text.splitlines() if line.startswith("-F ")] == ["-F INPUT", "-F OUTPUT"]
    assert after["FORWARD"] == ("DROP", []), "its policy comes back, its rules are Docker's"
    assert "DOCKER" not in after
    assert "DOCKER-ISOLATION-STAGE-1" not in after


def test_a_host_without_ufw_gets_its_open_policy_back() -> None:
    text = ufw_trial.undo("*filter\n:INPUT ACCEPT [9:9]\n:OUTPUT ACCEPT [9:9]\n:f2b - [0:0]\n-A INPUT -j f2b\nCOMMIT\n")
    assert text.splitlines() == [
        "*filter",
        ":INPUT ACCEPT [0:0]",
        ":OUTPUT ACCEPT [0:0]",
        "-F INPUT",
        "-F OUTPUT",
        "-A INPUT -j f2b",
        "COMMIT",
    ]


class Bench:
    """A trial in a folder of its own. Of the commands those run that concern it alone; the service is a process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ran = str(folder), []  # type: str, list[str]
        self.service: subprocess.Popen[bytes] | None = None

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        self.ran.append(" ".join(argv))
        if argv[0] == "systemd-run":
            self.service = subprocess.Popen(argv[-2:])
        elif argv[:2] == ["systemctl", "is-active"]:
            return (0 if self.service and self.service.poll() is None else 3), "", ""
        elif argv[:2] == ["systemctl", "stop"] and self.service:
            self.service.terminate()
            self.service.wait(5)
        elif argv[0] == "rm":
            subprocess.run(argv, check=True)
        return 0, "", ""

    def noted(self, seconds: int) -> None:
        """As `note` leaves it, with a script that only says that it ran."""
        os.makedirs(self.folder)
        script, _, _ = ufw_trial._TAKE_BACK.partition("exec >log")
        script = script.replace("@FOLDER@", self.folder).replace("@SECONDS@", str(seconds))
        Path(self.folder, "take-back").write_text(f"{script}touch taken-back\n")

    def arm(self) -> None:
        ufw_trial.arm(self.run, self.folder)

    def release(self) -> bool:
        return ufw_trial.release(self.run, self.folder)


def test_without_a_note_nothing_is_armed(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "trial")
    assert ufw_trial.guarded(bench.run, bench.folder)(["ufw", "enable"]) == (0, "", "")
    assert bench.ran == ["ufw enable"]
    assert bench.release()


def test_who_is_released_in_time_keeps_the_rules(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "trial")
    bench.noted(60)
    bench.arm()
    bench.arm()
    assert len([command for command in bench.ran if command.startswith("systemd-run")]) == 1
    assert ufw_trial.is_armed(bench.folder)
    assert bench.release()
    assert bench.service and bench.service.poll() is not None
    assert not os.path.exists(bench.folder)


def test_who_is_not_is_taken_back_and_no_change_follows(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "trial")
    bench.noted(1)
    bench.arm()
    assert bench.service
    bench.service.wait(10)
    assert not ufw_trial.is_armed(bench.folder)
    with pytest.raises(GpusteadError, match="taken back after"):
        bench.arm()
    assert not bench.release()
    assert not os.path.exists(bench.folder)


def test_one_that_has_begun_to_take_back_is_waited_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "trial")
    bench.noted(60)
    (tmp_path / "trial/armed").write_text("1")
    os.mkdir(tmp_path / "trial/decided")
    subprocess.Popen(["sh", "-c", f"sleep 1; touch {bench.folder}/taken-back"])
    assert not bench.release()


def test_the_script_is_sh() -> None:
    subprocess.run(["sh", "-n", "-c", ufw_trial._TAKE_BACK], check=True)


DEFAULTS = 'IPV6=yes\nDEFAULT_INPUT_POLICY="DROP"\nDEFAULT_OUTPUT_POLICY="ACCEPT"\n'
ON = UfwState(True, "deny", "allow", "low")
COMMANDS: dict[str, tuple[str, str, str, list[str]]] = {
    "as wanted": ("ENABLED=yes\nLOGLEVEL=low\n", DEFAULTS, "Status: active\n", []),
    "off": ("ENABLED=no\nLOGLEVEL=low\n", DEFAULTS, "Status: inactive\n", ["ufw --force enable"]),
    "on, and not in the kernel": (
        "ENABLED=yes\nLOGLEVEL=low\n",
        DEFAULTS,
        "Status: inactive\n",
        ["ufw --force enable"],
    ),
    "in the kernel, and not at boot": (
        "ENABLED=no\nLOGLEVEL=low\n",
        DEFAULTS,
        "Status: active\n",
        ["ufw --force enable"],
    ),
    "all otherwise": (
        "ENABLED=no\nLOGLEVEL=full\n",
        'DEFAULT_INPUT_POLICY="ACCEPT"\nDEFAULT_OUTPUT_POLICY="REJECT"\n',
        "Status: inactive\n",
        ["ufw default allow outgoing", "ufw default deny incoming", "ufw logging low", "ufw --force enable"],
    ),
    "not there": (
        "",
        "",
        "",
        [
            "ufw default allow outgoing",
            "ufw default deny incoming",
            "ufw logging low",
            "ufw --force enable",
        ],
    ),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_how_ufw_is_enabled(case: str) -> None:
    conf, defaults, status, expected = COMMANDS[case]
    assert [" ".join(argv) for argv in plan(observe(conf, defaults, status), ON)] == expected


OPENING = Opening("v4", "tcp", ((2222, 2222),), ((0, (1 << 32) - 1),), "INPUT", "-p tcp --dport 2222 -j ACCEPT")


def test_what_others_put_there_is_taken_out_of_the_file_first(tmp_path: Path) -> None:
    file = tmp_path / "etc/ufw/before.rules"
    file.parent.mkdir(parents=True)
    line = "-A ufw-before-input -p tcp --dport 2222 -j ACCEPT"
    file.write_text(f"*filter\n{line}\n# {line}\nCOMMIT\n")
    file.chmod(0o640)
    os.chown(file, 0, 4)
    done: list[tuple[list[str], str]] = []

    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        done.append((list(argv), file.read_text()))
        return (1, "", "Could not delete non-existent rule") if argv[0] == "ufw" else (0, "", "")

    ufw = Origin(OPENING, "x", ("ufw", "delete", "allow", "2222"))
    close(run, [ufw, ufw, Origin(OPENING, "y", ("iptables", "-D", "x"), "/etc/ufw/before.rules", line)], str(tmp_path))
    kept = f"*filter\n# {line}\nCOMMIT\n"
    assert done == [(["ufw", "delete", "allow", "2222"], kept), (["iptables", "-D", "x"], kept)]
    status = file.stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, 4)
    assert os.listdir(file.parent) == ["before.rules"]


def test_a_command_that_fails_is_named() -> None:
    with pytest.raises(GpusteadError, match=r"iptables -D x.*no such chain"):
        close(lambda argv: (1, "", "no such chain"), [Origin(OPENING, "y", ("iptables", "-D", "x"))])


def test_lines_are_taken_out_whole() -> None:
    assert without("a\nab\na", ["a"]) == "ab\n"


def test_what_is_complained_of() -> None:
    assert complaint([], []) == ""
    text = complaint([Origin(OPENING, "a rule", ("iptables", "-D", "INPUT"))], ["tcp port 22 (v4) is closed to x"])
    assert "tcp port 2222 (v4) is open to any by a rule. Undo it: iptables -D INPUT." in text
    assert "firewall_exclusive" in text
    assert "firewall_exclusive" not in complaint([Origin(OPENING, "the policy")], [])
