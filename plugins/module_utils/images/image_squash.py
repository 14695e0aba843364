# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An image as one file on the share, a squashfs in the form that enroot makes of it.

The file is named by the image's digest and stays as it is while nodes may have it mounted; `<name>.sqsh` is a link to
the one in use, which changes in one go. Source: https://github.com/NVIDIA/enroot/blob/master/doc/image-format.md
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shlex
import shutil
import stat
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ansible_collections.gpustead.cluster.plugins.module_utils import as_account
from ansible_collections.gpustead.cluster.plugins.module_utils.as_account import Identity
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.run import Run
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

DIGEST_LENGTH = 12
_DIGEST = re.compile(r"(?:^|@)sha256:([0-9a-f]{64})$")
# What a container's own files are, and Docker's mark of one.
_LEFT_OUT = re.compile(r"(?:\./)?(?:dev/.*|\.dockerenv)")
_BLOCK = 1 << 20
# They make accounts, which takes root; enroot runs an image as the account that calls it.
_MAKES_ACCOUNTS = {"/usr/local/bin/gpustead-entrypoint", "/usr/local/bin/gpustead-site"}
_WORK = ".squash-"
_LEFT_BEHIND = 86400  # seconds after which nobody works there any more


@dataclass(frozen=True)
class Desired:
    """What is to be on the share.

    Attributes:
        root, directory: where it is mounted, a path of root's; and where the files lie, below it.
        name: of the file, without its end.
        image: the image on this host, by its digest, or by its id where no registry has it.
        keep: further images by digest whose files stay.
        who: the account that the directory belongs to.
    """

    root: str
    directory: str
    name: str
    image: str
    keep: Sequence[str]
    who: Identity

    @property
    def place(self) -> str:
        return os.path.join(self.root, self.directory)

    @property
    def link(self) -> str:
        return f"{self.name}.sqsh"

    @property
    def file(self) -> str:
        return self.file_of(self.image)

    def file_of(self, image: str) -> str:
        """The name of an image's file.

        Raises:
            GpusteadError: it is named by no digest.
        """
        found = _DIGEST.search(image)
        if not found:
            raise GpusteadError(f"image {image!r}", "one by its digest", "Write it as registry/name@sha256:….")
        return f"{self.name}-{found[1][:DIGEST_LENGTH]}.sqsh"


@dataclass(frozen=True)
class Observed:
    """`target`: where the link leads, or empty. `files`: those of this name by digest, and what a killed run left."""

    target: str
    files: Sequence[str]


@dataclass(frozen=True)
class SquashOrder:
    """What is to be done: make the file, set the link, remove these."""

    make: bool
    link: bool
    remove: Sequence[str]

    @property
    def empty(self) -> bool:
        return not (self.make or self.link or self.remove)


def observe(desired: Desired) -> Observed:
    """Look at the directory, as its owner. One that is not there is empty."""
    form = re.compile(
        rf"{re.escape(desired.name)}-[0-9a-f]{{{DIGEST_LENGTH}}}\.sqsh|\.{re.escape(desired.name)}-.*\.tmp"
    )

    def work() -> list[Any]:
        try:
            directory = as_account.open_beneath(desired.root, desired.directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return ["", []]
        try:
            names = sorted(name for name in os.listdir(directory) if form.fullmatch(name))
            try:
                return [os.readlink(desired.link, dir_fd=directory), names]
            except OSError:
                return ["", names]
        finally:
            os.close(directory)

    target, files = as_account.run(work, desired.who, place=desired.place)
    return Observed(target, tuple(files))


def plan(desired: Desired, found: Observed) -> SquashOrder:
    """What differs. The file that the link has led to stays: a job may have it mounted."""
    kept = {desired.file, found.target, *map(desired.file_of, desired.keep)}
    return SquashOrder(
        make=desired.file not in found.files,
        link=found.target != desired.file,
        remove=tuple(name for name in found.files if name not in kept),
    )


def configuration(config: Mapping[str, Any]) -> dict[str, bytes]:
    """Files of the root file system that say to enroot how the image is run.

    Args:
        config: of `docker image inspect`, its Config.
    """
    volumes = sorted(config.get("Volumes") or {})
    fstab = "".join(f"${{ENROOT_ROOTFS}}{one} {one} none x-create=dir,bind,rw,nosuid,nodev\n" for one in volumes)
    where = shlex.quote(config.get("WorkingDir") or "/")
    entry, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    if _MAKES_ACCOUNTS.intersection(entry):
        entry, command = [], ["/bin/bash"]
    command = command or ([] if entry else ["/bin/sh"])
    entry, command = [[*map(shlex.quote, words)] for words in (entry, command)]
    given, usual = " ".join(["exec", *entry, '"$@"']), " ".join(["exec", *entry, *command])
    rc = f"""mkdir -p {where} 2> /dev/null
cd {where} && unset OLDPWD || exit 1

if [ -s /etc/rc.local ]; then
    . /etc/rc.local
fi

if [ $# -gt 0 ]; then
    {given}
else
    {usual}
fi
"""
    return {
        "etc/environment": "".join(f"{one}\n" for one in config.get("Env") or ()).encode(),
        "etc/fstab": fstab.encode(),
        "etc/rc": rc.encode(),
        "etc/rc.local": b"# Run by /etc/rc when the container starts.\n",
    }


def convert(source: IO[bytes], target: IO[bytes], files: Mapping[str, bytes]) -> None:
    """Copy a tar of a root file system from one pipe to another, with these files in the place of its own."""
    with (
        tarfile.open(fileobj=source, mode="r|") as read,
        tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as written,
    ):
        for member in read:
            name = member.name[2:] if member.name.startswith("./") else member.name
            if name not in files and not _LEFT_OUT.fullmatch(member.name):
                # Who unpacks it is not root, and reads and removes by permissions alone.
                member.mode |= stat.S_IRWXU if member.isdir() else stat.S_IRUSR
                written.addfile(member, read.extractfile(member) if member.isreg() else None)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if name == "etc/rc" else 0o644
            written.addfile(member, io.BytesIO(content))


@contextlib.contextmanager
def workplace(directory: str) -> Iterator[str]:
    """A directory in one of root's, for a file as long as the image. Those that killed runs left there go."""
    for old in Path(directory).glob(f"{_WORK}*"):
        if old.lstat().st_mtime < time.time() - _LEFT_BEHIND:
            shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=directory) as work:
        yield work


def squash(run: Run, image: str, path: str, timeout: float) -> None:
    """Write an image of this host to a file that is not there.

    Args:
        timeout: seconds for the writing.

    Raises:
        GpusteadError: Docker does not give it, or it cannot be written.
    """
    code, out, err = run(["docker", "image", "inspect", "--format", "{{json .Config}}", image])
    if code:
        raise GpusteadError(f"{image} cannot be looked at: {err.strip()[:400]}", "an image of this host", "Pull it.")
    files = configuration(json.loads(out))
    code, out, err = run(["docker", "create", "--pull", "never", image, "true"])
    if code:
        raise GpusteadError(f"no container can be made of {image}: {err.strip()[:400]}", "one", "See docker info.")
    container = out.strip()
    try:
        taker = ["sqfstar", "-all-root", "-no-progress", "-comp", "zstd", path]
        _through(["docker", "export", container], taker, files, timeout)
    finally:
        run(["docker", "rm", "--force", "--volumes", container])


def _through(giver: Sequence[str], taker: Sequence[str], files: Mapping[str, bytes], timeout: float) -> None:
    with (
        tempfile.TemporaryFile() as words,
        subprocess.Popen(giver, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words) as given,
        subprocess.Popen(taker, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=words) as taken,
    ):
        if given.stdout is None or taken.stdin is None:
            raise AssertionError("pipes, as asked for")
        failed = ""

        def end() -> None:
            given.kill()
            taken.kill()

        late, began = threading.Timer(timeout, end), time.monotonic()
        late.daemon = True
        late.start()
        try:
            convert(given.stdout, taken.stdin, files)
            while given.stdout.read(_BLOCK):  # what pads the archive
                pass
        except (OSError, tarfile.TarError) as error:
            failed = str(error)
            given.kill()
        with contextlib.suppress(OSError):
            taken.stdin.close()
        statuses = taken.wait(), given.wait()
        late.cancel()
        if any(statuses) or failed:
            words.seek(max(0, words.tell() - 400))
            over = f"it took more than {timeout:.0f} s" if time.monotonic() - began >= timeout else ""
            said = words.read().decode(errors="replace").strip() or over or failed or "it was killed"
            what = f"{' '.join(giver[:2])} into {taker[0]} ended: {shown(said)}"
            raise GpusteadError(what, "the image as a squashfs", "See the space in images_build_dir, and docker info.")


def publish(desired: Desired, order: SquashOrder, path: str, timeout: float) -> None:
    """Bring the file to the share, set the link, remove the others; as the directory's owner.

    Args:
        path: the file that was made on this host; empty where none had to be.
        timeout: seconds for all of it.
    """
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) if path else -1

    def work() -> None:
        directory = as_account.open_beneath(desired.root, desired.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            mark = f".{desired.file}.{secrets.token_hex(6)}.tmp"
            if source >= 0:
                _copy(source, directory, mark)
                os.replace(mark, desired.file, src_dir_fd=directory, dst_dir_fd=directory)
            if order.link:
                os.symlink(desired.file, mark, dir_fd=directory)
                os.replace(mark, desired.link, src_dir_fd=directory, dst_dir_fd=directory)
            for name in order.remove:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)

    try:
        as_account.run(work, desired.who, timeout=timeout, place=desired.place)
    finally:
        if source >= 0:
            os.close(source)


def _copy(source: int, directory: int, name: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(file, "wb") as out:
            while part := os.read(source, _BLOCK):
                out.write(part)
            out.flush()
            os.fchmod(file, stat.S_IRUSR | stat.S_IWUSR | stat.S_IRGRP | stat.S_IROTH)
            os.fsync(file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
