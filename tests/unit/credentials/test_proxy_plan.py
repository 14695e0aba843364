"""The site's proxies: what each program is told, where the password stands, what is refused without being shown."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gpustead.cluster.plugins.module_utils.credentials.proxy_plan import both_cases, plan
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError

PROJECT = Path(__file__).resolve().parents[3]
SECRET = re.compile("proxy|passw|passphrase|secret|token", re.IGNORECASE)
WITH = {
    "HTTP_PROXY": "http://site:hunt%40er2@proxy.example:3128",
    "https_proxy": "http://site:hunt%40er2@proxy.example:3128",
    "no_proxy": "localhost, .example,10.0.0.0/8,*.lab",
}


def test_the_password_stands_where_apt_alone_reads_it() -> None:
    proxies = plan(WITH)
    assert proxies.plain == {
        "http_proxy": "http://proxy.example:3128",
        "https_proxy": "http://proxy.example:3128",
        "no_proxy": WITH["no_proxy"],
    }
    assert set(proxies.secret) == {"http_proxy", "https_proxy"}
    assert "hunt" not in proxies.environment + proxies.apt
    assert proxies.apt_auth == "machine http://proxy.example:3128 login site password hunt@er2\n"
    assert 'Acquire::http::Proxy "http://proxy.example:3128";\n' in proxies.apt
    assert 'Acquire::https::Proxy::.example "DIRECT";\n' in proxies.apt
    assert "10.0.0.0" not in proxies.apt and "lab" not in proxies.apt
    assert 'HTTP_PROXY="http://proxy.example:3128"\n' in proxies.environment
    assert "hunt" not in repr(proxies)
    assert proxies.docker == {
        "http-proxy": WITH["HTTP_PROXY"], "https-proxy": WITH["https_proxy"], "no-proxy": WITH["no_proxy"]
    }  # fmt: skip


def test_without_a_password_there_is_no_secret() -> None:
    proxies = plan({"http_proxy": "http://proxy:3128/", "no_proxy": ""})
    assert proxies.full == proxies.plain
    assert not proxies.secret and proxies.apt_auth == ""
    nothing = plan({})
    assert (nothing.environment, nothing.apt, nothing.apt_auth, nothing.docker) == ("", "", "", {})


def test_one_for_all() -> None:
    proxies = plan({"all_proxy": "http://u:secret@proxy:1"})
    assert [line.split()[0] for line in proxies.apt.splitlines()] == ["Acquire::http::Proxy", "Acquire::https::Proxy"]
    assert "secret" in proxies.apt_auth
    assert proxies.docker == {"http-proxy": "http://u:secret@proxy:1", "https-proxy": "http://u:secret@proxy:1"}
    assert both_cases({"a_b": "c"}) == {"a_b": "c", "A_B": "c"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another variable": ({"http_poxy": "http://u:hunter2@proxy"}, "'http_poxy'"),
    "no text": ({"http_proxy": ["hunter2"]}, "type list"),
    "two values": ({"http_proxy": "http://a", "HTTP_PROXY": "http://u:hunter2@b"}, "given twice"),
    "no scheme": ({"http_proxy": "u:hunter2@proxy:3128"}, "schemes"),
    "no host": ({"http_proxy": "http://u:hunter2@"}, "a host"),
    "a path": ({"http_proxy": "http://u:hunter2@proxy/a"}, "a host and a port"),
    "no port": ({"http_proxy": "http://u:hunter2@proxy:x"}, "a number as its port"),
    "not encoded @": ({"http_proxy": "http://u:hunt@er2@proxy"}, "encoded"),
    "not encoded /": ({"http_proxy": "http://u:hunter/2@proxy"}, "http_proxy"),
    "not encoded %": ({"http_proxy": "http://u:hunter%2@proxy"}, "encoded"),
    "a blank": ({"http_proxy": "http://u:hunter2%20x@proxy"}, "white space"),
    "a quotation mark": ({"http_proxy": 'http://u:hunter2"@proxy'}, "quotation marks"),
    "a line": ({"http_proxy": "http://proxy:1\nhunter2=1"}, "without blanks"),
    "a user alone": ({"http_proxy": "http://hunter2@proxy"}, "both a user and a password"),
    "lines in no_proxy": ({"no_proxy": "a\nhunter2"}, "commas between them"),
    "two passwords": ({"http_proxy": "http://u:hunter2@p", "https_proxy": "http://u:hunter3@p"}, "different passwords"),
}


@pytest.mark.parametrize(("variables", "expected"), REFUSED.values(), ids=list(REFUSED))
def test_refused_and_not_shown(variables: dict[str, Any], expected: str) -> None:
    with pytest.raises(GpusteadError) as error:
        plan(variables)
    assert expected in str(error.value)
    assert "hunt" not in str(error.value)


def test_apt_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "proxy.conf"
    file.write_text(plan(WITH).apt)
    dump = subprocess.run(["apt-config", "-c", str(file), "dump"], capture_output=True, text=True, check=True).stdout
    assert 'Acquire::http::Proxy "http://proxy.example:3128";' in dump


def environments(node: Any) -> Iterator[Any]:
    """Every `environment` of plays, blocks and tasks."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "environment":
                yield value
            yield from environments(value)
    elif isinstance(node, list):
        for inner in node:
            yield from environments(inner)


# Ansible puts it into the command line of the shell that starts the module, and of the ssh that starts that.
@pytest.mark.parametrize("folder", ["playbooks", "roles/*/tasks", "roles/*/handlers"])
def test_no_task_has_a_secret_in_its_environment(folder: str) -> None:
    files = [path for place in PROJECT.glob(folder) for path in place.rglob("*.yml")]
    assert files
    found = {path: [*environments(yaml.safe_load(path.read_text()))] for path in files}
    words = [(path, word) for path, given in found.items() for word in given if SECRET.search(str(word))]
    assert words == []
