"""How much of a push has been sent."""

from __future__ import annotations

import threading
from collections.abc import Callable

from buildkit.digest import Digest


class SentBytes:
    """The sum of the bytes of several blobs that are sent at once; ``report`` is called with it."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._sent: dict[Digest, int] = {}

    def reporter(self, digest: Digest) -> Callable[[int], None]:
        """Return the function that is told how much of a blob has been sent; it is less after a new beginning."""

        def record(done: int) -> None:
            with self._lock:
                self._sent[digest] = done
                total = sum(self._sent.values())
            self._report(total)

        return record
