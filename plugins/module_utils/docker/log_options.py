# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Options of Docker's log drivers: which of them a driver refuses. Pure.

dockerd looks at them when it starts, and does not start with one that the driver does not know; `--validate` does not
look (moby, daemon/logger/*/: ValidateLogOpt).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

DEFAULT = "json-file"
ROTATED = (DEFAULT, "local")  # drivers that write files, and rotate them
_ROTATION = {"max-size", "max-file", "compress"}
# What their values are (moby, daemon/logger/jsonfilelog and daemon/logger/local; go-units, RAMInBytes).
_ANYTHING = re.compile(r".*", re.DOTALL)
_FORMS = {
    "max-size": (re.compile(r"-1|\d+(\.\d+)? ?([kmgtp]i?)?b?", re.ASCII | re.IGNORECASE), "50m"),
    "max-file": (re.compile(r"[1-9]\d*", re.ASCII), "5"),
    "compress": (re.compile("true|false|[01tf]", re.IGNORECASE), "true"),
}
_ATTRIBUTES = {"env", "env-regex", "labels", "labels-regex", "tag"}
# Of what begins so, by the one driver that knows it.
_PREFIXES = {
    "awslogs": "awslogs-",
    "fluentd": "fluentd-",
    "gcplogs": "gcp-",
    "gelf": "gelf-",
    "splunk": "splunk-",
    "syslog": "syslog-",
}
_BUILT_IN = {*ROTATED, *_PREFIXES, "journald"}  # `none` takes whatever there is
_REFUSED_ATTRIBUTES = {"local": _ATTRIBUTES, "awslogs": _ATTRIBUTES - {"tag"}, "gcplogs": {"tag"}}


def driver_of(settings: Mapping[str, Any]) -> str:
    """The driver that these settings of daemon.json name."""
    return str(settings.get("log-driver") or DEFAULT)


def refused(driver: str, options: Iterable[str]) -> list[str]:
    """Those that the driver surely refuses. Of drivers that are plugins, and of options that nobody knows, none is."""
    return [option for option in options if driver in _BUILT_IN and _is_anothers(driver, option)]


def _is_anothers(driver: str, option: str) -> bool:
    if option in _ROTATION:
        return driver not in ROTATED
    if option in _ATTRIBUTES:
        return option in _REFUSED_ATTRIBUTES.get(driver, set())
    return any(option.startswith(prefix) and driver != name for name, prefix in _PREFIXES.items())


def kept(current: Mapping[str, Any], driver: str) -> dict[str, Any]:
    """What daemon.json has without what is of no use any more: all options of another driver, or those it refuses."""
    options = current.get("log-opts")
    if not isinstance(options, Mapping):
        return dict(current)
    gone = set(options) if driver_of(current) != driver else set(refused(driver, options))
    if not gone:
        return dict(current)
    left = {name: value for name, value in options.items() if name not in gone}
    return {key: left if key == "log-opts" else value for key, value in current.items() if key != "log-opts" or left}


def problems(settings: Mapping[str, Any]) -> Iterator[GpusteadError]:
    """Options with which dockerd would not start, or no container: the driver does not know them, a value is no string,
    or no number or size where it wants one."""
    driver, options = driver_of(settings), settings.get("log-opts")
    if not isinstance(options, Mapping):
        return
    others = refused(driver, options)
    if others:
        yield GpusteadError(
            f"log-opts has {', '.join(others)}, and log-driver is {driver}",
            f"options that {driver} knows: dockerd does not start with others",
            "Take them out of log-opts (docker_log_opts), or choose another log-driver (docker_log_driver).",
        )
    for name, value in options.items():
        form, example = _FORMS.get(name, (_ANYTHING, "…"))
        if not isinstance(value, str):
            yield GpusteadError(
                f"log-opts has {name}: {str(value).lower() if isinstance(value, bool) else value}",
                "a string: dockerd takes nothing else there",
                f'Put it in quotes (docker_log_opts: {{{name}: "…"}}).',
            )
        elif driver in ROTATED and name not in others and not form.fullmatch(value):
            yield GpusteadError(
                f"log-opts has {name}: {value}",
                f"one such as {example}: no container starts with others",
                f'Correct it (docker_log_opts: {{{name}: "{example}"}}).',
            )
