"""What the lookup that stands in the hosts of each first play does for all that comes after it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# In a process of its own, as Ansible finds the filters of collections only in one that it has to itself.
LOAD = """
import sys
from ansible import context
from ansible.plugins import loader
from ansible.utils.context_objects import CLIArgs
loader.init_plugin_loader([sys.argv[1]])
context.CLIARGS = CLIArgs({"syntax": True})
loader.lookup_loader.get("gpustead.cluster.cluster_hosts").run([], {"groups": {"all": ["gpu01"]}})
print(*(name.rpartition(".")[2] for name in sys.modules if ".gpustead.cluster.plugins.filter." in name))
"""


def test_the_filters_are_loaded_before_ansible_forks() -> None:
    """Each process that it forks for a task would load all of them again: half of the CPU of a forced run."""
    argv = [sys.executable, "-c", LOAD, str(ROOT / ".dev")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    there = {path.stem for path in (ROOT / "plugins/filter").glob("*.py")}
    assert there and there <= {*done.stdout.split()}
