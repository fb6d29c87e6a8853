"""A loopback HTTP server that publishes one file, well or badly."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECE = 1 << 14


@dataclass
class Published:
    """What the server has, and how it behaves."""

    content: bytes
    etag: str | None = '"first"'
    date: str | None = None
    has_ranges: bool = True
    has_length: bool = True
    content_type: str = "application/octet-stream"
    content_range: str | None = None
    """Instead of what belongs there."""
    statuses: list[int] = field(default_factory=list)
    """Of the first requests; 200 or 206 afterwards."""
    redirects: list[str] = field(default_factory=list)
    """Where the first requests are sent."""
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the first responses end, too early."""
    stalls: list[int] = field(default_factory=list)
    """Bytes after which the first responses fall silent."""
    seconds: float = 0.0
    """Pause between pieces."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """Headers of each request by lower-case name; `path` is what was asked for."""
    url: str = ""
    is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def sha256(self) -> str:
        return sha256(self.content).hexdigest()

    @property
    def ranges(self) -> list[str | None]:
        """What range each request asked for."""
        return [request.get("range") for request in self.requests]


@contextmanager
def serving(published: Published) -> Iterator[Published]:
    """Serve it at `published.url` for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, published)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    published.url = f"http://127.0.0.1:{server.server_port}/weights/model.pth"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield published
    finally:
        published.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, published: Published) -> None:
    """Answer a request as the file's publisher behaves."""
    headers = {name.lower(): value for name, value in handler.headers.items()}
    published.requests.append({"path": handler.path, **headers})
    if published.redirects:
        handler.send_response(302)
        handler.send_header("Location", published.redirects.pop(0))
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    elif published.statuses:
        handler.send_error(published.statuses.pop(0))
    else:
        begin = _begin(handler, published)
        if begin is not None:
            _send(handler, published, published.content[begin:])


def _begin(handler: BaseHTTPRequestHandler, published: Published) -> int | None:
    """Send the head of a response; return where its bytes begin, None where it has none."""
    size = len(published.content)
    asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    is_same = condition in (None, published.etag, published.date)
    begin = int(asked[6:-1]) if asked and published.has_ranges and is_same else 0
    if begin >= size:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{size}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return None
    handler.send_response(206 if begin else 200)
    headers = {
        "Content-Type": published.content_type,
        "Content-Length": str(size - begin) if published.has_length else None,
        "Content-Range": f"bytes {begin}-{size - 1}/{size}" if begin else None,
        "ETag": published.etag,
        "Last-Modified": published.date,
    }
    if begin and published.content_range is not None:
        headers["Content-Range"] = published.content_range
    for name, value in headers.items():
        if value is not None:
            handler.send_header(name, value)
    handler.end_headers()
    return begin


def _send(handler: BaseHTTPRequestHandler, published: Published, content: bytes) -> None:
    """Send the body of a response, or what of it is to come."""
    cut = published.cuts.pop(0) if published.cuts else len(content)
    stall = published.stalls.pop(0) if published.stalls else None
    content = content[: cut if stall is None else stall]
    try:
        for start in range(0, len(content), PIECE):
            handler.wfile.write(content[start : start + PIECE])
            time.sleep(published.seconds)
        if stall is not None:
            published.is_over.wait(10)
    except OSError:  # the other side is gone
        pass
