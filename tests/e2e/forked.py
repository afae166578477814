"""Run sessions in forks of a process that has imported the package: imports are most of a short session's time.

That process starts with the first session and knows nothing of pytest. A session has a folder, an environment, output
and an end of its own, as in a process that was started for it. Only what an interpreter reads when it starts is that of
the process: `starts_alike` tells where a session needs an interpreter of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import IO, Any

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.e2e.preloaded"])
cpu_seconds: list[float] = []
"""What each session of this process has cost, with its own processes: the system counts them for the forks' parent."""

_READ_AT_START = ("PYTHON", "LD_", "LANG", "LC_", "MALLOC_")


def starts_alike(first: Mapping[str, str], second: Mapping[str, str]) -> bool:
    """Return whether an interpreter starts alike with both environments."""
    return _at_start(first) == _at_start(second)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_READ_AT_START)}


def run_forked(argv: Sequence[str], folder: Path, env: Mapping[str, str], *, seconds: float) -> tuple[int, str]:
    """Run ``PROJECT SESSION [ARGUMENT …]`` in a folder; return its exit code and what it wrote, errors last.

    Raises TimeoutExpired if it does not end in time.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as spent:
        streams = [DupFd(file.fileno()) for file in (out, errors, spent)]
        child = _FORKS.Process(target=_run, args=(tuple(argv), str(folder), dict(env), streams))
        child.start()
        child.join(seconds)
        if child.exitcode is None:
            child.kill()
            raise subprocess.TimeoutExpired(tuple(argv), seconds)
        cpu_seconds.append(float(_read(spent) or 0))
        return child.exitcode, (_read(out) + _read(errors)).decode()


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _run(argv: tuple[str, ...], folder: str, env: dict[str, str], streams: Sequence[Any]) -> None:
    out, errors, spent = (stream.detach() for stream in streams)
    os.dup2(out, 1)
    os.dup2(errors, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    try:
        _run_here(argv, folder, env)
    finally:
        os.write(spent, str(sum(os.times()[:4])).encode())


def _run_here(argv: tuple[str, ...], folder: str, env: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in env
    sys.argv = ["session.py", *argv]
    os.chdir(folder)
    from tests.e2e.session import run_session

    sys.exit(run_session(argv[0], argv[1], argv[2:]))
