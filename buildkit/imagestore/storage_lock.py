"""Lock files of containers-storage, and the files that they protect.

A writer holds a POSIX record lock on the whole file. It then writes 64 new bytes, by which readers notice that the
files beside it have changed: nanoseconds, a counter and the process id as little-endian integers, and random bytes
(containers/storage, pkg/lockfile, "LastWrite"). The lock is one of an open file description (fcntl(2)), which excludes
threads of this process as well, and conflicts with those of other processes of either kind.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from buildkit.errors import BuildError

_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid of struct flock on 64-bit Linux
_TOKEN = struct.Struct("<QQI44s")
_counter = itertools.count()


@contextmanager
def storage_locked(path: Path) -> Iterator[None]:
    """Hold a lock file for writing; readers that come later read again, unless the block raises."""
    with storage_held(path) as handle:
        yield
        os.pwrite(handle, _TOKEN.pack(time.time_ns(), next(_counter), os.getpid(), os.urandom(44)), 0)


@contextmanager
def storage_held(path: Path) -> Iterator[int]:
    """Hold a lock file, so that nobody else writes what it protects. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLKW, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        yield handle
    finally:
        os.close(handle)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of ``layers.json`` or ``images.json``; none if the file is missing. Raises ValueError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    try:
        records = json.loads(data)
    except RecursionError:
        raise ValueError(f"{path} is nested too deep") from None
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError(f"{path} is not a list of records")
    return records


def read_own_records(path: Path, check: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """Return the records of an image store of ours; ``check`` tells whether one is as we write them.

    Raises BuildError if they are damaged.
    """
    try:
        records = read_records(path)
        if not all(map(check, records)):
            raise ValueError("it has other records than ours")
    except ValueError as error:
        mend = f"rm {path} && nox -s cache -- verify; the next builds deliver their images again"
        raise BuildError(f"{path} is damaged: {error}", hint=mend) from error
    return records


def replace_file(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, flush it, and give it its name."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with temporary.open("xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_records(path: Path, records: list[dict[str, Any]]) -> None:
    """Replace the records, while their lock is held."""
    replace_file(path, json.dumps(records, separators=(",", ":")).encode())
