"""Choose the view for an output: live on a terminal, plain lines otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from buildkit.events import Emit, Event
from buildkit.report.plain import PlainView

if TYPE_CHECKING:
    from buildkit.report.live import LiveView


@contextmanager
def open_view(out: TextIO) -> Iterator[Emit]:
    """Yield a listener for the events of a build.

    The live view is imported and drawn with the first event, so that a build without work stays fast.
    """
    if not out.isatty():
        yield PlainView(out)
        return
    view = _LazyView(out)
    try:
        yield view
    finally:
        view.close()


class _LazyView:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._view: LiveView | None = None

    def __call__(self, event: Event) -> None:
        with self._lock:  # the first events of a build come from several threads at once
            view = self._view = self._view or _open_live(self._out)
        view(event)

    def close(self) -> None:
        if self._view is not None:
            self._view.close()


def _open_live(out: TextIO) -> LiveView:
    from buildkit.report.live import LiveView

    return LiveView(out)
