# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Dockerfiles take from, brought to a directory of this machine by the action and the library together."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpustead.cluster.plugins.action import image_contexts as action
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.image_contexts import Desired, File, observe
from ansible_collections.gpustead.cluster.plugins.modules import image_contexts as module

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to root")


class Here(action.ActionModule):
    """Collects as on a controller; what it brings stays on this machine."""

    def __init__(self) -> None:
        self._loader = SimpleNamespace(get_real_file=lambda path: path)

    def _find_needle(self, dirname: str, needle: str) -> str:
        return needle


def bring(build: Path, *sources: Path, known: bool = False, **more: Any) -> tuple[list[str], list[str]]:
    """What was missing and what was a stray, by their names below the builder's directory."""
    brought = action.Brought()
    for source in sources:
        Here()._collect(str(source), f"{build}/stack/{source.name}", brought)
    files = {path: File(action._digest(source), mode) for path, (source, mode) in brought.files.items()}
    desired = Desired(str(build), known, files, brought.links, brought.directories, **more)
    found = observe(desired)
    archive = build.parent / "archive.tar"
    action._pack(str(archive), [brought.files[path][0] for path in found.missing])
    module.apply(desired, found, module.contents(str(archive), found.missing))
    names = [[os.path.relpath(path, build) for path in paths] for paths in (found.missing, found.strays)]
    again = observe(desired)
    assert (again.missing, again.strays) == ((), ())
    return names[0], names[1]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A context with all that one may have."""
    folder = tmp_path / "base"
    (folder / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    (folder / "Dockerfile").write_text("FROM parent\n")
    (folder / "sub/run").write_text("#!/bin/sh\n")
    (folder / "sub/run").chmod(0o755)
    (folder / "Dockerfile").chmod(0o640)
    (folder / "to_file").symlink_to("sub/run")
    (folder / "to_folder").symlink_to("sub")
    (folder / "to_nothing").symlink_to("/no/such")
    return folder


def look(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = oct(path.stat().st_mode & 0o7777), path.read_text() if path.is_file() else None
    return found


def test_a_context_is_brought_as_it_is(tmp_path: Path, base: Path) -> None:
    build = tmp_path / "build"
    missing, strays = bring(build, base)
    assert (sorted(missing), strays) == (["stack/base/Dockerfile", "stack/base/sub/run", "stack/base/to_file"], [])
    assert look(build / "stack/base") == {
        "Dockerfile": ("0o640", "FROM parent\n"),
        "empty": ("0o755", None),
        "sub": ("0o755", None),
        "sub/run": ("0o755", "#!/bin/sh\n"),
        "to_file": ("0o755", "#!/bin/sh\n"),
        "to_folder": "sub",
        "to_nothing": "/no/such",
    }
    assert {path.name for path in build.iterdir()} == {"stack", "sources", "wheelhouse", ".gpustead-images"}
    assert bring(build, base) == ([], [])


@pytest.mark.parametrize(
    ("given", "kept"),
    [(0o4755, 0o755), (0o2711, 0o711), (0o6777, 0o755), (0o666, 0o644), (0o1664, 0o644), (0o600, 0o600)],
)
def test_what_becomes_roots_is_no_way_to_root_and_nobody_else_writes_it(tmp_path: Path, given: int, kept: int) -> None:
    """The source of a project may be an account's own directory."""
    (tmp_path / "project").mkdir()
    path = tmp_path / "project/tool"
    path.write_text("#!/bin/sh\n")
    os.chown(path, 2001, 2001)
    path.chmod(given)
    bring(tmp_path / "build", tmp_path / "project")
    made = (tmp_path / "build/stack/project/tool").stat()
    assert (made.st_uid, oct(made.st_mode & 0o7777)) == (0, oct(kept))
    # What an earlier release brought.
    (tmp_path / "build/stack/project/tool").chmod(given)
    bring(tmp_path / "build", tmp_path / "project")
    assert oct((tmp_path / "build/stack/project/tool").stat().st_mode & 0o7777) == oct(kept)


@pytest.mark.parametrize("link", ["../secrets/mesh_ca", "{}/secrets/mesh_ca", "sub/up/secrets/mesh_ca", "twice"])
def test_a_link_out_of_a_context_takes_nothing_of_the_controllers(tmp_path: Path, link: str) -> None:
    """A checkout has the links that its authors put there; a vaulted file would even be decrypted."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/mesh_ca").write_text("key")
    project = tmp_path / "project"
    (project / "sub").mkdir(parents=True)
    (project / "sub/up").symlink_to("../..")
    (project / "twice").symlink_to("../secrets/mesh_ca")
    if link != "twice":
        (project / "twice").unlink()
    (project / "data").symlink_to(link.format(tmp_path))
    bring(tmp_path / "build", project)
    assert os.readlink(tmp_path / "build/stack/project/data") == link.format(tmp_path)
    files = [path for path in (tmp_path / "build").rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if "key" in path.read_text()] == []


def test_a_context_that_is_itself_reached_by_a_link_is_as_any_other(tmp_path: Path, base: Path) -> None:
    (tmp_path / "elsewhere").symlink_to(base)
    assert len(bring(tmp_path / "build", tmp_path / "elsewhere")[0]) == 3


def test_what_differs_is_put_right_and_what_nobody_declares_goes(tmp_path: Path, base: Path) -> None:
    build = tmp_path / "build"
    bring(build, base)
    before = look(build / "stack/base")
    (build / "stack/base/sub/run").write_text("other")
    (build / "stack/base/Dockerfile").chmod(0o600)
    (build / "stack/base/to_folder").unlink()
    (build / "stack/base/to_folder").symlink_to("/etc")
    (build / "stack/gone/deep").mkdir(parents=True)
    (build / "wheelhouse/kept.whl").touch()
    (build / "wheelhouse/old.whl").touch()
    (build / "stack/base/empty").rmdir()
    (build / "stack/base/empty").touch()
    missing, strays = bring(build, base, keep=[f"{build}/wheelhouse/kept.whl"])
    assert missing == ["stack/base/sub/run"]
    assert sorted(strays) == ["stack/base/empty", "stack/base/to_folder", "stack/gone", "wheelhouse/old.whl"]
    assert look(build / "stack/base") == before
    assert [path.name for path in (build / "wheelhouse").iterdir()] == ["kept.whl"]


def test_directories_that_somebody_else_made_are_refused(tmp_path: Path, base: Path) -> None:
    build = tmp_path / "build"
    (build / "sources").mkdir(parents=True)
    with pytest.raises(GpusteadError, match=f"{build}/sources, which role images did not make"):
        bring(build, base)
    assert [path.name for path in build.iterdir()] == ["sources"]
    bring(build, base, known=True)


def test_a_directory_that_others_can_exchange_is_refused_before_anything_is_removed(tmp_path: Path, base: Path) -> None:
    (tmp_path / "open").mkdir()
    build = tmp_path / "open/build"
    bring(build, base)
    (build / "stack/theirs").touch()
    build.parent.chmod(0o1777)
    with pytest.raises(GpusteadError, match="can be changed by others"):
        bring(build, base)
    assert (build / "stack/theirs").exists()


def test_a_file_that_changes_while_it_is_copied_is_not_taken(tmp_path: Path) -> None:
    path = f"{tmp_path}/build/stack/base/Dockerfile"
    desired = Desired(f"{tmp_path}/build", False, {path: File("0" * 64, 0o644)})
    with pytest.raises(GpusteadError, match="was changed while it was copied"):
        module.apply(desired, observe(desired), {path: b"other"})
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("whose", ["an account's", "everybody's", "root's, and open"])
def test_where_others_can_change_the_way_nothing_is_believed_and_nothing_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], whose: str
) -> None:
    """An account makes the mark, and a link where the role would tidy up."""
    (tmp_path / "victim/deep").mkdir(parents=True)
    (tmp_path / "victim/file").touch()
    scratch = tmp_path / "scratch"
    (scratch / "build").mkdir(parents=True)
    (scratch / "build/.gpustead-images").touch()
    (scratch / "build/stack").symlink_to(tmp_path / "victim")
    os.chown(scratch / "build", 2001, 2001)
    os.chown(scratch / "build/stack", 2001, 2001, follow_symlinks=False)
    if whose == "everybody's":
        scratch.chmod(0o1777)
    if whose == "root's, and open":
        os.chown(scratch / "build", 0, 0)
        (scratch / "build").chmod(0o777)
    with patch_module_args({"directory": f"{scratch}/build"}), pytest.raises(SystemExit):
        module.main()
    assert "can be changed by others" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "victim").iterdir()) == ["deep", "file"]


@pytest.mark.parametrize("planted", [False, True])
def test_a_known_directory_that_was_opened_is_closed_before_anything_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], planted: bool
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").touch()
    build = tmp_path / "build"
    build.mkdir()
    build.chmod(0o777)
    if planted:
        (build / "stack").symlink_to(tmp_path / "victim")
        os.chown(build / "stack", 2001, 2001, follow_symlinks=False)
    for check in (True, False):
        arguments = {"directory": str(build), "known": True, "_ansible_check_mode": check}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result = json.loads(capsys.readouterr().out)
        assert result.get("failed", False) is planted, result
        assert planted or result["changed"] is True
        assert build.stat().st_mode & 0o777 == (0o777 if check else 0o755)
    assert (tmp_path / "victim/file").exists()
