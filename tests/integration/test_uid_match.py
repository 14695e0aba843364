"""Accounts on a real host: created, renumbered with their files, refused, and finished after a kill."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Host, Lab

NAME, OLD, NEW = "gsada", 4101, 4201
OTHER = "gsbob"
JOURNAL = f"/var/lib/gpustead/uid_match/{NAME}.json"
EXTRA = "/var/lib/extrausers"
WRAPPER = "/usr/local/sbin/usermod"


def match(
    host: Host, check: bool = False, roots: tuple[str, ...] = ("/home", "/srv/gs"), **user: Any
) -> dict[str, Any]:
    users = [{"name": NAME, "uid": OLD, **user}]
    return host.module("gpustead.cluster.uid_match", {"users": users, "roots": list(roots)}, check)


def ids(host: Host, path: str) -> str:
    return host.check_output(f"stat -c %u:%g {path}")


def state(host: Host) -> str:
    return host.check_output(
        "cat /etc/passwd /etc/group /etc/shadow | sort | sha256sum; ls -lRn /home /srv | sha256sum"
    )


@pytest.fixture
def host(fresh_host: Host) -> Iterator[Host]:
    clean(fresh_host)
    yield fresh_host
    clean(fresh_host)


def clean(host: Host) -> None:
    host.run(f"pkill -9 -u {OLD}; pkill -9 -u {NEW}; umount /home/{NAME}/mounted")
    host.run(f"userdel {NAME}; userdel {OTHER}; for g in {NAME} {OTHER} gsteam; do groupdel $g; done")
    host.run(f"rm -rf /home/{NAME} /home/{OTHER} /srv/gs /srv/outside /var/lib/gpustead {WRAPPER} {EXTRA}/*")
    host.run("sed -i 's/ extrausers//' /etc/nsswitch.conf")
    assert host.run(f"getent passwd {NAME} {OTHER} {OLD} {NEW}").stdout == ""


def furnish(host: Host) -> None:
    """An account with files in two roots, and much that must not be touched."""
    host.check_output(f"groupadd -g {OLD} {NAME} && useradd -m -u {OLD} -g {OLD} -s /bin/sh {NAME}")
    host.check_output(
        f"cd /home/{NAME} && mkdir -p deep/er mounted /srv/gs /srv/outside && touch deep/er/file root_file "
        f"&& cp /bin/true tool && echo precious > /srv/outside/file && touch /srv/gs/data /srv/gs/grouped "
        f"&& ln -s /srv/outside/file link && ln -s /srv/outside linkdir "
        f"&& chown -hR {OLD}:{OLD} /home/{NAME} /srv/gs/data /srv/outside && chown root:{OLD} /srv/gs/grouped "
        f"&& chown root:root root_file && chmod 6755 tool "
        f"&& mount -t tmpfs tmpfs mounted && touch mounted/file && chown {OLD}:{OLD} mounted/file"
    )


def assert_moved(host: Host) -> None:
    new, old = f"{NEW}:{NEW}", f"{OLD}:{OLD}"
    assert host.check_output(f"getent passwd {NAME}") == f"{NAME}:x:{NEW}:{NEW}::/home/{NAME}:/bin/sh"
    assert host.check_output(f"getent group {NAME}").split(":")[2] == str(NEW)
    home = f"/home/{NAME}"
    seen = {path: ids(host, path) for path in (home, f"{home}/deep/er/file", f"{home}/link", "/srv/gs/data")}
    assert set(seen.values()) == {new}, seen
    assert ids(host, "/srv/gs/grouped") == f"0:{NEW}"
    assert ids(host, f"{home}/root_file") == "0:0"
    assert {ids(host, "/srv/outside"), ids(host, "/srv/outside/file"), ids(host, f"{home}/mounted/file")} == {old}
    assert host.check_output(f"stat -c %a:%u {home}/tool") == f"6755:{NEW}"
    assert host.run(f"test -e {JOURNAL}").rc == 1


def test_create_and_again(host: Host) -> None:
    before = state(host)
    assert match(host, check=True, groups=["gsteam"])["changed"]
    assert state(host) == before
    password = "$6$salt$" + "x" * 86
    desired: dict[str, Any] = {"groups": ["gsteam"], "password_hash": password, "comment": "Ada"}
    done = match(host, **desired)
    assert done["changed"], done
    assert password not in str(done)
    assert host.check_output(f"getent passwd {NAME}") == f"{NAME}:x:{OLD}:{OLD}:Ada:/home/{NAME}:/bin/bash"
    assert ids(host, f"/home/{NAME}") == f"{OLD}:{OLD}"
    assert host.check_output(f"id -nG {NAME}") == f"{NAME} gsteam"
    assert host.check_output(f"getent shadow {NAME}").split(":")[1] == password
    assert match(host, **desired)["changed"] is False
    assert match(host, check=True, **desired)["changed"] is False


def test_system_account_from_a_path(host: Host) -> None:
    host.check_output("mkdir -p /srv/gs && chown 961:962 /srv/gs")
    refused = match(host, path="/srv/gs")
    assert "system: true" in refused["msg"]
    assert match(host, path="/srv/gs", system=True)["changed"]
    assert host.check_output(f"id -u {NAME}; id -g {NAME}").split() == ["961", "962"]
    assert host.run(f"test -e /home/{NAME}").rc == 1


def test_renumber_with_files(host: Host) -> None:
    furnish(host)
    before = state(host)
    preview = match(host, check=True, uid=NEW)
    assert preview["changed"] and state(host) == before
    assert str(NEW) in str(preview["diff"])
    done = match(host, uid=NEW)
    assert done["changed"], done
    assert_moved(host)
    assert match(host, uid=NEW)["changed"] is False


def refused(host: Host, *words: str, **user: Any) -> None:
    before = state(host)
    for check in (True, False):
        done = match(host, check=check, **user)
        assert done.get("failed") and "\n" not in done["msg"], done
        assert [word for word in words if word not in done["msg"]] == [], done["msg"]
    assert state(host) == before and host.run(f"test -e {JOURNAL}").rc == 1


def test_busy_account_is_refused(host: Host) -> None:
    furnish(host)
    pid = host.check_output(f"setpriv --reuid {OLD} --clear-groups sleep 300 >/dev/null 2>&1 & echo $!")
    refused(host, "running processes", pid, "sleep", uid=NEW)
    host.check_output(f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done")
    assert match(host, uid=NEW)["changed"]


def test_ids_of_others_are_refused(host: Host) -> None:
    host.check_output(f"useradd -M -U -u {NEW} {OTHER} && groupmod -g {NEW} {OTHER}")
    refused(host, f"uid {NEW}", OTHER, uid=NEW)
    refused(host, f"gid {NEW}", OTHER, gid=NEW)
    host.check_output(f"useradd -M -U -u {OLD} {NAME}")
    refused(host, f"uid {NEW}", OTHER, uid=NEW, gid=OLD)


def test_a_refusal_spares_the_whole_batch(host: Host) -> None:
    users = [{"name": NAME, "uid": OLD}, {"name": OTHER, "uid": OLD, "gid": NEW}]
    before = state(host)
    done = host.module("gpustead.cluster.uid_match", {"users": users})
    assert f"'{NAME}'" in done["msg"] and str(OLD) in done["msg"]
    assert state(host) == before


def test_system_accounts_are_not_renumbered(host: Host) -> None:
    for name in ("backup", "root"):
        done = host.module("gpustead.cluster.uid_match", {"users": [{"name": name, "uid": NEW}]}, check=True)
        assert done.get("failed") and name in done["msg"]


@pytest.fixture
def directory_host(host: Host, lab: Lab) -> Iterator[Host]:
    """With a source of accounts that is not /etc/passwd. The host may have no way out: a node fetches the package."""
    package = lab.nodes[0].check_output(
        "cd $(mktemp -d) && apt-get download -q libnss-extrausers >/dev/null && base64 -w0 *.deb && rm -r $PWD"
    )
    host.check_output(f"echo {package} | base64 -d > /tmp/extrausers.deb && dpkg -i /tmp/extrausers.deb")
    yield host
    host.check_output(
        r"sed -i 's/ extrausers//' /etc/nsswitch.conf && dpkg -P libnss-extrausers; rm /tmp/extrausers.deb"
    )


def test_accounts_of_a_directory_service(directory_host: Host) -> None:
    host = directory_host
    host.check_output(
        f"mkdir -p {EXTRA} && echo '{NAME}:x:{OLD}:{OLD}:Ada:/home/{NAME}:/bin/bash' > {EXTRA}/passwd "
        f"&& echo '{NAME}:x:{OLD}:' > {EXTRA}/group "
        r"&& sed -i -E 's/^((passwd|group):.*)$/\1 extrausers/' /etc/nsswitch.conf"
    )
    assert host.check_output(f"id -u {NAME}") == str(OLD)
    done = match(host)
    assert done["changed"] is False and done["users"][0]["exists"], done
    refused(host, "directory", f"{OLD}:{OLD}", f"{NEW}:{NEW}", uid=NEW)
    other = host.module("gpustead.cluster.uid_match", {"users": [{"name": OTHER, "uid": OLD}]})
    assert NAME in other["msg"]


def test_a_run_killed_before_usermod_is_finished(host: Host) -> None:
    furnish(host)
    host.check_output(f"printf '#!/bin/sh\\nkill -9 $PPID\\n' > {WRAPPER} && chmod 755 {WRAPPER}")
    killed = match(host, uid=NEW)
    assert killed.get("failed"), killed
    host.check_output(f"rm {WRAPPER}")
    assert ids(host, f"/home/{NAME}/deep/er/file") == f"{NEW}:{NEW}"
    assert host.check_output(f"id -u {NAME}") == str(OLD)
    assert host.run(f"test -e {JOURNAL}").rc == 0
    assert match(host, uid=NEW)["changed"]
    assert_moved(host)
    assert match(host, uid=NEW)["changed"] is False


def test_a_run_killed_after_usermod_does_the_rest(host: Host) -> None:
    furnish(host)
    script = f'/usr/sbin/usermod "$@"; chown {OLD}:{OLD} /srv/gs/data; kill -9 $PPID'
    host.check_output(f"printf '%s\\n' '#!/bin/sh' '{script}' > {WRAPPER} && chmod 755 {WRAPPER}")
    assert match(host, uid=NEW).get("failed")
    host.check_output(f"rm {WRAPPER}")
    assert host.check_output(f"id -u {NAME}") == str(NEW)
    assert match(host, uid=NEW)["changed"]
    assert_moved(host)


def test_the_way_back_after_a_kill(host: Host) -> None:
    furnish(host)
    host.check_output(f"printf '#!/bin/sh\\nkill -9 $PPID\\n' > {WRAPPER} && chmod 755 {WRAPPER}")
    assert match(host, uid=NEW).get("failed")
    host.check_output(f"rm {WRAPPER}")
    assert match(host, uid=OLD)["changed"]
    assert host.check_output(f"id -u {NAME}; id -g {NAME}").split() == [str(OLD), str(OLD)]
    assert ids(host, f"/home/{NAME}/deep/er/file") == f"{OLD}:{OLD}"
    assert host.check_output(f"stat -c %a /home/{NAME}/tool") == "6755"


def drop(host: Host, *names: str, check: bool = False, system: tuple[str, ...] = ()) -> dict[str, Any]:
    told = {"users": [], "absent": list(names), "absent_system": list(system)}
    return host.module("gpustead.cluster.uid_match", told, check)


def test_who_is_absent_goes_and_their_files_stay(host: Host) -> None:
    furnish(host)
    files = host.check_output("ls -lRn /home /srv | sha256sum")
    before = state(host)
    preview = drop(host, NAME, check=True)
    assert preview["changed"] and state(host) == before
    assert f"files of {OLD}:{OLD} stay" in str(preview["diff"])
    assert drop(host, NAME)["removed"] == [NAME]
    assert host.run(f"getent passwd {NAME}").rc == host.run(f"getent group {NAME}").rc == 2
    assert host.check_output("ls -lRn /home /srv | sha256sum") == files
    again = drop(host, NAME)
    assert (again["changed"], again["removed"]) == (False, [])


def test_a_group_with_others_in_it_stays(host: Host) -> None:
    furnish(host)
    host.check_output(f"useradd -M -U -G {NAME} {OTHER}")
    assert drop(host, NAME)["changed"]
    assert host.check_output(f"id -nG {OTHER}") == f"{OTHER} {NAME}"


def test_removals_that_are_refused_spare_the_whole_batch(host: Host) -> None:
    furnish(host)
    host.check_output(f"useradd -r -M -U {OTHER}")
    pid = host.check_output(f"setpriv --reuid {OLD} --clear-groups sleep 300 >/dev/null 2>&1 & echo $!")
    before = state(host)
    for names, words in (((OTHER, NAME), "system id"), (("root",), "id 0"), (("backup",), "system id")):
        assert words in drop(host, *names)["msg"]
    assert pid in drop(host, OTHER, NAME, system=(OTHER,))["msg"]
    assert state(host) == before
    host.check_output(f"kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done")
    assert drop(host, OTHER, NAME, system=(OTHER,))["removed"] == [OTHER, NAME]
