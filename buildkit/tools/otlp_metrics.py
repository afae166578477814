"""Sends metrics to a collector by OTLP/HTTP, with OpenTelemetry's SDK (extra ``tracing``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

import buildkit
from buildkit.monitor.otel_names import OtelMetric
from buildkit.tools.otlp import LastLine
from buildkit.tools.traces import TraceSettings

_UNKNOWN = 0  # when a counter began: the specification's word for that


class MetricSender:
    """Sends to one collector; headers, certificates and compression are set by OpenTelemetry's own variables."""

    def __init__(self, settings: TraceSettings, resource: Mapping[str, str]) -> None:
        """Open the sender. Raises OSError, ValueError or RuntimeError for a variable that the SDK does not take."""
        asked = OTELResourceDetector().detect().attributes  # what the user's variables say comes first
        self._resource = Resource.create({**resource, **asked})
        self._log = LastLine()
        self._exporter = OTLPMetricExporter(settings.endpoint, timeout=settings.seconds)

    def send(self, metrics: Iterable[OtelMetric], time: float) -> str:
        """Send metrics of a time (seconds since 1970); return why they did not arrive, or an empty text."""
        scope = ScopeMetrics(
            scope=InstrumentationScope("xoe-monitor", buildkit.__version__),
            metrics=[_convert(one, round(time * 1e9)) for one in metrics],
            schema_url="",
        )
        data = MetricsData([ResourceMetrics(resource=self._resource, scope_metrics=[scope], schema_url="")])
        return "" if self._exporter.export(data) is MetricExportResult.SUCCESS else self._log.reason()

    def close(self) -> None:
        """End what is being sent."""
        self._exporter.shutdown()


def _convert(one: OtelMetric, at: int) -> Metric:
    points = [NumberDataPoint(dict(labels), _UNKNOWN, at, value) for labels, value in one.points]
    if one.kind == "gauge":
        return Metric(one.name, one.text, one.unit, Gauge(points))
    total = Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=one.kind == "counter")
    return Metric(one.name, one.text, one.unit, total)
