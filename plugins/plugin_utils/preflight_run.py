# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The preflight of an inventory and of what a run was asked for, as one list of problems."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.module_utils.common.yaml import yaml_load
from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.secret_settings import without
from ansible_collections.gpustead.cluster.plugins.module_utils.mesh.host_keys import HostKeys
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight import names
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.check import check
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import GROUPS, Problem, Site
from ansible_collections.gpustead.cluster.plugins.plugin_utils.partial_run import FOREIGN
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_files import merged, place_of_group
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_places import place
from ansible_collections.gpustead.cluster.plugins.plugin_utils.preflight_settings import InventorySettings, written
from ansible_collections.gpustead.cluster.plugins.plugin_utils.receipt_inputs import COLLECTION

ALWAYS_THERE = frozenset({"all", "always", "never", "tagged", "untagged"})


def of_run(
    arguments: Mapping[str, Any],
    groups: Mapping[str, Sequence[str]],
    play_hosts: Collection[str],
    wanted: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Problem]:
    """What is wrong with the command line: it asks for what there is not.

    Args:
        arguments: Ansible's, of the command line.
        groups: of the inventory.
        play_hosts: those that the limit leaves.
        wanted: the groups that the run is for, with their hosts; those of the cluster.
    """
    asked = {option: arguments.get(name) or () for option, name in (("--tags", "tags"), ("--skip-tags", "skip_tags"))}
    asked = {option: [tag for tag in tags if tag not in ALWAYS_THERE | FOREIGN] for option, tags in asked.items()}
    if any(asked.values()):
        yield from names.unknown_tags(asked, tags_of(COLLECTION), not _is_ours(arguments.get("args") or ()))
    limit = arguments.get("subset") or ""
    unknown = [*names.unknown_limits(str(limit), groups.get("all", ()), groups)]
    yield from unknown
    wanted = {group: groups[group] for group in GROUPS if groups.get(group)} if wanted is None else wanted
    if limit and wanted and not unknown and not {host for hosts in wanted.values() for host in hosts} & set(play_hosts):
        what = f"{limit!r} leaves no host of {', '.join(wanted)}"
        yield Problem("--limit", what, "Name one of their hosts: nothing would be done.")


def tags_of(root: Path) -> frozenset[str]:
    """The tags of all tasks of the collection."""
    files = [*root.glob("playbooks/**/*.yml"), *root.glob("roles/*/tasks/*.yml"), *root.glob("roles/*/handlers/*.yml")]
    return frozenset(tag for path in files for tag in _tags(yaml_load(path.read_text(encoding="utf-8")))) - ALWAYS_THERE


def _tags(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        tags = content.get("tags") or ()
        yield from [tags] if isinstance(tags, str) else tags
        content = list(content.values())
    for inner in content if isinstance(content, list) else ():
        yield from _tags(inner)


def _is_ours(playbooks: Sequence[str]) -> bool:
    """Whether all tasks of a run are: a playbook of the site's may have others."""
    return all(
        playbook.startswith("gpustead.cluster.") or Path(playbook).resolve().is_relative_to(COLLECTION)
        for playbook in map(str, playbooks)
    )


def of_inventory(
    settings: InventorySettings, groups: Mapping[str, Sequence[str]], loader: DataLoader, sources: Sequence[str] = ()
) -> list[Problem]:
    """What is wrong with the inventory.

    Args:
        settings: of its hosts.
        groups: their names, with their hosts.
        loader: Ansible's.
        sources: what -i names.
    """
    members = list(dict.fromkeys(str(host) for group in GROUPS for host in groups.get(group, ())))
    folders = {str(folder) for host in members if (folder := settings.raw(host).get("inventory_dir"))}
    if together := [*merged(loader, sources, {*members}, folders)]:
        return together
    looked = {host: settings.look(host) for host in members}
    found = {host: one.found([*settings.unknown(one), *settings.unreachable(one)]) for host, one in looked.items()}

    def where(host: str, name: str) -> str:
        return place(*written(looked[host].given, name)) if host in looked else place_of_group(loader, sources, name)

    plain = {str(group): [str(host) for host in hosts] for group, hosts in groups.items()}
    values = {host: one.values for host, one in looked.items()}
    problems = check(Site(plain, values, lambda path: Path(path).read_text(encoding="utf-8"), found, where))
    problems += _removed(settings, values, groups, loader, sources)
    secrets = [*settings.secrets(looked.values())] if problems else []
    return [replace(one, what=without(one.what, secrets), remedy=without(one.remedy, secrets)) for one in problems]


def _removed(
    settings: InventorySettings,
    values: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    loader: DataLoader,
    sources: Sequence[str],
) -> Iterator[Problem]:
    """Nodes that remove.yml took out: a run would bring them back, and their keys are revoked."""
    for host in map(str, groups.get("gpu_nodes", ())):
        own = values.get(host, {})
        secrets = own.get("cluster_secrets_dir") or f"{settings.raw(host).get('inventory_dir')}/.secrets"
        beside = HostKeys(Path(loader.get_basedir(), str(own.get("ssh_mesh_ca_key") or f"{secrets}/ssh_mesh_ca")))
        if words := beside.removed().get(host):
            what = f"remove.yml took it out of the cluster ({words})"
            remedy = f"Delete its line; or, for a machine that is to have the name, its line in {beside.removed_file}."
            yield Problem(host, what, remedy, place_of_group(loader, sources, host))
