"""A local HTTP server of files that misbehaves as asked for."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server does with a file; `requests` lists the method and range of each request."""

    content: bytes
    break_after: int | None = None
    """Close the connection after so many bytes of an answer."""
    breaks: int = 10**9
    """How many answers are broken off."""
    announce: int | None = None
    """Tell this length in place of the true one."""
    etag: str | None = None
    """By default the SHA-256."""
    ranges: bool = True
    """Whether parts can be asked for."""
    status: int = 200
    fails: int = 0
    """So many requests are answered with 503 first."""
    redirect: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, body: bool) -> None:
        self.close_connection = True
        served: Served | None = self.server.files.get(self.path)
        if served is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range", "")
        served.requests.append((self.command, wanted))
        etag = hashlib.sha256(served.content).hexdigest() if served.etag is None else served.etag
        if served.status != 200 or served.fails:
            status = 503 if served.fails else served.status
            served.fails = max(served.fails - 1, 0)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if served.redirect:
            self.send_response(302)
            self.send_header("Location", served.redirect)
            self.send_header("X-Linked-Size", str(len(served.content)))
            self.send_header("X-Linked-Etag", f'"{etag}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and served.ranges else 0
        content = served.content[start:]
        if start and not content:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        length = len(content) if served.announce is None else served.announce - start
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if not body:
            return
        if served.break_after is not None and served.breaks > 0:
            served.breaks -= 1
            content = content[: served.break_after]
        self.wfile.write(content)


@contextmanager
def serve(files: dict[str, Served]):
    """Serve files by path; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.files = files
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
