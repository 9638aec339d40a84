"""A server on this machine that does what servers do wrong."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves its content; `behaviour` and `cut_at` say how."""

    daemon_threads = True
    behaviour = "good"

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.cut_at = len(content)
        self.ranges: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/net-{SHA256[:8]}.pth"
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        content = self.server.content
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        behaviour = self.server.behaviour
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour == "moved" and not self.path.startswith("/moved"):
            self.send_response(301)
            self.send_header("Location", f"/moved{self.path}")
            self.end_headers()
            return
        if behaviour == "silent":
            self.server.released.wait(10)
            return
        if wanted and start >= len(content):
            self.send_error(416)
            return
        if wanted and behaviour != "no ranges":
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            start = 0
            self.send_response(200)
        if behaviour != "no length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start : self.server.cut_at])
        if behaviour == "stalls":
            self.wfile.flush()
            self.server.released.wait(10)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, content: bytes = CONTENT) -> Iterator[Server]:
    """A server of `content` on this machine, which no proxy stands before."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
