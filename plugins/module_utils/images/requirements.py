# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A site's requirements.txt, looked at before a build begins: hours later pip would say the same, if at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import (
    has_credentials,
    masked,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

# Source: https://packaging.python.org/en/latest/specifications/dependency-specifiers/
_CLAUSE = r"(?:===?|~=|!=|<=?|>=?)\s*[\w.*+!-]+"
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"  # name
    r"\s*(?:\[[\w\s,.-]*\])?"  # extras
    rf"\s*(?:\(?\s*{_CLAUSE}(?:\s*,\s*{_CLAUSE})*\s*\)?|@\s*(?:https?|git\+https?)://\S+)?"
    r"(?:\s*;.*)?",
    re.ASCII,
)
_COMMENT = re.compile(r"(?:^|\s)#.*")
_HASH = re.compile(r"\s--hash=\w+:[0-9a-f]+")


def refuse_requirements(place: str, text: str) -> None:
    """Raise GpusteadError where a line cannot be installed from this file alone, by all who build the image.

    Args:
        place: where the text is from, for the message.
        text: of a requirements.txt.
    """
    for number, line in _lines(text):
        if has_credentials(line):
            what = f"{place}, line {number}: {masked(line)!r} has a password or token in its URL"
            raise GpusteadError(what, "a URL without", "Put the password into images_build_secrets, as netrc.")
        if not _REQUIREMENT.fullmatch(_HASH.sub("", f" {line}").strip()):
            raise GpusteadError(
                f"{place}, line {number}: {line[:80]!r}",
                "the name of a package, its versions and its marker, such as einops>=0.8; or a URL of its own",
                "Write what -r and -c name into the file itself, an index into images_torch_index or a netrc, and what "
                "lies in a directory into images_projects.",
            )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that say something, with the number of the first of those that a backslash joins."""
    begun, number = "", 0
    for count, line in enumerate(text.splitlines(), 1):
        number = number if begun else count
        whole = begun + _COMMENT.sub("", line).rstrip()
        if whole.endswith("\\"):
            begun = f"{whole[:-1]} "
            continue
        begun = ""
        if whole.strip():
            yield number, whole.strip()
