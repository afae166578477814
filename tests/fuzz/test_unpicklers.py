"""Our pickle machine against CPython's unpicklers: no stream reaches a global that the machine does not see.

A few thousand streams here, a million in ``nox -s fuzz`` (``BUILDKIT_FUZZ_STREAMS``, for all shards together).
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random

import pytest

from tests.fuzz.streams import make_stream
from tests.fuzz.unpicklers import compare, limited

STREAMS = int(os.environ.get("BUILDKIT_FUZZ_STREAMS", "4800"))
SHARDS = 8
ENCODINGS = ("ASCII", "latin1", "bytes", "utf-8")


@pytest.mark.parametrize("shard", range(SHARDS))
def test_machine_sees_every_global_that_cpython_reaches(shard: int, capsys: pytest.CaptureFixture[str]) -> None:
    random = Random(shard + STREAMS)
    counts: Counter[str] = Counter()
    with limited():
        for _ in range(STREAMS // SHARDS):
            stream, encoding = make_stream(random), random.choice(ENCODINGS)
            found = compare(stream, encoding)
            counts.update(found.kinds)
            assert not found.missed, (found.missed, encoding, stream)
    assert counts["reach a global"] > STREAMS // SHARDS // 5
    if "BUILDKIT_FUZZ_STREAMS" in os.environ:
        with capsys.disabled():
            print(f"\nshard {shard}: {STREAMS // SHARDS} streams, {dict(counts)}", flush=True)
