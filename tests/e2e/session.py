"""Run a session of a project as its noxfile would, without the fifth of a second that importing Nox takes.

``python session.py FOLDER SESSION [ARGUMENT …]``. The sessions themselves are made from the same table
(``buildkit.cli.commands``); ``tests/test_sessions.py``, ``tests/docs`` and ``tests/reference`` run them by Nox.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, CliCommand, run_command


def run_session(folder: str, session: str, arguments: Sequence[str]) -> int:
    """Run the session and return its exit code; the process works in the folder from then on, as Nox does."""
    os.chdir(folder)
    commands: dict[str, tuple[CliCommand, tuple[str, ...]]] = {command.name: (command, ()) for command in COMMANDS}
    for command in STAGE_COMMANDS:
        stage = session.removeprefix(f"{command.name}-")
        if session not in commands and stage != session and Path(f"stages/{stage}/stage.toml").exists():
            commands[session] = (command, (stage,))
    if session not in commands:
        sys.exit(f"there is no session {session}")
    command, stages = commands[session]
    return run_command(command, Path(folder), *stages, arguments)


if __name__ == "__main__":
    sys.exit(run_session(sys.argv[1], sys.argv[2], sys.argv[3:]))
