"""Sends the spans of a build to a collector by OTLP/HTTP, with OpenTelemetry's SDK (extra ``tracing``).

Sampling, attributes of the resource, headers, certificates and compression are set by OpenTelemetry's own variables,
which its SDK reads.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping, Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import buildkit
from buildkit.tools.traces import SpanValue, TracedSpan, TraceSettings, clean_text

_PARENT = ("traceparent", "tracestate")  # W3C Trace Context; CI systems set them in capitals


def send_trace(
    spans: Sequence[TracedSpan], resource: Mapping[str, str], settings: TraceSettings, env: Mapping[str, str]
) -> str:
    """Send spans, parents first; return why they did not arrive, or an empty text.

    Takes no longer than the settings allow: a collector that is slower is left to a thread that nobody waits for.
    """
    log = LastLine()
    try:
        readable = _make_spans(spans, resource, env)
        exporter = OTLPSpanExporter(settings.endpoint, timeout=settings.seconds)
    except (OSError, ValueError, RuntimeError) as error:  # a variable that the SDK does not take
        return clean_text(str(error))
    if not readable:
        return ""  # not sampled
    results: list[SpanExportResult] = []
    sender = threading.Thread(target=lambda: results.append(exporter.export(readable)), name="otlp", daemon=True)
    sender.start()
    sender.join(settings.seconds)
    if not results:
        return f"no answer in {settings.seconds:g} s"
    exporter.shutdown()  # type: ignore[no-untyped-call] # of the SDK
    return "" if results[0] is SpanExportResult.SUCCESS else log.reason()


def _make_spans(
    spans: Sequence[TracedSpan], resource: Mapping[str, str], env: Mapping[str, str]
) -> Sequence[ReadableSpan]:
    asked = OTELResourceDetector().detect().attributes  # what the user's variables say comes first
    ended = _EndedSpans()
    provider = TracerProvider(resource=Resource.create({**resource, **asked}), shutdown_on_exit=False)
    provider.add_span_processor(ended)
    tracer = provider.get_tracer("xoe-buildkit", buildkit.__version__)
    carrier = {name: env[name.upper()] for name in _PARENT if name.upper() in env}
    outer = TraceContextTextMapPropagator().extract(carrier, Context())
    made: list[Span] = []
    for span in spans:
        parent = outer if span.parent is None else set_span_in_context(made[span.parent], Context())
        attributes = {name: _clean(value) for name, value in span.attributes}
        made.append(tracer.start_span(clean_text(span.name), parent, attributes=attributes, start_time=span.began))
    for span, one in zip(spans, made, strict=True):
        if span.failure is not None:
            one.set_status(Status(StatusCode.ERROR, clean_text(span.failure)))
        one.end(span.ended)
    return ended.spans


def _clean(value: SpanValue) -> SpanValue:
    return clean_text(value) if isinstance(value, str) else value


class _EndedSpans(SpanProcessor):
    """Keeps spans; unlike the SDK's processors it starts no thread, and drops none of a large build."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class LastLine(logging.Handler):
    """Takes the SDK's log: its lines, which may quote headers, are not for the terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._status = ""
        logger = logging.getLogger("opentelemetry")
        logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what a line says of an answer."""
        found = re.search(r"batch code: ([0-9]{3}),", record.getMessage())
        self._status = found[1] if found else ""

    def reason(self) -> str:
        """Return why the last export failed."""
        return f"it answered HTTP {self._status}" if self._status else "it cannot be reached, or has no time"
