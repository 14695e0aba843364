"""What the tests read of Ansible's runs is its usual output; our own callback is tested by its name."""

from __future__ import annotations

import os

os.environ["ANSIBLE_STDOUT_CALLBACK"] = "default"
