"""Where the plugins touch files by their path, function by function, as their syntax trees say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

# Calls by name that are given a path.
_OS = {
    "access", "chdir", "chflags", "chmod", "chown", "chroot", "getxattr", "lchmod", "lchown", "link", "listdir",
    "listxattr", "lstat", "makedirs", "mkdir", "mkfifo", "mknod", "open", "pathconf", "readlink", "remove",
    "removedirs", "removexattr", "rename", "renames", "replace", "rmdir", "scandir", "setxattr", "stat", "statvfs",
    "symlink", "truncate", "unlink", "utime", "walk", "fwalk",
}  # fmt: skip
_OS_PATH = {"exists", "lexists", "getatime", "getctime", "getmtime", "getsize", "isdir", "isfile", "islink", "ismount"}
_OS_PATH |= {"realpath", "samefile"}
# Given to another function, which calls it.
_PASSED_ON = {f"os.{name}" for name in _OS}
# Methods of pathlib; `replace` of text has two arguments.
_PATHLIB = {
    "absolute", "chmod", "exists", "expanduser", "glob", "hardlink_to", "is_block_device", "is_char_device",
    "is_dir", "is_fifo", "is_file", "is_mount", "is_socket", "is_symlink", "iterdir", "lchmod", "link_to", "lstat",
    "mkdir", "open", "read_bytes", "read_text", "readlink", "rename", "resolve", "rglob", "rmdir", "samefile",
    "stat", "symlink_to", "touch", "unlink", "write_bytes", "write_text",
}  # fmt: skip
# Of AnsibleModule.
_ANSIBLE = {
    "atomic_move", "backup_local", "digest_from_file", "preserved_copy",
    "set_fs_attributes_if_different", "set_file_attributes_if_different", "set_directory_attributes_if_different",
    "set_owner_if_different", "set_group_if_different", "set_mode_if_different",
}  # fmt: skip
# Modules whose every function is given paths.
_WHOLE = {"shutil", "tempfile", "glob", "fileinput", "zipfile", "tarfile", "mmap", "linecache"}
# Programs that are given paths, as the first word of a command.
_PROGRAMS = {
    "cat", "chattr", "chgrp", "chmod", "chown", "cp", "dd", "du", "file", "find", "getfacl", "grep", "head", "install",
    "ln", "ls", "mkdir", "mknod", "mktemp", "mv", "readlink", "realpath", "rm", "rmdir", "rsync", "sed", "setfacl",
    "sha256sum", "shred", "stat", "tail", "tar", "tee", "test", "touch", "truncate",
}  # fmt: skip
# What brings in what a container prints.
_SPEAKERS = {"exec", "logs", "attach", "run", "cp"}


@dataclass(frozen=True)
class Touch:
    """A call that is given a path: the function that it stands in, and what is called."""

    function: str
    call: str


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def _touched(node: ast.Call, imported: set[str]) -> str:
    """What a call touches by path, or an empty text."""
    name = _dotted(node.func)
    head, _, last = name.rpartition(".")
    # Those of a name within an open directory, too: whether they follow a link is looked at by people.
    if (head == "os" and last in _OS) or (head == "os.path" and last in _OS_PATH):
        return name
    if head in _WHOLE or name in ("open", "io.open"):
        return name
    if not head:
        return name if name in imported else ""
    replaced = last == "replace" and len(node.args) == 1 and not node.keywords
    return f".{last}" if replaced or last in _ANSIBLE or (last in _PATHLIB and head not in ("os", "ast")) else ""


def _program(node: ast.List) -> str:
    """What a command written out as a list touches."""
    words = [one.value if isinstance(one, ast.Constant) else None for one in node.elts]
    if words and isinstance(words[0], str):
        program = words[0].rpartition("/")[2]
        if program in _PROGRAMS:
            return program
        if program == "docker" and _SPEAKERS & {word for word in words[1:] if isinstance(word, str)}:
            return "docker exec"
    return ""


def touches(source: str) -> Iterator[Touch]:
    """All of them, each with its outermost function or method, `-` for the module's own level."""
    tree = ast.parse(source)
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "os.path", "shutil", "glob", "tempfile", "io"):
            imported |= {one.asname or one.name for one in node.names}
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    ahead: list[tuple[ast.AST, str]] = [(tree, "")]
    while ahead:
        node, function = ahead.pop()
        if isinstance(node, ast.ClassDef) and not function:
            function = f"{node.name}."
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (not function or function.endswith(".")):
            function += node.name
        call = ""
        if isinstance(node, ast.Call):
            call = _touched(node, imported)
        elif isinstance(node, ast.List):
            call = _program(node)
        elif isinstance(node, ast.Attribute) and id(node) not in called and _dotted(node) in _PASSED_ON:
            call = _dotted(node)
        if call:
            yield Touch(function.rstrip(".") or "-", call)
        ahead += [(inner, function) for inner in ast.iter_child_nodes(node)]


def called_by(source: str, function: str) -> set[str]:
    """The outermost functions of a module that mention a function, by its name or as a method of their own."""
    found: set[str] = set()
    last = function.rpartition(".")[2]
    for top in ast.parse(source).body:
        inner = top.body if isinstance(top, ast.ClassDef) else [top]
        prefix = f"{top.name}." if isinstance(top, ast.ClassDef) else ""
        for node in inner:
            name = prefix + str(getattr(node, "name", "-"))
            names = [one for one in ast.walk(node) if isinstance(one, ast.Name) and one.id == last]
            own = any(isinstance(one, ast.Attribute) and _dotted(one) == f"self.{last}" for one in ast.walk(node))
            # A variable or an argument of that name is something else.
            given = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
            mentioned = bool(names) and last not in given and all(isinstance(one.ctx, ast.Load) for one in names)
            if (mentioned or own) and name != function:
                found.add(name)
    return found
