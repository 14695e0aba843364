#!/usr/bin/python
# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a command in a container, and tell the end of what it said."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_command
short_description: Run a command in a container of a compose project, and tell the end of what it said
version_added: "0.2.0"
author: The gpustead developers (@gpustead)
description:
  - Runs a command in the running container of a service, as one of its accounts, and waits for its end.
  - What it says may be anything, so only its last lines are kept, each cut and with control characters escaped.
  - With O(follow), the run says while it goes on what the command says.
  - In check mode nothing is run.
extends_documentation_fragment: [gpustead.cluster.attributes.no_diff]
attributes:
  check_mode:
    support: partial
    details: The command is taken for one that changes something.
options:
  project:
    description: Name of the compose project.
    type: str
    required: true
  service:
    description: The service.
    type: str
    required: true
  user:
    description: Account in the container.
    type: str
    required: true
  argv:
    description: The command and its arguments.
    type: list
    elements: str
    required: true
  lines:
    description: How many of the last lines are kept.
    type: int
    default: 200
  timeout:
    description: Seconds that it has.
    type: int
    default: 86400
  follow:
    description: A regular expression. Lines in which it is found are said at once, the first 2000 of them.
    type: str
  progress:
    description: File that gets these lines, as JSON; the action of this module gives it.
    type: path
seealso:
  - module: community.docker.docker_container_exec
  - module: community.docker.docker_compose_v2_exec
"""

EXAMPLES = r"""
- name: Train
  gpustead.cluster.container_command:
    project: gpustead-mesh
    service: mesh
    user: ada
    argv: [mesh-run, /opt/gpustead/examples/train.py]
    follow: step=|loss=
  register: trained

- name: See which PyTorch the workspace has
  gpustead.cluster.container_command:
    project: gpustead-workspace
    service: ssh
    user: ada
    argv: [python, -c, "import torch; print(torch.__version__)"]
  register: torch

- name: Run a script for at most an hour, and keep its last 20 lines
  gpustead.cluster.container_command:
    project: gpustead-workspace
    service: ssh
    user: ada
    argv: [python, /home/ada/evaluate.py]
    timeout: 3600
    lines: 20
"""

RETURN = r"""
said:
  description: The last lines of its output and errors.
  type: list
  elements: str
  returned: when it was run
rc:
  description: Its exit status.
  type: int
  returned: when it was run
"""

import re
from collections import deque

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpustead.cluster.plugins.module_utils.files.progress_file import reporter
from ansible_collections.gpustead.cluster.plugins.module_utils.run import stream
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

ARGUMENTS = {
    "project": {"type": "str", "required": True},
    "service": {"type": "str", "required": True},
    "user": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str", "required": True},
    "lines": {"type": "int", "default": 200},
    "timeout": {"type": "int", "default": 86400},
    "follow": {"type": "str"},
    "progress": {"type": "path"},
}
MOST = 2000  # lines that are followed: a container does not fill the file


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    params = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        follow = re.compile(params["follow"] or "")
    except re.error as error:
        module.fail_json(msg=f"follow {params['follow']!r}: {error}: expected a regular expression. Mend it.")
    said: deque[str] = deque(maxlen=params["lines"])
    inside = ["docker", "compose", "--project-name", params["project"], "exec", "-T", "--user", params["user"]]
    with reporter(params["progress"]) as report:
        followed = 0

        def listen(line: str) -> None:
            nonlocal followed
            said.append(shown(line))
            if followed < MOST and follow.search(said[-1]):
                followed += 1
                report({"state": "said", "line": said[-1]})

        code, why = stream([*inside, params["service"], *params["argv"]], listen, params["timeout"])
    result = {"changed": True, "rc": code, "said": list(said)}
    if code:
        where = f"{params['argv'][0]} in {params['project']}/{params['service']}"
        last = next((line for line in reversed(said) if line.strip()), "nothing")
        module.fail_json(
            msg=f"{where} ended with {code} ({why or last}): expected 0. Run it there by hand, and see what it says.",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
