"""The folder of a checkout's development environment: one process uses it, and what it holds ends with that process."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buildkit.build.context import cache_folder
from buildkit.errors import BuildError, describe_disk_error
from buildkit.store.private_folder import ensure_private


def find_home(folder: Path) -> Path:
    """Return the private folder for the development environment of a checkout; it may not exist."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()
    return cache_folder() / "dev" / digest[:16]


@contextmanager
def hold_home(folder: Path) -> Iterator[Path]:
    """Yield a new folder for one run in a checkout, and remove it at the end, unless it is moved to ``kept``.

    Raises BuildError if another process has the environment of this checkout, and if there is no room for it.
    """
    home = find_home(folder)
    try:
        ensure_private(cache_folder())
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        trouble = describe_disk_error(error) or error.strerror
        raise BuildError(
            f"{home}: {trouble}", hint="free some room, or move the cache: BUILDKIT_CACHE=/path"
        ) from error
    try:
        _lock(lock, home)
        for old in home.glob("run-*"):
            if not (old / KEPT).exists():  # left by a process that was killed
                shutil.rmtree(old, ignore_errors=True)
        run = home / f"run-{secrets.token_hex(4)}"
        run.mkdir(mode=0o711)  # containers' users pass through to what is mounted
        try:
            yield run
        finally:
            if not (run / KEPT).exists():
                shutil.rmtree(run, ignore_errors=True)
    finally:
        os.close(lock)


KEPT = "kept"  # a file that says that containers use the folder after the run


def _lock(handle: int, home: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = find_runner(home)
        who = f" (process {number})" if number else ""
        raise BuildError(
            f"the development environment of this checkout runs already{who}",
            hint="Ctrl-C there, or nox -s dev -- --stop, ends it; --shell, --logs and --test use it",
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())


def find_runner(home: Path) -> int:
    """Return the id of the process that has the environment; 0 if there is none."""
    with suppress(OSError, ValueError), (home / "lock").open("rb") as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read().decode() or "0")
    return 0


def end_runner(home: Path) -> bool:
    """Ask the process that has the environment to end it, and wait until it has; False if there is none."""
    number = find_runner(home)
    if not number:
        return False
    os.kill(number, signal.SIGTERM)
    with (home / "lock").open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
    return True


def remove_runs(home: Path, *, but: Path | None = None) -> None:
    """Remove what runs have left, kept or not, but that of one run."""
    for old in home.glob("run-*"):
        if old != but:
            shutil.rmtree(old, ignore_errors=True)
