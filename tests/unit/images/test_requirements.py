# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which requirements of a site can be built."""

from __future__ import annotations

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.images.requirements import refuse_requirements

GOOD = """
# What the group uses.
einops
sentence-transformers>=3,<6   # and what it needs
uvicorn[standard] ~= 0.30
numpy (>=1.26)
torch-geometric==2.6.1+pt25cu121; python_version >= "3.10"
ours @ https://example.org/ours-1.0-py3-none-any.whl
theirs @ git+https://example.org/theirs.git@0123456789abcdef
pinned==1.0 \\
    --hash=sha256:0123456789abcdef \\
    --hash=sha256:fedcba9876543210
"""


def test_what_packages_are_named_by_is_taken() -> None:
    refuse_requirements("x", GOOD)
    refuse_requirements("x", "")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-r more.txt", "f, line 2: '-r more.txt': expected the name of a package"),
        ("--index-url https://example.org", "f, line 2: '--index-url"),
        ("-e .", "f, line 2: '-e .'"),
        ("./wheels/a.whl", "f, line 2: './wheels"),
        ("einops 0.8", "f, line 2: 'einops 0.8'"),
        ("einops=0.8", "f, line 2: 'einops=0.8'"),
        ("a; b c\nok\n$(id)", "f, line 4: '$(id)'"),
        ("a \\\n  >= \\\n oh no", "f, line 2: 'a"),
        ("a @ https://u:hunter2@example.org/a.whl", "f, line 2: 'a @ https://***@example.org/a.whl' has a password"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_line(line: str, words: str) -> None:
    with pytest.raises(GpusteadError) as caught:
        refuse_requirements("f", f"numpy\n{line}\n")
    assert str(caught.value).startswith(words), str(caught.value)
    assert "hunter2" not in str(caught.value)
