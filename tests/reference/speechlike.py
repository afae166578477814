"""Reference data for the service's profile: speech by a program, as loud, noisy, long and sampled as recordings are.

``python -m tests.reference.speechlike FOLDER [COUNT]`` writes files that are the same on every run with one espeak-ng;
``nox -s drift -- profile runtime FOLDER --output stages/runtime/app/profiles/silero-vad.json`` makes the profile.
"""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr

TEXT = """
the quick answer to every question about water light music and stone is that nobody in this small town will ever
tell you who came home late on monday or why seven green boats left the harbour before the storm had passed
"""
WORDS = TEXT.split()
VOICES = ("en-gb", "en-us", "de", "fr-fr", "es", "it", "pl", "nl")
RATES, SHARES = (8_000, 16_000, 22_050, 44_100, 48_000), (0.15, 0.4, 0.1, 0.2, 0.15)
KINDS = (("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"))


def say(random: np.random.Generator) -> tuple[np.ndarray, int]:
    """Speak a few sentences with pauses; a tenth of the recordings has nobody in it."""
    if random.random() < 0.1:
        return np.zeros(int(22_050 * random.uniform(1, 8)), np.float32), 22_050
    sentences = [" ".join(random.choice(WORDS, int(random.integers(3, 12)))) for _ in range(int(random.integers(1, 5)))]
    text = " ".join(f"{one}. <break time='{int(random.uniform(200, 1500))}ms'/>" for one in sentences)
    speed, pitch = str(int(random.uniform(120, 200))), str(int(random.uniform(20, 80)))
    argv = ("espeak-ng", "-m", "--stdout", "-v", str(random.choice(VOICES)), "-s", speed, "-p", pitch, text)
    done = subprocess.run(argv, capture_output=True, check=True)
    samples, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    return samples, rate


def record(seed: int) -> tuple[bytes, str]:
    """Return a recording, encoded, and its ending."""
    random = np.random.default_rng([seed, 19])
    samples, rate = say(random)
    around = [np.zeros(int(rate * random.uniform(0, 1.5)), np.float32) for _ in range(2)]
    samples = np.concatenate((around[0], samples, around[1]))
    loud = 10 ** (random.normal(-26, 6) / 20)
    samples = samples / max(1e-3, float(np.sqrt(np.mean(samples**2)))) * loud
    noise = random.normal(0, loud * 10 ** (-random.uniform(5, 40) / 20), samples.size)
    own = int(random.choice(RATES, p=SHARES))
    samples = soxr.resample(np.clip(samples + noise, -1, 1).astype(np.float32), rate, own)
    ending, kind, subtype = KINDS[int(random.integers(len(KINDS)))]
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", own, 1, subtype, format=kind) as writer:
        for first in range(0, len(samples), 8192):  # libvorbis overflows its stack with whole ones
            writer.write(samples[first : first + 8192])
    return file.getvalue(), ending


def main(folder: Path, count: int) -> None:
    """Write the recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        for number, (data, ending) in enumerate(pool.map(record, range(count))):
            (folder / f"{number:04}.{ending}").write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
