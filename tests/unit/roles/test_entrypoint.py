"""The entrypoint of the image, run as it is, in a mount namespace whose directories are copies: accounts are made."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

STACK = Path(__file__).parents[3] / "roles/images/files/stack/ssh"
ADA, BOB = 64001, 64002
PLACES = "/var/lib/gpustead/accounts"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes a mount namespace and accounts")

# What is written below these lies in a directory of the test's own.
SYSTEM = """
set -e
mount -t tmpfs tmpfs "$WORK"
for place in etc usr/local var/lib home opt run root; do
    mkdir -p "$WORK/$place" "$WORK/.$place"
    mount -t overlay overlay -o "lowerdir=/$place,upperdir=$WORK/$place,workdir=$WORK/.$place" "/$place"
done
mkdir -p /etc/sudoers.d /usr/local/lib/gpustead /opt/torch_extensions/op /home/ada /home/bob
rm -rf /usr/local/bin /usr/local/sbin && mkdir /usr/local/bin
cp "$STACK"/gpustead-* /usr/local/bin/ && cp -r "$STACK/services" /usr/local/lib/gpustead/
chmod -R 755 /usr/local/bin /usr/local/lib/gpustead
echo built > /opt/torch_extensions/op/op.so
chown ADA:ADA /home/ada && chown BOB:BOB /home/bob
""".replace("ADA", str(ADA)).replace("BOB", str(BOB))


@dataclass
class Container:
    """Runs the entrypoint with a command in a system of its own."""

    work: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
        """`before` and `after` are shell commands of root's, in the same system."""
        script = f'{SYSTEM}\n{before}\nset +e; /usr/local/bin/gpustead-entrypoint "$@"; code=$?\n{after}\nexit $code'
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "WORK": str(self.work),
            "STACK": str(STACK),
            "GPUSTEAD_USER": "ada",
            "GPUSTEAD_ACCOUNTS": f"bob:{BOB}:{BOB}",
            **self.environment,
        }
        words = ["unshare", "--mount", "--propagation", "private", "bash", "-c", script, "bash", *command]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)

    def succeed(self, *command: str, before: str = "", after: str = "") -> str:
        done = self.run(*command, before=before, after=after)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def container(tmp_path: Path) -> Container:
    (tmp_path / "work").mkdir()
    return Container(tmp_path / "work")


def test_a_command_runs_as_the_user_in_the_home(container: Container) -> None:
    out = container.succeed("bash", "-c", "id -u; id -G; pwd; echo $HOME $USER $LOGNAME")
    assert out.split() == [str(ADA), str(ADA), "/home/ada", "/home/ada", "ada", "ada"]


# The service writes its configuration; what it would start then is none.
SSHD = (
    "mkdir -p /etc/gpustead/ssh && touch /etc/gpustead/ssh/ssh_host_ed25519_key"
    " && sed -i s,/usr/sbin/sshd,true, /usr/local/lib/gpustead/services/sshd"
)
# Commands that anybody may put in front of root's.
EVIL = """
mkdir -m 777 /opt/mamba
for name in getent install mkdir setpriv stat cut find env sed tr chmod rm dirname realpath usermod awk nvidia-smi; do
    printf '#!/bin/bash\\nid -u >> /run/ran\\n' > /opt/mamba/$name
    chmod 755 /opt/mamba/$name
done
touch /run/ran
"""


@pytest.mark.parametrize("command", [["true"], ["sshd"]])
def test_root_takes_no_command_from_where_an_account_writes(container: Container, command: list[str]) -> None:
    container.environment["PATH"] = "/opt/mamba:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    container.environment["GPUSTEAD_CACHES"] = "/var/cache/made"
    mesh = "echo A=b > /etc/gpustead/mesh.env"
    out = container.succeed(*command, before=f"{SSHD}\n{mesh}\n{EVIL}", after="cat /run/ran")
    assert out == ""


def test_accounts_have_their_own_path(container: Container) -> None:
    container.environment["PATH"] = "/opt/mamba/bin:/usr/bin:/bin"
    assert container.succeed("bash", "-c", "echo $PATH").strip() == "/opt/mamba/bin:/usr/bin:/bin"


def test_each_account_has_its_own_compiled_extensions(container: Container) -> None:
    look = f"cd {PLACES} && stat -c '%u %a %n' . ada bob ada/* bob/* ada/*/op/op.so && cat bob/*/op/op.so"
    out = container.succeed("bash", "-c", "echo $TORCH_EXTENSIONS_DIR $TORCHINDUCTOR_CACHE_DIR", after=look)
    assert out.splitlines() == [
        f"{PLACES}/ada/torch_extensions {PLACES}/ada/torchinductor",
        "0 755 .",
        f"{ADA} 700 ada",
        f"{BOB} 700 bob",
        f"{ADA} 700 ada/torch_extensions",
        f"{BOB} 700 bob/torch_extensions",
        f"{ADA} 644 ada/torch_extensions/op/op.so",
        "built",
    ]


@pytest.mark.parametrize(
    "hostile",
    [f"mkdir -p {PLACES}/bob && ln -s /none {PLACES}/bob/torch_extensions", "chmod 0 /opt/torch_extensions/op"],
)
def test_what_an_account_does_to_its_extensions_keeps_no_container_from_starting(
    container: Container, hostile: str
) -> None:
    assert container.succeed("id", "-u", before=hostile) == f"{ADA}\n"


@pytest.mark.parametrize(
    ("given", "seen"), [("/opt/torch_extensions", f"{PLACES}/ada/torch_extensions"), ("/scratch/x", "/scratch/x")]
)
def test_the_directory_of_the_image_is_nobodys_to_write(container: Container, given: str, seen: str) -> None:
    container.environment["TORCH_EXTENSIONS_DIR"] = given
    assert container.succeed("bash", "-c", "echo $TORCH_EXTENSIONS_DIR").strip() == seen


def test_a_container_that_starts_again_keeps_what_was_compiled(container: Container) -> None:
    again = (
        f"setpriv --reuid {BOB} --clear-groups touch {PLACES}/bob/torch_extensions/new"
        " && /usr/local/bin/gpustead-entrypoint true"
        f" && ls {PLACES}/bob {PLACES}/bob/torch_extensions"
    )
    out = container.succeed("true", after=again)
    assert out.split() == [f"{PLACES}/bob:", "torch_extensions", f"{PLACES}/bob/torch_extensions:", "new", "op"]


def test_accounts_are_in_the_groups_of_the_cluster(container: Container) -> None:
    container.environment |= {"GPUSTEAD_GROUPS": "cluster:1400:ada,bob vision:64009:ada", "GPUSTEAD_UMASK": "0002"}
    out = container.succeed("bash", "-c", "id -G; umask", after="id -G bob; getent group 64009 | cut -d: -f1")
    assert out.splitlines() == [f"{ADA} 1400 64009", "0002", f"{BOB} 1400", "vision"]


def test_a_login_shell_has_what_the_container_has(container: Container) -> None:
    container.environment |= {"PATH": "/opt/venv/bin:/usr/bin:/bin", "GPUSTEAD_UMASK": "0002"}
    profile = 'cp "$STACK/profile.sh" /etc/profile.d/gpustead.sh'
    shell = "env -i HOME=/home/ada bash -lc 'echo $PATH; umask; echo $TORCH_EXTENSIONS_DIR'"
    out = container.succeed("bash", "-c", shell, before=profile)
    assert out.splitlines() == ["/opt/venv/bin:/usr/bin:/bin", "0002", f"{PLACES}/ada/torch_extensions"]


@pytest.mark.parametrize(("sudo", "became"), [("0", ADA), ("1", 0)])
@pytest.mark.parametrize("service", [True, False])
def test_without_sudo_no_program_makes_its_caller_root(
    container: Container, sudo: str, became: int, service: bool
) -> None:
    container.environment["GPUSTEAD_SUDO"] = sudo
    before = "cp /usr/bin/id /usr/local/bin/as_root && chmod 4755 /usr/local/bin/as_root"
    if service:
        asks = f"setpriv --reuid={ADA} --clear-groups as_root -u"
        before = f"{before}\n{SSHD}\necho '{asks}' >> /usr/local/lib/gpustead/services/sshd"
        before += "\nsed -i 's,^exec true.*,,' /usr/local/lib/gpustead/services/sshd"
    out = container.succeed(*(["sshd"] if service else ["/usr/local/bin/as_root", "-u"]), before=before)
    assert out.strip() == str(became)


def test_logins_get_the_directories_of_their_own_and_the_path_of_the_image(container: Container) -> None:
    container.environment["PATH"] = "/opt/venv/bin:/usr/bin:/bin"
    container.environment |= {"HISTFILE": "/local/history", "XDG_CACHE_HOME": "/local/cache"}
    written = container.succeed("sshd", before=SSHD, after="cat /run/gpustead/sshd.conf")
    everyone, *blocks = written.split("Match User ")
    found = {block.split()[0]: dict(re.findall(r'"(\w+)=([^"]*)"', block)) for block in blocks}
    assert list(found) == ["bob", "ada"]
    for name, settings in found.items():
        assert settings["PATH"] == "/opt/venv/bin:/usr/bin:/bin"
        assert settings["TORCH_EXTENSIONS_DIR"] == f"{PLACES}/{name}/torch_extensions"
        assert settings["TORCHINDUCTOR_CACHE_DIR"] == f"{PLACES}/{name}/torchinductor"
    assert "HISTFILE" not in found["bob"]
    assert found["ada"]["XDG_CACHE_HOME"] == "/local/cache"
    assert "SetEnv" not in everyone


@pytest.mark.parametrize("name", ["ada.lovelace", "Ada", "ALL", "2ada", "_a-d.a"])
def test_names_as_hosts_and_directories_have_them(container: Container, name: str) -> None:
    container.environment |= {"GPUSTEAD_USER": name, "GPUSTEAD_ACCOUNTS": f"Bob.B:{BOB}:{BOB}", "GPUSTEAD_SUDO": "1"}
    homes = f"mkdir /home/{name} /home/Bob.B && chown {ADA}:{ADA} /home/{name}\n{SSHD}"
    after = "cat /etc/sudoers.d/*; grep -E '^(AllowUsers|Match)' /run/gpustead/sshd.conf; id -u Bob.B"
    out = container.succeed("sshd", before=homes, after=after)
    # By the uid: in sudoers, a name of capital letters alone would be an alias, and ALL everybody.
    allowed = [f"AllowUsers {name} Bob.B", "Match User Bob.B", f"Match User {name}", str(BOB)]
    assert out.splitlines() == [f"#{ADA} ALL=(ALL) NOPASSWD: ALL", *allowed]


@pytest.mark.parametrize("name", ["", "64001", ".ada", "-ada", "a b", "a/b", "a:b", "../ada"])
def test_what_is_no_name_is_refused(container: Container, name: str) -> None:
    container.environment["GPUSTEAD_USER"] = name
    done = container.run("true")
    assert done.returncode == 1
    assert f"GPUSTEAD_USER is '{name}': set it to the name of an account" in done.stderr
