"""From an uploaded file to a stream of mono blocks at 16 kHz, decoded and resampled piece by piece.

Whatever the length of the file, decoding holds one block of at most `BLOCK_VALUES` values and its resampled copy.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import soundfile  # type: ignore[import-untyped]
import soxr  # type: ignore[import-untyped]
from numpy.typing import NDArray

from formats import Format, find_format, is_cut_short
from mpeg import give_length
from problems import Problem
from segments import RATE

BLOCK_VALUES = 1 << 18  # values a block, over all channels: 1 MiB of float32
BLOCK_SECONDS = 4  # and no more than this, for a low rate grows when it is resampled
LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
UNKNOWN_LENGTH = 1 << 40  # what libsndfile says where a file does not tell its length is far above this
SLACK = 0.1  # seconds that a lossy file may end before the length it declares: encoder delay and padding
TAKEN = {"WAV": Format.WAV, "WAVEX": Format.WAV, "FLAC": Format.FLAC, "OGG": Format.OGG, "MP3": Format.MP3}

Samples = NDArray[np.float32]


class _Reader(soundfile.SoundFile):  # type: ignore[misc]
    """Reads strictly forward.

    `SoundFile` seeks to where it already is after each block; in MP3 that restarts the decoder, and every block
    then begins with a glitch.
    """

    def seekable(self) -> bool:
        return False


class AudioStream:
    """An opened audio file. `blocks` may be taken once; `frames` and `seconds` are known when it has ended."""

    def __init__(self, reader: soundfile.SoundFile, kind: Format, max_seconds: float) -> None:
        self._reader = reader
        self._max_frames = int(max_seconds * reader.samplerate)
        self._max_seconds = max_seconds
        self.kind = kind
        self.encoding: str = reader.subtype
        self.rate: int = reader.samplerate
        self.channels: int = reader.channels
        self.frames = 0

    @property
    def seconds(self) -> float:
        """The length of what has been decoded so far."""
        return self.frames / self.rate

    def blocks(self) -> Iterator[Samples]:
        """Yield the audio as mono blocks at 16 kHz, within [-1, 1].

        Raises:
            Problem: the audio is damaged, ends early, is empty or too long, or holds NaN or infinity.
        """
        if self.rate == RATE:
            yield from self._mono()
        else:
            resampler = soxr.ResampleStream(self.rate, RATE, 1, dtype="float32", quality="HQ")
            for block in self._mono():
                yield resampler.resample_chunk(block)
            yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
        self._check_end()

    def _mono(self) -> Iterator[Samples]:
        size = max(256, min(BLOCK_VALUES // self.channels, BLOCK_SECONDS * self.rate))
        buffer = np.empty((size, self.channels), np.float32)
        while True:
            try:
                block = self._reader.read(size, dtype="float32", always_2d=True, out=buffer)
            except soundfile.LibsndfileError as error:
                raise damaged(self.kind, self.seconds) from error
            if len(block) == 0:
                return
            self.frames += len(block)
            if self.frames > self._max_frames:
                raise too_long(self._max_seconds)
            if not np.isfinite(block).all():
                raise not_finite()
            mono = block.mean(axis=1, dtype=np.float32) if self.channels > 1 else block[:, 0].copy()
            yield np.clip(mono, -1.0, 1.0, out=mono)

    def _check_end(self) -> None:
        if self.frames == 0:
            raise Problem(400, "empty_audio", "the file holds no samples", "send audio that is not empty")
        declared = self._reader.frames
        if declared < UNKNOWN_LENGTH and declared - self.frames > SLACK * self.rate:
            raise damaged(self.kind, self.seconds)


@contextmanager
def open_audio(file: io.BytesIO, max_seconds: float) -> Iterator[AudioStream]:
    """Open an audio file of any rate and any number of channels.

    Raises:
        Problem: the file is empty, no audio, of a format that is not taken, cut short, too long or of a rate
            outside 1 to 768 kHz.
    """
    kind = get_format(file)
    if is_cut_short(file, kind):
        raise Problem(400, "truncated", f"the {kind} file ends before its headers say", "send the whole file")
    file.seek(0)
    try:
        reader = _Reader(give_length(file) if kind is Format.MP3 else file)
    except soundfile.LibsndfileError as error:
        raise not_audio(f"looks like {kind}, but has no header that can be read") from error
    with reader:
        if reader.format not in TAKEN:
            raise unsupported(reader.format)
        if not LOWEST_RATE <= reader.samplerate <= HIGHEST_RATE:
            raise Problem(
                400,
                "unsupported_rate",
                f"the sample rate is {reader.samplerate} Hz",
                f"send audio of {LOWEST_RATE} to {HIGHEST_RATE} Hz",
            )
        if max_seconds * reader.samplerate < reader.frames < UNKNOWN_LENGTH:
            raise too_long(max_seconds)
        yield AudioStream(reader, TAKEN[reader.format], max_seconds)


def get_format(file: io.BytesIO) -> Format:
    """Return the format of `file` by its first bytes.

    Raises:
        Problem: the file is empty, or none of the four.
    """
    file.seek(0)
    head = file.read(16)
    if not head:
        raise Problem(400, "empty", "the body is empty", "send an audio file as the request's body")
    kind = find_format(head)
    if kind is None:
        raise not_audio("does not begin like a WAV, FLAC, OGG or MP3 file")
    return kind


def not_audio(why: str) -> Problem:
    """Refuse a body that is no audio file."""
    return Problem(400, "not_audio", f"the body {why}", "send a WAV, FLAC, OGG or MP3 file as it is on disk")


def unsupported(name: str) -> Problem:
    """Refuse a format that libsndfile knows and this service does not take."""
    return Problem(415, "unsupported_format", f"the body is {name}", "send WAV, FLAC, OGG or MP3")


def damaged(kind: Format, seconds: float) -> Problem:
    """Refuse a file that the decoder gave up on, or that ends before the length it declares."""
    return Problem(
        400,
        "damaged",
        f"the {kind} file is damaged or cut short after about {seconds:.1f} s",
        "send the whole file, or repair it by encoding it again",
    )


def too_long(max_seconds: float) -> Problem:
    """Refuse audio that lasts longer than the limit, however few bytes it takes."""
    return Problem(413, "too_long", f"the audio is longer than {max_seconds:g} s", "split it into shorter files")


def not_finite() -> Problem:
    """Refuse floating-point samples that are no numbers."""
    return Problem(
        400, "not_finite", "the audio holds samples that are NaN or infinite", "mend the file's floating-point data"
    )
