"""What leaves a registry: a plan over its tags and manifests, and its API over a registry in dictionaries."""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.registry_api import (
    IMAGES,
    INDEXES,
    Answer,
    Manifest,
    Registry,
    asker,
    login,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.registry_prune import prune, superfluous
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "10.1.0.5:5000"
OLD, OLDER, NEW = "0" * 12, "1" * 12, "2" * 12
TOP = "gpustead/debian12_base_top"


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


def index(letter: str, *children: str) -> Manifest:
    return Manifest(digest(letter), tuple(map(digest, children)))


# The plan

PLANS: list[tuple[str, dict[str, Manifest], set[str], list[tuple[str, list[str]]]]] = [
    ("all are kept by tag", {NEW: index("a")}, {f"r:{NEW}"}, []),
    ("one is kept by its digest", {OLD: index("a")}, {f"r@{digest('a')}"}, []),
    ("a key that nobody keeps", {NEW: index("a"), OLD: index("b")}, {f"r:{NEW}"}, [("b", [OLD])]),
    ("two keys of one manifest", {OLDER: index("b"), OLD: index("b")}, set(), [("b", [OLD, OLDER])]),
    ("one of its keys is kept", {NEW: index("b"), OLD: index("b")}, {f"r:{NEW}"}, []),
    ("somebody's own tag", {"mine": index("a"), "0123": index("b"), "A" * 12: index("c")}, set(), []),
    ("it shares the manifest", {"mine": index("b"), OLD: index("b")}, set(), []),
    ("the same key of another repository", {OLD: index("b")}, {f"other:{OLD}"}, [("b", [OLD])]),
    ("an index goes after its parts", {OLD: index("b", "c", "d")}, set(), [("c", []), ("d", []), ("b", [OLD])]),
    ("a part that another index lists", {NEW: index("a", "c"), OLD: index("b", "c")}, {f"r:{NEW}"}, [("b", [OLD])]),
    ("a part with a tag of its own", {"mine": index("c"), OLD: index("b", "c")}, set(), [("b", [OLD])]),
    ("a part that is kept", {OLD: index("b", "c")}, {f"r@{digest('c')}"}, [("b", [OLD])]),
    ("a part under a key that goes", {OLDER: index("c"), OLD: index("b", "c")}, set(), [("b", [OLD]), ("c", [OLDER])]),
]


@pytest.mark.parametrize(("tags", "kept", "gone"), [plan[1:] for plan in PLANS], ids=[plan[0] for plan in PLANS])
def test_what_is_superfluous(tags: dict[str, Manifest], kept: set[str], gone: list[tuple[str, list[str]]]) -> None:
    found = superfluous("r", tags, kept)
    assert [(removal.digest, removal.tags or []) for removal in found] == [(digest(name), own) for name, own in gone]


# The API


@dataclass
class Shelf:
    """A registry: repository to tags, and the manifests, which stay when their tags go."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    manifests: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    page: int = 1000
    answers: dict[str, Answer] = field(default_factory=dict)  # method and path to what is answered instead
    asked: list[str] = field(default_factory=list)

    def push(self, repository: str, tag: str, name: str, *parts: str) -> None:
        kind, lists = (INDEXES[0], {"manifests": [{"digest": digest(part)} for part in parts]}) if parts else (
            IMAGES[0], {}
        )  # fmt: skip
        self.manifests[digest(name)] = kind, {"schemaVersion": 2, **lists}
        self.tags.setdefault(repository, {})[tag] = digest(name)

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        self.asked.append(f"{method} {path}")
        parts = urlsplit(path)
        for start, answer in self.answers.items():
            if f"{method} {path}".startswith(start):
                return answer
        if parts.path == "/v2/_catalog":
            return self.paged(sorted(self.tags), "repositories", path)
        found = re.fullmatch("/v2/(.+)/(?:tags/list|manifests/(.+))", parts.path)
        assert found
        repository, reference = found.groups()
        own = self.tags[repository]
        if reference is None:
            return self.paged(sorted(own), "tags", path)
        wanted = own.get(reference, reference)
        if wanted not in self.manifests:
            return problem(404, "MANIFEST_UNKNOWN")
        if method == "DELETE":
            del self.manifests[wanted]
            self.tags[repository] = {tag: value for tag, value in own.items() if value != wanted}
            return Answer(202, {}, b"")
        kind, content = self.manifests[wanted]
        assert kind in headers["Accept"]
        return Answer(200, {"docker-content-digest": wanted, "content-type": kind}, json.dumps(content).encode())

    def paged(self, names: list[str], key: str, path: str) -> Answer:
        query = parse_qs(urlsplit(path).query)
        size = min(self.page, int(query["n"][0]))
        rest = [name for name in names if name > query.get("last", [""])[0]]
        more = {"link": f'<{urlsplit(path).path}?last={rest[size - 1]}&n={size}>; rel="next"'} if rest[size:] else {}
        # A registry writes null for none.
        return Answer(
            200, {"content-type": "application/json", **more}, json.dumps({key: rest[:size] or None}).encode()
        )

    def prune(self, *keep: str, check: bool = False) -> tuple[list[tuple[str, str]], str]:
        found = prune(Registry(self), "gpustead", [f"{HOST}/{ref}" for ref in keep], check)
        return [(removal.repository, removal.digest) for removal in found.removed], found.refused


def problem(status: int, code: str, **headers: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": "as it says"}]}).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.fixture
def shelf() -> Shelf:
    shelf = Shelf()
    shelf.push("gpustead/debian12_base", NEW, "1")
    shelf.push(TOP, NEW, "a")
    shelf.push(TOP, OLD, "b")
    shelf.push(TOP, "mine", "c")
    shelf.push("theirs/debian12_base", OLD, "d")
    return shelf


KEEP = (f"gpustead/debian12_base:{NEW}", f"{TOP}@{digest('a')}")


def test_the_old_go_and_the_rest_stays(shelf: Shelf) -> None:
    assert shelf.prune(*KEEP) == ([(TOP, digest("b"))], "")
    assert shelf.tags[TOP] == {NEW: digest("a"), "mine": digest("c")}
    assert shelf.tags["theirs/debian12_base"] == {OLD: digest("d")}
    shelf.asked.clear()
    assert shelf.prune(*KEEP, f"{TOP}:{NEW}") == ([], "")
    # Where no key is old, no manifest is asked for.
    assert [line for line in shelf.asked if "manifests" in line] == []


def test_a_check_deletes_nothing(shelf: Shelf) -> None:
    assert shelf.prune(*KEEP, check=True) == ([(TOP, digest("b"))], "")
    assert OLD in shelf.tags[TOP]


def test_the_name_of_the_registry_may_have_been_another(shelf: Shelf) -> None:
    found = prune(Registry(shelf), "gpustead", [f"registry.example/{ref}" for ref in KEEP], False)
    assert [removal.digest for removal in found.removed] == [digest("b")]


def test_all_pages_are_read(shelf: Shelf) -> None:
    shelf.page = 1
    assert shelf.prune(*KEEP)[0] == [(TOP, digest("b"))]
    assert len([line for line in shelf.asked if "_catalog" in line]) == 3


def test_the_parts_of_an_index_go_with_it(shelf: Shelf) -> None:
    for part in "ef":
        shelf.manifests[digest(part)] = IMAGES[0], {}
    shelf.push(TOP, OLD, "b", "e", "f")
    assert shelf.prune(*KEEP)[0] == [(TOP, digest(part)) for part in "efb"]
    assert not {digest(part) for part in "efb"} & shelf.manifests.keys()


def test_what_somebody_else_deletes_meanwhile_is_no_error(shelf: Shelf) -> None:
    shelf.answers[f"GET /v2/{TOP}/manifests/mine"] = problem(404, "MANIFEST_UNKNOWN")
    shelf.answers[f"DELETE /v2/{TOP}"] = problem(404, "MANIFEST_UNKNOWN")
    shelf.answers["GET /v2/gpustead/debian12_base/tags"] = problem(404, "NAME_UNKNOWN")
    assert shelf.prune(*KEEP) == ([(TOP, digest("b"))], "")


REFUSALS = [
    (f"DELETE /v2/{TOP}", problem(405, "UNSUPPORTED"), "it does not delete: status 405, UNSUPPORTED as it says"),
    (f"DELETE /v2/{TOP}", problem(403, "DENIED"), "it does not delete: status 403, DENIED as it says"),
    ("GET /v2/_catalog", problem(404, "NOT_FOUND"), "it does not tell which repositories it has"),
    ("GET /v2/_catalog", problem(401, "UNAUTHORIZED", www_authenticate='Bearer realm="x"'), "it wants a token"),
]


@pytest.mark.parametrize(("where", "answer", "words"), REFUSALS)
def test_a_registry_that_does_not_delete_is_no_error(shelf: Shelf, where: str, answer: Answer, words: str) -> None:
    shelf.answers[where] = answer
    removed, refused = shelf.prune(*KEEP)
    assert (removed, refused[: len(words)]) == ([], words)


PROBLEMS = [
    ("GET /v2/_catalog", problem(401, "UNAUTHORIZED", www_authenticate="Basic realm=x"), "status 401, UNAUTHORIZED"),
    (f"DELETE /v2/{TOP}", problem(500, "UNKNOWN"), rf"answers DELETE /v2/{TOP}/manifests/sha256:b+ with status 500"),
    ("GET /v2/_catalog", Answer(200, {"content-type": "text/html; x"}, b"<p>"), "with text/html: expected a JSON"),
    ("GET /v2/_catalog", Answer(302, {"location": "https://other"}, b""), "with status 302"),
]


@pytest.mark.parametrize(("where", "answer", "words"), PROBLEMS)
def test_what_is_not_expected_is_an_error(shelf: Shelf, where: str, answer: Answer, words: str) -> None:
    shelf.answers[where] = answer
    with pytest.raises(GpusteadError, match=words):
        shelf.prune(*KEEP)


def test_nothing_to_keep_is_a_mistake(shelf: Shelf) -> None:
    with pytest.raises(GpusteadError, match="keep is empty"):
        shelf.prune()
    assert shelf.asked == []


# The login

AUTH = base64.b64encode(b"cluster:secret").decode()
LOGINS = [
    ("", ""),
    ("{}", ""),
    (json.dumps({"auths": {HOST: {"auth": AUTH}}}), AUTH),
    (json.dumps({"auths": {f"https://{HOST}/v2/": {"auth": AUTH}}}), AUTH),
    (json.dumps({"auths": {"other:5000": {"auth": AUTH}}, "credsStore": "pass"}), ""),
]


@pytest.mark.parametrize(("config", "auth"), LOGINS)
def test_the_login_is_dockers(config: str, auth: str) -> None:
    assert login(config, HOST) == auth


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "config.json is damaged"),
        ("[]", "config.json is damaged"),
        (json.dumps({"auths": {HOST: AUTH}}), "config.json is damaged"),
        (json.dumps({"auths": {HOST: {}}, "credsStore": "pass"}), "is kept by a credential helper"),
    ],
)
def test_a_login_that_cannot_be_read_is_named_and_not_shown(config: str, words: str) -> None:
    with pytest.raises(GpusteadError, match=words) as error:
        login(config, HOST)
    assert AUTH not in str(error.value)


# The connection


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        sent = self.headers.get("Authorization", "nothing")
        self.send_response(200 if self.path == "/v2/" else 302)
        self.send_header("Location", "https://other.example/")
        self.end_headers()
        self.wfile.write(json.dumps({"sent": sent}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """host:port of a server with a certificate of its own, which lies in tmp_path/ca.crt."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(timezone.utc)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    made = made.add_extension(x509.BasicConstraints(True, None), True)
    (tmp_path / "ca.crt").write_bytes(
        made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )  # fmt: skip
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key").write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.crt", tmp_path / "key")
    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        http.socket = context.wrap_socket(http.socket, server_side=True)
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


def test_the_login_goes_to_this_registry_alone(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    ask = asker(server, [str(tmp_path / "ca.crt")], AUTH, 10)
    assert json.loads(ask("GET", "/v2/", {}).body) == {"sent": f"Basic {AUTH}"}
    assert ask("GET", "/elsewhere", {}).status == 302


def test_a_certificate_that_nobody_trusts_gets_no_login(server: str) -> None:
    with pytest.raises(GpusteadError, match=r"does not answer: .*certificate verify failed"):
        asker(server, [], AUTH, 10)("GET", "/v2/", {})


def test_a_silent_registry_is_an_error() -> None:
    with pytest.raises(GpusteadError, match=r"the registry 127\.0\.0\.1:9 does not answer: .*refused"):
        asker("127.0.0.1:9", [], AUTH, 1)("GET", "/v2/", {})
