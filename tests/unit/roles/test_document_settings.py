"""What is written from the roles' defaults: that it is up to date, and how it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpustead.cluster.scripts.document_settings import (
    LINKS,
    ROOT,
    argument_specs,
    documents,
    group_vars,
    links,
    settings,
)

DEFAULTS = """\
---
# Port of the service. With `--port 0`: any.
demo_port: 80

# List of {name}, with these keys:
#   kind      a or b, and in the end
#             nothing else
#   size      how many
# Empty: none.
demo_things: []

# Limits.
demo_limits:
  open: 5
  # Pages.
  locked: -1

# Who owns it.
demo_owner: >-
  {{ cluster_owner | default(cluster_users) }}
"""

SPEC = """\
---
argument_specs:
  main:
    short_description: A demonstration
    options: &options
      demo_owner:
        type: str
      demo_gone:
        description: No longer there.
        type: str
      demo_things:
        type: list
        elements: dict
        default: [old]
        options:
          kind: {description: Of what kind., type: str}
      demo_port:
        description: An older text.
        type: int
      demo_limits:
        type: dict
  other:
    options: *options
"""


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_committed_is_what_make_docs_writes(path: Path) -> None:
    assert path.read_text() == documents()[path]


def test_the_playbooks_see_the_same_files() -> None:
    assert {link: link.readlink() for link in LINKS.iterdir()} == links()
    assert [link for link in LINKS.iterdir() if not link.exists()] == []


def test_all_that_stands_in_group_vars_is_written_but_what_roles_share() -> None:
    folder = ROOT / "group_vars" / "all"
    assert set(folder.iterdir()) - set(documents()) == {folder / "cluster.yml"}


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/defaults/main.yml")), ids=lambda path: path.parts[-3])
def test_every_default_is_read(path: Path) -> None:
    assert [setting.name for setting in settings(path.read_text())] == list(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/meta/argument_specs.yml")), ids=lambda path: path.parts[-3])
def test_no_spec_has_an_expression(path: Path) -> None:
    # Ansible would render it when it checks the arguments.
    assert not re.search(r"{[{%#]", path.read_text())


def test_settings_become_options() -> None:
    spec = yaml.safe_load(argument_specs(SPEC, settings(DEFAULTS)))
    main = spec["argument_specs"]["main"]
    assert list(main["options"]) == ["demo_port", "demo_things", "demo_limits", "demo_owner"]
    assert main["options"] == spec["argument_specs"]["other"]["options"]
    assert main["options"]["demo_port"] == {
        "description": "Port of the service. With C(--port 0): any.",
        "type": "int",
        "default": 80,
    }
    assert main["options"]["demo_things"] == {
        "description": [
            "List of {name}, with these keys:",
            "C(kind): a or b, and in the end nothing else",
            "C(size): how many",
            "Empty: none.",
        ],
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {"kind": {"description": "Of what kind.", "type": "str"}},
    }
    assert main["options"]["demo_limits"]["default"] == {"open": 5, "locked": -1}
    assert main["options"]["demo_owner"] == {
        "description": ["Who owns it.", "The default is made from C(cluster_owner) and C(cluster_users)."],
        "type": "str",
    }


@pytest.mark.parametrize(
    ("defaults", "missing"),
    [
        (f"{DEFAULTS}\n# New.\ndemo_new: 1\n", "no option for demo_new"),
        (DEFAULTS.replace("# Limits.\n", ""), "no comment above the default of demo_limits"),
    ],
)
def test_what_somebody_must_write(defaults: str, missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        argument_specs(SPEC, settings(defaults))


def test_group_vars_set_nothing_and_show_the_defaults() -> None:
    text = group_vars("demo", DEFAULTS)
    assert yaml.safe_load(text) is None
    shown = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    assert yaml.safe_load(shown) == yaml.safe_load(DEFAULTS)
