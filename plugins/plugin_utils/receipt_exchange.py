# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One exchange with a host about its receipts: the program and its request go over stdin, the answer comes back.

No module is put on the host, and nothing is unpacked there: that alone costs as much as looking at a whole host.
"""

from __future__ import annotations

import json
import re
import shlex
import zlib
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import COLLECTION

PACKAGE = "ansible_collections.gpustead.cluster.plugins.module_utils"
MARK = "gpustead-receipts:"
# As the code's formatter writes it. To parse all of them at each run would take longer than a host's whole answer.
IMPORT = re.compile(rf"^ *from {re.escape(PACKAGE)}(\.[\w.]+)? import (\([^)]*\)|.*)", re.MULTILINE)
NAME = re.compile(r"\w+")

# Runs the library on the host from memory, under the names by which its parts import each other.
START = """
import sys
from importlib.machinery import ModuleSpec
class Library:
    def __init__(self, sources): self.sources = sources
    def find_spec(self, name, path=None, target=None):
        if name in self.sources: return ModuleSpec(name, self, is_package=name + "." in self.packages)
    def create_module(self, spec): return None
    def exec_module(self, module):
        exec(compile(self.sources[module.__name__], module.__name__, "exec"), module.__dict__)
library = Library(sources)
library.packages = {name[: end + 1] for name in sources for end, letter in enumerate(name) if letter == "."}
sys.meta_path.insert(0, library)
from %(package)s.receipts.agent import answer
request = zlib.decompress(stream.unused_data).decode()
sys.stdout.write("\\n%(mark)s" + answer(request) + "\\n")
"""


def library() -> dict[str, str]:
    """The sources that the agent needs on the host, by the name under which they are imported.

    They are the agent, every probe, and what these import.
    """
    folder = COLLECTION / "plugins" / "module_utils"
    todo = [folder / "receipts" / "agent.py", *(folder / "receipts" / "probes").glob("*.py")]
    sources = {}
    while todo:
        path = todo.pop()
        name = ".".join([PACKAGE, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        if name in sources:
            continue
        source = path.read_text()
        sources[name] = source
        todo += [file for imported in imports(source) for file in (folder / imported,) if file.is_file()]
    packages = {name.rsplit(".", length)[0] for name in sources for length in range(1, name.count(".") + 1)}
    return {**dict.fromkeys(packages - sources.keys(), ""), **dict(sorted(sources.items()))}


def imports(source: str) -> set[str]:
    """The files of the library that a part of it may import, relative to the library's folder.

    Where a name is imported from a package, it may be a part or a name in it: both are given, one of them exists.
    """
    found = set()
    for package, names in IMPORT.findall(source):
        inner = package.strip(".").replace(".", "/")
        found |= {f"{inner}.py", f"{inner}/__init__.py".lstrip("/")}
        found |= {f"{inner}/{name}.py".lstrip("/") for name in NAME.findall(names)}
    return found


# Made and packed once, when Ansible loads the action plugins: the processes that it forks for the hosts share it.
PROGRAM = zlib.compress(f"sources = {library()!r}\n{START % {'package': PACKAGE, 'mark': MARK}}".encode(), 9)
# What follows the program in the stream is the request.
UNPACK = "import sys,zlib;stream=zlib.decompressobj();exec(stream.decompress(sys.stdin.buffer.read()))"


def message(request: Mapping[str, Any]) -> bytes:
    """The whole of what the host's Python reads from stdin, packed."""
    return PROGRAM + zlib.compress(json.dumps(request).encode(), 1)


def exchange(action: ActionBase, python: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Ask the host of an action, as its become user.

    Args:
        action: has the connection.
        python: the interpreter there; one that Ansible would look for (`auto`) is `python3`.
        request: see module_utils/receipts/agent.

    Raises:
        AnsibleActionFail: the host has no Python, or the agent there failed.
        AnsibleConnectionFailure: the host cannot be reached; Ansible reports it as it always does.
    """
    python = "python3" if python.startswith("auto") else python
    result = action._low_level_execute_command(
        f"{shlex.quote(python)} -I -S -c {shlex.quote(UNPACK)}", in_data=message(request)
    )
    # At the beginning of a line: an answer may quote a name that holds it.
    _before, mark, answer = f"\n{result['stdout']}".partition(f"\n{MARK}")
    if not mark:
        words = (result["stderr"] or result["stdout"]).strip() or f"{python} ended with {result['rc']}"
        raise AnsibleActionFail(f"The receipts could not be looked at: {words}")
    try:
        reply: dict[str, Any] = json.loads(answer)
    except ValueError as error:
        raise AnsibleActionFail(f"The receipts could not be looked at: the answer is not whole ({error})") from error
    if "error" in reply:
        raise AnsibleActionFail(reply["error"])
    return reply
