"""The console script ``xoe-buildkit``, also ``python -m buildkit``: every session as a command, with its options.

``xoe-buildkit plan runtime`` runs what ``nox -s plan -- runtime`` runs, and ``xoe-buildkit build runtime --frozen``
what ``nox -s build-runtime -- --frozen`` does, for the project in the current folder or the nearest one above it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import buildkit
from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, run_command
from buildkit.cli.guard import guarded
from buildkit.command_names import CommandNames, naming_commands
from buildkit.errors import DefinitionError

_ALL = {command.name: command for command in COMMANDS}
_OF_STAGES = {command.name: command for command in STAGE_COMMANDS}
_STAGE_SUMMARIES = {
    "build": "Build every image that ships, or one stage ([STAGE], --push REF, --json FILE).",
    "push": "Push a stage to a registry, built first if needed (STAGE REF).",
    "run": "Run a stage in a restricted container, built first if needed (STAGE, --print, --port N).",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments (default: those of the process) name; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(render_help())
        return 0
    if words[0] == "--version":
        sys.stdout.write(f"xoe-buildkit {buildkit.__version__}\n")
        return 0
    with naming_commands(CommandNames(console=True)):
        return _run(words[0], words[1:])


def _run(name: str, arguments: list[str]) -> int:
    folder = find_project(Path.cwd())
    command, _, stage = name.partition("-")
    if name not in _ALL and command in _OF_STAGES and stage:  # as sessions are called
        name, arguments = command, [stage, *arguments]
    if name in _OF_STAGES and arguments and not arguments[0].startswith("-"):
        return run_command(_OF_STAGES[name], folder, arguments[0], arguments[1:])
    if name in _ALL:
        return run_command(_ALL[name], folder, arguments)
    return guarded(lambda: _fail(name, arguments))


def find_project(folder: Path) -> Path:
    """Return the nearest folder, from this one upward, that has stages; this one if none has."""
    return next((place for place in (folder, *folder.parents) if any(place.glob("stages/*/stage.toml"))), folder)


def _fail(name: str, arguments: Sequence[str]) -> None:
    if name not in _OF_STAGES:
        raise DefinitionError(f"there is no command `{name}`", hint=_suggest(name))
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(f"usage: xoe-buildkit {name} STAGE …\n{_STAGE_SUMMARIES[name]}\n")
        return
    raise DefinitionError(f"{name}: the stage is missing", hint=f"xoe-buildkit {name} STAGE …")


def _suggest(name: str) -> str:
    from buildkit.declare.schema import suggest_word

    return suggest_word(name, sorted(_ALL | _OF_STAGES)) or "xoe-buildkit --help lists the commands"


def render_help() -> str:
    """Return the text of ``--help``: usage, and one line for every command."""
    summaries = {command.name: command.summary.replace("(-- ", "(") for command in COMMANDS} | _STAGE_SUMMARIES
    width = max(map(len, summaries))
    lines = [f"  {name:{width}}  {summaries[name].replace(', -- ', ', ')}" for name in sorted(summaries)]
    return "\n".join(
        (
            "usage: xoe-buildkit COMMAND [ARGUMENT …]",
            "",
            "Compose container images of the project in the current folder.",
            "",
            *lines,
            "",
            "xoe-buildkit COMMAND --help describes the arguments of a command, --version prints the version.",
            "",
        )
    )
