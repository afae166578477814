"""Speech, and where it is, found without any container: by the service's own code, and once more the plain way.

Run as a program, for the service's modules have names like ``main`` and ``settings``:

    python outside.py CLIPS MODEL      CLIPS holds spoken.wav

It writes the clips beside spoken.wav and prints ``{"clips": [...], "app": {CLIP: segments}, "plain": {CLIP:
segments}}``; segments are [start, end] in seconds.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "stages/runtime/app"), str(ROOT / "stages/development/tests")]

import numpy as np  # noqa: E402 - the paths first
import soundfile  # noqa: E402
import soxr  # noqa: E402
from reference import find_segments, run_model  # noqa: E402

from analysis import Analyser  # noqa: E402
from detector import load_detector  # noqa: E402
from segments import RATE, make_rules  # noqa: E402

RULES = make_rules(threshold=0.5, min_speech_ms=250, min_silence_ms=100, pad_ms=30)  # the service's defaults


def make_clips(folder: Path) -> None:
    """Clips of several formats, rates and channels, with silence around the speech, and one of silence alone."""
    spoken, rate = soundfile.read(folder / "spoken.wav", dtype="float32")
    quiet = np.zeros(rate, np.float32)
    speech = np.concatenate((quiet, spoken, quiet, quiet, spoken[: 2 * rate], quiet))
    slow = soxr.resample(speech, rate, RATE, quality="HQ")
    write(folder / "speech.wav", slow, RATE)
    write(folder / "native.wav", speech, rate)
    write(folder / "stereo.flac", np.stack((speech, speech * 0.5), axis=1), rate)
    write(folder / "speech.ogg", slow, RATE)
    write(folder / "speech.mp3", slow, RATE)
    write(folder / "silence.wav", np.zeros(3 * RATE, np.float32), RATE)
    (folder / "spoken.wav").unlink()


def write(path: Path, samples: np.ndarray, rate: int) -> None:
    """Write in pieces: whole ones overflow libvorbis' stack."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels) as file:
        for first in range(0, len(samples), 8192):
            file.write(samples[first : first + 8192])


def by_app(model: Path, clips: list[Path]) -> dict[str, list[list[float]]]:
    """Segments by the service's own modules."""
    analyser = Analyser(detector=load_detector(model, 1), max_seconds=3600)
    found = {}
    for path in clips:
        analysis = analyser.analyse(io.BytesIO(path.read_bytes()), RULES, lambda: False)
        found[path.name] = [in_seconds(one.start, one.end) for one in analysis.segments]
    return found


def plainly(model: Path, clips: list[Path]) -> dict[str, list[list[float]]]:
    """Segments of clips that need no resampling, by code that shares nothing with the service."""
    found = {}
    for path in clips:
        samples, rate = soundfile.read(path, dtype="float32")
        if rate == RATE and path.suffix == ".wav":
            values = run_model(model, samples)
            found[path.name] = [in_seconds(*one) for one in find_segments(values, len(samples), RULES)]
    return found


def in_seconds(start: int, end: int) -> list[float]:
    """To the millisecond, as the service answers."""
    return [round(start / RATE, 3), round(end / RATE, 3)]


if __name__ == "__main__":
    folder, model = map(Path, sys.argv[1:])
    make_clips(folder)
    clips = sorted(folder.iterdir())
    found = {"clips": [str(path) for path in clips], "app": by_app(model, clips), "plain": plainly(model, clips)}
    json.dump(found, sys.stdout)
