"""Count the bytes that a build downloads, packs and pushes."""

from __future__ import annotations

import threading

from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedBytes:
    """Bytes that were downloaded, packed into layers, and pushed to registries."""

    fetched: int = 0
    built: int = 0
    pushed: int = 0

    def __add__(self, other: MovedBytes) -> MovedBytes:
        return MovedBytes(
            fetched=self.fetched + other.fetched, built=self.built + other.built, pushed=self.pushed + other.pushed
        )

    def __sub__(self, other: MovedBytes) -> MovedBytes:
        return MovedBytes(
            fetched=self.fetched - other.fetched, built=self.built - other.built, pushed=self.pushed - other.pushed
        )


class Tally:
    """Adds up the bytes that a run moves; threads share it."""

    def __init__(self) -> None:
        self._total = MovedBytes()
        self._lock = threading.Lock()

    def add(self, *, fetched: int = 0, built: int = 0, pushed: int = 0) -> None:
        """Add bytes to the total."""
        with self._lock:
            self._total += MovedBytes(fetched=fetched, built=built, pushed=pushed)

    def read(self) -> MovedBytes:
        """Return the total so far."""
        return self._total
