#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Merge settings into Docker's daemon.json."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_config
short_description: Merge settings into Docker's daemon.json
version_added: "0.1.0"
author: The gpustead developers (@gpustead)
description:
  - Puts settings into C(daemon.json) key by key and leaves everything else in it as it is, byte for byte.
  - Objects are merged key by key at every depth. Everything else, lists too, is replaced.
  - Refuses a file that it cannot read without doubt (comments, typographic quotes, a key that stands there twice, a
    second document, keys that dockerd no longer knows), and names the line, the column and the remedy.
  - Refuses what dockerd does not start with and C(dockerd --validate) lets pass (options that the log driver does not
    know, live-restore on a host that is in a swarm), and settings with which a cluster cannot run, as V(userns-remap)
    and V(iptables) false, wherever they stand. Each is named with the reason and the remedy.
  - Where the log driver changes, C(log-opts) are replaced as a whole, since they were those of the former driver.
  - Refuses a setting that the systemd unit of Docker or one of its drop-ins also gives as an option, since dockerd
    does not start then, and names the file. So it does with a key that somebody else put into the file.
  - Lets C(dockerd --validate) judge the result where dockerd is installed, before anything is written. The file that
    was there is kept as C(daemon.json.<time>.bak). Passwords may stand in them, so the file and all of its copies are
    made root's alone (mode 0600), also where nothing else changes.
  - What Docker last started with is kept as C(daemon.json.started.bak), too, for M(gpustead.cluster.docker_service).
  - Neither reloads nor restarts Docker; it tells which of the two is needed. Also where the file is right and Docker
    runs with other settings, as far as C(docker info) tells (C(log-driver), C(live-restore), C(registry-mirrors),
    C(insecure-registries)); this counts as a change.
options:
  settings:
    description: What must be there.
    type: dict
    default: {}
  secret:
    description: What must be there besides, and is shown nowhere. Objects are merged with those of O(settings).
    type: dict
    default: {}
  absent:
    description:
      - Keys that must not be there, at the top level or, as V(log-opts.max-file), in one of its objects.
      - An object that becomes empty stays. Of C(runtimes), say, dockerd takes an empty object over on a reload, and
        that the key is gone on a restart alone.
    type: list
    elements: str
    default: []
  path:
    description: The file.
    type: path
    default: /etc/docker/daemon.json
extends_documentation_fragment: [gpustead.cluster.attributes]
attributes:
  check_mode:
    description: Tells what would change; the result is validated in check mode, too.
  diff_mode:
    description: Shows the file before and after, without passwords and tokens.
seealso:
  - module: gpustead.cluster.docker_service
  - module: gpustead.cluster.docker_setup_info
"""

EXAMPLES = r"""
- name: Rotate the logs of containers
  gpustead.cluster.docker_daemon_config:
    settings:
      log-driver: json-file
      log-opts: {max-size: 50m, max-file: "5"}
    absent: [debug]
  notify: Restart Docker

- name: Send logs to a collector, with a token that is shown nowhere
  gpustead.cluster.docker_daemon_config:
    settings: {log-driver: splunk, log-opts: {splunk-url: "https://logs.example.org:8088"}}
    secret: {log-opts: {splunk-token: "{{ vault_splunk_token }}"}}
  notify: Restart Docker

- name: See what a change of the file would need
  gpustead.cluster.docker_daemon_config:
    settings: {live-restore: true}
  check_mode: true
  register: change
"""

RETURN = r"""
changed_keys:
  description: Keys at the top level that changed, appeared or went.
  returned: success
  type: list
  elements: str
not_taken_over:
  description: Keys that the file has right, and with which Docker does not run.
  returned: success
  type: list
  elements: str
reload_required:
  description: Whether something changed that dockerd takes over on a reload (SIGHUP).
  returned: success
  type: bool
restart_required:
  description: Whether something changed that dockerd takes over on a restart alone.
  returned: success
  type: bool
validated:
  description: Whether dockerd judged the result. It is not asked when nothing changes, and cannot before Docker 23.
  returned: success
  type: bool
backup_file:
  description: Where the file that was there is kept, with the four copies before it.
  returned: when a file was replaced
  type: str
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import daemon_json_check, docker_service, dockerd
from ansible_collections.gpustead.cluster.plugins.module_utils.docker import docker_daemon_config as daemon_json
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError, of_system
from ansible_collections.gpustead.cluster.plugins.module_utils.files import leftovers

ARGUMENTS = {
    "settings": {"type": "dict", "default": {}},
    "secret": {"type": "dict", "default": {}, "no_log": True},
    "absent": {"type": "list", "elements": "str", "default": []},
    "path": {"type": "path", "default": daemon_json.DAEMON_JSON},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    path: str = module.params["path"]
    result: dict[str, Any] = {}

    def run(argv: Any) -> tuple[int, str, str]:
        outcome: tuple[int, str, str] = module.run_command(list(argv), handle_exceptions=False)
        return outcome

    try:
        settings = daemon_json.merge(module.params["settings"], module.params["secret"])
        plan = daemon_json.plan(dockerd.read(path), settings, module.params["absent"], path)
        systemctl, program = module.get_bin_path("systemctl"), module.get_bin_path("dockerd")
        untaken: tuple[str, ...] = ()
        if systemctl:
            given, info = daemon_json_check.check_on_host(run, plan, settings, path)
            untaken = daemon_json.not_taken_over(plan, info, given)
        if path == daemon_json.DAEMON_JSON and not module.check_mode:
            docker_service.keep(path)
        exposed = dockerd.exposed(path)
        validated = False
        if plan.changed:
            with tempfile.NamedTemporaryFile(dir=module.tmpdir, suffix=".json", delete=False) as candidate:
                candidate.write(plan.after.encode())
            validated = bool(program) and dockerd.validate(run, program, candidate.name, path)
            if not module.check_mode:
                target = Path(path).resolve()  # a link stays a link
                target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                there = target.exists()
                target.touch(mode=0o600)  # which its copy gets, too
                target.chmod(0o600)
                if there:
                    result["backup_file"] = f"{target}.{time.strftime('%Y-%m-%d@%H:%M:%S')}.bak"
                    module.preserved_copy(str(target), result["backup_file"])
                module.atomic_move(candidate.name, str(target))
                written = [str(target), f"{target}{docker_service.KEPT}"]
                leftovers.remove(leftovers.find(written, leftovers.KEEP, time.time()))
        for name in [] if module.check_mode else dockerd.exposed(path):
            os.chown(name, 0, 0)
            os.chmod(name, 0o600)
    except GpusteadError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=str(of_system(error, path)))
    reloads = daemon_json.reloadable(plan, untaken)
    shown = {"before": dockerd.shown(plan.before), "after": dockerd.shown(plan.after)}
    access = [[f"{name} {text}\n" for text in (was, dockerd.ROOT_ALONE)] for name, was in exposed.items()]
    module.exit_json(
        changed=plan.changed or bool(untaken) or bool(exposed),
        changed_keys=list(plan.changed_keys),
        not_taken_over=list(untaken),
        reload_required=plan.reload_required or bool(reloads),
        restart_required=plan.restart_required or len(reloads) < len(untaken),
        validated=validated,
        diff=[
            {**shown, "before_header": path, "after_header": path},
            *({"before": before, "after": after} for before, after in access),
        ],
        **result,
    )


if __name__ == "__main__":
    main()
