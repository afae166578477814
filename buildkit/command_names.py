"""How users call commands here: as Nox sessions, perhaps with a prefix, or by the console script.

Messages name a command as ``nox -s NAME``; where they are printed, ``name_commands`` writes what the user can type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

OF_STAGES = ("build", "push", "run")  # the session is NAME-STAGE, the console command NAME STAGE
_SESSION = re.compile(r"nox -s ([A-Za-z][\w.-]*)( --(?= ))?")


class CommandNames(NamedTuple):
    """Sessions whose names begin with ``prefix``, or commands of the console script."""

    prefix: str = ""
    console: bool = False


_names = CommandNames()  # of the process: worker threads print, too


@contextmanager
def naming_commands(names: CommandNames) -> Iterator[None]:
    """Name commands like this until the block ends."""
    global _names
    before, _names = _names, names
    try:
        yield
    finally:
        _names = before


def name_command(command: str, stage: str = "") -> str:
    """Return what a user types to run a command, before its arguments."""
    if _names.console:
        return " ".join(filter(None, ("xoe-buildkit", command, stage)))
    return f"nox -s {_names.prefix}{command}-{stage}" if stage else f"nox -s {_names.prefix}{command}"


def name_commands(text: str) -> str:
    """Return a message in which every ``nox -s NAME`` is replaced by what the user can type."""
    return _SESSION.sub(_rename, text) if _names != CommandNames() else text


def _rename(match: re.Match[str]) -> str:
    session, dashes = match[1], match[2] or ""
    command, _, stage = session.partition("-")
    named = name_command(command, stage) if command in OF_STAGES else name_command(session)
    return named if _names.console else named + dashes
