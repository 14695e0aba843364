# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An image as a squashfs on the share: what goes in, what stays, and that it is there as a whole or not at all."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_squash import (
    Desired,
    Observed,
    SquashOrder,
    configuration,
    convert,
    observe,
    plan,
    publish,
    squash,
    workplace,
)

CONFIG = {
    "Env": ["PATH=/opt/venv/bin:/usr/bin", "LANG=C.UTF-8"],
    "Entrypoint": ["/usr/local/bin/entry point"],
    "Cmd": ["sshd"],
    "WorkingDir": "",
    "Volumes": {"/data": {}},
}


def image(letter: str) -> str:
    return f"r:5000/gpustead/base@sha256:{letter * 64}"


@pytest.fixture
def desired(tmp_path: Path) -> Desired:
    (tmp_path / "share/images").mkdir(parents=True)
    return Desired(
        str(tmp_path / "share"), "images", "site", image("a"), [image("b")], Identity(os.getuid(), os.getgid())
    )


def test_how_an_image_is_run() -> None:
    files = configuration(CONFIG)
    assert files["etc/environment"] == b"PATH=/opt/venv/bin:/usr/bin\nLANG=C.UTF-8\n"
    assert files["etc/fstab"] == b"${ENROOT_ROOTFS}/data /data none x-create=dir,bind,rw,nosuid,nodev\n"
    assert b"exec '/usr/local/bin/entry point' \"$@\"\n" in files["etc/rc"]
    assert b"exec '/usr/local/bin/entry point' sshd\n" in files["etc/rc"]


@pytest.mark.parametrize("entry", ["gpustead-entrypoint", "gpustead-site"])
def test_an_entrypoint_that_takes_root_is_left_out(entry: str) -> None:
    rc = configuration({"Entrypoint": [f"/usr/local/bin/{entry}"], "Cmd": ["sshd"]})["etc/rc"].decode()
    assert [line.strip() for line in rc.splitlines() if "exec" in line] == ['exec "$@"', "exec /bin/bash"]


@pytest.mark.parametrize(("words", "said"), [(["echo", "a b"], "a b"), ([], "usual")])
def test_the_command_of_an_image_is_run_by_its_rc(tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "rc").write_bytes(configuration({"Cmd": ["echo", "usual"]})["etc/rc"])
    done = subprocess.run(["sh", f"{tmp_path}/rc", *words], capture_output=True, text=True, check=True)
    assert done.stdout == f"{said}\n"


def tar(*members: tuple[str, bytes | str]) -> bytes:
    """A tar of files with their content, links (`-> target`), hard links (`= target`) and directories (empty text)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            one = tarfile.TarInfo(name)
            one.mode = 0o755
            if isinstance(content, bytes):
                one.size = len(content)
                archive.addfile(one, io.BytesIO(content))
                continue
            kind, _space, one.linkname = content.partition(" ")
            one.type = {"->": tarfile.SYMTYPE, "=": tarfile.LNKTYPE}.get(kind, tarfile.DIRTYPE)
            archive.addfile(one)
    return out.getvalue()


ROOT = tar(
    ("etc", ""), ("etc/rc", b"theirs"), ("dev", ""), ("dev/console", b""), (".dockerenv", b""), ("bin", "-> usr/bin"),
    ("usr/bin/python", b"x" * 3000), ("usr/bin/python3", "= usr/bin/python"),
)  # fmt: skip


def test_a_root_file_system_gets_the_files_of_enroot() -> None:
    out = io.BytesIO()
    convert(io.BytesIO(ROOT), out, {"etc/rc": b"ours", "etc/fstab": b""})
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        found = {one.name: one for one in archive}
        assert list(found) == ["etc", "dev", "bin", "usr/bin/python", "usr/bin/python3", "etc/rc", "etc/fstab"]
        rc = archive.extractfile("etc/rc")
        assert rc is not None and rc.read() == b"ours" and found["etc/rc"].mode == 0o755
        assert found["usr/bin/python3"].islnk() and found["bin"].linkname == "usr/bin"
        assert found["usr/bin/python"].size == 3000


def test_who_unpacks_an_image_may_read_all_of_it() -> None:
    given, out = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=given, mode="w") as archive:
        for name, kind, mode in (("etc/x", tarfile.REGTYPE, 0o4011), ("y", tarfile.DIRTYPE, 0o500)):
            one = tarfile.TarInfo(name)
            one.type, one.mode = kind, mode
            archive.addfile(one)
    given.seek(0)
    convert(given, out, {})
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        assert [(one.name, oct(one.mode)) for one in archive] == [("etc/x", "0o4411"), ("y", "0o700")]


def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def docker(argv: Sequence[str]) -> tuple[int, str, str]:
    answers = {"image": json.dumps(CONFIG), "create": "the-container\n", "rm": ""}
    return 0, answers[argv[1]], ""


def test_an_image_is_written_by_sqfstar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root.tar").write_bytes(ROOT)
    tools(tmp_path, monkeypatch, docker=f"cat {tmp_path}/root.tar", sqfstar=f'cat > "$5"; echo "$*" > {tmp_path}/asked')
    squash(docker, image("a"), f"{tmp_path}/out.sqsh", 60)
    with tarfile.open(tmp_path / "out.sqsh") as archive:
        assert "etc/environment" in archive.getnames()
    assert (tmp_path / "asked").read_text() == f"-all-root -no-progress -comp zstd {tmp_path}/out.sqsh\n"


@pytest.mark.parametrize(
    ("export", "taker", "words"),
    [
        ("exit 1", "cat > /dev/null", "docker export into sqfstar ended"),
        ("cat ROOT", "cat > /dev/null; echo 'No space left on device' >&2; exit 1", "No space left on device"),
        ("head -c 1000 ROOT; exit 1", "cat > /dev/null", "docker export into sqfstar ended"),
    ],
)
def test_an_image_that_does_not_come_whole_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: str, taker: str, words: str
) -> None:
    (tmp_path / "root.tar").write_bytes(ROOT)
    tools(tmp_path, monkeypatch, docker=export.replace("ROOT", f"{tmp_path}/root.tar"), sqfstar=taker)
    with pytest.raises(GpusteadError, match=words):
        squash(docker, image("a"), f"{tmp_path}/out.sqsh", 60)


@pytest.mark.parametrize(("export", "taker"), [("exec sleep 60", "exec cat"), ("cat ROOT", "exec sleep 60")])
def test_an_image_that_does_not_come_in_time_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, export: str, taker: str
) -> None:
    (tmp_path / "root.tar").write_bytes(ROOT)
    tools(tmp_path, monkeypatch, docker=export.replace("ROOT", f"{tmp_path}/root.tar"), sqfstar=f"{taker} > /dev/null")
    began = time.monotonic()
    with pytest.raises(GpusteadError, match="docker export into sqfstar ended: it took more than 1 s"):
        squash(docker, image("a"), f"{tmp_path}/out.sqsh", 1)
    assert time.monotonic() - began < 30


def test_what_a_killed_run_left_goes_after_a_day_and_what_another_makes_stays(tmp_path: Path) -> None:
    for name, age in ((".squash-old", 100_000), (".squash-now", 10), ("stack", 100_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.sqsh").touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with workplace(str(tmp_path)) as work:
        assert sorted(os.listdir(tmp_path)) == sorted([".squash-now", "stack", os.path.basename(work)])
    assert sorted(os.listdir(tmp_path)) == [".squash-now", "stack"]


def names(desired: Desired) -> list[str]:
    return sorted(os.listdir(desired.place))


def test_a_file_is_named_by_the_digest_and_a_link_leads_to_it(tmp_path: Path, desired: Desired) -> None:
    order = plan(desired, observe(desired))
    assert order == SquashOrder(make=True, link=True, remove=())
    (tmp_path / "made").write_bytes(b"squashed")
    publish(desired, order, str(tmp_path / "made"), 60)
    assert names(desired) == ["site-aaaaaaaaaaaa.sqsh", "site.sqsh"]
    assert Path(desired.place, "site.sqsh").read_bytes() == b"squashed"
    assert Path(desired.place, desired.file).stat().st_mode & 0o777 == 0o644
    assert plan(desired, observe(desired)).empty


def test_files_that_nobody_keeps_go_and_that_of_the_last_image_stays(tmp_path: Path, desired: Desired) -> None:
    for name in (
        "site-bbbbbbbbbbbb.sqsh",
        "site-cccccccccccc.sqsh",
        "site-dddddddddddd.sqsh",
        "other-cccccccccccc.sqsh",
    ):
        Path(desired.place, name).touch()
    Path(desired.place, ".site-aaaaaaaaaaaa.sqsh.00.tmp").touch()  # of a run that was killed
    Path(desired.place, "site.sqsh").symlink_to("site-cccccccccccc.sqsh")
    order = plan(desired, observe(desired))
    assert order.remove == (".site-aaaaaaaaaaaa.sqsh.00.tmp", "site-dddddddddddd.sqsh")
    (tmp_path / "made").touch()
    publish(desired, order, str(tmp_path / "made"), 60)
    left = ["other-cccccccccccc.sqsh", *(f"site-{letter * 12}.sqsh" for letter in "abc"), "site.sqsh"]
    assert names(desired) == left and os.readlink(f"{desired.place}/site.sqsh") == desired.file


def test_an_earlier_image_is_a_link_alone(desired: Desired) -> None:
    found = Observed("site-bbbbbbbbbbbb.sqsh", ("site-aaaaaaaaaaaa.sqsh", "site-bbbbbbbbbbbb.sqsh"))
    assert plan(desired, found) == SquashOrder(make=False, link=True, remove=())


def test_a_link_in_the_place_of_the_directory_is_not_followed(tmp_path: Path, desired: Desired) -> None:
    (tmp_path / "elsewhere").mkdir()
    os.rmdir(desired.place)
    Path(desired.place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GpusteadError, match="symbolic link"):
        observe(desired)


def test_an_image_that_no_registry_has_is_named_by_its_id(desired: Desired) -> None:
    assert replace(desired, image=f"sha256:{'a' * 64}").file == desired.file


def test_an_image_by_its_tag_is_refused(desired: Desired) -> None:
    with pytest.raises(GpusteadError, match="by its digest"):
        plan(replace(desired, image="r:5000/x:latest"), Observed("", ()))
