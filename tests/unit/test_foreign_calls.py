"""No plugin touches a file by its path unless its place here says why: see docs/security.md.

Each function with such a call is named below, with whose files these are. One that is not fails: either the path is
not root's, and the call belongs into work of `as_account.run`, or it is, and a line here says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from path_calls import called_by, touches

ROOT = Path(__file__).parents[2]

SYSTEM = "files of the system that only root can change: /etc, /proc, /sys, /run"
OURS = "files of ours in a directory of root's: /etc/gpustead, /var/lib/gpustead"
CONTROLLER = "on the controller, as the administrator"
BUILDER = "contexts on the builder, in a directory of root's; links stay links"
PRIVATE = "a directory that was made for this run, readable by us alone"
DESCRIPTOR = "through descriptors, without links; ids from the descriptor that they are given to"
LIBRARY = "the library itself: without links, within the work"
# Done by a child with an account's ids: whoever calls it must be such work too, or hand it over to the library.
WORK = "work of as_account.run"
REGULAR = "no link, regular files alone; what is not root's is seen by a child with the ids of `as`"
CAPPED = "what a container prints is read up to a limit"

ALLOWED: dict[str, dict[str, str]] = {
    "filter/preflight_problems.py": {"preflight_problems": CONTROLLER},
    "module_utils/accounts.py": {
        "apply": OURS,
        "observe": SYSTEM,
        "read_journal": OURS,
        "read_processes": SYSTEM,
        "write_journal": OURS,
    },
    "module_utils/as_account.py": {
        "_become": SYSTEM,
        "_live": SYSTEM,
        "open_beneath": LIBRARY,
        "parent": LIBRARY,
        "put": LIBRARY,
    },
    "module_utils/gpu_report.py": {"_read": SYSTEM},
    "module_utils/image_builder.py": {"_write_bake": PRIVATE},
    "module_utils/image_stack.py": {"_check_sources": BUILDER, "digest_of_tree": BUILDER, "dockerfile": BUILDER},
    "module_utils/nas_mountpoint.py": {
        "Mountpoint.observe": "the name lies in directories of root's",
        "Mountpoint.protect": "the name lies in directories of root's",
    },
    "module_utils/pci.py": {
        "_driver": SYSTEM,
        "_gone": SYSTEM,
        "_names": SYSTEM,
        "_read": SYSTEM,
        "gpus": SYSTEM,
        "rdma": SYSTEM,
    },
    "module_utils/probes/__init__.py": {
        "_Child._work": SYSTEM,
        "_touched": "links of the way alone, and none on a share; nothing is opened",
    },
    "module_utils/probes/docker.py": {"_runs": SYSTEM},
    "module_utils/probes/files.py": {
        "Host.read": SYSTEM,
        "_below": "through descriptors; what is not root's is seen by a child with the ids of `as`",
        "_describe": REGULAR,
        "_open": "no link, without waiting",
        "_read": REGULAR,
        "_tree": "no link; what is not root's is seen by a child with the ids of `as`",
    },
    "module_utils/probes/gpu.py": {"_on_bus": SYSTEM},
    "module_utils/probes/mounts.py": {"_gluster": SYSTEM, "_mountpoint": "a mountpoint, whose name is root's"},
    "module_utils/probes/network.py": {"_chains": SYSTEM},
    "module_utils/probes/system.py": {"_kernel_module": SYSTEM},
    "module_utils/receipt_agent.py": {
        "Store.prepare": OURS,
        "Store.read": OURS,
        "Store.remove": OURS,
        "Store.roles": OURS,
        "Store.run": OURS,
        "Store.salt": OURS,
        "Store.write": OURS,
        "machine_id": SYSTEM,
        "previous": OURS,
        "write": OURS,
    },
    "module_utils/ssh_cert.py": {"ensure_authority": CONTROLLER, "sign": CONTROLLER},
    "modules/cdi_spec.py": {"read": SYSTEM},
    "modules/docker_daemon_config.py": {"main": SYSTEM, "read": SYSTEM},
    "modules/image_stack.py": {"alone": OURS, "main": PRIVATE, "teller": OURS},
    "modules/mesh_certificate.py": {"askpass": PRIVATE, "main": PRIVATE},
    "modules/nvidia_containers_info.py": {"read": SYSTEM},
    "modules/registry_prune.py": {"main": SYSTEM},
    "modules/ufw_live.py": {"read": SYSTEM},
    "modules/ufw_rules.py": {"read": SYSTEM},
    "plugin_utils/receipt_exchange.py": {"library": CONTROLLER},
    "plugin_utils/receipt_inputs.py": {
        "-": CONTROLLER,
        "collection_version": CONTROLLER,
        "file_digest": CONTROLLER,
        "plugins_digest": CONTROLLER,
        "read_role": CONTROLLER,
        "site_roles": CONTROLLER,
    },
}
FILES = sorted(str(path.relative_to(ROOT / "plugins")) for path in (ROOT / "plugins").rglob("*.py"))


def source(file: str) -> str:
    return (ROOT / "plugins" / file).read_text()


@pytest.mark.parametrize("file", FILES)
def test_every_function_that_touches_a_path_says_whose_it_is(file: str) -> None:
    found = sorted({(touch.function, touch.call) for touch in touches(source(file))})
    undeclared = [f"{function}: {call}" for function, call in found if function not in ALLOWED.get(file, {})]
    assert undeclared == [], "go through as_account, or say in ALLOWED whose files these are"


def test_what_is_allowed_is_still_there() -> None:
    """A line that nothing needs any more would let the next function of that name pass."""
    gone = [file for file in ALLOWED if file not in FILES]
    for file in set(ALLOWED) - set(gone):
        found = {touch.function for touch in touches(source(file))}
        gone += [f"{file}: {function}" for function in ALLOWED[file] if function not in found]
    assert sorted(gone) == []


def handed_over(text: str, function: str) -> bool:
    return "as_account" in text or f"run({function}" in text


@pytest.mark.parametrize("file", [file for file in ALLOWED if WORK in ALLOWED[file].values()])
def test_work_is_called_by_nobody_but_the_library_and_other_work(file: str) -> None:
    """So that no function that is meant for a child with an account's ids is run by root."""
    text = source(file)
    work = {function for function, why in ALLOWED[file].items() if why == WORK}
    hands = set().union(
        *(called_by(text, name) for name in ("run", "read", "read_json")), called_by(text, "as_account")
    )
    for function in sorted(work):
        assert called_by(text, function) <= work | hands, f"{file}: {function} is called by root"


# The analysis itself: what it must find, and what it must not.
CALLS = [
    ("os.chown(path, 1, 1)", "os.chown"),
    ("os.chown(name, 1, 1, dir_fd=3, follow_symlinks=False)", "os.chown"),
    ("os.open(name, 0, dir_fd=3)", "os.open"),
    ("open(path)", "open"),
    ("Path(path).read_text()", ".read_text"),
    ("path.replace(other)", ".replace"),
    ("text.replace('a', 'b')", ""),
    ("dataclasses.replace(one, uid=1)", ""),
    ("shutil.rmtree(path)", "shutil.rmtree"),
    ("run(['/bin/chown', 'ada', path])", "chown"),
    ("run(['ip', 'link'])", ""),
    ("run(['docker', 'exec', name, 'env'])", "docker exec"),
    ("run(['docker', 'ps'])", ""),
    ("module.atomic_move(one, two)", ".atomic_move"),
    ("list(map(os.unlink, paths))", "os.unlink"),
    ("os.path.realpath(path)", "os.path.realpath"),
    ("os.path.join(one, two)", ""),
]


@pytest.mark.parametrize(("call", "expected"), CALLS)
def test_a_call_with_a_path_is_found(call: str, expected: str) -> None:
    found = {
        (touch.function, touch.call)
        for touch in touches(f"class A:\n    def b(self):\n        return lambda: {call}\n")
    }
    assert found == ({("A.b", expected)} if expected else set())


def test_a_call_that_was_imported_by_its_name_is_found() -> None:
    assert [touch.call for touch in touches("from os import chown as give\ngive('/x', 1, 1)\n")] == ["give"]
