"""Audio for the tests, and the formats it can be sent in."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped]
from fastapi.testclient import TestClient
from numpy.typing import NDArray

Samples = NDArray[np.float32]

FORMATS = (
    # name, libsndfile's format and subtype, media type
    ("wav", "WAV", "PCM_16", "audio/wav"),
    ("wav", "WAV", "PCM_U8", "audio/x-wav"),
    ("wav", "WAV", "FLOAT", "audio/wave"),
    ("wav", "WAVEX", "PCM_24", "audio/vnd.wave"),
    ("flac", "FLAC", "PCM_16", "audio/flac"),
    ("ogg", "OGG", "VORBIS", "audio/ogg"),
    ("ogg", "OGG", "OPUS", "application/ogg"),
    ("mp3", "MP3", "MPEG_LAYER_III", "audio/mpeg"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Mono audio."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def make_clip(path: Path) -> Clip:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Clip(samples=samples.mean(axis=1), rate=rate)


def make_tone(hertz: float, rate: int, seconds: float) -> Samples:
    tone: Samples = (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)
    return tone


def encode(samples: Samples, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """Write mono [n] or multi-channel [n, channels] samples, in pieces: whole ones overflow libvorbis' stack."""
    file = io.BytesIO()
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(file, "w", rate, channels, subtype, format=kind) as writer:
        for first in range(0, len(samples), 8192):
            writer.write(samples[first : first + 8192])
    return file.getvalue()


def wait_until_ready(client: TestClient, seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < until, client.get("/readyz").text
        time.sleep(0.01)
