"""The Nox sessions, made from the table of commands. The only importer of ``nox``.

The noxfile of another repository needs two lines::

    from buildkit.sessions import register

    register()

A session imports what it needs when it runs, so that listing the sessions takes milliseconds.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import nox
import nox.registry
import nox.virtualenv

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, run_command
from buildkit.cli.session_list import (
    StageOutline,
    asks_for_list,
    find_declared,
    find_pointless,
    find_stages,
    outline_stage,
    selects_sessions,
)
from buildkit.command_names import CommandNames, naming_commands

__all__ = ["register"]


def register(folder: Path | str | None = None, *, prefix: str = "", only: Collection[str] = ()) -> None:
    """Register the sessions of the project in ``folder`` (default: the folder of the noxfile that calls this).

    There are ``build-STAGE``, ``push-STAGE`` and ``run-STAGE`` for every ``stages/STAGE/stage.toml``, and one session
    for every command, such as ``build``, ``plan`` and ``lock``. Their names begin with ``prefix``. ``only`` names the
    commands that are wanted; ``build``, ``push`` and ``run`` include the sessions of stages.

    None of them runs by default. A session that the noxfile defines, above or below this call, is never replaced: a
    warning names ours that is therefore missing. A list omits sessions that would achieve nothing (``run-STAGE`` of a
    stage without a command, ``push-STAGE`` of one that does not ship, ``bench-serve`` without the reference service);
    they are there all the same. Raises ValueError if ``only`` names something else than a command.
    """
    _check_only(only)
    noxfile = _find_caller()
    text = _read(noxfile)
    root = Path(folder) if folder is not None else noxfile.parent
    theirs = nox.registry.get().keys() | find_declared(text)
    stages, hidden = _look_at_stages(root, alone=not theirs)
    missing = []
    for session in _make_sessions(root, prefix, stages):
        if only and session.command not in only:
            continue
        if session.name in theirs:
            missing.append(session.name)
        elif session.name.removeprefix(prefix) not in hidden or session.name in text:
            _add_session(session, prefix)
    _warn_of_missing(missing)
    _ask_uv_later()
    logging.getLogger("nox").addFilter(_answer_slip)


class _ProjectSession(NamedTuple):
    name: str
    command: str
    summary: str
    action: Callable[[list[str]], int]


def _look_at_stages(root: Path, *, alone: bool) -> tuple[Mapping[str, StageOutline], frozenset[str]]:
    """Return the stages, and the sessions to hide; files are read only if something that they hold will be shown.

    Nox without a selection shows a list, too, if no session is a default (``alone``: there are none but ours).
    """
    words = _nox_words()
    listed = asks_for_list(words) or (alone and not selects_sessions(words) and not os.environ.get("NOXSESSION"))
    if not listed and not any(word.startswith("--usage") for word in words):
        return dict.fromkeys(find_stages(root), StageOutline("")), frozenset()
    stages = {name: outline_stage(root / "stages" / name / "stage.toml") for name in find_stages(root)}
    return stages, find_pointless(root, stages) if listed else frozenset()


def _nox_words() -> list[str]:
    words = sys.argv[1:]
    return words[: words.index("--")] if "--" in words else words


def _make_sessions(root: Path, prefix: str, stages: Mapping[str, StageOutline]) -> Iterator[_ProjectSession]:
    taken = {command.name for command in COMMANDS}  # `push-models` also pushes a stage `models`
    for stage, outline in stages.items():
        for command in STAGE_COMMANDS:
            if f"{command.name}-{stage}" in taken:
                continue
            text = command.summary.replace("{stage}", stage).replace("{summary}", outline.summary)
            action = partial(run_command, command, root, stage)
            yield _ProjectSession(f"{prefix}{command.name}-{stage}", command.name, text, action)
    for command in COMMANDS:
        yield _ProjectSession(
            f"{prefix}{command.name}", command.name, command.summary, partial(run_command, command, root)
        )


def _add_session(project_session: _ProjectSession, prefix: str) -> None:
    def session(session: nox.Session) -> None:
        _quiet_libraries()
        with naming_commands(CommandNames(prefix)):
            code = project_session.action(session.posargs)
        if code:
            # Nox has one exit code for failures; ours distinguish a wrong definition (2) from a failed build (1)
            raise SystemExit(code)

    session.__doc__ = project_session.summary
    nox.session(name=project_session.name, python=False, venv_backend="none", default=False)(session)


class _LateBackends(Mapping[str, bool]):
    """Nox's table of optional backends, made when one of them is looked up: to make it, Nox runs uv."""

    def __getitem__(self, name: str) -> bool:
        if name == "none":
            raise KeyError(name)  # is none of them, and what our sessions have
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def _table(self) -> Mapping[str, bool]:
        table: Mapping[str, bool] = nox.virtualenv.__getattr__("OPTIONAL_VENVS")
        return table


def _ask_uv_later() -> None:
    """Start a session without asking uv for its version, which takes a tenth of a build with nothing to do.

    A Nox that makes the table when it is imported, or in another way, keeps it.
    """
    if "OPTIONAL_VENVS" not in vars(nox.virtualenv) and hasattr(nox.virtualenv, "__getattr__"):
        vars(nox.virtualenv)["OPTIONAL_VENVS"] = _LateBackends()


def _check_only(only: Collection[str]) -> None:
    known = sorted({command.name for command in (*COMMANDS, *STAGE_COMMANDS)})
    unknown = [only] if isinstance(only, str) else sorted(set(only) - set(known))
    if unknown:
        raise ValueError(
            f"register(only=…) is a list of commands, not {', '.join(unknown)}; there are {', '.join(known)}"
        )


def _warn_of_missing(names: list[str]) -> None:
    if names:
        logging.getLogger("nox").warning(
            f"This noxfile defines {', '.join(names)}, so buildkit's sessions of that name are missing: "
            "register(prefix=…) gives buildkit's other names, register(only=…) leaves some out."
        )


def _answer_slip(record: logging.LogRecord) -> bool:
    """Add what was meant to Nox's message about sessions that do not exist."""
    start, found, names = str(record.msg).partition("Sessions not found: ")
    if found and not start and "\n" not in names:
        from buildkit.cli.slips import explain_unknown

        answer = explain_unknown(names.split(", "), _nox_words(), nox.registry.get().keys())
        record.msg = f"{record.msg}\n{answer}"
    return True


def _quiet_libraries() -> None:
    """Show warnings of libraries only: Nox sets the root logger to DEBUG, and theirs would mix with the build's lines.

    ``nox --verbose`` sets a level of its own, which stays.
    """
    root = logging.getLogger()
    if root.level == logging.DEBUG:
        logging.getLogger("nox").setLevel(logging.DEBUG)
        root.setLevel(logging.WARNING)


def _find_caller() -> Path:
    """Return the noxfile that calls ``register``."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return Path(frame.f_code.co_filename).resolve() if frame is not None else Path.cwd() / "noxfile.py"


def _read(noxfile: Path) -> str:
    try:
        return noxfile.read_text("utf-8", errors="replace")
    except OSError:  # a program that calls register has no file
        return ""
