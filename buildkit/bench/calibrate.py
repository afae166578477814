"""Fixed work that makes two machines, or one machine at two times, comparable."""

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


FIXED = ("hash", "zstd", "write")  # work that none of our changes can slow down


def calibrate(folder: Path, session: Command) -> dict[str, float]:
    """Return seconds to hash and compress 128 MiB (``hash``, ``zstd``) and to write 32 MiB to disk (``write``).

    ``session`` is an empty Nox session, the lower bound of everything we run.
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
    """Half random, half words: about what wheels hold."""
    source = random.Random(1)
    words = b"".join(b"%d of the same words again and again\n" % source.randrange(1000) for _ in range(1 << 14))
    return (source.randbytes(1 << 20) + words)[: 1 << 21] * (_BYTES >> 21)
