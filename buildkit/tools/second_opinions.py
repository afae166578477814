"""Second opinions on model files from ``picklescan`` and ``modelaudit-picklescan``, if installed.

Each runs in its own process with limits on time and memory, because it reads hostile files.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from buildkit.errors import ToolError
from buildkit.tools.opinion_engines import Engine
from buildkit.tools.process import Command, run

_WORKER = Path(__file__).with_name("second_opinion_worker.py")
_SECONDS = 120
_MEMORY = 4 << 30
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Another scanner's verdict on a file: ``unsafe`` (None: no verdict), ``why``, and whether it ``failed``."""

    engine: Engine
    unsafe: bool | None
    why: str
    failed: bool = False


def ask(engine: Engine, path: Path, *, seconds: int = _SECONDS, memory: int = _MEMORY) -> Opinion:
    """Return an engine's verdict within ``seconds`` of processor time and ``memory`` bytes. Raises Interrupted.

    picklescan depends on the suffix, so ``path`` must have the file's real name.
    """
    argv = (sys.executable, "-P", str(_WORKER), engine.name, str(path), str(seconds), str(memory))
    try:
        done = run(Command(argv=argv, what=engine.name))
        answer = json.loads(done.stdout)
        unsafe, complete, issues = (
            bool(answer["unsafe"]),
            bool(answer["complete"]),
            [str(issue) for issue in answer["issues"]],
        )
    except ToolError as error:
        why = (error.output.splitlines() or [error.message])[-1]
        return Opinion(engine=engine, unsafe=None, why=f"{error.message}: {why}"[:_LONGEST], failed=True)
    except (ValueError, KeyError, TypeError):
        return Opinion(engine=engine, unsafe=None, why="its answer cannot be read", failed=True)
    if unsafe:
        return Opinion(engine=engine, unsafe=True, why=", ".join(issues)[:_LONGEST])
    if not complete:
        return Opinion(engine=engine, unsafe=None, why="it could not read all of it as pickles")
    return Opinion(engine=engine, unsafe=False, why="")
