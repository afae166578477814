"""Records what a build does as spans: what ran within what, from when to when, and how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from buildkit.events import describe_failure
from buildkit.tools.traces import SpanValue, TracedSpan

SpanNotes = dict[str, SpanValue]


@dataclass(slots=True, kw_only=True)
class _OpenSpan:
    name: str
    parent: int | None
    began: int
    ended: int = 0
    notes: SpanNotes = field(default_factory=dict)
    failure: str | None = None


class TraceRecorder:
    """Collects spans of all threads. ``clock`` counts nanoseconds and never jumps; ``now`` is the time since 1970."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns, now: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._shift = now() - clock()
        self._spans: list[_OpenSpan] = []
        self._scopes: list[int] = []
        self._lock = threading.Lock()
        self._local = threading.local()

    @contextmanager
    def span(self, name: str, attributes: Mapping[str, SpanValue]) -> Iterator[SpanNotes]:
        """Record the block as a span within that of this thread, or of the scope; yields its attributes."""
        stack: list[int] = self._local.__dict__.setdefault("stack", [])
        with self._lock:
            parent = stack[-1] if stack else (self._scopes[-1] if self._scopes else None)
            span = _OpenSpan(name=name, parent=parent, began=self._time(), notes=dict(attributes))
            stack.append(len(self._spans))
            self._spans.append(span)
        try:
            yield span.notes
        except BaseException as error:
            span.failure = describe_failure(error)
            raise
        finally:
            span.ended = self._time()
            stack.pop()

    @contextmanager
    def scope(self, name: str, attributes: Mapping[str, SpanValue]) -> Iterator[SpanNotes]:
        """Record the block as a span that those of other threads belong to, while it runs."""
        with self.span(name, attributes) as notes:
            self._scopes.append(self._local.stack[-1])
            try:
                yield notes
            finally:
                self._scopes.pop()

    def note_last(self, name: str, key: str, attributes: Mapping[str, SpanValue]) -> bool:
        """Add attributes to the last span of this scope whose attribute ``name`` is ``key``; False if none is."""
        with self._lock:
            for span in reversed(self._spans[self._scopes[-1] :]):
                if span.notes.get(name) == key:
                    span.notes.update(attributes)
                    return True
        return False

    def read(self) -> tuple[TracedSpan, ...]:
        """Return all spans, parents before children; one that has not ended yet ends now."""
        with self._lock:
            return tuple(
                TracedSpan(
                    name=span.name,
                    parent=span.parent,
                    began=span.began,
                    ended=span.ended or self._time(),
                    attributes=tuple(span.notes.items()),
                    failure=span.failure,
                )
                for span in self._spans
            )

    def _time(self) -> int:
        return self._clock() + self._shift
