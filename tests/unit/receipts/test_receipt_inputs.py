"""What a role is run with: found in its files, digested as written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar, trust_as_template
from ansible_collections.gpustead.cluster.plugins.plugin_utils import receipt_host_inputs, template_names
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


def host_inputs(
    host: str, given: Mapping[str, Any], kept: inputs.Kept | None = None, hostvars: Mapping[str, Any] | None = None
) -> receipt_host_inputs.HostInputs:
    """The inputs of a host with these variables."""
    play = SimpleNamespace(vars={}, vars_files=[])
    loader = DataLoader()
    action = SimpleNamespace(
        _templar=Templar(loader=loader), _loader=loader, _task=SimpleNamespace(get_play=lambda: play)
    )
    own = {"inventory_hostname": host, "groups": {}, "group_names": [], **given}
    others = HostVariables(hostvars or {}, raw=trust(own))
    return receipt_host_inputs.HostInputs(
        cast(ActionBase, action), {"hostvars": others, "inventory_hostname": host}, kept
    )


class HostVariables(dict[str, Any]):
    """Those of all hosts, in place of Ansible's own."""

    def __init__(self, hostvars: Mapping[str, Any], raw: Mapping[str, Any]) -> None:
        super().__init__(hostvars)
        self.raw = raw

    def raw_get(self, _host: str) -> Mapping[str, Any]:
        return self.raw


def trust(value: Any) -> Any:
    """The same, with texts that Ansible renders, as from an inventory."""
    if isinstance(value, str):
        return trust_as_template(value) if "{{" in value else value
    if isinstance(value, Mapping):
        return {name: trust(part) for name, part in value.items()}
    return [trust(part) for part in value] if isinstance(value, list) else value


def parts(given: inputs.Role, variables: Mapping[str, Any], host: str = "one", **more: Any) -> dict[str, str]:
    return host_inputs(host, variables, **more).of_variables(given)


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    return sorted(part for part in {**before, **after} if before.get(part) != after.get(part))


def test_a_variable_that_the_role_names_is_an_input(tmp_path: Path) -> None:
    toy = role(
        tmp_path, tasks__main="x: '{{ toy_port }} {{ toy_users }}'", defaults__main="toy_users: '{{ cluster_users }}'"
    )
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
        (["{{ lookup('file', playbook_dir ~ '/keys/ada.pub') }}"], True),
        ({"a": "{{ q('file', playbook_dir ~ '/keys/ada.pub') }}"}, True),
        ("{{ hostvars['gpu01'].cluster_address }}", True),
        ("{{ 'x' if 'a' in group_names else groups['b'] }}", True),
        ("{{ site_port }}", False),
        ("lookup of groups", False),
    ],
)
def test_what_looks_beyond_itself_counts_as_it_is_rendered(tmp_path: Path, value: Any, looks: bool) -> None:
    toy = role(tmp_path, tasks__main="x: '{{ toy_users }}'")
    (tmp_path / "keys").mkdir()
    key = tmp_path / "keys/ada.pub"
    given = {"toy_users": "{{ site_users }}", "site_users": value, "site_port": 1, "playbook_dir": str(tmp_path)}

    def seen(text: str, groups: list[str]) -> dict[str, str]:
        key.write_text(text)
        own = {**given, "groups": {"a": [], "b": groups}, "group_names": groups}
        return parts(toy, own, hostvars={"gpu01": {"cluster_address": text}})

    first, second = seen("a", ["a"]), seen("b", ["b"])
    assert changed(first, second) == (["variable site_users"] if looks else [])


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
    several = "{{ toy_nodes | map('extract', hostvars)\n | map(attribute='toy_name', default='') }}"
    toy = role(tmp_path, tasks__main=f"x: >-\n  {several}")
    assert toy.reads_of_others == ("toy_name",)


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


TOY = """
__toy_plan: "{{ {'names': __toy_names, 'first': groups['gpu_nodes'] | first} }}"
__toy_names: "{{ site_users | map(attribute='name') }}"
__toy_table: "{{ dict(groups['gpu_nodes'] | zip(groups['gpu_nodes'] | map('extract', hostvars))) }}"
__toy_others: "{{ site_users | map(attribute='uid') }}"
"""
LEAVES = "groups: [gpu_nodes]\nrendered: [__toy_plan]\nby_host: [__toy_table]\nimmaterial: [__toy_others]\n"
USERS = [{"name": "ada", "uid": 1, "keys": ["a"]}, {"name": "bob", "uid": 2}]
NODES = {"groups": {"gpu_nodes": ["one", "two"]}}


def leafy(tmp_path: Path, tasks: str = "x: '{{ __toy_plan }} {{ __toy_table }} {{ __toy_others }}'") -> inputs.Role:
    return role(tmp_path, tasks__main=tasks, vars__main=TOY, meta__receipt=LEAVES)


def leafy_parts(
    toy: inputs.Role, users: Any = None, nodes: Any = None, host: str = "one", **more: Any
) -> dict[str, str]:
    given = {"site_users": users or USERS, **(nodes or NODES), **more}
    return parts(toy, given, host, hostvars={"one": {"a": 1}, "two": {"a": 2}, "new": {"a": 3}})


def test_what_is_reached_through_a_leaf_alone_counts_as_the_leafs_value(tmp_path: Path) -> None:
    toy = leafy(tmp_path)
    before = leafy_parts(toy)
    assert set(before) == {"variable __toy_plan (names)", "variable __toy_plan (first)", "variable __toy_table"}
    assert (toy.reads_groups, toy.reads_of_others, toy.reads_own_groups) == ((), (), False)
    assert leafy_parts(toy, [{**USERS[0], "keys": ["b"], "uid": 3}, USERS[1]]) == before
    assert changed(before, leafy_parts(toy, USERS[:1])) == ["variable __toy_plan (names)"]
    assert leafy_parts(toy, nodes={"groups": {"gpu_nodes": ["one", "two", "new"]}}) == before
    assert changed(before, leafy_parts(toy, nodes={"groups": {"gpu_nodes": ["two", "one"]}})) == [
        "variable __toy_plan (first)"
    ]


def test_what_is_reached_by_another_way_too_counts_as_written(tmp_path: Path) -> None:
    toy = leafy(tmp_path, "x: '{{ __toy_plan }} {{ __toy_names }} {{ groups[\"gpu_nodes\"] }}'")
    assert toy.reads_groups == ("gpu_nodes",)
    before = leafy_parts(toy)
    after = leafy_parts(toy, [{**USERS[0], "uid": 3}, USERS[1]])
    assert changed(before, after) == ["variable site_users"]


def test_a_host_has_its_own_line_of_a_table(tmp_path: Path) -> None:
    toy, title = leafy(tmp_path), "variable __toy_table"
    assert leafy_parts(toy)[title] != leafy_parts(toy, host="two")[title]
    assert title not in leafy_parts(toy, host="new")


def test_a_hosts_variable_that_names_a_leaf_or_what_looks_around_is_seen(tmp_path: Path) -> None:
    toy = role(
        tmp_path,
        tasks__main="x: '{{ toy_port }}'",
        defaults__main="toy_nodes: '{{ groups[\"gpu_nodes\"] }}'",
        vars__main=TOY,
        meta__receipt=LEAVES,
    )
    before = leafy_parts(toy, toy_port="{{ toy_nodes | length }}")
    after = leafy_parts(toy, nodes={"groups": {"gpu_nodes": ["one"]}}, toy_port="{{ toy_nodes | length }}")
    assert changed(before, after) == ["variable toy_port"]
    # The leaf counts for itself.
    before = leafy_parts(toy, toy_port="{{ __toy_plan.first }}")
    after = leafy_parts(toy, nodes={"groups": {"gpu_nodes": ["two"]}}, toy_port="{{ __toy_plan.first }}")
    assert changed(before, after) == ["variable __toy_plan (first)", "variable __toy_table"]


def test_a_default_that_the_host_sets_is_rendered_as_the_host_has_it(tmp_path: Path) -> None:
    toy = role(
        tmp_path,
        tasks__main="x: '{{ toy_first }}'",
        defaults__main="toy_first: '{{ groups[\"gpu_nodes\"] | first }}'",
        meta__receipt="groups: [gpu_nodes]\nrendered: [toy_first]\n",
    )
    before = leafy_parts(toy)
    assert leafy_parts(toy, toy_first="one") == before == leafy_parts(toy, toy_first="{{ site }}", site="one")
    assert changed(before, leafy_parts(toy, toy_first="two")) == ["variable toy_first"]


@pytest.mark.parametrize(
    ("leaf", "given", "name"),
    [
        ("{{ __toy_found.stdout }}", {}, "__toy_found"),
        ("{{ __toy_found.stdout }}", {"__toy_found": {"stdout": "registered"}}, "__toy_found"),
        ("{{ __toy_found | default('') }}", {}, "__toy_found"),
        ("{{ ansible_facts['distribution'] | default('') }}", {}, "ansible_facts"),
        ("{{ ansible_play_hosts | length }}", {}, "ansible_play_hosts"),
        ("{{ site_x }}", {"site_x": "{{ ansible_facts.distribution | default('') }}"}, "ansible_facts"),
        ("{{ site_x }}", {"site_x": "{{ ansible_distribution | default('') }}"}, "ansible_distribution"),
    ],
)
def test_a_leaf_depends_on_the_inventory_alone(tmp_path: Path, leaf: str, given: dict[str, Any], name: str) -> None:
    toy = role(
        tmp_path,
        tasks__main="x: '{{ __toy_leaf }}'",
        vars__main=yaml.safe_dump({"__toy_leaf": leaf}),
        meta__receipt="groups: [gpu_nodes]\nrendered: [__toy_leaf]\n",
    )
    facts = {"ansible_facts": {"distribution": "Debian"}, "ansible_distribution": "Debian"}
    with pytest.raises(
        AnsibleActionFail, match=f"(?s)__toy_leaf of .*(role toy|one).*{name}|__toy_leaf of role toy.*{name}"
    ):
        parts(toy, {**facts, **given})


@pytest.mark.parametrize("kind", ["rendered", "by_host"])
def test_a_leaf_that_cannot_be_rendered_leaves_it_to_the_role_to_say_why(tmp_path: Path, kind: str) -> None:
    toy = role(
        tmp_path,
        tasks__main="x: '{{ __toy_leaf }}'",
        vars__main="__toy_leaf: '{{ site_missing }}'",
        meta__receipt=f"groups: [gpu_nodes]\n{kind}: [__toy_leaf]\n",
    )
    (part,), (again,) = parts(toy, {}).items(), parts(toy, {}).items()
    assert part[0].startswith("variable __toy_leaf, which cannot be told (") and "site_missing" in part[0]
    assert part[0] == again[0] and part[1] != again[1]


def test_a_reason_names_a_part_and_nothing_of_its_value() -> None:
    users = [{"name": "ada", "token": "secret"}, {"name": "bob"}]
    before = inputs.leaf_parts("__x", users)
    assert set(before) == {"variable __x (ada)", "variable __x (bob)", "order of variable __x"}
    assert changed(before, inputs.leaf_parts("__x", [{"name": "ada", "token": "other"}, users[1]])) == [
        "variable __x (ada)"
    ]
    assert changed(before, inputs.leaf_parts("__x", users[::-1])) == ["order of variable __x"]
    assert set(inputs.leaf_parts("__x", [*users, users[0]])) == {"variable __x"}
    assert set(inputs.leaf_parts("__x", {})) == set(inputs.leaf_parts("__x", "secret")) == {"variable __x"}


def test_names_behind_braces_in_a_template_are_seen() -> None:
    assert "site_z" in template_names.identifiers(["{{ {'a': {'b': 1}} | combine(site_z) }}"])


def test_every_site_role_leaves_a_receipt() -> None:
    # Neither the lab nor a user's machine is a host of the cluster.
    names = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()} - {"lab", "client"}
    assert set(ROLES) == names


@pytest.mark.parametrize("name", sorted(ROLES))
def test_a_role_begins_and_ends_with_its_receipt(name: str) -> None:
    tasks = yaml.safe_load((ROOT / "roles" / name / "tasks/main.yml").read_text())
    module = "gpustead.cluster.receipt_write"
    assert tasks[0][module]["state"] == "begun"
    assert tasks[0]["register"] == f"__{name}_begun"
    # Where site.yml has begun it with the others, what was found then counts.
    assert f"__receipts.begun.{name}" in tasks[0]["when"]
    assert ROLES[name].variables[f"__{name}_receipt"] == f"{{{{ __receipts.begun.{name} | default(__{name}_begun) }}}}"
    assert module in tasks[-1]
    assert tasks[-2]["ansible.builtin.meta"] == "flush_handlers"


def jinja(name: str) -> str:
    """Everything in the role's files that Ansible renders, but for its leaves: they count as they are rendered."""
    folder = ROOT / "roles" / name
    files = [path for path in folder.rglob("*") if path.suffix in (".yml", ".j2") and "files" not in path.parts]
    role = ROLES[name]
    own = template_names.texts(role.own(variable) for variable in role.reached - role.leaves)
    return "\n".join([*(path.read_text() for path in files if path.name != "main.yml" or "tasks" in path.parts), *own])


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


@pytest.mark.parametrize("name", sorted(ROLES))
def test_leaves_are_the_roles_own_and_can_be_told_before_it_runs(name: str) -> None:
    role, kept = ROLES[name], inputs.Kept()
    for leaf in role.leaves:
        assert role.own(leaf), leaf
        assert leaf in role.reached, f"{leaf} is used by nothing"
    assert not role.current or role.current_on in role.by_host
    assert inputs.only_in_a_run(role, template_names.identifiers([role.current]), {}, kept) == []
    for leaf in (*role.rendered, *role.by_host):
        assert inputs.only_in_a_run(role, [leaf], {}, kept) == []
        text = "\n".join(
            template_names.texts(value for named in inputs.reach([leaf], role) for value in role.own(named))
        )
        # What changes while the role runs would have to be the same before and after.
        assert (
            re.findall(
                r"\b(?:lookup|query|q)\(|\bis (?:not )?(?:ansible\.builtin\.)?(?:file|exists|directory)\b|now\(", text
            )
            == []
        )
        # For each host anew would be too dear.
        assert not template_names.identifiers([text]) & inputs.OF_ONE_HOST, leaf


@pytest.mark.parametrize("name", sorted(ROLES))
def test_files_are_not_rendered(name: str) -> None:
    tasks = "\n".join(path.read_text() for path in (ROOT / "roles" / name / "tasks").glob("*.yml"))
    sources = re.findall(r"ansible\.builtin\.template:\n\s+src: ([\w.-]+)$", tasks, re.MULTILINE)
    assert all((ROOT / "roles" / name / "templates" / source).exists() for source in sources)


def test_what_tasks_say_to_people_is_no_use_of_what_it_names() -> None:
    text = (
        "- assert:\n    that: toy_a\n    fail_msg: >-\n      toy_b '{{ {'a': {'b': toy_c}} | combine(toy_d) }}' toy_e\n"
        "      toy_f\n    quiet: toy_g\n- debug: {msg: toy_h}\n  x:\n    msg: toy_i {{ toy_j }}\n    when: toy_k\n"
    )
    found = {name for name in inputs.NAME.findall(template_names.without_messages(text)) if name.startswith("toy_")}
    assert found == {"toy_a", "toy_c", "toy_d", "toy_g", "toy_h", "toy_j", "toy_k"}


def test_groups_that_the_site_makes_for_itself_are_known() -> None:
    text = (ROOT / "playbooks/site.yml").read_text()
    assert set(re.findall(r"groups\['(\w+)'\] \| default\(\['all', '!all'\]\)", text)) == set(
        receipt_host_inputs.PASSING
    )


def test_the_order_of_dependents_is_that_of_the_site() -> None:
    begin, *tasks = yaml.safe_load((ROOT / "playbooks/tasks/roles.yml").read_text())
    includes = [task["ansible.builtin.include_role"]["name"].rpartition(".")[2] for task in tasks]
    # Of the servers it comes before the share, which their clients mount.
    assert includes.count("firewall") == 2 and includes.index("firewall") == includes.index("nas") - 1
    includes.remove("firewall")
    assert begin["gpustead.cluster.receipt_write"]["roles"] == includes and sorted(includes) == sorted(ROLES)
    for name, given in ROLES.items():
        assert all(includes.index(before) < includes.index(name) for before in given.after)


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
        pytest.param(
            {"role_files": "{{ inventory_dir }}/a", "inventory_dir": "/h"},
            {"inventory_dir": "/i"},
            False,
            id="another inventory",
        ),
        pytest.param({"role_files": "/a/{{ inventory_hostname }}"}, {}, False, id="the host's name"),
        pytest.param({"role_files": "/a/{{ ansible_user }}", "ansible_user": "a"}, {}, False, id="a connection's"),
        pytest.param({"role_files": "{{ lookup('vars', 'x') }}", "x": 1}, {}, False, id="a lookup"),
        pytest.param({"role_files": "{{ lookup('file', '/etc/hostname') }}"}, {}, True, id="a file"),
        pytest.param(
            {"role_files": "{{ lookup('file', x) }}", "x": "/etc/hostname"}, {"x": "/etc/hosts"}, False, id="files"
        ),
        pytest.param({"role_files": "{{ hostvars['b'].ansible_user }}"}, {}, True, id="of another host"),
        pytest.param({"role_files": "{{ groups['g'] }}", "groups": {"g": ["a"]}}, {}, True, id="the same groups"),
        pytest.param({"role_files": "{{ group_names }}"}, {}, True, id="the groups of both"),
        pytest.param({"role_files": "{{ group_names }}"}, {"group_names": ["g"]}, False, id="other groups"),
    ],
)
def test_hosts_share_what_nothing_of_theirs_can_change(
    tmp_path: Path, variables: dict[str, Any], other: dict[str, Any], shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = role(
        tmp_path, vars__main="__toy_files: '{{ role_files }}'", meta__receipt="groups: []\nrendered: [__toy_files]"
    )
    rendered: list[Any] = []
    seen = receipt_host_inputs.HostInputs._seen

    def note(self: receipt_host_inputs.HostInputs, of: inputs.Role, value: Any) -> Any:
        rendered.append(value)
        return seen(self, of, value)

    monkeypatch.setattr(receipt_host_inputs.HostInputs, "_seen", note)
    kept = inputs.Kept()
    hostvars = {"b": {"ansible_user": "a"}}
    parts(toy, variables, kept=kept, hostvars=hostvars)
    parts(toy, {**variables, **other}, host="two", kept=kept, hostvars=hostvars)
    assert rendered.count("{{ role_files }}") == (1 if shared else 2)


@pytest.mark.parametrize("name", sorted(ROLES))
def test_no_leaf_is_rendered_for_each_host_by_itself(name: str) -> None:
    """Names in texts count, too: map(attribute='ansible_host') would be each host's own address."""
    for leaf in (*ROLES[name].rendered, *ROLES[name].by_host):
        reached = inputs.reach([leaf], ROLES[name])
        assert not reached & inputs.CONNECTION and not inputs.is_of_one_host(reached), leaf


def test_hosts_are_rendered_in_one_environment() -> None:
    kept = inputs.Kept()
    one, two = (host_inputs(host, {"mine": host, "said": "{{ mine }}"}, kept) for host in ("one", "two"))
    assert one.templar is two.templar
    assert [ours.value("said", "") for ours in (one, two, one)] == ["one", "two", "one"]


@pytest.mark.parametrize("taken_over", [True, False])
def test_names_of_files_are_rendered_once_for_hosts_that_share_them(tmp_path: Path, taken_over: bool) -> None:
    given = {"base_ca_certificates": "{{ mine }}", "mine": [str(tmp_path / "a")]}
    kept = inputs.Kept()
    assert host_inputs("one", given, kept).paths("base") == [str(tmp_path / "a")]
    name = str(tmp_path / ("a" if taken_over else "b"))
    assert host_inputs("two", {**given, "mine": [name]}, kept).paths("base") == [name]


def test_contents_that_change_while_the_site_runs_are_those_of_now(tmp_path: Path) -> None:
    authority = tmp_path / "authority.crt"
    given = {"base_ca_certificates": [str(authority)], "group_names": [], "groups": {}}
    host_inputs("one", given).of_role("base")
    authority.write_text("made by a role since")
    now = host_inputs("two", given).of_role("base")
    assert inputs.file_parts([str(authority)]).items() <= now.items()
