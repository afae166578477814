"""The folder by which this process and the profiled processes of a container talk; see `buildkit.profiling.agent`."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from buildkit.errors import BuildError
from buildkit.profiling.trace_files import TraceError, parse_json_trace

STARTED, DONE = "started-{pid}", "done-{pid}.json"
MOST_EVENTS = 512 << 20  # bytes of a trace that is read event by event
MOST_BYTES = 64 << 20  # of a file that is read at once, which takes up to ten times that
TOO_LONG = "make --seconds or --rate less"
_CHUNK = 1 << 20
_WAIT, _POLL, _LOOK = 180.0, 0.05, 2.0
_READY = re.compile(r"ready-([0-9]{1,10})")
_NAME = re.compile(r"(onnxruntime|torch|memory)-[0-9][0-9A-Za-z_.-]{0,120}\.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """What a process said at the end: its traces, how many microseconds of each were before the load, its peak."""

    problems: tuple[str, ...]
    files: tuple[str, ...]
    peak: int
    skip: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The folder, as the host sees it. Container processes may write anything there."""

    folder: Path

    def say(self, word: str) -> None:
        """Tell the processes to ``start`` or to ``stop``. Raises BuildError if the container has made that file."""
        try:
            os.close(os.open(self.folder / word, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644))
        except FileExistsError as error:
            raise BuildError(f"the service has written the file {word!r}, by which it is told what to do") from error

    def processes(self) -> tuple[int, ...]:
        """Return the ids, in the container, of the processes that have announced themselves."""
        return tuple(sorted(int(match[1]) for file in self.folder.iterdir() if (match := _READY.fullmatch(file.name))))

    def wait(self, answer: str, check: Callable[[], None]) -> None:
        """Wait until every process that lives has written ``answer``; ``check`` raises if the service is gone."""
        end, looked = time.monotonic() + _WAIT, time.monotonic()
        while any(not self._has(answer, pid) and self._lives(pid) for pid in self.processes()):
            if time.monotonic() > end:
                raise BuildError(f"a process of the service did not say {answer!r} in {_WAIT:g} s")
            if time.monotonic() - looked > _LOOK:
                check()
                looked = time.monotonic()
            time.sleep(_POLL)

    def reports(self) -> list[ProcessReport]:
        """Return what the processes said. Raises TraceError for one that is not of its format."""
        return [self._load_report(pid) for pid in self.processes() if self._has(DONE, pid)]

    def read(self, name: str) -> bytes:
        """Return the bytes of a trace. Raises TraceError for a name or a file that is none."""
        _check_name(name)
        return self._read(name)

    def copy(self, name: str, target: Path) -> None:
        """Copy a trace of events. Raises TraceError for a name or a file that is none."""
        _check_name(name)
        with self._open(name, MOST_EVENTS) as opened, target.open("wb") as copied:
            left = MOST_EVENTS
            while data := opened.read(min(left, _CHUNK)):  # it may grow meanwhile
                copied.write(data)
                left -= len(data)

    def _has(self, answer: str, pid: int) -> bool:
        return os.path.lexists(self.folder / answer.format(pid=pid))

    def _lives(self, pid: int) -> bool:
        """Return whether the process still holds its lock."""
        with suppress(OSError):
            file = os.open(self.folder / f"ready-{pid}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(file)
        return False

    def _read(self, name: str) -> bytes:
        with self._open(name, MOST_BYTES) as opened:
            return opened.read(MOST_BYTES)

    @contextmanager
    def _open(self, name: str, most: int) -> Iterator[BinaryIO]:
        try:
            file = os.open(self.folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise TraceError(f"{name}: {error.strerror}") from error
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                raise TraceError(f"{name} is not a file")
            if about.st_size > most:
                raise TraceError(f"{name} has more than {most >> 20} MiB: {TOO_LONG}")
            with os.fdopen(file, "rb", closefd=False) as opened:
                yield opened
        finally:
            os.close(file)

    def _load_report(self, pid: int) -> ProcessReport:
        what = DONE.format(pid=pid)
        found: Any = parse_json_trace(self._read(what), what)
        try:
            return ProcessReport(
                problems=tuple(str(one)[:500] for one in found["problems"]),
                files=tuple(dict.fromkeys(map(str, found["files"]))),  # each is read once
                peak=int(found["peak"]),
                skip={str(name): float(value) for name, value in found["skip"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise TraceError(f"{what} is not of its format") from error


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise TraceError(f"{name[:80]!r} is not the name of a trace")
