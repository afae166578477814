"""The requests of the face: arguments in, exit code out; errors are printed here, once, with what to do."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from buildkit.cli.options import Parser, parse_build_options
from buildkit.errors import BuildError, BuildkitError, DefinitionError, describe_disk_error
from buildkit.report.text import clean
from buildkit.tools.interrupts import interruptible


def build(folder: Path, stage: str | None, arguments: Sequence[str], *, push: bool = False) -> int:
    """Build one stage, or every stage that ships, or with ``push`` bring one to a registry; returns the exit code.

    It is 0, 1, 2, or 130 when interrupted.
    """
    from buildkit.build.pipeline import build_stages

    def action() -> None:
        session = f"{'push' if push else 'build'}-{stage}" if stage else "build"
        options = parse_build_options(arguments, session, push=push)
        for file in filter(None, (options.json, options.summary)):
            check_writable(file)  # before the work, not after it
        reports = build_stages(folder, (stage,) if stage else (), options)
        if options.json is not None:
            value = [report.as_json() for report in reports]
            text = json.dumps(value[0] if stage else value, indent=2) + "\n"
            write_text(options.json, text)
        if options.summary is not None:
            from buildkit.report.build_markdown import render_markdown

            write_text(options.summary, "".join(map(render_markdown, reports)), append=True)

    return guarded(action)


def write_schema(folder: Path, arguments: Sequence[str]) -> int:
    """Print the JSON Schema of stage files, or write it to the one argument; returns the exit code."""
    from buildkit.declare.stage import stage_schema

    def action() -> None:
        parser = Parser(prog="nox -s schema --")
        parser.add_argument("file", nargs="?", type=Path)
        chosen = parser.parse_args(list(arguments)).file
        text = json.dumps(stage_schema(), indent=2) + "\n"
        if chosen is None:
            sys.stdout.write(text)
        else:
            write_text(folder / chosen, text)

    return guarded(action)


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
    lines = [clean(error.output)] if error.output else []
    lines.append(f"error: {_below(error.message)}")
    if error.hint:
        lines.append(f"hint: {_below(error.hint)}")
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _below(text: str) -> str:
    """Lines after the first are marked, unless they are items of a list: what is in them is no line of ours."""
    return re.sub(r"\n(?!  - )", "\n  | ", clean(text))


def check_writable(path: Path) -> None:
    """Raise DefinitionError for a file that cannot be written, before there is anything to write."""
    folder = path.parent
    if path.is_dir() or not folder.is_dir() or not os.access(path if path.exists() else folder, os.W_OK):
        raise DefinitionError(f"{path}: this file cannot be written", hint="name one in a folder that exists")


def write_text(path: Path, text: str, *, append: bool = False) -> None:
    """Write, or add to, a file that was asked for, wholly or not at all.

    Raises BuildError where the disk is full, else DefinitionError where it cannot be.
    """
    try:
        if append or (path.exists() and not path.is_file()) or path.is_symlink():  # a device or a pipe has no beside
            with path.open("a" if append else "w", encoding="utf-8") as file:
                file.write(text)
        else:
            _write_beside(path, text)
    except OSError as error:
        if trouble := describe_disk_error(error):
            raise BuildError(f"{path}: {trouble}", hint="free some room, or name another file") from error
        raise DefinitionError(f"{path}: {error.strerror}", hint="name a file that can be written") from error


def _write_beside(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        new.write_text(text, "utf-8")
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
