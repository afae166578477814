"""What the monitor serves beside its metrics: the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from buildkit.monitor.exporter import Route
from buildkit.monitor.page.feed import PageFeed
from buildkit.monitor.page.handlers import make_routes
from buildkit.monitor.page.pump import pumping
from buildkit.monitor.state import MonitorState


@contextmanager
def open_routes(state: Callable[[], MonitorState]) -> Iterator[Mapping[str, Route]]:
    """Yield the routes by path; ``state`` returns figures that are at most half a second old."""
    feed = PageFeed()
    with pumping(feed, lambda: state().document):
        yield make_routes(feed)
