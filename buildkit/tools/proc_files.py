"""The files of one process below /proc, by a descriptor of its folder.

The kernel binds that descriptor to the process: when it has ended, reading fails, and never gives the files of another
that got its number.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)
"""What reading raises once a process has ended."""
_MOST_BYTES = 32 << 20
_ID = re.compile(rb"[0-9a-f]{64}")
_MONITOR = b"conmon"  # podman's monitor of a container has a group with its id, and is no process of it
_ENDED = "ZX"  # states in which nothing of a process runs


def open_process(proc: Path, pid: int) -> int:
    """Return a descriptor of a process' folder, for the caller to close. Raises OSError."""
    return os.open(proc / str(pid), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


@contextmanager
def closed_after(descriptor: int) -> Iterator[int]:
    """Yield a descriptor, and close it at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(process: int, name: str, most: int = _MOST_BYTES) -> bytes:
    """Return a file of a process. Raises OSError, also if it is longer than ``most`` bytes."""
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
    try:
        parts, size = [], 0
        while part := os.read(file, 1 << 16):
            parts.append(part)
            size += len(part)
            if size > most:
                raise OSError(errno.EFBIG, f"{name} is longer than {most >> 20} MiB")
        return b"".join(parts)
    finally:
        os.close(file)


def read_text(process: int, name: str) -> str:
    """Return a file as text, in which what is no UTF-8 is kept as surrogates. Raises OSError."""
    return as_text(read_file(process, name))


def as_text(data: bytes) -> str:
    """Return bytes of the kernel as text: names may be any bytes."""
    return data.decode("utf-8", "surrogateescape")


def read_link(process: int, name: str) -> str:
    """Return where a link of a process leads. Raises OSError."""
    return os.readlink(name, dir_fd=process)


def start_time(process: int) -> int:
    """Return when a process began, in ticks since the host did (proc_pid_stat(5), field 22). Raises OSError."""
    return int(_stat_fields(process)[19])


def has_ended(process: int) -> bool:
    """Return whether a process, or thread, runs nothing any more. Raises OSError if it is gone altogether."""
    return _stat_fields(process)[0].decode() in _ENDED


def open_living(process: int) -> int:
    """Return a descriptor of a thread that runs, of a process whose first one has ended. Raises OSError if none does.

    Such a process has no program and no memory to be seen but by that thread.
    """
    folder = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        for name in os.listdir(folder):  # noqa: PTH208 - of a descriptor
            with suppress(*GONE):
                thread = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
                if not has_ended(thread):
                    return thread
                os.close(thread)
    finally:
        os.close(folder)
    raise ProcessLookupError(errno.ESRCH, "no thread of it runs")


def _stat_fields(process: int) -> list[bytes]:
    fields = read_file(process, "stat").rpartition(b")")[2].split()  # the name before may hold brackets and line ends
    if len(fields) < 20:
        raise ProcessLookupError(errno.ESRCH, "it has no state")
    return fields


def identify(process: int) -> tuple[int, int, int]:
    """Return what makes a process and its program: when it began, and device and number of the file that it runs."""
    status = os.stat("exe", dir_fd=process)
    return start_time(process), status.st_dev, status.st_ino


def find_group_containers(groups: bytes) -> Iterator[str]:
    """Yield the ids of containers that ``/proc/PID/cgroup`` names: of one in another, both, the inner one first."""
    for line in groups.split(b"\n"):
        for part in reversed(line.split(b"/")):
            if (found := _ID.search(part)) and _MONITOR not in part:
                yield found[0].decode()
