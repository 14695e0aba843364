"""No plugin touches a file by its path unless its place here says why: see docs/security.md.

Each function with such a call is named below, with whose files these are. One that is not fails: either the path is
not root's, and the call belongs into work of `as_account.run`, or it is, and a line here says so.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.tests.unit.path_calls import called_by, touches

ROOT = Path(__file__).parents[2]

SYSTEM = "files of the system that only root can change: /etc, /proc, /sys, /run"
OURS = "files of ours in a directory of root's: /etc/gpustead, /var/lib/gpustead, /run/gpustead"
CONTROLLER = "on the controller, as the administrator"
BUILDER = "contexts on the builder, in a directory of root's; links stay links"
PRIVATE = "a directory that was made for this run, readable by us alone"
DESCRIPTOR = "through descriptors, without links; ids from the descriptor that they are given to"
LIBRARY = "the library itself: without links, within the work"
MOUNTPOINT = "a mountpoint: its name lies in directories of root's"
REGULAR = "no link, regular files alone; what is not root's is seen by a child with the ids of `as`"
CAPPED = "what a container prints is read up to a limit"
# Done by a child with an account's ids: whoever calls it must be such work too, or hand it over to the library.
WORK = "work of as_account.run"


def all_of(why: str, *functions: str) -> dict[str, str]:
    return dict.fromkeys(functions, why)


ALLOWED: dict[str, dict[str, str]] = {
    "filter/base_plan.py": {"base_plan": CONTROLLER},
    "action/lease.py": all_of(
        "what the kernel says of processes of the controller", "began", "here", "is_gone", "token_of"
    ),
    "action/image_contexts.py": all_of(
        CONTROLLER, "ActionModule._collect", "ActionModule._send", "_digest", "_lies_in", "_pack"
    ),
    "module_utils/accounts/apply_accounts.py": {
        **all_of(OURS, "_apply_core", "_leave_groups", "apply", "former_ids", "remove", "write_whole"),
        "_lock": SYSTEM,
    },
    "module_utils/accounts/freed_ids.py": {
        **all_of(SYSTEM, "_clear_jobs", "_clear_open", "remove_jobs"),
        **all_of(
            DESCRIPTOR, "_Search.worth", "_clear_held", "_has_acl", "_is_apart", "_made_harmless", "_search_mount"
        ),
    },
    "module_utils/accounts/directory_services.py": all_of(SYSTEM, "_is_offline", "is_away", "services"),
    "module_utils/accounts/observe_accounts.py": {
        **all_of(SYSTEM, "_is_namespace", "_read", "find_namespaces", "is_in_container", "login_uid", "observe"),
        **all_of(OURS, "read_journal", "read_left", "read_record"),
    },
    "module_utils/accounts/renumber_files.py": {
        **all_of(
            DESCRIPTOR, "Walk._again", "Walk._enter", "Walk._entry", "Walk._open", "keep_own_bits", "renumber_files"
        ),
        "mount_of": SYSTEM,
    },
    "module_utils/accounts/share_homes.py": all_of(
        "whether there is a home, or root may make one: asked by a child within a time, nothing is opened",
        *("_is_closed_home", "_is_closed_root", "_may_write", "_mount_of"),
    ),
    "module_utils/kernel/mounts.py": {"detach": OURS, "listed": SYSTEM},
    "module_utils/kernel/terminals.py": {
        "_tell": "what a process has for its input, by a child with a time; written to where that is a terminal alone",
    },
    "module_utils/nas/drained.py": {"read_drained": WORK},
    "module_utils/nodes/lease.py": all_of(DESCRIPTOR, "_put_aside"),
    "module_utils/kernel/processes.py": all_of(SYSTEM, "_files", "_threads", "holds_files", "numbers", "uids"),
    "module_utils/as_account.py": {"become": SYSTEM, **all_of(LIBRARY, "open_beneath", "parent", "put")},
    "module_utils/accounts/apply_authorized_keys.py": {
        **all_of(WORK, "_apply_in", "_free", "forget", "is_kept", "retire", "take_back"),
        **all_of(DESCRIPTOR, "_open_way", "_step", "refuse_insecure_way"),
    },
    "module_utils/binds/declared.py": all_of(OURS, "covered", "read", "write", "write_covered"),
    "module_utils/binds/returning_shares.py": all_of(OURS, "_show", "wait"),
    "module_utils/binds/fstab.py": {"awaited": SYSTEM},
    "module_utils/binds/observe_place.py": {
        **all_of(DESCRIPTOR, "_step", "open_place"),
        "_identities": "ids of directories that no container may see; nothing is opened",
    },
    "module_utils/binds/observe_processes.py": {
        "_seen": "what a process holds, as a place: nothing of it is read",
        **all_of(SYSTEM, "_inside", "_mount_of"),
    },
    "module_utils/binds/mount_place.py": {
        "_refuse_second_names": DESCRIPTOR,
        **all_of(OURS, "is_still_its_owners", "mount_place"),
        "size_of_block": MOUNTPOINT,
    },
    "module_utils/binds/apply_binds.py": all_of(OURS, "_Set.drop_undeclared", "_locked", "apply"),
    "module_utils/verify/expiry.py": {"endings": SYSTEM},
    "module_utils/gpus/gpu_info.py": {"_read": SYSTEM},
    "module_utils/images/image_contexts.py": all_of(
        BUILDER, "_digest", "_kind", "_strays", "entries", "link", "observe", "remove"
    ),
    "module_utils/files/progress_file.py": {"reporter": OURS},
    "module_utils/images/image_builder.py": {"_write_bake": PRIVATE},
    "module_utils/images/image_contents.py": {"ask": CAPPED},
    "module_utils/images/image_squash.py": {
        **all_of(WORK, "_copy", "observe"),
        **all_of(PRIVATE, "_through", "convert"),
        "workplace": BUILDER,
        "publish": "root's file of this run; on the share in work of as_account.run",
    },
    "module_utils/images/image_stack.py": all_of(BUILDER, "_check_sources", "digest_of_tree", "dockerfile"),
    "module_utils/images/images_layers.py": {"refuse_layers": CONTROLLER},
    "module_utils/accounts/keys_trial.py": {"apply": "run by systemd as the account"},
    "module_utils/base/base_info.py": {"_lists_age": SYSTEM},
    "module_utils/files/apply_host_files.py": {
        **all_of(DESCRIPTOR, "_apply", "_enter", "_identity", "_link", "_look", "_parent", "_refuse_others"),
        "_writers_of_acl": DESCRIPTOR,
        "_observe": "by descriptors; by its path, only whether what is to go is there",
        "_validate": PRIVATE,
        **all_of(SYSTEM, "with_directories_above", "with_strays"),
    },
    "module_utils/files/leftovers.py": all_of(SYSTEM, "_entries", "remove"),
    "module_utils/workspaces/local_place.py": {
        **all_of(WORK, "_make_inner", "_take"),
        **all_of(OURS, "_copy", "_described", "_make_place", "_make_roots", "_present", "_put", "forget_others"),
        "make_top": OURS,
    },
    "module_utils/mesh/host_keys.py": all_of(
        CONTROLLER, "HostKeys._nodes", "HostKeys.note", "HostKeys.revoke", "_lines", "replace_whole"
    ),
    "module_utils/mesh/authority_rotation.py": all_of(CONTROLLER, "_put_right", "rotate", "trusted"),
    "module_utils/nodes/node_wipe.py": all_of(OURS, "observe_trust", "wipe"),
    "module_utils/mesh/mesh_user_key.py": {"generate": PRIVATE},
    "module_utils/nas/apply_nas_files.py": {
        **all_of(WORK, "_held", "_look", "_make_directories", "_names_of_a_file", "finish", "check_root", "make"),
        **all_of(WORK, "_inherits", "_have_inherited", "_refuse_to_open"),
        **all_of(MOUNTPOINT, "_answers", "is_mounted"),
    },
    "module_utils/nas/copy_tree.py": {
        **all_of(
            "the original as root, by descriptors and without links; the copy with the ids of each entry's owner",
            *(
                f"_Walk.{name}"
                for name in ("_attributes", "_content", "_directory", "_entry", "_file", "_folder", "_give")
            ),
            *(f"_Walk.{name}" for name in ("_link", "_name", "_same_content", "_there")),
            "_set_mode",
        ),
        "_Walk.run": "the top of both, whose paths only root can change; names by descriptor",
    },
    "module_utils/nas/move_share.py": {
        "_held": SYSTEM,
        **all_of(MOUNTPOINT, "awaken", "thaw"),
        **all_of(OURS, "alone", "staged"),
    },
    "module_utils/nas/nas_mountpoint.py": all_of(MOUNTPOINT, "Mountpoint.observe", "Mountpoint.protect"),
    "module_utils/nas/nas_mounts.py": all_of(MOUNTPOINT, "_ask", "_mount"),
    "module_utils/nas/quota_report.py": {
        "place_of": "the export, on the server itself: a path of root's, nothing is opened",
        **all_of(DESCRIPTOR, "_directory", "_is_made", "_put", "write"),
    },
    "module_utils/nas/node_records.py": {"_names": WORK},
    "module_utils/verify/containers.py": all_of(CAPPED, "_peers", "_proof"),
    "module_utils/verify/share.py": {"examine_mount": MOUNTPOINT},
    "module_utils/docker/daemon_json_check.py": {"check": PRIVATE},
    "module_utils/docker/docker_service.py": all_of(
        SYSTEM, "_is_started_with", "_put_back", "_secrets", "_write", "keep"
    ),
    "module_utils/docker/dockerd.py": all_of(SYSTEM, "exposed", "observe_forwarding", "observe_swarm", "read"),
    "module_utils/docker/node_images.py": {"_free": SYSTEM, "_lines": OURS},
    "module_utils/docker/node_offer.py": {"_read": SYSTEM, "observe": SYSTEM},
    "module_utils/docker/other_dockers.py": {
        "_places": "ids alone, of names in a directory of root's",
        "observe": SYSTEM,
    },
    "module_utils/gpus/gpu_users.py": all_of(SYSTEM, "_leads", "users"),
    "module_utils/gpus/nvidia_device_nodes.py": all_of(SYSTEM, "_names", "_read", "needs_uvm", "observe"),
    "module_utils/gpus/pci.py": all_of(SYSTEM, "_driver", "_gone", "_names", "_read", "gpus", "rdma"),
    "module_utils/site/preflight/accounts.py": {"check_login": CONTROLLER},
    "module_utils/site/preflight/connections.py": {"_key_file": CONTROLLER},
    "module_utils/packages/apt_conflicts.py": all_of(SYSTEM, "_regular", "observe"),
    "module_utils/files/pinned_file.py": all_of(PRIVATE, "fetch", "has"),
    "module_utils/base/trust_store.py": {"apply": SYSTEM},
    "module_utils/firewall/firewall_setup.py": {"observe": SYSTEM},
    "module_utils/firewall/other_firewalls.py": {"observe": SYSTEM},
    "module_utils/firewall/port_holders.py": all_of(SYSTEM, "_bound", "_command", "_inode", "_listening", "holders"),
    "module_utils/receipts/probes/__init__.py": {
        "_Child._work": "the pipe to who asked",
        "_apart": SYSTEM,
        "_touched": "links of the way alone, and none on a share; nothing is opened",
    },
    "module_utils/receipts/probes/docker.py": {"_runs": SYSTEM},
    "module_utils/receipts/probes/files.py": {
        **all_of(REGULAR, "_bounded", "_describe", "_open", "_read", "_read_beneath", "_tree"),
        "_below": DESCRIPTOR,
    },
    "module_utils/receipts/probes/host.py": {"Host.read": SYSTEM},
    "module_utils/receipts/probes/gpu.py": {"_on_bus": SYSTEM},
    "module_utils/receipts/probes/mounts.py": {
        "_gluster": SYSTEM,
        **all_of(MOUNTPOINT, "_mountpoint", "_quota"),
    },
    "module_utils/receipts/probes/network.py": all_of(
        SYSTEM, "_former_bridges", "_has_ipv6", "_leads_out", "strangers"
    ),
    "module_utils/receipts/probes/system.py": {"_kernel_module": SYSTEM},
    "module_utils/receipts/agent.py": {"write": OURS, "machine_id": SYSTEM},
    "module_utils/receipts/receipt_store.py": {
        **all_of(OURS, "ReceiptStore._noted", "ReceiptStore.begun", "ReceiptStore.prepare", "ReceiptStore.read"),
        **all_of(OURS, "ReceiptStore.remove", "ReceiptStore.roles", "ReceiptStore.salt", "ReceiptStore.write"),
    },
    "module_utils/files/locks.py": all_of(
        SYSTEM, "_device", "_holders", "_process", "_replace", "_status", "close_directory"
    ),
    "module_utils/mesh/ssh_host_key.py": {"_read": OURS},
    "module_utils/mesh/mesh_certificate.py": {
        **all_of(CONTROLLER, "ensure_authority", "sign"),
        "unlocked": PRIVATE,
    },
    "module_utils/firewall/foreign_openings.py": all_of(SYSTEM, "_write", "close"),
    "module_utils/firewall/ufw_trial.py": all_of(OURS, "arm", "is_armed", "note", "release"),
    "module_utils/registry/registry_plan.py": {"_collect": "nothing that the container prints is read"},
    "modules/apt_conflicts.py": {"apply": SYSTEM},
    "modules/authorized_keys.py": {"main": SYSTEM},
    "modules/cdi_spec.py": all_of(SYSTEM, "main", "major_of", "read"),
    "modules/container_command.py": {"main": CAPPED},
    "modules/docker_daemon_config.py": {"main": SYSTEM},
    "modules/gpu_proof.py": {"main": CAPPED},
    "modules/image_contexts.py": {"contents": "what Ansible has brought for this run"},
    "modules/image_stack.py": {"alone": OURS, "private": PRIVATE},
    "modules/nas_quotas.py": {"main": "the export, on the server itself: a path of root's, nothing is opened"},
    "modules/nas_mounts.py": all_of(SYSTEM, "main", "read", "write"),
    "modules/nvidia_containers_info.py": all_of(SYSTEM, "observe", "read"),
    "modules/pinned_file.py": {"main": SYSTEM},
    "modules/registry_prune.py": {"main": SYSTEM},
    "modules/ufw_enabled.py": {"read": SYSTEM},
    "modules/ufw_live.py": {"read": SYSTEM},
    "modules/ufw_rules.py": {"read": SYSTEM},
    "modules/uid_match.py": {
        "desired_account": "the owner of a name alone, which the site declares; nothing is opened"
    },
    "plugin_utils/preflight_files.py": all_of(
        CONTROLLER,
        "-",
        "_files",
        "_folders",
        "_hosts",
        "_names",
        "_repeated",
        "_unread_names",
        "_variables",
        "merged",
        "place_of_group",
        "unread",
    ),
    "plugin_utils/preflight_places.py": {"_is_vault": CONTROLLER},
    "plugin_utils/preflight_run.py": all_of(CONTROLLER, "_is_ours", "of_inventory", "tags_of"),
    "plugin_utils/preflight_specs.py": {"load": CONTROLLER},
    "plugin_utils/receipt_exchange.py": {"library": CONTROLLER},
    "plugin_utils/receipt_inputs.py": all_of(
        CONTROLLER, "-", "collection_version", "file_digest", "plugins_digest", "read_role", "site_roles"
    ),
}
# Work that other modules hand over.
HANDED: dict[str, set[str]] = {
    "module_utils/accounts/apply_authorized_keys.py": {"forget", "is_kept", "keep", "retire", "take_back"},
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


def run_by_root(file: str, function: str) -> list[str]:
    """The functions that nothing in the module calls, and from which a function of it is reached outside of work."""
    text = source(file)
    hands = {name for hand in ("run", "as_account", "_as_account", "as_the_account") for name in called_by(text, hand)}
    ahead, seen, found = [function], {function}, []
    while ahead:
        one = ahead.pop()
        callers = called_by(text, one)
        found += [one] if not callers and one not in hands and one != function else []
        fresh = callers - seen - hands
        seen |= fresh
        ahead += fresh
    return sorted(found)


@pytest.mark.parametrize("file", [file for file in ALLOWED if WORK in ALLOWED[file].values()])
def test_work_is_called_by_nobody_but_the_library_and_other_work(file: str) -> None:
    """So that no function that is meant for a child with an account's ids is run by root."""
    work = [function for function, why in ALLOWED[file].items() if why == WORK]
    reached = {function: run_by_root(file, function) for function in work}
    assert {function: by for function, by in reached.items() if set(by) - HANDED.get(file, set())} == {}


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
