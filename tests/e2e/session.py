"""Run a session of a project as its noxfile would, without the fifth of a second that importing Nox takes.

``python session.py FOLDER SESSION [ARGUMENT …]``. The sessions themselves are made from the same table
(``buildkit.cli.commands``); ``tests/test_sessions.py``, ``tests/docs`` and ``tests/reference`` run them by Nox.
"""

import os
import sys
from pathlib import Path

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, run_command

folder, session, *arguments = sys.argv[1:]
os.chdir(folder)  # as Nox does
commands = {command.name: (command, ()) for command in COMMANDS}
for command in STAGE_COMMANDS:
    stage = session.removeprefix(f"{command.name}-")
    if session not in commands and stage != session and Path(f"stages/{stage}/stage.toml").exists():
        commands[session] = (command, (stage,))
if session not in commands:
    sys.exit(f"there is no session {session}")
command, stages = commands[session]
sys.exit(run_command(command, Path(folder), *stages, arguments))
