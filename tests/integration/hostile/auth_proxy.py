"""A forwarding HTTP proxy that asks for a password (basic authentication), as a site may have one."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_WAIT = 60  # seconds for a server outside
_CHUNK = 1 << 16


class AuthProxy(ThreadingHTTPServer):
    """Lets through who has the password, and counts what it let through and what it refused, by host.

    Args:
        address: the address to listen on; the port is chosen by the system.
        user, password: what it asks for.
    """

    daemon_threads = True

    def __init__(self, address: str, user: str, password: str) -> None:
        super().__init__((address, 0), _Handler)
        self.expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.passed: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    @property
    def place(self) -> str:
        """Address and port."""
        return f"{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: AuthProxy

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: pytest shows what the counts are."""

    def _allowed(self, host: str) -> bool:
        if self.headers.get("Proxy-Authorization") == self.server.expected:
            self.server.passed[host] += 1
            return True
        self.server.refused[host] += 1
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="site"')
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        return False

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        if not self._allowed(host):
            return
        try:
            remote = socket.create_connection((host, int(port)), timeout=_WAIT)
        except OSError:
            self.send_error(502)
            return
        self.send_response(200)
        self.end_headers()
        _both_ways(self.connection, remote)
        self.close_connection = True

    def do_GET(self) -> None:
        self.close_connection = True
        parts = urlsplit(self.path)
        host = parts.hostname or ""
        if not self._allowed(host):
            return
        try:
            remote = socket.create_connection((host, parts.port or 80), timeout=_WAIT)
        except OSError:
            self.send_error(502)
            return
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        kept = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        kept["Connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in kept.items())
        remote.sendall(f"{self.command} {path} HTTP/1.1\r\n{head}\r\n".encode())
        _both_ways(self.connection, remote)

    do_HEAD = do_GET


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    """Hands on what either sends until one of them has ended."""
    with other:
        ends = {one: other, other: one}
        while True:
            ready, _, _ = select.select(list(ends), [], [], _WAIT)
            if not ready:
                return
            for end in ready:
                try:
                    data = end.recv(_CHUNK)
                    if not data:
                        return
                    ends[end].sendall(data)
                except OSError:
                    return


@contextlib.contextmanager
def auth_proxy(address: str, user: str, password: str) -> Iterator[AuthProxy]:
    """A proxy that runs as long as the block."""
    proxy = AuthProxy(address, user, password)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
