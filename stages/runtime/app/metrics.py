"""What Prometheus is told, and the middleware that counts every request."""

from __future__ import annotations

import time

import prometheus_client
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = CONTENT_TYPE_LATEST
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NO_ROUTE = "unmatched"  # one label for every path that does not exist: a scanner must not grow the series
NO_ANSWER = 499

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # time stamps that nobody reads


class Metrics:
    """The service's series, in a registry of their own, so that two apps in a process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        labels = ("route", "method", "status")
        own = self.registry
        self.requests = Counter("speech_http_requests_total", "Requests answered.", labels, registry=own)
        self.latency = Histogram(
            "speech_http_request_seconds", "Time from headers to answer.", labels, buckets=BUCKETS, registry=own
        )
        self.in_flight = Gauge("speech_http_requests_in_flight", "Requests being answered.", registry=own)
        self.problems = Counter("speech_problems_total", "Requests refused, by problem code.", ("code",), registry=own)
        self.audio = Counter("speech_audio_seconds_total", "Audio analysed, in seconds.", registry=own)
        self.speech = Counter("speech_detected_seconds_total", "Speech found, in seconds.", registry=own)
        self.lookups = Counter("speech_cache_lookups_total", "Results looked up.", ("outcome",), registry=own)
        self.rows = Counter("speech_journal_rows_total", "Rows of the journal.", ("outcome",), registry=own)
        self.inside = Gauge("speech_requests_admitted", "Requests at work, uploading or waiting.", registry=own)
        self.waiting = Gauge("speech_requests_waiting", "Requests that wait for a worker.", registry=own)
        self.workers = Gauge("speech_workers", "Requests that are worked on at a time.", registry=own)
        self.ready = Gauge("speech_ready", "Whether the model is loaded and has answered.", registry=own)
        self.model = Gauge("speech_model_info", "The loaded model.", ("name", "sha256"), registry=own)

    def render(self) -> bytes:
        """Return all series in Prometheus' text format."""
        return generate_latest(self.registry)


class Counted:
    """ASGI middleware: counts and times requests by route, method and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: frozenset[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it when it is answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = NO_ANSWER

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begun = time.perf_counter()
        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, watched)
            except Exception:
                status = 500  # answered further out
                raise
            finally:
                route = scope["path"] if scope["path"] in self._routes else NO_ROUTE
                method = scope["method"] if scope["method"] in METHODS else "OTHER"
                self._metrics.requests.labels(route, method, status).inc()
                self._metrics.latency.labels(route, method, status).observe(time.perf_counter() - begun)
