"""The half of the monitor that runs on the host: it reads what no container may, and writes it for the other half."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.events import Emit, step

_STATE = "state.json"
_VERSION = "BUILDKIT_READER"  # a variable of the reader, for those that find it
_LOG = "monitor.log"  # beside the folder
_PATIENCE = 30.0
_PAUSE = 0.1
_SHOWN = 5  # lines of its log in an error


def ensure_reader(feed: Path, project: Path, findings: Path | None, version: str, emit: Emit) -> None:
    """Start the reader of a folder if none runs, and wait for what it writes first; it reads ``findings``, too.

    One of another ``version`` is replaced: what it writes, the other half may not understand. Raises BuildError.
    """
    argv = reader_argv(feed, findings)
    running = {pid for pid, words in _find(feed) if words == argv[2:]}
    if any(f"{_VERSION}={version}" in _read_words(pid, "environ") for pid in running):
        return
    stop_reader(feed)
    feed.mkdir(parents=True, exist_ok=True)
    feed.chmod(0o755)
    (feed / _STATE).unlink(missing_ok=True)
    with step(emit, "monitor on this host", "start"):
        pid = _spawn(argv, feed, project, version)
        end = time.monotonic() + _PATIENCE
        while not (feed / _STATE).is_file():
            if time.monotonic() > end or os.waitpid(pid, os.WNOHANG)[0]:
                raise _failed(feed)
            time.sleep(_PAUSE)


def stop_reader(feed: Path) -> bool:
    """End the reader of a folder, and wait until it has ended; return whether there was one."""
    found = find_readers(feed)
    for pid in found:
        with suppress(ProcessLookupError):  # it has ended
            os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + _PATIENCE
    while find_readers(feed) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return bool(found)


def find_readers(feed: Path) -> tuple[int, ...]:
    """Return the processes that write into a folder: no file remembers them."""
    return tuple(dict(_find(feed)))


def reader_argv(feed: Path, findings: Path | None = None) -> tuple[str, ...]:
    """Return the command that reads this host for a folder."""
    more = ("--findings", str(findings)) if findings else ()
    return (sys.executable, "-m", "buildkit", "monitor", "--feed", str(feed), *more)


def _find(feed: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the id and the words behind ``python -m`` of each process that writes into a folder."""
    wanted = reader_argv(feed)[2:]
    for place in Path("/proc").glob("[0-9]*"):
        try:
            own = place.stat().st_uid == os.geteuid()
        except OSError:  # it has ended
            continue
        words = _read_words(int(place.name), "cmdline") if own else ()
        if words[2 : 2 + len(wanted)] == wanted:
            yield int(place.name), words[2:]


def _read_words(pid: int, what: str) -> tuple[str, ...]:
    """Return the command line or the environment of a process; empty if it has ended."""
    try:
        return tuple(os.fsdecode(Path(f"/proc/{pid}/{what}").read_bytes()).split("\0")[:-1])
    except OSError:
        return ()


def _spawn(command: tuple[str, ...], feed: Path, project: Path, version: str) -> int:
    """Start the reader, which outlives this process, in the folder of a project."""
    argv = ("/bin/sh", "-c", 'cd "$0" && exec "$@"', str(project), *command)
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(feed.parent / _LOG), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    env = {**os.environ, _VERSION: version}
    return os.posix_spawn(argv[0], argv, env, file_actions=files, setsid=True)


def _failed(feed: Path) -> BuildError:
    try:
        text = (feed.parent / _LOG).read_text("utf-8", "replace").splitlines()[-_SHOWN:]
    except OSError:
        text = []
    hint = "nox -s monitor runs it in the foreground"
    return BuildError("the monitor does not read this host", hint=hint, output="\n".join(text))
