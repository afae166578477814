"""The console script ``xoe-buildkit``, also ``python -m buildkit``: every session as a command, with its options.

``xoe-buildkit plan runtime`` runs what ``nox -s plan -- runtime`` runs, and ``xoe-buildkit build runtime --frozen``
what ``nox -s build-runtime -- --frozen`` does, for the project in the current folder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import buildkit
from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, run_command
from buildkit.cli.guard import guarded
from buildkit.cli.options import called_from_console
from buildkit.errors import DefinitionError

_ALL = {command.name: command for command in COMMANDS}
_OF_STAGES = {command.name: command for command in STAGE_COMMANDS}
_STAGE_SUMMARIES = {
    "build": "Build every image that ships, or one stage ([STAGE], --push REF, --json FILE).",
    "push": "Build a stage and push it to a registry (STAGE REF).",
    "run": "Build a stage and run it, hardened (STAGE, --print, --port N).",
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
    with called_from_console():
        return _run(words[0], words[1:])


def _run(name: str, arguments: list[str]) -> int:
    folder = Path.cwd()
    if name in _OF_STAGES and arguments and not arguments[0].startswith("-"):
        return run_command(_OF_STAGES[name], folder, arguments[0], arguments[1:])
    if name in _ALL:
        return run_command(_ALL[name], folder, arguments)
    return guarded(lambda: _fail(name, arguments))


def _fail(name: str, arguments: Sequence[str]) -> None:
    if name not in _OF_STAGES:
        raise DefinitionError(f"there is no command `{name}`", hint="xoe-buildkit --help lists the commands")
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(f"usage: xoe-buildkit {name} STAGE …\n{_STAGE_SUMMARIES[name]}\n")
        return
    raise DefinitionError(f"{name}: the stage is missing", hint=f"xoe-buildkit {name} STAGE …")


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
