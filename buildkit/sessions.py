"""The Nox sessions, made from the table of commands. The only importer of ``nox``.

The noxfile of another repository needs two lines::

    from buildkit.sessions import register

    register()

A session imports what it needs when it runs, so that listing the sessions takes milliseconds.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path

import nox

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, CliCommand, run_command

__all__ = ["register"]


def register(folder: Path | str | None = None) -> None:
    """Register the sessions of the project in ``folder`` (default: the folder of the noxfile that calls this).

    There are ``build-STAGE``, ``push-STAGE`` and ``run-STAGE`` for every ``stages/STAGE/stage.toml``, and one session
    for every command, such as ``build``, ``plan`` and ``lock``. Stage files are not parsed here: a mistake in one is
    reported by the session that needs it.
    """
    root = Path(folder) if folder is not None else _find_caller()
    for path in sorted(root.glob("stages/*/stage.toml")):
        stage = path.parent.name
        if not stage.isprintable():  # loading the stages reports it
            continue
        summary = read_summary(path)
        for command in STAGE_COMMANDS:
            text = command.summary.replace("{stage}", stage).replace("{summary}", summary)
            _add_session(f"{command.name}-{stage}", text, _stage_action(command, root, stage))
    for command in COMMANDS:
        _add_session(command.name, command.summary, _action(command, root))


Action = Callable[[list[str]], int]


def _action(command: CliCommand, root: Path) -> Action:
    return lambda arguments: run_command(command, root, arguments)


def _stage_action(command: CliCommand, root: Path, stage: str) -> Action:
    return lambda arguments: run_command(command, root, stage, arguments)


def _add_session(name: str, summary: str, action: Action) -> None:
    def session(session: nox.Session) -> None:
        _quiet_libraries()
        code = action(session.posargs)
        if code:
            # Nox has one exit code for failures; ours distinguish a wrong definition (2) from a failed build (1)
            raise SystemExit(code)

    session.__doc__ = summary
    nox.session(name=name, python=False, venv_backend="none")(session)


def _quiet_libraries() -> None:
    """Show warnings of libraries only: Nox sets the root logger to DEBUG, and theirs would mix with the build's lines.

    ``nox --verbose`` sets a level of its own, which stays.
    """
    root = logging.getLogger()
    if root.level == logging.DEBUG:
        logging.getLogger("nox").setLevel(logging.DEBUG)
        root.setLevel(logging.WARNING)


def read_summary(path: Path) -> str:
    """Return the line ``summary = "…"`` of a stage file without parsing TOML: listing is quick and never fails."""
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:
        return "cannot be read"
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "summary":
            return "".join(filter(str.isprintable, value.strip().strip("\"'")))
    return "no summary"


def _find_caller() -> Path:
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return Path(frame.f_code.co_filename).resolve().parent if frame is not None else Path.cwd()
