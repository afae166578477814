"""What a measured command costs: memory of all its processes, where a forked page counts once."""

from __future__ import annotations

import sys

from buildkit.bench.measure import measure
from buildkit.tools.process import Command

_FORKS = """import os, time
held = bytearray(64 << 20)
held[::4096] = b"x" * (len(held) // 4096)
for _ in range(2):
    if os.fork() == 0:
        time.sleep(1)
        os._exit(0)
for _ in range(2):
    os.wait()
"""


def test_page_that_forked_processes_share_counts_once() -> None:
    cost = measure([Command(argv=(sys.executable, "-c", _FORKS))]).cost
    assert cost.memory is not None
    assert 64 << 20 < cost.memory < 100 << 20
