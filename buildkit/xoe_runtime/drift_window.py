"""Counts of the latest values of each signal, in slots of time: old ones are forgotten, and no value is kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from .drift import find_bin


class DriftWindow:
    """Counts values of signals by time; for one thread at a time.

    ``edges`` are the bins of each signal, times are seconds of a clock that never goes back, ``slot`` is a slot's
    length. What is read is at least ``least`` slots, and as many as are needed, up to ``most``: the latest hour, and up
    to a day where there is little to see. Memory is ``most`` times the bins.
    """

    def __init__(
        self, edges: Mapping[str, Sequence[float]], slot: float = 300.0, least: int = 12, most: int = 288
    ) -> None:
        self._edges = {name: tuple(of) for name, of in edges.items()}
        self._slot = slot
        self._least = least
        self._most = most
        self._slots: deque[tuple[int, dict[str, list[int]]]] = deque()

    def add(self, values: Mapping[str, float], now: float) -> None:
        """Count a value of each signal; those that are no finite number, or of no known signal, are left out."""
        counts = self._open_slot(int(now // self._slot))
        for name, value in values.items():
            if name in self._edges and math.isfinite(value):
                counts[name][find_bin(self._edges[name], value)] += 1

    def read(self, name: str, needed: int, now: float) -> tuple[int, ...]:
        """Return the counts of a signal's bins: those of the window, or of as long before as brings ``needed``."""
        current = int(now // self._slot)
        found = [0] * (len(self._edges[name]) + 1)
        for number, counts in reversed(self._slots):
            age = current - number
            if age >= self._most or (age >= self._least and sum(found) >= needed):
                break
            found = [sum(pair) for pair in zip(found, counts[name])]
        return tuple(found)

    def _open_slot(self, number: int) -> dict[str, list[int]]:
        if not self._slots or self._slots[-1][0] < number:
            self._slots.append((number, {name: [0] * (len(edges) + 1) for name, edges in self._edges.items()}))
        while number - self._slots[0][0] >= self._most:
            self._slots.popleft()
        return self._slots[-1][1]
