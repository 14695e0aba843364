#!/usr/bin/env python3
"""Write what roles/*/defaults/main.yml says a second time: group_vars/all and the argument specs (`make docs`).

The defaults with their comments are the source. Of an option of entry point main, description and default are written
from them, and the keys of a setting for single services from the table of these; its type, choices, elements and
other suboptions, other entry points and group_vars/all/cluster.yml stay written by hand. The defaults have one form,
which this reads by line: comment lines, then `name: value`, whose further lines are indented.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
# Where the collection is found by its name, whoever runs this.
sys.path.insert(0, str(ROOT / ".dev"))
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory.services import (  # noqa: E402
    WORKSPACE_SERVICES,
)

# Each service of a workspace is a key of it.
BY_SERVICE = "workspace_service_bind"
# The lab is no part of a site.
NOT_OF_A_SITE = {"lab"}
LINKS = ROOT / "playbooks" / "group_vars" / "all"
WIDTH = 120

HEAD = """\
---
## Settings of role {role} with their defaults; see its README. Nothing is set here: copy what you decide into
## the group_vars/all of your own inventory.
"""


@dataclass(frozen=True)
class Setting:
    """A variable of a role: what the comment above it says, in paragraphs, and the lines of its default."""

    name: str
    paragraphs: tuple[str, ...]
    value: tuple[str, ...]

    @property
    def is_literal(self) -> bool:
        """Whether the default is a value, not an expression. Ansible would render an expression in a spec."""
        return "{{" not in "\n".join(self.value)


def paragraphs(comment: list[str]) -> tuple[str, ...]:
    """What the lines of a comment say. One that is indented by two describes a key and begins a paragraph."""
    found: list[str] = []
    inside_list = False
    for line in comment:
        text = line.removeprefix("#").removeprefix(" ")
        depth = len(text) - len(text.lstrip())
        text = re.sub(r"^  (\w+)  +", r"`\1`: ", text)
        if not found or depth == 2 or (inside_list and depth == 0):
            found.append(text)
        else:
            found[-1] += f" {text}"
        inside_list = depth > 0
    return tuple(" ".join(re.sub(r"`([^`]*)`", r"C(\1)", text).split()) for text in found)


def settings(defaults: str) -> list[Setting]:
    """The variables that a role's defaults/main.yml declares, in its order."""
    found: list[Setting] = []
    comment: list[str] = []
    for line in defaults.splitlines():
        declared = re.match(r"([a-z]\w*):", line)
        if line.startswith("#"):
            comment.append(line)
        elif declared:
            found.append(Setting(declared[1], paragraphs(comment), (line[declared.end() :],)))
            comment = []
        elif line.startswith(" "):
            found[-1] = Setting(found[-1].name, found[-1].paragraphs, (*found[-1].value, line))
    return found


def group_vars(role: str, defaults: str) -> str:
    """The settings of a role with every line commented out: prose stands behind "##", a setting behind "#"."""
    lines = defaults.removeprefix("---\n").splitlines()
    out = [line if not line else f"#{line}" if line.startswith("#") else f"# {line}" for line in lines]
    return HEAD.format(role=role) + "\n" + "\n".join(out) + "\n"


def as_yaml(text: str, first: str, indent: str) -> list[str]:
    """A string as a YAML value behind `first`: on its line where it fits there as it is, else folded."""
    line = f"{first} {text}"
    if len(line) <= WIDTH and ": " not in text and not re.search(r" #|^[^\w]|:$", text):
        return [line]
    wrapped = textwrap.wrap(text, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    return [f"{first} >-", *(indent + part for part in wrapped)]


def description(setting: Setting) -> list[str]:
    said = list(setting.paragraphs)
    if not setting.is_literal:
        sources = sorted(set(re.findall(r"\bcluster_\w+", " ".join(setting.value))))
        named = " and ".join(f"C({name})" for name in sources)
        said.append(f"The default is made from {named}." if sources else "The default is computed.")
    if len(said) == 1:
        return as_yaml(said[0], "        description:", " " * 10)
    return ["        description:", *(line for text in said for line in as_yaml(text, " " * 10 + "-", " " * 12))]


def default(setting: Setting) -> list[str]:
    if not setting.is_literal:
        return []
    return [f"        default:{setting.value[0]}", *(" " * 8 + line for line in setting.value[1:])]


def blocks(lines: list[str], indent: int) -> dict[str, list[str]]:
    """The keys of a YAML mapping at this indentation, each with its lines."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lines:
        key = re.match(rf" {{{indent}}}(\w+):", line)
        if key:
            name = key[1]
        found.setdefault(name, []).append(line)
    return found


def option(setting: Setting, written: list[str]) -> list[str]:
    """An option, from the setting and what is written by hand: description, type…, default, suboptions."""
    by_hand = blocks(written, 8)
    parts = [*description(setting)]
    for key, lines in by_hand.items():
        if key not in ("description", "default", "options"):
            parts += lines
    suboptions = services() if setting.name == BY_SERVICE else by_hand.get("options", [])
    return [f"      {setting.name}:", *parts, *default(setting), *suboptions]


def services() -> list[str]:
    """The suboptions of BY_SERVICE."""
    table = (
        f"{one.name}: {{description: Addresses for {one.title}., type: list, elements: str}}"
        for one in WORKSPACE_SERVICES
    )
    return ["        options:", *(f"          {line}" for line in table)]


def argument_specs(spec: str, found: list[Setting]) -> str:
    """The spec with the descriptions and defaults of these settings in the options of entry point main.

    Raises:
        ValueError: a setting has no comment, or no option in the spec, whose type somebody must write.
    """
    lines = spec.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("    options:")) + 1
    end = next((number for number in range(begin, len(lines)) if not lines[number].startswith("      ")), len(lines))
    written = blocks(lines[begin:end], 6)
    missing = [setting.name for setting in found if setting.name not in written]
    if missing:
        raise ValueError(f"no option for {', '.join(missing)}: write its name and below it its type")
    silent = [setting.name for setting in found if not setting.paragraphs]
    if silent:
        raise ValueError(f"no comment above the default of {', '.join(silent)}")
    options = [line for setting in found for line in option(setting, written[setting.name][1:])]
    return "\n".join([*lines[:begin], *options, *lines[end:]]) + "\n"


def documents() -> dict[Path, str]:
    """Every file that is written from the defaults, with the text that it must have."""
    texts: dict[Path, str] = {}
    for path in sorted(ROOT.glob("roles/*/defaults/main.yml")):
        role = path.parents[1].name
        defaults = path.read_text()
        spec = ROOT / "roles" / role / "meta" / "argument_specs.yml"
        try:
            texts[spec] = argument_specs(spec.read_text(), settings(defaults))
        except ValueError as error:
            raise ValueError(f"{spec}: {error}") from None
        if role not in NOT_OF_A_SITE:
            texts[ROOT / "group_vars" / "all" / f"{role}.yml"] = group_vars(role, defaults)
    return texts


def links() -> dict[Path, Path]:
    """Links beside the playbooks to the files of group_vars/all, which Ansible looks for in a playbook's folder alone.

    A link to the folder would be one, but `ansible-test sanity` takes none to a folder.
    """
    files = sorted((ROOT / "group_vars" / "all").glob("*.yml"))
    return {LINKS / file.name: Path("../../..") / file.relative_to(ROOT) for file in files}


def main() -> int:
    for path, text in documents().items():
        yaml.safe_load(text)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path.relative_to(ROOT)}")
    LINKS.mkdir(parents=True, exist_ok=True)
    for path in LINKS.iterdir():
        path.unlink()
    for link, target in links().items():
        link.symlink_to(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
