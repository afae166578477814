"""A page of metrics on loopback, whose series a test sets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True, kw_only=True)
class SeriesPage:
    """What is answered, and how often it was asked for."""

    address: str
    series: dict[str, float] = field(default_factory=dict)
    status: int = 200
    asked: int = 0


@contextmanager
def serving(address: str = "127.0.0.1") -> Iterator[SeriesPage]:
    """Serve a page for the length of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page.asked += 1
            body = "".join(f"{name} {value}\n" for name, value in page.series.items()).encode()
            self.send_response(page.status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((address, 0), Handler)
    page = SeriesPage(address=f"{address}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield page
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
