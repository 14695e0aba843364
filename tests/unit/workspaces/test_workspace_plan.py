"""What role workspace makes of its settings and of what it finds; whole files are in roles/test_written_files.py."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.docker.node_offer import NO_GPUS
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces import workspaces as declared
from ansible_collections.gpustead.cluster.plugins.module_utils.workspaces.workspace_plan import (
    Observed,
    Plan,
    Settings,
    plan,
)

USERS: list[dict[str, Any]] = [
    {"name": "ada", "uid": 1500, "gid": 1600, "ssh_keys": ["a", "b"]},
    {"name": "bob", "uid": 1501, "ssh_keys": ["c"]},
]
ALL: list[dict[str, Any]] = [{"owner": "ada"}, {"owner": "bob", "profile": "local", "accounts": ["ada"]}]
TOKEN = "a-token-that-nobody-guesses"
NOTHING = Observed()
NO_GPUS_HERE = dict(NO_GPUS)


def planned(observed: Observed = NOTHING, instances: list[dict[str, Any]] = ALL, **settings: Any) -> Plan:
    defaults = declared.Defaults(USERS, "ada", declared.PORTS, declared.PORT_RANGE)
    given = {"owner": "ada", "owner_uid": 1500, "torch_index": "https://index", **settings}
    return plan(declared.plan(instances, defaults), Settings(**given), observed)


def offered(gpus: dict[str, Any] | None, **found: Any) -> Observed:
    return Observed({"image": "an/image", "gpus": gpus, "held": [], **found})


COMMON = {
    "group": {"name": "cluster", "gid": 1400},
    "directories": [{"name": "vision", "gid": 1410, "members": ["ada"]}],
    "datasets": {"name": "data", "gid": 1401, "members": ["ada"]},
    "caches": {"uv": "common"},
}


def test_a_workspace_sees_what_its_owner_has_in_common_with_others() -> None:
    found = planned(common=COMMON)
    seen = {
        owner: {bind.path: bind.read_only for bind in of.binds if bind.path.startswith(("/datasets", "/groups"))}
        for owner, of in found.of.items()
    }
    others = [owner for owner in seen if owner != "ada"]
    assert others and seen["ada"] == {"/datasets": False, "/groups/vision": False}
    assert all(seen[owner] == {"/datasets": True} for owner in others)
    environment = found.of["ada"].environment
    assert "vision:1410:ada" in environment["GPUSTEAD_GROUPS"]
    assert (environment["GPUSTEAD_UMASK"], environment["UV_CACHE_DIR"]) == ("0002", "/shared/.cache/uv")
    assert not {"GPUSTEAD_GROUPS", "GPUSTEAD_UMASK"} & set(planned().of["ada"].environment)
    # Also where one has a place with some alone.
    some = planned(common={"directories": COMMON["directories"]}).of["ada"].environment
    assert (some["GPUSTEAD_GROUPS"], some["GPUSTEAD_UMASK"]) == ("vision:1410:ada", "0002")


def test_a_workspace_is_the_same_after_it_went_through_yaml() -> None:
    defaults = declared.Defaults(USERS, "ada", declared.PORTS, declared.PORT_RANGE)
    for one in declared.plan(ALL, defaults):
        assert declared.Workspace.parse(one.described()) == one


LIMITED: dict[str, Any] = {
    "owner": "bob",
    "limits": {"memory": "64gb", "cpus": 7.5},
    "volumes": [{"name": "scratch", "path": "/scratch"}],
    "publish": "19900:19901",
}


def test_a_workspace_with_limits_volumes_and_further_ports() -> None:
    found = planned(instances=[LIMITED])
    assert found.ports[-2:] == [19900, 19901]
    assert found.of["bob"].environment["GPUSTEAD_CACHES"] == "/scratch"
    assert found.of["bob"].local_environment["GPUSTEAD_CACHES"] == "/local/cache /local/vscode-server /scratch"
    (unit,) = [one for one in found.host_files["bob"] if one["path"].endswith(".slice")]
    assert unit["path"] == "/etc/systemd/system/gpustead_1501.slice" and "CPUQuota=750%" in unit["content"]
    (one,) = declared.plan([LIMITED], declared.Defaults(USERS, "ada", declared.PORTS, declared.PORT_RANGE))
    assert declared.Workspace.parse(one.described()) == one


@pytest.mark.parametrize(("driver", "problem"), [("systemd", ""), ("", ""), ("cgroupfs", "limits of bob: Docker's")])
def test_limits_need_dockers_systemd_driver(driver: str, problem: str) -> None:
    found = planned(replace(offered(NO_GPUS_HERE), cgroup_driver=driver), [LIMITED]).of["bob"].problem
    assert found.startswith(problem) and bool(found) is bool(problem)


def test_a_volume_takes_no_path_of_ours() -> None:
    with pytest.raises(GpusteadError, match="are taken"):
        planned(instances=[{**LIMITED, "volumes": [{"name": "x", "path": "/local"}]}])


def test_guests_whose_home_is_missing_do_not_come_in() -> None:
    lost = Observed(mounted={"missing": ["home-ada"], "refused": []})
    assert planned().of["bob"].environment["GPUSTEAD_ACCOUNTS"] == "ada:1500:1600"
    assert "GPUSTEAD_ACCOUNTS" not in planned(lost).of["bob"].environment


def test_a_workspace_that_docker_does_not_answer_for_is_left_alone_in_a_check_too() -> None:
    hangs = {"name": "gpustead-workspace", "what": "container 01", "expected": "an answer", "remedy": "End it."}
    lost = {"missing": ["home-bob"], "refused": [{**hangs, "name": "home-bob"}]}
    for check, bob in ((False, "container 01: expected an answer. End it."), (True, "")):
        found = planned(Observed(blocked=[hangs], mounted=lost, check=check)).of
        assert found["ada"].refused == "container 01: expected an answer. End it."
        assert found["bob"].refused == bob


@pytest.mark.parametrize(("wanted", "told"), [([], "void"), ([0], None), (None, None)])
def test_one_without_gpus_gets_none_where_docker_gives_them_to_who_asks(
    wanted: list[int] | None, told: str | None
) -> None:
    """Images of CUDA ask for all of them, and nvidia may be Docker's default runtime."""
    gpus = {**NO_GPUS, "driver": "nvidia", "device_ids": ["GPU-0"], "uuids": ["GPU-0"], "gpus": []}
    found = planned(offered(gpus), [{"owner": "ada", "gpus": wanted}]).of["ada"]
    assert (found.problem, found.environment.get("NVIDIA_VISIBLE_DEVICES")) == ("", told)
    assert planned(offered(None)).of["ada"].environment["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_keys_that_the_site_adds_are_the_owners_alone() -> None:
    found = planned(authorized_keys=["d", "a"]).host_files
    keys = {
        (owner, entry["path"].rpartition("/")[2]): entry["content"].splitlines()[1:]
        for owner, entries in found.items()
        for entry in entries
        if entry["state"] == "file"
    }
    assert keys == {("ada", "ada"): ["a", "b", "d"], ("bob", "bob"): ["c"], ("bob", "ada"): ["a", "b", "d"]}


def test_keys_of_former_guests_do_not_stay() -> None:
    """Also those that no receipt knows of."""
    for entries in planned().host_files.values():
        exclusive = [entry["path"] for entry in entries if entry.get("exclusive")]
        assert exclusive == [os.path.dirname(entries[-1]["path"])]


def test_an_account_whose_port_is_taken_keeps_no_other_from_theirs() -> None:
    squatter = {"port": declared.PORTS["jupyter"], "account": "eve", "pid": 7, "command": "python3"}
    found = planned(offered(None, held=[squatter]))
    assert "(jupyter) is taken by process 7 (python3) of account 'eve'" in found.of["ada"].problem
    assert found.of["bob"].problem == ""
    assert squatter["port"] in found.ports


@pytest.mark.parametrize(
    ("settings", "observed", "words"),
    [
        ({"owner_uid": None, "user_names": "bob"}, NOTHING, r"workspace_owner 'ada' is not an account .*\(bob\)"),
        ({}, offered(None, image=""), "/etc/gpustead/image is missing .* set workspace_image"),
    ],
)
def test_what_no_workspace_can_be_without(settings: dict[str, Any], observed: Observed, words: str) -> None:
    with pytest.raises(GpusteadError, match=words):
        planned(observed, **settings)


def test_the_image_of_the_site_wins_and_in_a_check_there_may_be_none_yet() -> None:
    assert planned(offered(None), image="my/image").image == "my/image"
    assert planned(replace(offered(None, image=""), check=True)).image == planned().image == "not-pulled-yet"


def test_a_secret_that_is_set_is_the_owners_alone_and_shown_nowhere() -> None:
    found = planned(jupyter_token=TOKEN)
    files = {owner: entries[-1] for owner, entries in found.nas_files.items()}
    assert (files["ada"].get("content"), files["bob"].get("generate")) == (TOKEN, 32)
    assert found.of["ada"].secret_digest != planned().of["ada"].secret_digest == found.of["bob"].secret_digest
    assert TOKEN not in f"{found.of} {found.receipt} {found!r}"
    assert planned(jupyter_password_hash="argon2:x").nas_files["ada"][-1]["path"].endswith("/jupyter_password")


def test_what_the_node_lacks_is_said_of_each_workspace() -> None:
    instances: list[dict[str, Any]] = [{"owner": "ada", "gpus": [3]}, {"owner": "bob", "gpus": []}]
    found = planned(offered({**NO_GPUS, "uuids": ["GPU-0"], "device_ids": ["GPU-0"]}), instances)
    assert found.of["ada"].problem.startswith("GPU 3: expected one that this host has for containers")
    assert found.of["bob"].problem == ""


def test_a_check_of_a_fresh_host_misses_no_gpu() -> None:
    found = planned(Observed(check=True), [{"owner": "ada", "gpus": [0]}])
    assert (found.of["ada"].problem, found.of["ada"].gpus["uuids"]) == ("", [])
    assert planned(Observed(), [{"owner": "ada", "gpus": [0]}]).of["ada"].problem


def test_a_driver_that_is_too_old_for_every_wheel_is_a_problem_of_the_node() -> None:
    gpus = {
        **NO_GPUS,
        "driver_version": "470.57.02",
        "gpus": [{"compute_capability": "9.0", "devices": [], "node": ""}],
    }
    assert "torch 2.13" in planned(offered(gpus), torch_version="2.13.0").of["ada"].problem
    unknown = {**gpus, "gpus": [{**gpus["gpus"][0], "compute_capability": None}]}
    assert "compute capability None" in planned(offered(unknown), torch_version="2.5.0").of["ada"].problem
    fits = {**gpus, "driver_version": "590.48.01"}
    environment = planned(offered(fits), torch_version="2.13.0").of["ada"].environment
    assert environment["GPUSTEAD_TORCH_INDEX"] == "https://index/cu130"


def test_wheels_are_of_the_architecture_of_the_node() -> None:
    """For aarch64 there is none of 2.8 but with CUDA 12.9."""
    gpus = {
        **NO_GPUS,
        "driver_version": "560.35.03",
        "gpus": [{"compute_capability": "9.0", "devices": [], "node": ""}],
    }
    for machine, index in ((None, "cu126"), ("x86_64", "cu126"), ("aarch64", "cu129")):
        found = planned(offered({**gpus, "machine": machine}), torch_version="2.8.0").of["ada"]
        assert found.environment["GPUSTEAD_TORCH_INDEX"] == f"https://index/{index}"


def test_receipts_look_at_the_share_as_who_owns_it() -> None:
    found = planned(vouches=True).receipt
    assert [subject["as"] for subject in found["shared"]] == [1500] * 4 + [1501] * 4
    assert all(subject["keep"] for subject in found["shared"])
    assert [subject["account"] for subject in found["shared"]] == ["ada"] * 4 + ["bob"] * 4
    assert [subject["account"] for subject in found["container"]] == [
        owner for owner in ("ada", "bob") for _service in declared.SERVICES
    ]
    own = {subject["name"].split("/")[5]: subject["account"] for subject in found["file"] if "account" in subject}
    assert own == {"ada": "ada", "bob": "bob"}
    assert [subject["as"] for subject in planned().receipt["shared"]] == [1501] * 4
    elsewhere = [subject["name"] for kind in ("file", "tree", "bind") for subject in found[kind]]
    assert not [name for name in elsewhere if name.startswith(("/mnt/nas", "/home"))]


def test_settings_are_copied_in_profile_local_and_linked_where_they_were_there() -> None:
    found = planned(Observed(placed={"settings": {"bob": [".config/nvim"]}}), local_settings=[".vimrc", ".config/nvim"])
    assert {link["path"]: link["target"] for link in found.nas_links["bob"]} == {
        "users/bob/.vscode-server": "/local/vscode-server",
        "users/bob/.config/nvim": "/etc/gpustead/settings/.config/nvim",
    }
    assert found.places[1]["settings"] == [".vimrc", ".config/nvim"]


def test_what_coding_tools_write_lies_on_the_node_in_profile_local() -> None:
    found = planned(Observed(), local_state=[".claude", ".local/share/opencode"])
    assert {link["path"]: link["target"] for link in found.nas_links["bob"]} == {
        "users/bob/.vscode-server": "/local/vscode-server",
        "users/bob/.claude": "/local/state-claude",
        "users/bob/.local/share/opencode": "/local/state-local-share-opencode",
    }
    places = ["cache", "vscode-server", "state-claude", "state-local-share-opencode"]
    assert found.places[1]["directories"] == places
    assert found.of["bob"].local_environment["GPUSTEAD_CACHES"] == " ".join(f"/local/{name}" for name in places)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a path twice": ({"mounts": [{"host": "/x", "path": "/shared/"}]}, "are taken"),
    "a relative path": ({"mounts": [{"host": "/x", "path": "data"}]}, "absolute"),
    "the root": ({"mounts": [{"host": "/x", "path": "/"}]}, "absolute"),
    "a home": ({"mounts": [{"host": "/home/bob", "path": "/x"}]}, "^workspace_mounts: /home/bob holds homes"),
    "a setting above the home": ({"local_settings": ["../x"]}, "relative to the home"),
    "a state above the home": ({"local_state": ["../x"]}, "relative to the home"),
    "a state twice": ({"local_state": [".config/x", ".config-x"]}, "each path once"),
    "an absolute setting": ({"local_settings": ["/etc/x"]}, "relative to the home"),
    "a repository without a url": ({"repositories": [{"path": "a"}]}, "a repository has a url"),
    "a repository without a path": ({"repositories": [{"url": "https://x/y"}]}, "relative to the home"),
    "an unknown PyTorch": ({"torch_version": "1.0"}, "a release that is known here"),
    "a short token": ({"jupyter_token": "short"}, "at least 16"),
    "two secrets": ({"jupyter_token": TOKEN, "jupyter_password_hash": "argon2:x"}, "not both"),
    "a bare password": ({"jupyter_password_hash": "correct horse"}, "argon2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_meant_is_refused(case: str) -> None:
    settings, words = BAD[case]
    with pytest.raises(GpusteadError, match=words) as refused:
        planned(**settings)
    assert not [value for value in settings.values() if isinstance(value, str) and value in str(refused.value)] or (
        "torch_version" in settings
    )


def test_the_settings_never_show_a_secret() -> None:
    shown = repr(replace(Settings("ada", 1500), jupyter_token=TOKEN, jupyter_password_hash="argon2:x"))
    assert TOKEN not in shown
    assert "argon2" not in shown
