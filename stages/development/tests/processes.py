"""The service as a process of its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

Start = Callable[..., subprocess.Popen[str]]


def wait_until_healthy(run: Start, **environ: str) -> None:
    until = time.monotonic() + 30
    while run("-IS", "healthcheck.py", **environ).wait() != 0:
        assert time.monotonic() < until
        time.sleep(0.2)  # each check is an interpreter that takes time from the one that starts


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=20)
    return process.returncode, output
