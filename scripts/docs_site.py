"""What the documentation's site has besides docs/, for MkDocs (`hooks` in mkdocs.yml) and for the tests.

The README, CONTRIBUTING.md, a page for each role (its README and its settings, out of its argument spec) and a page of
the settings that all roles share are pages of the site, too, made when it is built. Links between files of the
repository become links between pages; a link to what is no page leads to the repository, and one to what is nowhere is
an error.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROLES = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
SETTINGS = "settings.md"
# Of files outside docs/, by their place in the repository.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "group_vars/all": SETTINGS,
    **{f"roles/{role}/README.md": f"roles/{role}.md" for role in ROLES},
    **{f"roles/{role}/defaults/main.yml": f"roles/{role}.md" for role in ROLES},
}
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
ITEM_OR_ROW = re.compile(r"\s*([-*]|\d+\.) |\|")
# Where one types the commands of a page: tests/integration/pages.py has the form of the comment.
PLACES = {
    "laptop": "on your own machine",
    "workspace": "in the workspace",
    "node": "on a node",
    "node as root": "on a node, as an administrator",
    "node gpu02 as root": "on gpu02, as an administrator",
    "nas": "on the NAS server, as root",
    "controller": "on the controller",
}
COMMANDS = re.compile(r"^<!-- on ([\w ]+): .* -->\n```sh$", re.MULTILINE)
OTHERS = re.compile(r"[a-z]+:")  # https:, mailto:


def repository() -> str:
    """Address of the repository, as Galaxy has it."""
    return str(yaml.safe_load((ROOT / "galaxy.yml").read_text())["repository"])


def page_of(path: str) -> str | None:
    """The page of the site that a file or folder of the repository is, if it is one."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return PAGES.get(path)


def prose(text: str) -> Iterator[tuple[bool, str]]:
    """The lines of a page, each with whether it is prose and not in a block of code."""
    fence = ""
    for line in text.splitlines():
        mark = re.match(r"\s*(```+)", line)
        if fence:
            yield False, line
            if mark and mark[1] == fence:
                fence = ""
        elif mark:
            fence = mark[1]
            yield False, line
        else:
            yield True, line


def relinked(text: str, source: str) -> str:
    """A page with its links as they are on the site.

    Args:
        text: of the page.
        source: path of its file in the repository.

    Raises:
        ValueError: a link leads nowhere.
    """
    here = page_of(source) or source

    def link(match: re.Match[str]) -> str:
        target, hash_mark, anchor = match[2].partition("#")
        if not target or OTHERS.match(target):
            return match[0]
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if path.startswith("..") or not (ROOT / path).exists():
            raise ValueError(f"{source}: the link {match[2]} leads nowhere")
        page = page_of(path)
        address = os.path.relpath(page, os.path.dirname(here)) if page else f"{repository()}/blob/main/{path}"
        return f"{match[1]}{address}{hash_mark}{anchor}{match[3]}"

    return "\n".join(LINK.sub(link, line) if plain else line for plain, line in prose(text)) + "\n"


def spaced(text: str) -> str:
    """A page with an empty line before each list and table: Python-Markdown takes them for prose without."""
    out: list[str] = []
    inside = False
    for plain, line in prose(text):
        begins = plain and bool(ITEM_OR_ROW.match(line))
        if begins and not inside and out and out[-1].strip():
            out.append("")
        inside = plain and (begins or (inside and (not line or line.startswith(" "))))
        out.append(line)
    return "\n".join(out) + "\n"


def placed(text: str) -> str:
    """A page whose blocks of commands say above them where one types them."""
    return COMMANDS.sub(lambda match: f'```sh title="{PLACES[match[1]]}"', text)


def described(text: str) -> str:
    """A sentence of a spec in Markdown."""
    plain = re.sub(r"\b[CVO]\(([^)]*)\)", r"`\1`", text)
    return "".join(
        part if part.startswith("`") else part.replace("<", "&lt;") for part in re.split(r"(`[^`]*`)", plain)
    )


def paragraphs(option: Mapping[str, Any]) -> list[str]:
    said = option.get("description", [])
    return [described(text) for text in ([said] if isinstance(said, str) else said)]


def kind(option: Mapping[str, Any]) -> str:
    """Type of an option, as one reads it."""
    what = str(option.get("type", "str"))
    if option.get("elements"):
        what += f" of {option['elements']}"
    if option.get("choices"):
        what += ", one of " + ", ".join(f"`{choice}`" for choice in option["choices"])
    return what


def as_yaml(value: Any) -> str:
    """A default in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def suboptions(options: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    for name, option in options.items():
        yield f"{'    ' * depth}- `{name}` ({kind(option)}): {' '.join(paragraphs(option))}"
        yield from suboptions(option.get("options", {}), depth + 1)


def setting(name: str, option: Mapping[str, Any]) -> str:
    """A variable with all that its spec says of it."""
    head = kind(option)
    if "default" in option:
        head += f", default `{as_yaml(option['default'])}`"
    below = "\n".join(suboptions(option.get("options", {})))
    return "\n\n".join(filter(None, [f"### `{name}` {{ #{name} }}", head, *paragraphs(option), below])) + "\n"


def spec(path: str) -> dict[str, Any]:
    """Options of entry point main of an argument spec."""
    options: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())["argument_specs"]["main"].get("options", {})
    return options


def role_page(role: str) -> str:
    """A role's README, and below it its settings."""
    readme = (ROOT / "roles" / role / "README.md").read_text()
    options = spec(f"roles/{role}/meta/argument_specs.yml")
    return readme + "\n## Settings\n\n" + "\n".join(setting(name, option) for name, option in options.items())


def explained() -> Iterator[tuple[str, str, str]]:
    """What group_vars/all/cluster.yml says of the variables that all roles share: name, text, example."""
    for block in (ROOT / "group_vars/all/cluster.yml").read_text().split("\n\n"):
        lines = block.splitlines()
        said = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
        example = [line.removeprefix("# ") for line in lines if line.startswith("# ")]
        if example:
            yield example[0].partition(":")[0], " ".join(said), "\n".join(example)


def settings_page() -> str:
    """The settings that all roles share, and where those of each role are."""
    parts = [
        "# Settings\n",
        "Written when the site is built, from the roles' argument specs. In the repository [group_vars/all]"
        f"({repository()}/tree/main/group_vars/all) has the same as files to copy from. Put what you decide into"
        " `inventory/mycluster/group_vars/all/`; a host's own into `host_vars`.\n",
        "## Of all roles\n",
    ]
    said = {name: (text, example) for name, text, example in explained()}
    for name, option in spec("meta/argument_specs.yml").items():
        text, example = said.get(name, (" ".join(paragraphs(option)), ""))
        parts.append(f"### `{name}` {{ #{name} }}\n\n{kind(option)}\n\n{described(text)}\n")
        parts += [f"```yaml\n{example}\n```\n"] if example else []
    parts.append("## Of each role\n\n| Setting | Role |\n|---|---|")
    parts += [
        f"| [`{name}`](roles/{role}.md#{name}) | [{role}](roles/{role}.md) |"
        for role in ROLES
        for name in spec(f"roles/{role}/meta/argument_specs.yml")
    ]
    return "\n".join(parts) + "\n"


def generated() -> dict[str, str]:
    """The pages that are not in docs/, by their place on the site."""
    made = {PAGES[name]: relinked((ROOT / name).read_text(), name) for name in ("README.md", "CONTRIBUTING.md")}
    for role in ROLES:
        made[f"roles/{role}.md"] = relinked(role_page(role), f"roles/{role}/README.md")
    return {**made, SETTINGS: settings_page()}


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: the files of the site."""
    file = import_module("mkdocs.structure.files").File  # the tests have no MkDocs
    for place, text in generated().items():
        files.append(file.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """MkDocs: a page before it is rendered."""
    source = page.file.src_uri
    if page.file.generated_by is None:
        markdown = relinked(markdown, f"docs/{source}")
    return placed(spaced(markdown))
