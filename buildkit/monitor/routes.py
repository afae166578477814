"""What the monitor serves beside its metrics: the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from buildkit.monitor.exporter import Route
from buildkit.monitor.state import MonitorState


@contextmanager
def open_routes(_state: Callable[[], MonitorState]) -> Iterator[Mapping[str, Route]]:
    """Yield the routes by path; ``state`` returns figures that are at most half a second old."""
    yield {}
