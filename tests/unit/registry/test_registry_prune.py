"""What leaves a registry: a plan over its tags and manifests, and its API over a registry in dictionaries."""

from __future__ import annotations

import base64
import contextlib
import json
import random
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
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_api import (
    IMAGES,
    INDEXES,
    MOST,
    Registry,
    Response,
    asker,
    login,
)
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_prune import Shelf as PruneShelf
from ansible_collections.gpustead.cluster.plugins.module_utils.registry.registry_prune import prune, superfluous
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "10.1.0.5:5000"
OLD, OLDER, NEW = "0" * 12, "1" * 12, "2" * 12
TOP = "gpustead/debian12_base_top"


def digest(letter: str) -> str:
    return f"sha256:{letter * 64}"


# The plan


@dataclass
class Case:
    """Tags and what they stand for, what each manifest lists, what is kept, and what goes: letters are digests."""

    tags: dict[str, str]
    kept: set[str] = field(default_factory=set)
    gone: list[tuple[str, list[str]]] = field(default_factory=list)
    below: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    made: dict[str, str] | None = None  # the key that each image was made under; by default that of its tags


def tag(name: str) -> str:
    return f"r:{name}"


def by_digest(letter: str) -> str:
    return f"r@{digest(letter)}"


PLANS = {
    "all are kept by tag": Case({NEW: "a"}, {tag(NEW)}),
    "one is kept by its digest": Case({OLD: "a"}, {by_digest("a")}),
    "a key that nobody keeps": Case({NEW: "a", OLD: "b"}, {tag(NEW)}, [("b", [OLD])]),
    "another digest of its repository": Case({OLD: "b"}, {by_digest("a")}, [("b", [OLD])]),
    "its digest in another repository": Case({OLD: "b"}, {f"other@{digest('b')}"}, [("b", [OLD])]),
    "one of its keys is kept": Case({NEW: "b", OLD: "b"}, {tag(NEW)}),
    "somebody's own tag": Case({"mine": "a", "0123": "b", "A" * 12: "c"}),
    "it shares the manifest": Case({"mine": "b", OLD: "b"}),
    "somebody's own tag that looks like a key": Case({OLD: "b", OLDER: "c"}, made={"c": OLDER}, gone=[("c", [OLDER])]),
    "somebody's own beside its key": Case({OLD: "b", OLDER: "b"}, made={"b": OLD}),
    "an image that somebody made of ours": Case({OLD: "b"}, made={"b": NEW}),
    "the same key of another repository": Case({OLD: "b"}, {f"other:{OLD}"}, [("b", [OLD])]),
    "an index goes after its parts": Case(
        {OLD: "b"}, below={"b": "cd"}, gone=[("c", []), ("d", []), ("b", [OLD])], made={"c": OLD}
    ),
    "nested indexes go from the leaves up": Case(
        {OLD: "b"}, below={"b": "c", "c": "d"}, gone=[("d", []), ("c", []), ("b", [OLD])], made={"d": OLD}
    ),
    "an index of nothing of ours": Case({OLD: "b"}, below={"b": "cd"}, made={}),
    "a part that another index lists": Case(
        {NEW: "a", OLD: "b"}, {tag(NEW)}, below={"a": "c", "b": "c"}, gone=[("b", [OLD])]
    ),
    "a part of a nested index that stays": Case(
        {NEW: "a", OLD: "b"}, {tag(NEW)}, below={"a": "e", "e": "c", "b": "c"}, gone=[("b", [OLD])]
    ),
    "a part of what is kept by its digest alone": Case(
        {OLD: "b"}, {by_digest("a")}, below={"a": "c", "b": "c"}, gone=[("b", [OLD])]
    ),
    "a part of a nested index of what is kept by its digest": Case(
        {OLD: "b"}, {by_digest("a")}, below={"a": "e", "e": "cd", "b": "cd"}, gone=[("b", [OLD])]
    ),
    "a part of somebody's own": Case({"mine": "a", OLD: "b"}, below={"a": "ec", "b": "c"}, gone=[("b", [OLD])]),
    "a part with a tag of its own": Case({"mine": "c", OLD: "b"}, below={"b": "c"}, gone=[("b", [OLD])]),
    "a part that is kept": Case({OLD: "b"}, {by_digest("c")}, below={"b": "c"}, gone=[("b", [OLD])]),
    "a part under a key that goes": Case(
        {OLDER: "c", OLD: "b"}, below={"b": "c"}, gone=[("b", [OLD]), ("c", [OLDER])], made={"b": OLD, "c": OLDER}
    ),
    "a key that nobody keeps, in an index that is kept": Case(
        {NEW: "a", OLD: "b"}, {tag(NEW)}, below={"a": "b", "b": "c"}
    ),
    "a key that nobody keeps, in one that is kept by its digest": Case({OLD: "b"}, {by_digest("a")}, below={"a": "b"}),
    "a key that nobody keeps, in another that is in one that is kept": Case(
        {NEW: "a", OLD: "b", OLDER: "c"}, {tag(NEW)}, below={"a": "b", "b": "c"}
    ),
    "what refers to one that is kept": Case(
        {OLD: "b"}, {by_digest("a")}, below={"b": "s", "s": "t"}, about={"a": "s"}, gone=[("b", [OLD])]
    ),
    "what refers to a part of one that is kept": Case(
        {NEW: "a", OLD: "b"}, {tag(NEW)}, below={"a": "c", "b": "s"}, about={"c": "s"}, gone=[("b", [OLD])]
    ),
    "what refers to one that goes": Case({OLD: "b"}, about={"b": "s"}, gone=[("b", [OLD])]),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_what_is_superfluous(name: str) -> None:
    case = PLANS[name]
    made = {letter: name for name, letter in case.tags.items()} if case.made is None else case.made
    shelf = PruneShelf(
        {name: digest(letter) for name, letter in case.tags.items()},
        {digest(letter): tuple(map(digest, parts)) for letter, parts in case.below.items()},
        {digest(letter): key + "f" * 52 for letter, key in made.items()},
        {digest(letter): tuple(map(digest, parts)) for letter, parts in case.about.items()},
    )
    found = superfluous("r", shelf, case.kept)
    assert [(removal.digest, removal.tags or []) for removal in found] == [
        (digest(letter), own) for letter, own in case.gone
    ]


# The API


@dataclass
class Shelf:
    """A registry: repository to tags, and the manifests, which stay when their tags go."""

    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    manifests: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    about: dict[str, str] | None = None  # what refers to what; None: it has no such list
    page: int = 1000
    answers: dict[str, Response] = field(default_factory=dict)  # method and path to what is answered instead
    asked: list[str] = field(default_factory=list)

    def push(self, repository: str, tag: str, name: str, *parts: str) -> None:
        """An image, or an index of parts; each image is made by us under the tag as its key."""
        self.put(name, *parts, key=tag)
        for part in parts:
            if digest(part) not in self.manifests:
                self.put(part, key=tag)
        self.tags.setdefault(repository, {})[tag] = digest(name)

    def put(self, name: str, *parts: str, key: str = "") -> None:
        kind, content = (INDEXES[0], {"manifests": [{"digest": digest(part)} for part in parts]}) if parts else (
            IMAGES[0], {"config": {"digest": f"sha256:{key.encode().hex():0<64}"}}
        )  # fmt: skip
        self.manifests[digest(name)] = kind, {"schemaVersion": 2, **content}

    def __call__(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        self.asked.append(f"{method} {path}")
        parts = urlsplit(path)
        for start, answer in self.answers.items():
            if f"{method} {path}".startswith(start):
                return answer
        if parts.path == "/v2/_catalog":
            return self.paged(sorted(self.tags), "repositories", path)
        found = re.fullmatch("/v2/(.+)/(?:tags/list|(manifests|blobs|referrers)/(.+))", parts.path)
        assert found
        repository, kind, reference = found.groups()
        if kind is None:
            return self.paged(sorted(self.tags[repository]), "tags", path)
        return {"manifests": self.manifest, "blobs": self.blob, "referrers": self.referrers}[kind](
            method, repository, reference, headers
        )

    def blob(self, method: str, repository: str, reference: str, headers: Mapping[str, str]) -> Response:
        key = bytes.fromhex(reference.partition(":")[2]).rstrip(b"\0").decode()
        return Response(200, {}, json.dumps({"config": {"Labels": {"org.gpustead.key": key + "f" * 52}}}).encode())

    def referrers(self, method: str, repository: str, reference: str, headers: Mapping[str, str]) -> Response:
        if self.about is None:
            return problem(404, "NOT_FOUND")
        names = self.about.get(reference[-1], "")
        return Response(200, {}, json.dumps({"manifests": [{"digest": digest(name)} for name in names]}).encode())

    def manifest(self, method: str, repository: str, reference: str, headers: Mapping[str, str]) -> Response:
        own = self.tags[repository]
        wanted = own.get(reference, reference)
        if wanted not in self.manifests:
            return problem(404, "MANIFEST_UNKNOWN")
        if method == "DELETE":
            del self.manifests[wanted]
            self.tags[repository] = {tag: value for tag, value in own.items() if value != wanted}
            return Response(202, {}, b"")
        kind, content = self.manifests[wanted]
        assert kind in headers["Accept"]
        return Response(200, {"docker-content-digest": wanted, "content-type": kind}, json.dumps(content).encode())

    def paged(self, names: list[str], key: str, path: str) -> Response:
        query = parse_qs(urlsplit(path).query)
        size = min(self.page, int(query["n"][0]))
        rest = [name for name in names if name > query.get("last", [""])[0]]
        more = {"link": f'<{urlsplit(path).path}?last={rest[size - 1]}&n={size}>; rel="next"'} if rest[size:] else {}
        # A registry writes null for none.
        return Response(
            200, {"content-type": "application/json", **more}, json.dumps({key: rest[:size] or None}).encode()
        )

    def prune(self, *keep: str, check: bool = False) -> tuple[list[tuple[str, str]], str]:
        found = prune(Registry(self), "gpustead", [f"{HOST}/{ref}" for ref in keep], check)
        return [(removal.repository, removal.digest) for removal in found.removed], found.refused


def problem(status: int, code: str, **headers: str) -> Response:
    body = json.dumps({"errors": [{"code": code, "message": "as it says"}]}).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


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
    shelf.push(TOP, OLD, "b", "e", "f")
    assert shelf.prune(*KEEP)[0] == [(TOP, digest(part)) for part in "efb"]
    assert not {digest(part) for part in "efb"} & shelf.manifests.keys()


def test_what_an_image_that_runs_by_its_digest_lists_stays(shelf: Shelf) -> None:
    shelf.put("8", "9")  # it has no tag any more, and lists an index
    shelf.put("9", "e", "f")
    shelf.push(TOP, OLD, "b", "e", "f")
    assert shelf.prune(*KEEP, f"{TOP}@{digest('8')}")[0] == [(TOP, digest("b"))]
    assert {digest(part) for part in "89ef"} <= shelf.manifests.keys()
    assert digest("b") not in shelf.manifests


def test_what_refers_to_an_image_that_stays_stays(shelf: Shelf) -> None:
    shelf.about = {"a": "e"}
    shelf.push(TOP, OLD, "b", "e", "f")
    assert shelf.prune(*KEEP)[0] == [(TOP, digest(part)) for part in "fb"]
    assert digest("e") in shelf.manifests


def test_a_tag_of_somebodys_own_that_looks_like_a_key_stays(shelf: Shelf) -> None:
    shelf.tags[TOP]["deadbeef1234"] = digest("c")
    assert shelf.prune(*KEEP) == ([(TOP, digest("b"))], "")
    assert shelf.tags[TOP]["deadbeef1234"] == digest("c")


HTML = Response(200, {"content-type": "text/html"}, b"<p>")


def manifest(content: Any, kind: str = INDEXES[0]) -> Response:
    return Response(200, {"docker-content-digest": digest("7"), "content-type": kind}, json.dumps(content).encode())


UNREAD = [
    (f"manifests/{OLD}", problem(500, "UNKNOWN"), rf"{TOP}:{OLD} is not to be had: status 500, UNKNOWN"),
    (f"manifests/{OLD}", HTML, rf"{TOP}:{OLD} is no JSON object"),
    (f"manifests/{OLD}", Response(200, {}, b"[" * 200000), rf"{TOP}:{OLD} is no JSON object"),
    (f"manifests/{NEW}", manifest({}, "application/x"), rf"{TOP}:{NEW} is of the kind 'application/x'"),
    ("manifests/mine", manifest({"manifests": "a"}), rf"{TOP}:mine lists no manifests"),
    ("manifests/mine", manifest({"manifests": [{}]}), rf"{TOP}:mine has 'None' for a digest"),
    ("manifests/mine", manifest({"manifests": ["a"]}), rf"{TOP}:mine has 'None' for a digest"),
    ("manifests/mine", manifest({"manifests": [{"digest": "../x"}]}), rf"{TOP}:mine has '../x' for a digest"),
    ("manifests/mine", manifest({"config": []}, IMAGES[0]), rf"{TOP}:mine has 'None' for a digest"),
    (f"manifests/{digest('e')}", problem(403, "DENIED"), rf"{TOP}@{digest('e')} is not to be had: status 403"),
    ("blobs/", problem(404, "BLOB_UNKNOWN"), rf"the configuration {TOP}@sha256:\w+ is not to be had: status 404"),
    (
        "blobs/",
        Response(307, {"location": "https://other"}, b""),
        r"the configuration \S+ is not to be had: status 307",
    ),
    ("referrers/", problem(500, "UNKNOWN"), rf"the list of what refers to {TOP}@\S+ is not to be had: status 500"),
    ("referrers/", manifest([]), r"the list of what refers to \S+ is no JSON object"),
]


@pytest.mark.parametrize(("where", "answer", "words"), UNREAD)
def test_a_repository_of_which_something_cannot_be_read_keeps_all(
    shelf: Shelf, where: str, answer: Response, words: str
) -> None:
    other = "gpustead/debian12_other"
    shelf.push(other, OLD, "6")
    shelf.push(TOP, OLD, "b", "e")
    shelf.answers[f"GET /v2/{TOP}/{where}"] = answer
    before = dict(shelf.tags[TOP])
    found = prune(Registry(shelf), "gpustead", [f"{HOST}/{ref}" for ref in KEEP], False)
    (said,) = found.unread
    assert re.match(f"{TOP} keeps all that it has, since {words}", said)
    # The others go on.
    assert [(removal.repository, removal.digest) for removal in found.removed] == [(other, digest("6"))]
    assert shelf.tags[TOP] == before
    assert {digest(part) for part in "abce"} <= shelf.manifests.keys()


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
def test_a_registry_that_does_not_delete_is_no_error(shelf: Shelf, where: str, answer: Response, words: str) -> None:
    shelf.answers[where] = answer
    removed, refused = shelf.prune(*KEEP)
    assert (removed, refused[: len(words)]) == ([], words)


PROBLEMS = [
    ("GET /v2/_catalog", problem(401, "UNAUTHORIZED", www_authenticate="Basic realm=x"), "status 401, UNAUTHORIZED"),
    (f"DELETE /v2/{TOP}", problem(500, "UNKNOWN"), rf"answers DELETE /v2/{TOP}/manifests/sha256:b+ with status 500"),
    ("GET /v2/_catalog", Response(200, {"content-type": "text/html; x"}, b"<p>"), "with text/html: expected a JSON"),
    ("GET /v2/_catalog", Response(302, {"location": "https://other"}, b""), "with status 302"),
]


@pytest.mark.parametrize(("where", "answer", "words"), PROBLEMS)
def test_what_is_not_expected_is_an_error(shelf: Shelf, where: str, answer: Response, words: str) -> None:
    shelf.answers[where] = answer
    with pytest.raises(GpusteadError, match=words):
        shelf.prune(*KEEP)


LINK = {"link": '</v2/_catalog?n=100&last=z>; rel="next"'}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Response(200, LINK, b'{"repositories": ["other/a"]}'), "/v2/_catalog has no end"),
        *(
            (Response(200, {}, json.dumps({"repositories": names}).encode()), "has something else among its names")
            for names in (
                *(
                    ["gpustead/../other"],
                    ["gpustead/a b"],
                    ["gpustead/\xfc"],
                    ["gpustead/x\r\nHost: y"],
                    [None],
                    ["_" * 99 + "!"],
                ),
                *({"gpustead/a": 1}, "gpustead/a", 1, [["gpustead/a"]]),
            )
        ),
    ],
)
def test_a_registry_that_lists_what_is_no_name_deletes_nothing(answer: Response, words: str) -> None:
    """Whoever answers there would choose what is asked for with our password, or hold the run up for ever."""
    asked: list[str] = []

    def ask(method: str, path: str, _headers: Mapping[str, str]) -> Response:
        asked.append(f"{method} {path}")
        return answer

    found = prune(Registry(ask), "gpustead", ["h/gpustead/a:x"], check=False)
    assert (found.removed, len(found.refused) < 200) == ([], True)
    assert words in found.refused
    assert len(asked) < 2000 and {one.split("?")[0] for one in asked} == {"GET /v2/_catalog"}


@pytest.mark.parametrize(
    "link", ["<http://[x>; rel=next", "<//evil/v2/>; rel=next", "</v2/\xfc>; rel=next", "<>; rel=next"]
)
def test_a_following_page_that_is_no_path_of_the_registry_is_none(link: str) -> None:
    asked: list[str] = []

    def ask(_method: str, path: str, _headers: Mapping[str, str]) -> Response:
        asked.append(path)
        return Response(200, {"link": link}, b'{"tags": ["x"]}')

    assert Registry(ask).tags("a") == ["x"]
    assert asked == ["/v2/a/tags/list?n=100"]


ODD: list[Any] = [
    *(None, 0, True, "", digest("a"), OLD, "gpustead/a", [], {}, [digest("a")], [OLD, None], [["x"]], "9" * 5000),
    *(
        [{"digest": digest("b")}],
        {"digest": digest("b")},
        {"config": {"Labels": {"org.gpustead.key": OLD}}},
        {"Labels": 1},
    ),
]


def test_whatever_a_registry_answers_is_understood_or_the_error() -> None:
    keys = ["repositories", "tags", "manifests", "config", "mediaType", "errors"]
    bodies = [b"", b"[", b"[]", b"\xff", b"[" * 100_000, b"1" * 5000, b'{"tags": ' + b"1" * 5000 + b"}"]
    for seed in range(400):
        odd = random.Random(seed)

        def ask(_method: str, _path: str, _headers: Mapping[str, str], odd: random.Random = odd) -> Response:
            document = {key: odd.choice(ODD) for key in keys if odd.random() < 0.7}
            document |= {"repositories": ["gpustead/a"]} if odd.random() < 0.6 else {}
            document |= {"tags": [OLD, OLDER]} if odd.random() < 0.6 else {}
            document |= {"mediaType": odd.choice([*INDEXES, *IMAGES])} if odd.random() < 0.6 else {}
            body = json.dumps(document).encode() if odd.random() < 0.9 else odd.choice(bodies)
            headers = {"docker-content-digest": odd.choice([digest("a"), digest("b"), "x"])}
            return Response(odd.choice([200] * 8 + [401, 403, 404, 500]), headers, body)

        with contextlib.suppress(GpusteadError):
            prune(Registry(ask), "gpustead", [f"h/gpustead/a:{NEW}"], check=False)


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
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b" " * 65536)
            return
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


def test_an_answer_without_end_is_an_error(server: str, tmp_path: Path) -> None:
    ask = asker(server, [str(tmp_path / "ca.crt")], AUTH, 10)
    with pytest.raises(GpusteadError, match=rf"answers /endless with more than {MOST >> 20} MiB"):
        ask("GET", "/endless", {})


def test_a_certificate_that_nobody_trusts_gets_no_login(server: str) -> None:
    with pytest.raises(GpusteadError, match=r"does not answer: .*certificate verify failed"):
        asker(server, [], AUTH, 10)("GET", "/v2/", {})


def test_a_silent_registry_is_an_error() -> None:
    with pytest.raises(GpusteadError, match=r"the registry 127\.0\.0\.1:9 does not answer: .*refused"):
        asker("127.0.0.1:9", [], AUTH, 1)("GET", "/v2/", {})
