# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one touches to add a service to the workspaces, tried with a made-up one in a copy of the collection."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services

ROOT = Path(__file__).parents[3]
IMAGE = "roles/images/files/stack/workspace"
# A Git server of each workspace, say: SSH, so that a user's machine gets to know it, too.
LINE = '    WorkspaceService("forge", "Forge", 3022, 13022, 4, alias="forge"),\n'
# Each file with what is there, and what the service puts after it; None: a new file.
RECIPE: dict[str, tuple[str | None, str]] = {
    "plugins/module_utils/inventory/services.py": ('command="sshd", alias="workspace"),\n', LINE),
    f"{IMAGE}/services/forge": (None, "#!/bin/bash\n# Forge on port 3022.\nexec forge --port 3022\n"),
    f"{IMAGE}/Dockerfile": ("EXPOSE 8888 6006 7860 22", " 3022"),
    "tests/integration/support.py": ('"ssh": 10022', ', "forge": 13022'),
    "docs/ports.md": (
        "| 10022 | SSH into the workspace | nodes and `cluster_clients` |\n",
        "| 13022 | Forge | nodes |\n",
    ),
    "roles/workspace/README.md": ("| SSH | 10022 | 22 |\n", "| Forge | 13022 | 3022 |\n"),
}
# What holds for any number of services.
TESTS = [
    *("inventory/test_services.py", "site/test_summary.py", "site/test_client_plan.py", "site/test_preflight.py"),
    *("verify/test_verify_plan.py", "workspaces/test_workspaces.py"),
]
USERS = [{"name": "ada", "uid": 1500}, {"name": "bob", "uid": 1501}]
RANGE = "19000:19999"
SETTINGS = {
    "cluster_users": USERS,
    "cluster_workspace_port_range": RANGE,
    # Written before there was the service.
    "workspace_ports": services.ports(),
    "workspace_instances": [{"owner": "ada"}, {"owner": "bob"}],
}
# Prints all that follows from the table, in the copy as Ansible itself renders it there.
DERIVE = """
import json, sys
from pathlib import Path
from dataclasses import asdict
folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
import test_workspace
import role_variables
from ansible_collections.gpustead.cluster.plugins.module_utils.inventory import services
from ansible_collections.gpustead.cluster.plugins.module_utils.site import client_plan, summary
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.check import check
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import Site
from ansible_collections.gpustead.cluster.plugins.module_utils.verify.verify_plan import plan
written = test_workspace.write(folder, **settings)
host = {**settings, "cluster_network": ["10.1.0.0/24"], "cluster_ca_passphrase": "x" * 12, "nas_source": "nas:/x"}
site = Site({"gpu_nodes": ["a"], "registry": ["a"]}, {"a": host}, str)
print(json.dumps({
    "compose": {"ada": test_workspace.services(written), "bob": test_workspace.services(written / "users/bob")},
    "firewall": role_variables.render(folder, "firewall", ["firewall_published_ports"], {"gpu_nodes": ["a"]}, settings),
    "preflight": [str(problem) for problem in check(site)],
    "verify": {one["name"]: one["services"] for one in plan("a", settings, {"gpu_nodes": ["a"]}).projects},
    "summary": [
        [offer.title, offer.where]
        for node in summary.summary({"a": settings}, "a").nodes for one in node.workspaces for offer in one.services
    ],
    "client": [asdict(one) for one in client_plan.plan({"a": settings}, "bob").hosts],
}))
"""


def edited(folder: Path, recipe: Mapping[str, tuple[str | None, str]]) -> Path:
    """A copy of the collection with these files touched."""
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", ".cache", ".venv", "__pycache__"))
    for name, (after, text) in recipe.items():
        path = copy / name
        old = path.read_text() if after else ""
        assert (after or "") in old, f"{name}: {after!r} is not there any more"
        path.write_text(old.replace(after, after + text) if after else text)
    return copy


def python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    places = [copy / ".dev", copy / "tests/unit", copy / "tests/unit/roles"]
    environment = {"PYTHONPATH": ":".join(map(str, places)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable, *arguments],
        capture_output=True, text=True, cwd=copy, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited(tmp_path_factory.mktemp("service"), RECIPE)


def test_at_most_six_files_are_touched() -> None:
    assert len(RECIPE) <= 6


def test_a_new_service_is_everywhere_and_moves_nobody(copy: Path, tmp_path: Path) -> None:
    done = python(copy, "-c", DERIVE, str(tmp_path), json.dumps(SETTINGS))
    assert done.returncode == 0, done.stdout + done.stderr
    made = json.loads(done.stdout)
    owners = {"ada": ("gpustead-workspace", services.ports(), 13022)}
    owners["bob"] = ("gpustead-workspace-bob", services.ports_of(1501, RANGE), 20004)
    for owner, (project, before, port) in owners.items():
        containers = {name: one for name, one in made["compose"][owner].items() if "ports" in one}
        published = {name: {int(port["published"]) for port in one["ports"]} for name, one in containers.items()}
        assert published == {name: {port} for name, port in {**before, "forge": port}.items()}
        assert {one["target"] for one in containers["forge"]["ports"]} == {3022}
        assert containers["forge"]["command"] == ["forge"]
        assert "('127.0.0.1', 3022)" in containers["forge"]["healthcheck"]["test"][-1]
        assert made["verify"][project] == {**before, "forge": port}
        assert ["Forge", f"ssh -p {port} {owner}@a"] in made["summary"]
    opened = [*services.ports().values(), 13022, RANGE, "20000:20999"]
    assert made["firewall"]["firewall_published_ports"] == opened
    assert made["preflight"] == []
    assert {"name": "a-forge", "address": "a", "port": 20004} in made["client"]


def test_make_docs_has_it_in_the_specs(copy: Path) -> None:
    done = python(copy, "scripts/document_settings.py")
    assert done.returncode == 0, done.stderr
    spec = yaml.safe_load((copy / "roles/workspace/meta/argument_specs.yml").read_text())
    options = spec["argument_specs"]["main"]["options"]["workspace_service_bind"]["options"]
    assert list(options) == [*services.ports(), "forge"]


def test_tests_name_the_files_that_were_forgotten(copy: Path, tmp_path: Path) -> None:
    tests = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    everything = python(copy, *tests, *(f"tests/unit/{name}" for name in TESTS))
    assert everything.returncode == 0, everything.stdout
    alone = {name: edit for name, edit in RECIPE.items() if name.endswith("services.py")}
    forgotten = python(edited(tmp_path, alone), *tests, "tests/unit/inventory/test_services.py")
    said = [
        "test_the_image_listens_on_the_ports_of_the_table",
        "documentation[docs/ports.md]",
        "[roles/workspace/README.md]",
    ]
    assert [words for words in said if words not in forgotten.stdout] == [], forgotten.stdout
