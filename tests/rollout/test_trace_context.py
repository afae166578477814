"""The proxy passes a trace on: what a service gets is what the caller sent."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from buildkit.rollout.haproxy import render_haproxy
from buildkit.rollout.proxied import ProxiedService, ProxyPool, ProxyServer
from tests.ports import take_port
from tests.rollout.proxies import running

pytestmark = pytest.mark.tools
CONTEXT = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1,other=2",
    "baggage": "tenant=blue",
}


def test_haproxy_passes_the_context_of_a_trace() -> None:
    class Replica(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name: self.headers.get(name) for name in CONTEXT})
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    seen: list[dict[str, str | None]] = []
    listen = take_port()
    with ThreadingHTTPServer(("127.0.0.1", 0), Replica) as server:
        pool = ProxyPool(name="only", servers=(ProxyServer(name="a", address="127.0.0.1", port=server.server_port),))
        folder = tempfile.mkdtemp(prefix="bk-")
        service = ProxiedService(
            name="app", listen="", pools=(pool,), by="header:X-User", salt="app", probe="", socket=f"{folder}/s"
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            with running("haproxy", render_haproxy(replace(service, listen=f"127.0.0.1:{listen}")), listen):
                connection = HTTPConnection("127.0.0.1", listen, timeout=60)
                connection.request("GET", "/", headers=CONTEXT)
                assert connection.getresponse().status == 200
                connection.close()
        finally:
            server.shutdown()
            thread.join()
            for path in Path(folder).iterdir():
                path.unlink()
            Path(folder).rmdir()
    assert seen == [CONTEXT]
