"""The requests of the face: arguments in, exit code out; errors are printed here, once, with what to do."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from typing import TextIO

from buildkit.errors import BuildError, BuildkitError, describe_disk_error
from buildkit.report.text import sanitize
from buildkit.tools.interrupts import interruptible


def guarded(action: Callable[[], int | None]) -> int:
    """Run ``action``; print an error of ours for people and return its exit code, else what ``action`` says, or 0.

    It is 130 where Ctrl-C or SIGTERM ended it, and 141, as for any program of a shell's, where whoever reads what is
    printed has seen enough (``| head``).
    """
    with interruptible():
        return _guarded(action)


def _guarded(action: Callable[[], int | None]) -> int:
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
            raise  # not about a file: a defect of ours, with its traceback
        where = f"{error.filename}: " if error.filename else ""
        print_error(BuildError(f"{where}{trouble or error.strerror}", hint="free some room" if trouble else ""))
        return BuildError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return code


def _is_unread(out: TextIO) -> bool:
    """Whether nobody reads a stream any more; then what is still to be written to it goes nowhere, in silence."""
    import select

    looking = select.poll()
    looking.register(out.fileno(), 0)  # it always says when the other end is closed
    if not looking.poll(0):
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out.fileno())
    os.close(nowhere)
    return True


def print_error(error: BuildkitError) -> None:
    """The failing step's own output, then what is wrong, then what to do."""
    lines = [sanitize(error.output)] if error.output else []
    lines.append(f"error: {_below(error.message)}")
    if error.hint:
        lines.append(f"hint: {_below(error.hint)}")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _below(text: str) -> str:
    """Lines after the first are marked, unless they are items of a list: what is in them is no line of ours."""
    return re.sub(r"\n(?!  - )", "\n  | ", sanitize(text))
