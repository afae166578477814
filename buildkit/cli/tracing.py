"""Traces of sessions, where OpenTelemetry's variables name a collector; otherwise nothing for them is imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.events import Emit, Event

if TYPE_CHECKING:
    from buildkit.tasks.trace_recorder import TraceRecorder

_COLLECTOR = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def show_event(event: Event) -> None:
    """Show an event where no view is open."""
    from buildkit.report.view import open_view

    with open_view(sys.stderr) as emit:
        emit(event)


@contextmanager
def traced(
    folder: Path, session: str, stages: Sequence[str], emit: Emit = show_event
) -> Iterator[TraceRecorder | None]:
    """Yield a recorder of the block if it is traced, None if not; what it recorded is sent at the end."""
    if not any(os.environ.get(name) for name in _COLLECTOR):
        yield None
        return
    from buildkit.build.traced_build import traced_session  # most sessions are not traced

    with traced_session(folder, session, stages, emit) as recorder:
        yield recorder
