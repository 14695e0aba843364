"""What ansible-playbook says of inventories.

A program of its own, which loads Ansible once and forks for each run, as a start of Ansible costs more than most of
them: a list of {files, arguments} in, [{status, said, asked, seconds}, ...] out, as JSON. In place of ssh stands a
program that notes that it was started.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import ansible.cli
from ansible.cli.playbook import PlaybookCLI
from ansible.plugins import loader

ROOT = Path(__file__).parents[3]
LONGEST = 120  # seconds
SSH = "#!/bin/sh\ntouch {noted}\nexit 255\n"


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))


def run(folder: Path, arguments: list[str]) -> dict[str, Any]:
    """Run a playbook in a process of its own, in this directory."""
    ssh, noted = folder / ".ssh", folder / ".asked"
    ssh.write_text(SSH.format(noted=noted))
    ssh.chmod(0o755)
    before = spent()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        play(folder, into, {"ANSIBLE_SSH_EXECUTABLE": str(ssh)}, arguments)
    os.close(into)
    with os.fdopen(out, encoding="utf-8", errors="replace") as stream:
        said = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, "said": said, "asked": noted.exists(), "seconds": spent() - before}


def play(folder: Path, into: int, environment: Mapping[str, str], arguments: list[str]) -> NoReturn:
    signal.alarm(LONGEST)
    os.chdir(folder)
    os.environ.update(environment)
    os.dup2(into, 1)
    os.dup2(into, 2)
    os.close(into)
    argv = ["ansible-playbook", *arguments]
    sys.argv, status = argv, 99
    try:
        PlaybookCLI.cli_executor(argv)
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


def spent() -> float:
    """CPU seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def load() -> None:
    """What every run would load for itself."""
    for plugins in (loader.cache_loader, loader.callback_loader, loader.inventory_loader):
        list(plugins.all(class_only=True))
    for plugins in (loader.filter_loader, loader.test_loader):
        list(plugins.all())
    for plugins, names in (
        (loader.action_loader, ("gpustead.cluster.preflight", "gpustead.cluster.receipt_survey")),
        (loader.become_loader, ("sudo",)),
        (loader.callback_loader, ("gpustead.cluster.progress",)),
        (loader.connection_loader, ("local", "ssh")),
        (loader.lookup_loader, ("gpustead.cluster.cluster_hosts",)),
        (loader.shell_loader, ("sh",)),
        (loader.strategy_loader, ("linear",)),
    ):
        for name in names:
            plugins.get(name, class_only=True)
    importlib.import_module("ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_specs").load()


def main() -> None:
    cases = json.load(sys.stdin)
    loader.init_plugin_loader([str(ROOT / ".dev")])
    # It is done; a second time would warn.
    ansible.cli.init_plugin_loader = lambda _path: None
    load()
    answers = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, case in enumerate(cases):
            folder = Path(scratch) / str(number)
            write(folder, case["files"])
            answers.append(run(folder, case["arguments"]))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
