"""Send a monitor's metrics to a collector of OpenTelemetry, again and again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from buildkit.errors import DefinitionError
from buildkit.inspection.live_monitor import LiveMonitor
from buildkit.monitor.otel_names import otel_metrics
from buildkit.tools.otlp_metrics import MetricSender
from buildkit.tools.traces import clean_text, find_metric_interval, load_metric_settings

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@contextmanager
def open_push(monitor: LiveMonitor, env: Mapping[str, str]) -> Iterator[None]:
    """Send until the block ends. Raises DefinitionError if the environment names no collector, or one wrongly.

    A collector that is down is reported once and counted; what it missed is not sent later, for counters hold it.
    """
    settings = load_metric_settings(env)
    if settings is None:
        raise DefinitionError("--push needs a collector", hint=f"{_ENDPOINT}=http://localhost:4318")
    every = find_metric_interval(env)
    try:
        sender = MetricSender(settings, {"service.name": "xoe-monitor"})
    except (OSError, ValueError, RuntimeError) as error:
        raise DefinitionError(f"metrics cannot be sent: {clean_text(str(error))}") from error
    ended = threading.Event()

    def go_on() -> None:
        failed = ""
        while not ended.wait(every):
            why = _push(monitor, sender)
            if why and why != failed and not ended.is_set():
                sys.stderr.write(f"warning: metrics do not reach {settings.host}: {why}\n")
                sys.stderr.flush()
            failed = why

    thread = threading.Thread(target=go_on, name="push", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        sender.close()
        thread.join(settings.seconds)


def _push(monitor: LiveMonitor, sender: MetricSender) -> str:
    state = monitor.state()
    why = sender.send(otel_metrics(state.families), state.time)
    monitor.errors["otlp"] += bool(why)
    return why
