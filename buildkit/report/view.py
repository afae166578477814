"""Which view suits an output: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from buildkit.events import Event, Say
from buildkit.report.plain import PlainView


@contextmanager
def open_view(out: TextIO) -> Iterator[Say]:
    """A listener for a build's events.

    The live view is imported and drawn with the first event, for a build that does nothing must cost nothing.
    """
    if not out.isatty():
        yield PlainView(out)
        return
    view = _Lazy(out)
    try:
        yield view
    finally:
        view.close()


class _Lazy:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._view: object | None = None

    def __call__(self, event: Event) -> None:
        from buildkit.report.live import LiveView

        if self._view is None:
            self._view = LiveView(self._out)
        assert isinstance(self._view, LiveView)  # noqa: S101 - set above
        self._view(event)

    def close(self) -> None:
        if self._view is not None:
            self._view.close()  # type: ignore[attr-defined]
