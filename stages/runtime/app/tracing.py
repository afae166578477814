"""Traces of requests, if OpenTelemetry's variables name a collector; otherwise nothing of its SDK is even imported.

Here is what the service calls, in a form that does nothing. `telemetry` has what does something.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from detector import ModelInfo
    from observation import Observation

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

log = logging.getLogger("speech")


class Untraced:
    """Traces nothing."""

    config: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}  # noqa: RUF012 - never changed

    @property
    def trace_id(self) -> str:
        """The id of the trace that the present request belongs to; empty without one."""
        return ""

    @contextmanager
    def span(self, name: str) -> Iterator[None]:  # noqa: ARG002
        """Trace the block as a part of the present request."""
        yield

    def record(self, seen: Observation, model: ModelInfo) -> None:
        """Trace what was observed of the present request."""

    def start_logging(self) -> None:
        """Have each line of the log name its trace."""

    def stop(self) -> None:
        """Send what is left; takes two seconds at most."""


def open_tracing(environ: Mapping[str, str], version: str) -> Untraced:
    """Return what traces requests as the environment asks for. A setting that cannot be used is logged: no traces."""
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if off or environ.get("OTEL_TRACES_EXPORTER") == "none" or not any(environ.get(name) for name in ENDPOINTS):
        return Untraced()
    from telemetry import Traced, TracingError, parse_tracing

    try:
        return Traced(parse_tracing(environ), version)
    except (TracingError, ValueError) as error:  # the SDK reads variables, too
        log.error("requests are not traced: %s", error)  # noqa: TRY400 - it says all
        return Untraced()
