"""What pages get, and a past of bounded size for those that come later or come back. Threads may share it.

Events are numbered. A reader is no more than the number of its last event, so any number of them, however slow,
cost the feed nothing: one that is too far behind goes on with the oldest event that is left.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_PAST_EVENTS = 600
_PAST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEvent:
    """An event: ``kind`` is snapshot, services, builds or findings, ``data`` its JSON in one line."""

    number: int
    kind: str
    data: bytes


class PageFeed:
    """Numbered events. ``name`` tells this feed from that of another process: numbers of another one mean nothing.

    ``wall`` tells the time of day.
    """

    def __init__(
        self,
        *,
        past_events: int = _PAST_EVENTS,
        past_bytes: int = _PAST_BYTES,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep at most so many events, and at most so many bytes of them; the latest of each kind is always kept."""
        self.name = os.urandom(4).hex()
        self.wall = wall
        self._changed = threading.Condition()
        self._limits = (past_events, past_bytes)
        self._past: deque[PageEvent] = deque()
        self._bytes = 0
        self._latest: dict[str, PageEvent] = {}
        self._number = 0
        self._readers = 0
        self._closed = False

    @property
    def number(self) -> int:
        """The number of the latest event; 0: there was none."""
        return self._number

    @property
    def has_readers(self) -> bool:
        """Whether a page is open."""
        return self._readers > 0

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count as a reader until the block ends."""
        with self._changed:
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1

    @property
    def is_closed(self) -> bool:
        """Whether there will be no more events."""
        return self._closed

    def publish(self, kind: str, data: Mapping[str, Any] | list[Any]) -> None:
        """Tell pages plain values; a number that JSON does not have (NaN, infinity) becomes null."""
        text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
        with self._changed:
            self._number += 1
            event = PageEvent(number=self._number, kind=kind, data=text.encode())
            self._latest[kind] = event
            self._past.append(event)
            self._bytes += len(event.data)
            while len(self._past) > self._limits[0] or self._bytes > self._limits[1]:
                self._bytes -= len(self._past.popleft().data)
            self._changed.notify_all()

    def wait(self, after: int, seconds: float) -> tuple[PageEvent, ...]:
        """Return the events after a number, the oldest first; wait for one, but no longer than ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._number > after, timeout=seconds)
            kept = {event.number: event for event in (*self._latest.values(), *self._past) if event.number > after}
        return tuple(kept[number] for number in sorted(kept))

    def close(self) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _finite(value: Any) -> Any:  # noqa: ANN401 - whatever JSON has
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, (list, tuple)) else value
