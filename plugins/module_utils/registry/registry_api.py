# Copyright: gpustead developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A registry by its HTTP API: repositories, tags, manifests, and the deletion of these.

Source: https://distribution.github.io/distribution/spec/api/
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable

from ansible_collections.gpustead.cluster.plugins.module_utils.errors import GpusteadError
from ansible_collections.gpustead.cluster.plugins.module_utils.terminal import shown

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
IMAGES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
PAGE = 100  # names in one answer; registries allow so many
PAGES = 1000  # of one list
MOST = 8 << 20  # bytes of one answer; a manifest may have 4 MiB
DIGEST = re.compile("sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# What stands in the path of a question: no name leads to another repository, or is none of a URL.
_PART = "[A-Za-z0-9_][A-Za-z0-9._-]*"
_NAMES = re.compile(f"{_PART}(?:/{_PART})*")
_FOLLOWING = re.compile(r'\s*<(?:https?://[^/>]*)?(/v2/[!-=?-~]*)>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class Response:
    """What a registry answered; the names of the headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


# Asks a registry: method, path with query, headers.
Ask = Callable[[str, str, Mapping[str, str]], Response]


class Refused(Exception):
    """The registry does not offer what it was asked for. Its text says what."""


class UnreadableResponse(Exception):
    """Something in the registry cannot be read, so what it stands on is not known. Its text says what and why."""


@dataclass(frozen=True)
class Manifest:
    """A manifest.

    Attributes:
        digest: its own.
        children: of an index (several platforms, attestations, further indexes), the digests of those that it lists.
        config: of an image, the digest of its configuration; empty for an index.
    """

    digest: str
    children: Sequence[str] = ()
    config: str = ""


def login(config: str, registry: str) -> str:
    """What the Authorization header takes after `Basic`, from the text of a Docker config.json; empty without a login.

    Raises:
        GpusteadError: the file is damaged, or a helper keeps the login.
    """
    try:
        content = json.loads(config or "{}")
        auths = {re.sub("^https?://", "", name).split("/")[0]: entry for name, entry in content["auths"].items()}
        auth = (auths.get(registry) or {}).get("auth")
    except KeyError:
        return ""
    except (ValueError, AttributeError, TypeError) as error:
        raise GpusteadError(
            "Docker's config.json is damaged", "a JSON object with the logins in auths", "Remove it, and log in again."
        ) from error
    if registry in auths and not auth:
        raise GpusteadError(
            f"the login for {registry} is kept by a credential helper",
            "one that lies in Docker's config.json",
            "Take credsStore and credHelpers out of it and log in again, or set images_registry_prune to false.",
        )
    return str(auth or "")


def asker(registry: str, authorities: Sequence[str], auth: str, timeout: float) -> Ask:
    """Asks over TLS, without a proxy and without following elsewhere: the password goes to this registry alone.

    Args:
        registry: host:port.
        authorities: files with certificates that are trusted beside those of the system.
        auth: what `login` gives.
        timeout: seconds for each answer.
    """
    context = ssl.create_default_context()
    for path in authorities:
        context.load_verify_locations(path)
    credentials = {"Authorization": f"Basic {auth}"} if auth else {}

    def ask(method: str, path: str, headers: Mapping[str, str]) -> Response:
        connection = http.client.HTTPSConnection(registry, timeout=timeout, context=context)
        try:
            connection.request(method, path, headers={**headers, **credentials})
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            body = response.read(MOST + 1)
        except (OSError, http.client.HTTPException) as error:
            raise GpusteadError(
                f"the registry {registry} does not answer: {error or type(error).__name__}",
                "an answer over TLS, with a certificate that this host trusts",
                "Look at the registry and at /etc/docker/certs.d, and run again.",
            ) from error
        finally:
            connection.close()
        if len(body) > MOST:
            raise GpusteadError(
                f"the registry {registry} answers {path} with more than {MOST >> 20} MiB",
                "less",
                "Look whether something else answers at its address.",
            )
        return Response(response.status, names, body)

    return ask


class Registry:
    """The registry behind `ask`; what it says is understood or an error."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._knows_referrers = True

    def repositories(self, prefix: str) -> list[str]:
        """The repositories below a name.

        Raises:
            Refused: the registry tells nobody.
            UnreadableResponse: what it tells is no list of names.
        """
        names = self._pages("/v2/_catalog", "repositories", {403, 404, 405})
        if names is None:
            raise Refused("it does not tell which repositories it has")
        return [name for name in names if name.startswith(f"{prefix}/")]

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository; none where all were deleted.

        Raises:
            UnreadableResponse: what it tells is no list of names.
        """
        return self._pages(f"/v2/{repository}/tags/list", "tags", {404}) or []

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """What a tag or a digest stands for; None where that is nothing.

        Raises:
            UnreadableResponse: it is of a kind that is not known, damaged, or not to be had.
        """
        path = f"/v2/{repository}/manifests/{reference}"
        answer = self._request("GET", path, {"Accept": ", ".join((*INDEXES, *IMAGES))})
        if answer.status == 404:
            return None
        name = f"{repository}{'@' if DIGEST.fullmatch(reference) else ':'}{reference}"
        found = _content(name, answer)
        digest = answer.headers.get("docker-content-digest") or f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        if DIGEST.fullmatch(reference):
            digest = reference
        kind = found.get("mediaType", _kind(answer))
        if kind in INDEXES:
            return Manifest(_digest(name, digest), _listed(name, found))
        if kind not in IMAGES:
            raise UnreadableResponse(f"{name} is of the kind {kind!r}, which is not known here")
        return Manifest(_digest(name, digest), config=_digest(name, _object(found.get("config")).get("digest")))

    def referrers(self, repository: str, digest: str) -> Sequence[str]:
        """The digests of what refers to a manifest (signatures, attestations); none where the registry does not tell.

        Raises:
            UnreadableResponse: the list is damaged, or not to be had.
        """
        if not self._knows_referrers:
            return ()
        answer = self._request("GET", f"/v2/{repository}/referrers/{digest}", {"Accept": INDEXES[0]})
        if answer.status == 404:  # a registry that has the list answers with an empty one
            self._knows_referrers = False
            return ()
        name = f"the list of what refers to {repository}@{digest}"
        return _listed(name, _content(name, answer))

    def labels(self, repository: str, config: str) -> Mapping[str, str]:
        """The labels in an image's configuration.

        Raises:
            UnreadableResponse: it is damaged, or not to be had here.
        """
        name = f"the configuration {repository}@{config}"
        found = _content(name, self._request("GET", f"/v2/{repository}/blobs/{config}", {}))
        labels = _object(_object(found.get("config")).get("Labels"))
        return {key: str(value) for key, value in labels.items()}

    def delete(self, repository: str, digest: str) -> None:
        """Delete a manifest with all its tags; one that is not there is none the less deleted.

        Raises:
            Refused: the registry, or this login, does not delete.
        """
        path = f"/v2/{repository}/manifests/{digest}"
        answer = self._request("DELETE", path, {})
        if answer.status in (403, 405):
            raise Refused(f"it does not delete: {said(answer)}")
        if answer.status not in (200, 202, 204, 404):
            raise _unexpected("DELETE", path, answer)

    def _request(self, method: str, path: str, headers: Mapping[str, str]) -> Response:
        answer = self._ask(method, path, headers)
        if answer.status == 401 and answer.headers.get("www-authenticate", "").lower().startswith("bearer"):
            raise Refused("it wants a token of a server of its own, which is not asked for here")
        return answer

    def _get(self, path: str, headers: Mapping[str, str], absent: set[int]) -> Response | None:
        answer = self._request("GET", path, headers)
        if answer.status in absent:
            return None
        if answer.status != 200:
            raise _unexpected("GET", path, answer)
        return answer

    def _pages(self, path: str, key: str, absent: set[int]) -> list[str] | None:
        """The names in all pages of a list."""
        found: list[str] = []
        following = f"{path}?n={PAGE}"
        for _page in range(PAGES):
            answer = self._get(following, {}, absent)
            if answer is None:
                return None
            found += _list_of_names(path, _read(path, answer).get(key))
            link = _FOLLOWING.match(answer.headers.get("link", ""))
            if not link:
                return found
            following = link[1]
        raise UnreadableResponse(f"{path} has no end")


def _kind(answer: Response) -> str:
    return answer.headers.get("content-type", "").split(";")[0]


def _object(value: Any) -> dict[str, Any]:
    """An object of JSON; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _json(answer: Response) -> dict[str, Any] | None:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _content(name: str, answer: Response) -> dict[str, Any]:
    """The JSON object that something in the registry is."""
    found = _json(answer) if answer.status == 200 else None
    if found is None:
        why = "is no JSON object" if answer.status == 200 else f"is not to be had: {said(answer)}"
        raise UnreadableResponse(f"{name} {why}")
    return found


def _list_of_names(path: str, value: Any) -> list[str]:
    """Of repositories, or of tags; no list at all stands for an empty one."""
    names = [] if value is None else value
    if not isinstance(names, list) or not all(isinstance(one, str) and _NAMES.fullmatch(one) for one in names):
        raise UnreadableResponse(f"{path} has something else among its names")
    return names


def _digest(name: str, value: Any) -> str:
    if not isinstance(value, str) or not DIGEST.fullmatch(value):
        raise UnreadableResponse(f"{name} has {str(value)[:80]!r} for a digest")
    return value


def _listed(name: str, index: Mapping[str, Any]) -> Sequence[str]:
    """The digests in an index."""
    children = index.get("manifests") or []
    if not isinstance(children, list):
        raise UnreadableResponse(f"{name} lists no manifests")
    return tuple(_digest(name, _object(child).get("digest")) for child in children)


def _read(path: str, answer: Response) -> dict[str, Any]:
    found = _json(answer)
    if found is None:
        raise GpusteadError(
            f"the registry answers {path} with {_kind(answer) or 'something'}",
            "a JSON object",
            "Look whether something else answers at its address.",
        )
    return found


def said(answer: Response) -> str:
    """The status, and the errors in the body."""
    try:
        errors = json.loads(answer.body)["errors"]
        words = [f"{error.get('code')} {error.get('message', '')}".strip() for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        words = []
    return shown(", ".join([f"status {answer.status}", *words]))


def _unexpected(method: str, path: str, answer: Response) -> GpusteadError:
    return GpusteadError(
        f"the registry answers {method} {path} with {said(answer)}",
        "a registry that answers and takes the login of this host",
        "Look at the registry, and at the login (role registry), and run again.",
    )
