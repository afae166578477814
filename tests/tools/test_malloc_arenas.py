"""The allocator's arenas are limited; counted by glibc itself (malloc_info(3))."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COUNT = """
import ctypes, threading
from buildkit.tools.malloc_arenas import limit_arenas
if {limited}:
    limit_arenas()
libc, barrier = ctypes.CDLL(None), threading.Barrier(9)
libc.fdopen.restype = libc.malloc.restype = ctypes.c_void_p
def work():
    libc.malloc(1000)
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
barrier.wait()
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.parametrize("limited", [True, False])
def test_threads_share_two_arenas(*, limited: bool) -> None:
    argv = [sys.executable, "-c", _COUNT.format(limited=limited)]
    arenas = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.count("<heap nr=")
    assert arenas <= 2 if limited else arenas > 2
