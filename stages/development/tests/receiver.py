"""A collector of traces on loopback, which takes OTLP over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(slots=True, kw_only=True)
class Receiver:
    """What has come. While `held` is not set, nothing is answered; `arrived` is set by the first request."""

    port: int
    status: int = 200
    held: threading.Event = field(default_factory=threading.Event)
    arrived: threading.Event = field(default_factory=threading.Event)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> dict[str, Span]:
        found = (s for r in self.requests for x in r.resource_spans for y in x.scope_spans for s in y.spans)
        return {span.name: span for span in found}

    @property
    def resource(self) -> dict[str, Any]:
        return read_attributes(self.requests[-1].resource_spans[0].resource)


def read_attributes(of: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in of.attributes}


@contextmanager
def receiving(status: int = 200, *, answers: bool = True) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.headers.append({**dict(self.headers.items()), "path": self.path})
            receiver.requests.append(ExportTraceServiceRequest.FromString(body))
            receiver.arrived.set()
            receiver.held.wait(30)
            self.send_response(receiver.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(port=server.server_address[1], status=status)
        if answers:
            receiver.held.set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield receiver
        finally:
            receiver.held.set()
            server.shutdown()
            thread.join()
