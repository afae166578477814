"""Run a command: errors are printed once, with what to do, and become exit codes."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from buildkit.command_names import name_commands
from buildkit.errors import BuildError, BuildkitError, describe_disk_error
from buildkit.report.text import sanitize
from buildkit.tools.interrupts import interruptible

_VALUES = 50_000  # Plans are values that stay: looking for garbage after every 700 of them takes a tenth of the time.


def guarded(action: Callable[[], int | None]) -> int:
    """Run ``action`` and return its exit code (None is 0), or print its error and return that of the error.

    The exit code is 130 after Ctrl-C or SIGTERM, and 141 if the reader of standard output has left (``| head``), as
    for other programs.
    """
    with interruptible():
        return _guarded(action)


def _guarded(action: Callable[[], int | None]) -> int:
    gc.set_threshold(_VALUES, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # An interpreter that ends looks for garbage in all modules: a seventh of a short build.
    try:
        code = action() or 0
        sys.stdout.flush()
    except BuildkitError as error:
        print_error(error)
        return error.exit_code
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _is_unread(sys.stdout):
            return 128 + signal.SIGPIPE
        trouble = describe_disk_error(error)
        if error.filename is None and not trouble:
            raise  # not about a file: a defect of buildkit, shown with its traceback
        where = f"{error.filename}: " if error.filename else ""
        room = "free some room" if where else "free some room: df -h shows where"
        if error.errno == errno.EROFS:
            room = "findmnt shows what is mounted read-only"
        print_error(BuildError(f"{where}{trouble or error.strerror}", hint=room if trouble else ""))
        return BuildError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return code


def _is_unread(out: TextIO) -> bool:
    """Return whether the reader of a stream has left; if so, discard what is still buffered for it."""
    import select

    poll = select.poll()
    poll.register(out.fileno(), 0)  # the closed end is always reported
    if not poll.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out.fileno())
    os.close(nowhere)
    return True


def print_error(error: BuildkitError) -> None:
    """Print the output of the failed step, then what is wrong, then what to do."""
    lines = [sanitize(error.output)] if error.output else []
    lines.append(f"error: {_mark_continuation(name_commands(error.message))}")
    if error.hint:
        lines.append(f"hint: {_mark_continuation(name_commands(error.hint))}")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _mark_continuation(text: str) -> str:
    """Mark the lines after the first, except list items: foreign text in them must not look like our lines."""
    return re.sub(r"\n(?!  - )", "\n  | ", sanitize(text))
