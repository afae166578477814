"""Fixed work by which machines, and the same machine at other times, are compared."""

from __future__ import annotations

import hashlib
import os
import random
import time
from functools import cache
from pathlib import Path

from buildkit.tools.process import Command, run

_BYTES = 32 << 20
_ROUNDS = 4


FIXED = ("hash", "zstd", "write")  # work that no change of ours makes slower


def calibrate(folder: Path, session: Command) -> dict[str, float]:
    """Seconds for hashing and compressing 128 MiB (``hash``, ``zstd``), and writing 32 to the disk (``write``).

    And of an empty ``session`` of nox, below which nothing of ours can be.
    """
    import zstandard

    data = _data()
    path = folder / "calibration"
    seconds: dict[str, float] = {}
    began = time.monotonic()
    for _ in range(_ROUNDS):
        hashlib.sha256(data).digest()
    seconds["hash"], began = time.monotonic() - began, time.monotonic()
    for _ in range(_ROUNDS):
        zstandard.ZstdCompressor(level=3).compress(data)
    seconds["zstd"], began = time.monotonic() - began, time.monotonic()
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    seconds["write"] = time.monotonic() - began
    path.unlink()
    began = time.monotonic()
    run(session)
    seconds["session"] = time.monotonic() - began
    return seconds


@cache
def _data() -> bytes:
    """Half of it random, half of it words, as wheels are about."""
    source = random.Random(1)
    words = b"".join(b"%d of the same words again and again\n" % source.randrange(1000) for _ in range(1 << 14))
    return (source.randbytes(1 << 20) + words)[: 1 << 21] * (_BYTES >> 21)
