"""What a role is run with: found in its files, digested as written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar, trust_as_template
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_host
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_inputs as inputs

ROOT = Path(__file__).parents[3]
ROLES = inputs.site_roles(ROOT)


def role(tmp_path: Path, **files: str) -> inputs.Role:
    folder = tmp_path / "toy"
    texts = {
        "meta/receipt.yml": "groups: [gpu_nodes]\n",
        **{name.replace("__", "/"): text for name, text in files.items()},
    }
    for name, text in texts.items():
        path = folder / (name if "." in name else f"{name}.yml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return inputs.read_role(folder)


def parts(given: inputs.Role, variables: dict[str, Any]) -> dict[str, str]:
    return inputs.variable_inputs(given, variables)


def test_a_variable_that_the_role_names_is_an_input(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ toy_port }}'", defaults__main="toy_users: '{{ cluster_users }}'")
    variables = {"toy_port": 1, "cluster_users": [], "cluster_other": 2, "ansible_facts": {}, "groups": {}}
    assert set(parts(toy, variables)) == {"variable toy_port", "variable cluster_users"}


def test_a_variable_reached_through_a_users_own_is_an_input(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ toy_port }}'")
    variables = {
        "toy_port": "{{ site_ports['a'] }}",
        "site_ports": {"a": "{{ base_port }}"},
        "base_port": 1,
        "other": 2,
    }
    before = parts(toy, variables)
    assert set(before) == {"variable toy_port", "variable site_ports", "variable base_port"}
    after = parts(toy, {**variables, "base_port": 3, "other": 4})
    assert [name for name in before if before[name] != after[name]] == ["variable base_port"]


@pytest.mark.parametrize(
    ("value", "looks"),
    [
        (["{{ lookup('file', 'keys/ada.pub') }}"], True),
        ({"a": "{{ q('file', 'x') }}"}, True),
        ("{{ hostvars['gpu01'].cluster_address }}", True),
        ("{{ 'x' if 'a' in group_names else groups['b'] }}", True),
        ("{{ site_port }}", False),
        ("lookup of groups", False),
    ],
)
def test_what_looks_beyond_itself_counts_as_it_is_rendered(tmp_path: Path, value: Any, looks: bool) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ toy_users }}'")
    variables = {"toy_users": "{{ site_users }}", "site_users": value}
    first = inputs.variable_inputs(toy, variables, lambda _name, _value: "a")
    second = inputs.variable_inputs(toy, variables, lambda _name, _value: "b")
    assert (first != second) == looks
    assert first["variable toy_users"] == second["variable toy_users"]


def test_facts_and_registered_results_are_none(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ toy_port }} {{ gather_subset }} {{ __toy_found }} {{ ansible_host }}'")
    variables = {
        "gather_subset": ["min"],
        "ansible_facts": {"gather_subset": ["min"]},
        "__toy_found": 1,
        "ansible_host": "10.0.0.1",
        "ansible_check_mode": True,
    }
    assert set(parts(toy, variables)) == {"variable ansible_host"}


def test_what_tasks_of_other_hosts_registered_is_none(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ hostvars[node].__toy_found }} {{ hostvars[node].toy_port }}'")
    assert toy.reads_of_others == ("toy_port",)


def test_files_of_the_role_are_inputs_and_its_readme_is_none(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="a: 1", **{"README.md": "# Toy"})
    assert set(toy.parts) == {"its file tasks/main.yml", "its file meta/receipt.yml"}
    other = role(tmp_path, tasks__main="a: 2")
    assert toy.parts["its file tasks/main.yml"] != other.parts["its file tasks/main.yml"]


def test_members_of_groups_and_what_is_read_of_them_are_inputs(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="x: \"{{ groups['gpu_nodes'] }} {{ hostvars[node].cluster_address }}\"")
    variables: dict[str, dict[str, Any]] = {
        "gpu01": {"cluster_address": "{{ rack }}.1", "rack": "10.0.1"},
        "gpu02": {"cluster_address": "10.0.1.2"},
    }

    def common(groups: dict[str, list[str]], known: dict[str, dict[str, Any]]) -> dict[str, str]:
        return inputs.common_inputs({"toy": toy}, groups, known, "2.19")["toy"]

    before = common({"gpu_nodes": ["gpu01", "gpu02"]}, variables)
    assert {"group gpu_nodes", "variable cluster_address of the hosts in gpu_nodes"} <= set(before)

    def changed(after: dict[str, str]) -> list[str]:
        return [name for name in before if before[name] != after[name]]

    moved = {**variables, "gpu01": {**variables["gpu01"], "rack": "10.0.2"}}
    assert changed(common({"gpu_nodes": ["gpu01", "gpu02"]}, moved)) == [
        "variable cluster_address of the hosts in gpu_nodes"
    ]
    assert "group gpu_nodes" in changed(common({"gpu_nodes": ["gpu01"]}, variables))
    assert inputs.common_inputs({"toy": toy}, {}, {}, "2.21")["toy"]["ansible-core"] != before["ansible-core"]


def test_the_groups_of_a_host_are_an_input_of_a_role_that_asks_for_them(tmp_path: Path) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ rules | selectattr(0, \"in\", group_names) }}'")
    ours = {"gpu_nodes", "nas_server"}
    before = inputs.group_inputs(toy, ["gpu_nodes", "rack1"], ours)
    assert set(before) == {"the host's groups"}
    assert inputs.group_inputs(toy, ["site_stale", "gpu_nodes"], ours) == before
    assert inputs.group_inputs(toy, ["gpu_nodes", "nas_server"], ours) != before
    assert inputs.group_inputs(ROLES["base"], ["gpu_nodes"], ours) == {}
    assert ROLES["firewall"].reads_own_groups


def test_files_that_variables_name_count_with_their_contents(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    assert inputs.file_digest(path) == "absent"
    path.write_text("one")
    one = inputs.file_digest(path)
    path.write_text("two")
    assert inputs.file_digest(path) != one
    folder = inputs.file_digest(tmp_path)
    path.write_text("three")
    assert inputs.file_digest(tmp_path) != folder


def test_a_vaulted_value_counts_as_its_ciphertext() -> None:
    class Vaulted:
        def __init__(self, text: str) -> None:
            self._ciphertext = text

    assert inputs.digest(Vaulted("a")) == inputs.digest(Vaulted("a")) != inputs.digest(Vaulted("b"))


def test_every_site_role_leaves_a_receipt() -> None:
    # Neither the lab nor a user's machine is a host of the cluster.
    names = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()} - {"lab", "client"}
    assert set(ROLES) == names


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_role_begins_and_ends_with_its_receipt(name: str) -> None:
    tasks = yaml.safe_load((ROOT / "roles" / name / "tasks/main.yml").read_text())
    module = "gpustead.cluster.receipt_write"
    assert tasks[0][module]["state"] == "begun"
    assert tasks[0]["register"] == f"__{name}_receipt"
    assert module in tasks[-1]
    assert tasks[-2]["ansible.builtin.meta"] == "flush_handlers"


def jinja(name: str) -> str:
    """Everything in the role's files that Ansible renders."""
    files = [path for path in (ROOT / "roles" / name).rglob("*") if path.suffix in (".yml", ".j2")]
    return "\n".join(path.read_text() for path in files if "files" not in path.parts)


@pytest.mark.parametrize("name", sorted(ROLES))
def test_names_that_templates_use_are_inputs(name: str) -> None:
    """A name put together at run time would not be found: `vars[...]`, lookups of vars, and others' in another form."""
    text = jinja(name)
    assert re.findall(r"\bvars\[|lookup\(\s*['\"](?:ansible\.builtin\.)?(?:vars|varnames|env)['\"]", text) == []
    assert len(re.findall(r"\bhostvars\b", text)) == len(inputs.OF_OTHERS.findall(text))


@pytest.mark.parametrize("name", sorted(ROLES))
def test_groups_are_read_by_name(name: str) -> None:
    text = jinja(name)
    assert len(re.findall(r"\bgroups\[", text)) == len(inputs.GROUPS.findall(text))
    assert re.findall(r"(?:\bin|[{(])\s*groups\b(?!\[)|hostvars\[[^\]]+\]\.group_names", text) == []
    assert ROLES[name].reads_own_groups == ("group_names" in text)
    assert set(ROLES[name].groups) <= {"gpu_nodes", "nas_server", "registry", "registry_caches"}


def test_groups_that_the_site_makes_for_itself_are_known() -> None:
    text = (ROOT / "playbooks/site.yml").read_text()
    assert set(re.findall(r"groups\['(\w+)'\] \| default\(\['all', '!all'\]\)", text)) == set(receipt_host.PASSING)


def test_the_order_of_dependents_is_that_of_the_site() -> None:
    order = [task["name"] for task in yaml.safe_load((ROOT / "playbooks/tasks/roles.yml").read_text())]
    includes = [
        task["ansible.builtin.include_role"]["name"].rpartition(".")[2]
        for task in yaml.safe_load((ROOT / "playbooks/tasks/roles.yml").read_text())
    ]
    assert len(order) == len(includes) == len(ROLES)
    for name, given in ROLES.items():
        assert all(includes.index(before) < includes.index(name) for before in given.after)


def host_inputs(host: str, given: Mapping[str, Any]) -> receipt_host.HostInputs:
    """The inputs of a host with these variables."""
    play = SimpleNamespace(vars={}, vars_files=[])
    loader = DataLoader()
    action = SimpleNamespace(
        _templar=Templar(loader=loader), _loader=loader, _task=SimpleNamespace(get_play=lambda: play)
    )
    hostvars = SimpleNamespace(raw_get=lambda _: {"inventory_hostname": host, **given})
    return receipt_host.HostInputs(cast(ActionBase, action), {"hostvars": hostvars, "inventory_hostname": host})


def test_a_host_that_leaves_a_group_runs_the_firewall_with_something_else() -> None:
    def inputs_of(*groups: str) -> dict[str, str]:
        given = {"group_names": list(groups), "groups": {name: ["one"] for name in groups}}
        return host_inputs("one", given).of_role("firewall")

    both, without = inputs_of("gpu_nodes", "registry"), inputs_of("gpu_nodes")
    assert {part for part in both if both[part] != without.get(part)} == {"the host's groups"}
    assert inputs_of("gpu_nodes", "site_stale", "rack7") == without


EXPRESSIONS = ["{{ role_files }}"]


@pytest.mark.parametrize(
    ("variables", "other", "shared"),
    [
        pytest.param({"role_files": ["/a"]}, {}, True, id="the same"),
        pytest.param({"role_files": ["/a"]}, {"unrelated": 2}, True, id="something else differs"),
        pytest.param({"role_files": ["/a"]}, {"role_files": ["/b"]}, False, id="it differs itself"),
        pytest.param({"role_files": "{{ mine }}", "mine": ["/a"]}, {"mine": ["/b"]}, False, id="by way of another"),
        pytest.param(
            {"role_files": "{{ cluster_x | default('/a') }}"}, {"cluster_x": "/b"}, False, id="only one has it"
        ),
        pytest.param({"role_files": "{{ inventory_dir }}/a"}, {"inventory_dir": "/i"}, False, id="another inventory"),
        pytest.param({"role_files": "/a/{{ inventory_hostname }}"}, {}, False, id="the host's name"),
        pytest.param({"role_files": "/a/{{ ansible_host }}"}, {}, False, id="the host's address"),
        pytest.param({"role_files": "{{ x }}", "x": "{{ hostvars['b'].y }}"}, {}, False, id="another host"),
        pytest.param({"role_files": "{{ lookup('vars', 'x') }}"}, {}, False, id="a lookup"),
        pytest.param({"role_files": "{{ groups['g'] }}", "groups": {"g": ["a"]}}, {}, True, id="the same groups"),
    ],
)
def test_hosts_share_what_nothing_of_theirs_can_change(
    variables: dict[str, Any], other: dict[str, Any], shared: bool
) -> None:
    one, two = inputs.rendering_key(EXPRESSIONS, variables), inputs.rendering_key(EXPRESSIONS, {**variables, **other})
    assert (one == two != "") is shared


@pytest.mark.parametrize("taken_over", [True, False])
def test_names_of_files_are_rendered_once_for_hosts_that_share_them(tmp_path: Path, taken_over: bool) -> None:
    template = trust_as_template("{{ mine }}")
    given = {"base_ca_certificates": template, "mine": [str(tmp_path / "a")], "group_names": [], "groups": {}}
    first = host_inputs("one", given).paths("base")
    assert first["paths"] == [str(tmp_path / "a")]
    sign = {**first, "paths": [str(tmp_path / "taken over")]}
    second = host_inputs("two", {**given, "mine": [str(tmp_path / ("a" if taken_over else "b"))]})
    assert second.paths("base", sign)["paths"] == [str(tmp_path / ("taken over" if taken_over else "b"))]


def test_contents_that_change_while_the_site_runs_are_those_of_now(tmp_path: Path) -> None:
    authority = tmp_path / "authority.crt"
    given = {"base_ca_certificates": [str(authority)], "group_names": [], "groups": {}}
    first = host_inputs("one", given).paths("base")
    authority.write_text("made by a role since")
    now = host_inputs("two", given).of_role("base", first)
    assert inputs.file_parts([str(authority)]).items() <= now.items()
