"""A fake advisory service of the OSV format on loopback, so that tests do not depend on the real one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Advisories:
    """What the service knows: advisory ids by (name, version); ``asked`` collects what it was asked."""

    known: Mapping[tuple[str, str], list[str]]
    broken: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


def advisory(name: str) -> dict[str, Any]:
    """One as OSV writes it."""
    return {
        "id": name,
        "modified": "2024-01-01T00:00:00Z",
        "published": "2023-01-01T00:00:00Z",
        "aliases": ["CVE-2019-0001"],
        "summary": "escapes\x1b[31m from the sandbox",
        "affected": [
            {
                "package": {"ecosystem": "PyPI", "name": "alpha"},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}],
            }
        ],
    }


@contextmanager
def serve_advisories(known: Mapping[tuple[str, str], list[str]], *, broken: bool = False) -> Iterator[Advisories]:
    """The service while the block runs; a ``broken`` one answers with something else."""
    service = Advisories(known=known, broken=broken)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_words: Any) -> None:
            pass

        def do_POST(self) -> None:
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            pins = [(query["package"]["name"], query["version"]) for query in queries]
            service.asked += pins
            found = [[{"id": i, "modified": "2024-01-01T00:00:00Z"} for i in known.get(pin, ())] for pin in pins]
            self.answer({"results": [{"vulns": ids} if ids else {} for ids in found]})

        def do_GET(self) -> None:
            self.answer(advisory(self.path.rpartition("/")[2]))

        def answer(self, value: dict[str, Any]) -> None:
            data = b"<html>no such service" if service.broken else json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        service.url = f"http://127.0.0.1:{server.server_port}/"
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
