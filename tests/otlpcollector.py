"""A collector of traces and metrics on loopback: takes OTLP over HTTP, decoded by OpenTelemetry's definitions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(slots=True, kw_only=True)
class OtlpCollector:
    """``status`` is answered after ``delay`` seconds; ``requests`` are traces that came, ``exports`` metrics."""

    port: int = 0
    status: int = 200
    delay: float = 0.0
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)
    exports: list[ExportMetricsServiceRequest] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Span]:
        return [s for r in self.requests for x in r.resource_spans for y in x.scope_spans for s in y.spans]

    @property
    def metrics(self) -> dict[str, Metric]:
        """Those of the last export, by name."""
        last = self.exports[-1].resource_metrics
        return {metric.name: metric for one in last for scope in one.scope_metrics for metric in scope.metrics}

    @property
    def resource(self) -> dict[str, Any]:
        return attributes(self.requests[-1].resource_spans[0].resource.attributes)


def attributes(pairs: Iterator[KeyValue] | Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def serve_collector(**settings: Any) -> Iterator[OtlpCollector]:
    """Run a collector for the length of the block."""
    collector = OtlpCollector(**settings)
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/x-protobuf"
            if self.path == "/v1/metrics":
                collector.exports.append(ExportMetricsServiceRequest.FromString(body))
            else:
                assert self.path == "/v1/traces"
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
            collector.headers.append(dict(self.headers.items()))
            ended.wait(collector.delay)
            self.send_response(collector.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            ended.set()
            server.shutdown()
            thread.join()
