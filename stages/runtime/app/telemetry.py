"""Requests as traces of OpenTelemetry: FastAPI's own span of each request, and within it what the service did.

The decision to record is taken once, for the whole trace: by the caller if there is one, else by chance. What is not
recorded costs the reading of a header. Spans wait in a queue of bounded length and are sent by a thread; where the
collector is slow or down, they are lost, and requests do not notice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from spans_sender import SpanCollector, SpanSender, find_setting, parse_collector
from tracing import Untraced

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from detector import ModelInfo
    from observation import Observation, Phase

NAME = "speech"
SAMPLER, SHARE = "parentbased_traceidratio", "0.1"
PROBES = frozenset({"/healthz", "/readyz", "/metrics"})  # asked every few seconds: nothing to learn from
PATIENCE = 2.0  # seconds for the last spans when the service ends


class TracingError(Exception):
    """A variable that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """Which requests are recorded, and where their spans go."""

    sampler: Sampler
    collector: SpanCollector


def parse_tracing(environ: Mapping[str, str]) -> TracingSettings:
    """Return what OpenTelemetry's variables say.

    Raises:
        TracingError: naming a variable that cannot be used.
    """
    protocol = find_setting(environ, "PROTOCOL") or "http/protobuf"
    if protocol != "http/protobuf":
        raise TracingError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; use http/protobuf, and its port (4318)")
    try:
        return TracingSettings(sampler=parse_sampler(environ), collector=parse_collector(environ))
    except ValueError as error:
        raise TracingError(str(error)) from error


def parse_sampler(environ: Mapping[str, str]) -> Sampler:
    """Return the sampler that is asked for; a tenth of the traces that begin here by default. Raises ValueError."""
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower() or SAMPLER
    text = environ.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or SHARE
    own = name.removeprefix("parentbased_")
    if own == "traceidratio":
        try:
            root: Sampler = TraceIdRatioBased(float(text))
        except ValueError:
            raise ValueError(f"OTEL_TRACES_SAMPLER_ARG is {text}, and not a share from 0 to 1") from None
    elif own in ("always_on", "always_off"):
        root = ALWAYS_ON if own == "always_on" else ALWAYS_OFF
    else:
        raise ValueError(f"OTEL_TRACES_SAMPLER is {name}; use {SAMPLER}, parentbased_always_on or always_off")
    return ParentBased(root) if name.startswith("parentbased_") else root


class Traced(Untraced):
    """Traces requests."""

    def __init__(self, settings: TracingSettings, version: str) -> None:
        asked = OTELResourceDetector().detect().attributes  # what the operator says comes first
        resource = Resource.create({"service.name": NAME, "service.version": version, **asked})
        self._provider = TracerProvider(settings.sampler, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(SpanSender(settings.collector)))
        self._tracer = self._provider.get_tracer(NAME, version)
        self.config: TelemetryConfig = {
            "tracer_provider": self._provider,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": is_probe,
        }

    @property
    def trace_id(self) -> str:
        """The id of the trace that the present request belongs to; empty without one."""
        context = trace.get_current_span().get_span_context()
        return trace.format_trace_id(context.trace_id) if context.is_valid else ""

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Trace the block as a part of the present request."""
        if not trace.get_current_span().is_recording():
            yield
            return
        with self._tracer.start_as_current_span(name):
            yield

    def record(self, seen: Observation, model: ModelInfo) -> None:
        """Trace what was observed of the present request."""
        request = trace.get_current_span()
        if not request.is_recording():
            return
        about = {"model.name": model.name, "model.version": model.version, "model.digest": f"sha256:{model.sha256}"}
        request.set_attributes(about)
        skew = time.time_ns() - time.perf_counter_ns()
        self._add("decode", seen.decode, skew, {"decode.blocks": seen.decode.calls})
        sizes = {"batch.size": seen.infer.largest, "batch.calls": seen.infer.calls}
        self._add("infer", seen.infer, skew, {**about, **sizes})

    def _add(self, name: str, phase: Phase, skew: int, about: Mapping[str, str | int]) -> None:
        """Add a span for work of the past; `skew` is what the clock of spans is ahead."""
        if phase.calls:
            attributes = {**about, "busy.seconds": phase.busy / 1e9}
            span = self._tracer.start_span(name, attributes=attributes, start_time=phase.began + skew)
            span.end(phase.ended + skew)

    def start_logging(self) -> None:
        """Have each line of the log name its trace."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._name_trace)

    def _name_trace(self, record: logging.LogRecord) -> bool:
        if trace_id := self.trace_id:
            record.msg, record.args = f"{record.getMessage()} trace_id={trace_id}", ()
        return True

    def stop(self) -> None:
        """Send what is left; takes two seconds at most."""
        sender = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sender.start()
        sender.join(PATIENCE)


def is_probe(scope: MutableMapping[str, Any]) -> bool:
    """Return whether a request is a probe's."""
    return scope.get("path") in PROBES
