"""Carries what the monitor knows to its pages: a thread that looks whether it changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from buildkit.monitor.page.feed import PageFeed

_EVERY = 1.0  # seconds, while a page is open
_SELDOM = 5.0  # otherwise: enough for the past that a page shows when it opens
_TICK = 0.25


@contextmanager
def pumping(
    feed: PageFeed, read: Callable[[], Mapping[str, Any]], *, every: float = _EVERY, seldom: float = _SELDOM
) -> Iterator[None]:
    """Publish what ``read`` returns, plain values by kind, whenever that of a kind changes, until the block ends."""
    stop = threading.Event()

    def pump() -> None:
        told: Mapping[str, Any] = {}
        waited = seldom
        while True:
            if waited >= (every if feed.has_readers else seldom):
                told, waited = _tell(feed, read(), told), 0.0
            if stop.wait(min(_TICK, every)):
                return
            waited += min(_TICK, every)

    thread = threading.Thread(target=pump, name="page-feed", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        feed.close()
        thread.join(timeout=10)


def _tell(feed: PageFeed, now: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    for kind, data in now.items():
        if data != told.get(kind):
            feed.publish(kind, data)
    return {**told, **now}
