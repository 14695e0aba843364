# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Everything that is wrong with an inventory. No host is asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight import (
    accounts,
    authorities,
    forms,
    gpus,
    mounts,
    names,
    networks,
    ports,
    registries,
    secrets,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.site.preflight.inventory import (
    GROUPS,
    Broken,
    HostVariables,
    KnownProblems,
    Problem,
    Site,
    no_host,
)

# The variables that are looked at. One that is not set has its role's default, which is sound.
VARIABLES = (
    "ansible_become_method",
    "ansible_become_user",
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_private_key_file",
    "ansible_python_interpreter",
    "ansible_ssh_private_key_file",
    "ansible_user",
    "cluster_address",
    "cluster_ca_certificates",
    "cluster_ca_passphrase",
    "cluster_cached_registries",
    "cluster_clients",
    "cluster_nas_path",
    "cluster_network",
    "cluster_owner",
    "cluster_proxy_env",
    "cluster_registry",
    "cluster_registry_cache_port",
    "cluster_service_account",
    "cluster_users",
    "cluster_workspace_port_range",
    "firewall_enabled",
    "firewall_mesh_ports",
    "firewall_published_ports",
    "firewall_registry_port",
    "nas_extra_mounts",
    "nas_fstype",
    "nas_options",
    "nas_quota",
    "nas_source",
    "nvidia_exclude",
    "ssh_mesh_port",
    "workspace_instances",
    "workspace_mounts",
    "workspace_owner",
    "workspace_port_range",
    "workspace_ports",
    "workspace_profile",
    *secrets.OPEN,
)
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\Z")


def check(site: Site) -> list[Problem]:
    """All problems of an inventory. What several hosts share is reported once."""
    nodes, members = site.members("gpu_nodes"), site.members(*GROUPS)
    found: dict[Problem, list[str]] = {}
    broken = {name: {one for one, value in of.items() if isinstance(value, Broken)} for name, of in site.hosts.items()}
    sound = {name: {one: of[one] for one in of if one not in broken[name]} for name, of in site.hosts.items()}
    site = replace(site, hosts=sound)
    near = names.near_groups(site.groups, [*GROUPS])
    for group, meant in near.items():
        found[
            Problem(
                group,
                f"no role runs on a group of this name, with {shorten(site.groups[group])}",
                f"Did you mean {meant}?",
                site.place("", group),
            )
        ] = []
    declared: set[accounts.Ids] = set()
    if not nodes and "gpu_nodes" not in near.values():
        found[no_host("gpu_nodes")] = []
    for name in members:
        before = site.found.get(name, KnownProblems())
        known = {problem.where for problem in before.problems} | broken.get(name, set())
        host = HostVariables(name, sound.get(name, {}), refused=frozenset(known))
        declared |= set(_check_host(host, site, nodes))
        refused = known | {problem.where for problem in host.problems}
        more = []
        for made in before.more:
            if not refused & set(made.of):
                more.append(made.problem)
                refused |= set(made.covers)
        for problem in dict.fromkeys((*before.problems, *host.problems, *more)):
            found.setdefault(problem, []).append(name)
    # Hosts may have different lists of users, but the share and its ids are one.
    of_several = [*networks.same_addresses(site, nodes), *networks.same_machine(site, nodes)]
    for problem in [*accounts.clashes(sorted(declared)), *of_several]:
        found.setdefault(problem, [])
    return [_placed(problem, site, hosts, nodes, members) for problem, hosts in found.items()]


def _check_host(host: HostVariables, site: Site, nodes: Sequence[str]) -> list[accounts.Ids]:
    """Add what is wrong with a host to its problems. Returns the accounts that are sound, with their ids."""
    is_node = host.name in nodes
    found = accounts.check_users(host, required=is_node)
    accounts.check_login(host, site.read)
    networks.check_way(host)
    networks.check_networks(host)
    authorities.check_certificates(host, site.read)
    secrets.check_secrets(host)
    if site.members("registry_caches"):
        registries.check_caches(host, site)
    mounts.check_nas_path(host)
    forms.check_forms(host)
    if is_node:
        _check_name(host)
        networks.check_python(host)
        networks.check_address(host)
        mounts.check_nas_source(host, site)
        authorities.check_passphrase(host)
        registries.check_registry(host, site)
        mounts.check_mounts(host)
        mounts.check_quota(host, site)
        ports.check_workspaces(host)
        ports.check_addresses(host)
        ports.check_ports(host, site)
        ports.check_firewall(host, site)
        gpus.check_exclusion(host)
        gpus.check_keys(host)
        _check_builder(host, nodes)
    return found


def _check_builder(host: HostVariables, nodes: Sequence[str]) -> None:
    builder = host.get("images_builder", str, "")
    if builder and builder not in nodes:
        remedy = names.did_you_mean(builder, nodes, "Name one of them.")
        host.refuse("images_builder", f"is {builder!r}, no host of gpu_nodes", remedy)


def _check_name(host: HostVariables) -> None:
    if not _HOST_NAME.match(host.name):
        host.refuse(
            "gpu_nodes", f"{host.name!r} is no host name, as SSH and the hostfile of DeepSpeed need it", "Rename it."
        )


def _placed(problem: Problem, site: Site, hosts: Sequence[str], *everyone: Sequence[str]) -> Problem:
    """The problem with its place, and with the hosts that have it, unless all of a kind have it or it names them."""
    of_all = any(set(hosts) == set(all_hosts) for all_hosts in everyone)
    where = f"{problem.where} on {shorten(hosts)}"
    if not hosts or of_all or set(hosts) & set(problem.what.split()):
        where = problem.where
    asked = [*hosts[:1], *(everyone[-1] if not hosts else ())]
    places = [site.place(host, problem.where) for host in asked]
    if problem.where in GROUPS:
        places = [site.place("", problem.where)]
    return replace(problem, where=where, place=problem.place or next(filter(None, places), ""))


def shorten(names: Sequence[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
