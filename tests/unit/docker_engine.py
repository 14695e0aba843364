"""A socket that answers as Docker does."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SILENT = object()  # in the place of a document: the question is taken, and never answered


@contextmanager
def engine(path: Path, answers: Mapping[str, Any]) -> Iterator[None]:
    """Answer at `path` with the documents in `answers`, by the path that is asked for; the test may change them."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                asked = link.recv(65536).split(b" ")[1].decode()
                if answers.get(asked) is SILENT:
                    held.append(link)
                    continue
                with link:
                    found = asked in answers
                    text = json.dumps(answers[asked] if found else {"message": "no such thing"})
                    link.sendall(f"HTTP/1.0 {'200 OK' if found else '404 Not Found'}\r\nA: b\r\n\r\n{text}".encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        for link in held:
            link.close()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
