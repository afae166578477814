"""Write the figures of this host into a folder, from which the container of the stage `monitor` serves them."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buildkit.errors import DefinitionError
from buildkit.inspection.live_monitor import LiveMonitor
from buildkit.monitor.feed import FILE, write_feed

_EVERY = 5.0  # seconds


def write_feeds(monitor: LiveMonitor, folder: Path) -> None:
    """Write until the process is ended. Raises OSError at the first try, DefinitionError if another one writes there.

    Later a full disk or a folder that is gone is reported once, and tried again: the reader notices old figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder), monitor.running():
        write_feed(folder, monitor.state())
        sys.stdout.write(f"{folder / FILE}\n")
        sys.stdout.flush()
        failed = ""
        try:
            while True:
                time.sleep(_EVERY)
                failed = _try_to_write(monitor, folder, failed)
        finally:
            with suppress(OSError):  # the folder may be gone
                (folder / FILE).unlink()


def _try_to_write(monitor: LiveMonitor, folder: Path, failed: str) -> str:
    """Write once; return why it failed. What is said already is not said again."""
    try:
        write_feed(folder, monitor.state())
    except OSError as error:
        why = f"{folder}: {error.strerror}"
        if why != failed:
            sys.stderr.write(f"warning: {why}\n")
            sys.stderr.flush()
        return why
    return ""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DefinitionError(
                f"{folder}: another monitor writes there", hint="end it, or give --feed another folder"
            ) from None
        yield
