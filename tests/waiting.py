"""Wait for what comes to pass in its own time, as long as a busy machine may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_LIMIT = 240.0  # seconds; only what never comes to pass takes them


def wait_until(look: Callable[[], T], about: Callable[[], object] = lambda: "it did not come to pass") -> T:
    """Return the first value of ``look`` that is true; after four minutes, fail with what ``about`` tells."""
    end, pause = time.monotonic() + _LIMIT, 0.005
    while not (found := look()):
        assert time.monotonic() < end, about()
        time.sleep(pause)
        pause = min(0.1, pause * 1.5)  # a look may be a program
    return found
