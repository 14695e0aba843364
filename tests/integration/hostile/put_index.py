"""Puts an index of manifests into a registry by digest, without a tag: put_index.py <registry> <repository> <digest>...

Run on a host that has logged in to the registry; prints the digest of the index.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
import urllib.request
from pathlib import Path

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


def main(registry: str, repository: str, *digests: str) -> None:
    auth = json.loads(Path("/root/.docker/config.json").read_text())["auths"][registry]["auth"]
    context = ssl.create_default_context(cafile=f"/etc/docker/certs.d/{registry}/ca.crt")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def ask(method: str, reference: str, kind: str, data: bytes | None = None) -> bytes:
        url = f"https://{registry}/v2/{repository}/manifests/{reference}"
        headers = {"Authorization": f"Basic {auth}", "Accept": kind, "Content-Type": kind}
        answer: bytes = opener.open(urllib.request.Request(url, data, headers, method=method)).read()
        return answer

    platform = {"architecture": "amd64", "os": "linux"}
    listed = [
        {"mediaType": MANIFEST, "digest": digest, "size": len(ask("GET", digest, MANIFEST)), "platform": platform}
        for digest in digests
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    ask("PUT", digest, INDEX, body)
    print(digest)


if __name__ == "__main__":
    main(*sys.argv[1:])
