"""From speech probabilities to segments, one window at a time, in constant memory.

The rules are Silero's: speech begins with a window at or above `threshold`; it ends where the probability has stayed
below the lower threshold for `min_silence`; what is not longer than `min_speech` is dropped; what is left is padded
on both sides, and two neighbours share a gap that is too small for both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

RATE = 16_000
WINDOW = 512
HYSTERESIS = 0.15
LOWEST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of speech, in samples at 16 kHz; `end` is exclusive."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a stretch counts as speech: probabilities, and lengths in samples at 16 kHz."""

    threshold: float
    min_speech: int
    min_silence: int
    pad: int

    @property
    def low(self) -> float:
        """The probability below which speech may end; lower than `threshold`, so that it does not flicker."""
        return max(self.threshold - HYSTERESIS, LOWEST)


def make_rules(*, threshold: float, min_speech_ms: int, min_silence_ms: int, pad_ms: int) -> Rules:
    """Return rules from lengths in milliseconds."""
    return Rules(
        threshold=threshold,
        min_speech=min_speech_ms * RATE // 1000,
        min_silence=min_silence_ms * RATE // 1000,
        pad=pad_ms * RATE // 1000,
    )


class Segmenter:
    """Turns a stream of probabilities, one per window of 512 samples, into segments.

    `push` takes the next probability, `finish` the number of samples in all; both yield the segments that can no
    longer change. A segment waits for its successor, for they may have to share the gap between them.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._position = 0  # first sample of the next window
        self._start: int | None = None  # where the running speech began
        self._quiet: int | None = None  # where the silence within it began
        self._waiting: Segment | None = None  # ended, its right side not padded yet

    def push(self, probability: float) -> Iterator[Segment]:
        """Take the probability of the next window."""
        at = self._position
        self._position += WINDOW
        if probability >= self._rules.threshold:
            self._quiet = None
            if self._start is None:
                self._start = at
        elif probability < self._rules.low and self._start is not None:
            self._quiet = at if self._quiet is None else self._quiet
            if at - self._quiet >= self._rules.min_silence:
                yield from self._close(self._quiet)

    def finish(self, total: int) -> Iterator[Segment]:
        """Take the length of the audio in samples: speech that still runs ends there."""
        if self._start is not None:
            yield from self._close(total)
        if self._waiting is not None:
            end = min(total, self._waiting.end + self._rules.pad)
            yield replace(self._waiting, end=end)
            self._waiting = None

    def _close(self, end: int) -> Iterator[Segment]:
        start, self._start, self._quiet = self._start, None, None
        if start is None or end - start <= self._rules.min_speech:
            return
        before = self._waiting
        if before is None:
            self._waiting = Segment(start=max(0, start - self._rules.pad), end=end)
            return
        pad = min(self._rules.pad, (start - before.end) // 2)
        self._waiting = Segment(start=start - pad, end=end)
        yield replace(before, end=before.end + pad)
