"""One request's work, from the bytes of a file to its speech segments. Runs in a thread; knows nothing of HTTP."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from audio import AudioStream, Samples, open_audio
from detector import Detector
from formats import Format
from observation import Observation, now
from segments import Rules, Segment, Segmenter


class AbandonedError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """What was found in a file, and what kind of file it was."""

    kind: Format
    encoding: str
    rate: int
    channels: int
    seconds: float
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyser:
    """Finds speech in files: a model, and how long a file may last."""

    detector: Detector
    max_seconds: float

    def analyse(
        self, file: io.BytesIO, rules: Rules, is_cancelled: Callable[[], bool], seen: Observation | None = None
    ) -> Analysis:
        """Return the speech segments of an audio file, and note in `seen` what the work was like.

        `is_cancelled` is asked before each block.

        Raises:
            Problem: the file cannot be used.
            AbandonedError: `is_cancelled` said so.
        """
        seen = seen or Observation()
        with open_audio(file, self.max_seconds) as audio:
            blocks = Blocks(audio, is_cancelled, seen)
            segmenter = Segmenter(rules)
            pushed = (segmenter.push(value) for value in self.detector.probabilities(blocks, seen))
            found = list(itertools.chain.from_iterable(pushed))
            found += segmenter.finish(blocks.samples)
            return Analysis(
                kind=audio.kind,
                encoding=audio.encoding,
                rate=audio.rate,
                channels=audio.channels,
                seconds=audio.seconds,
                segments=tuple(found),
            )


class Blocks:
    """The blocks of an audio stream, counted, until nobody waits for them."""

    def __init__(self, audio: AudioStream, is_cancelled: Callable[[], bool], seen: Observation) -> None:
        self._audio = audio
        self._seen = seen
        self._is_cancelled = is_cancelled
        self.samples = 0

    def __iter__(self) -> Iterator[Samples]:
        blocks = self._audio.blocks()
        while True:
            began = now()
            block = next(blocks, None)
            if block is None:
                return
            if self._is_cancelled():
                raise AbandonedError
            self._seen.add_audio(block, began)
            self.samples += block.size
            yield block
