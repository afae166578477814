"""What is seen of one request's work: when it decoded and ran the model, how loud its audio is, how sure the model was.

Only sums and counts: no sample and no probability is kept. It costs a few microseconds for a second of audio.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from analysis import Analysis

SILENT = -100.0  # dBFS of digital silence, and of all that is quieter

now = time.perf_counter_ns  # times below are of this clock


@dataclass(slots=True, kw_only=True)
class Phase:
    """Work of one kind, which alternates with other work: `busy` nanoseconds of those from `began` to `ended`.

    `calls` is how many pieces it had, `largest` the size of the largest.
    """

    began: int = 0
    ended: int = 0
    busy: int = 0
    calls: int = 0
    largest: int = 0

    def add(self, began: int, size: int) -> None:
        """Add a piece that began then and ends now."""
        self.ended = now()
        self.began = self.began or began
        self.busy += self.ended - began
        self.calls += 1
        self.largest = max(self.largest, size)


@dataclass(slots=True, kw_only=True)
class Observation:
    """One request, for one thread at a time."""

    decode: Phase = field(default_factory=Phase)
    infer: Phase = field(default_factory=Phase)
    _energy: float = 0.0
    _samples: int = 0
    _windows: int = 0
    _certainty: float = 0.0
    _speaking: int = 0

    def add_audio(self, block: NDArray[np.float32], began: int) -> None:
        """Note a block of audio, whose decoding began then."""
        self.decode.add(began, block.size)
        self._energy += float(np.dot(block, block))
        self._samples += block.size

    def add_outputs(self, probabilities: NDArray[np.float32], began: int) -> None:
        """Note what a call of the model, which began then, said of windows of this request."""
        self.infer.add(began, probabilities.size)
        self._windows += probabilities.size
        self._certainty += float(np.maximum(probabilities, 1 - probabilities).sum())
        self._speaking += int(np.count_nonzero(probabilities >= 0.5))

    @property
    def confidence(self) -> float:
        """The mean, over windows, of the probability of the likelier answer: 0.5 to 1; NaN without windows."""
        return self._certainty / self._windows if self._windows else math.nan

    def make_signals(self, analysis: Analysis) -> Mapping[str, float]:
        """Return one number for each input and output that is watched for drift. It depends on no rule of a request."""
        power = self._energy / self._samples if self._samples else 0.0
        return {
            "seconds": analysis.seconds,
            "rate": float(analysis.rate),
            "level": max(SILENT, 10 * math.log10(power)) if power > 0 else SILENT,
            "speech": self._speaking / self._windows if self._windows else math.nan,
            "confidence": self.confidence,
        }
