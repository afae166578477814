"""Second opinions on model files from ``picklescan`` and ``modelaudit-picklescan``, if installed.

Each runs in its own process with limits on time and memory, because it reads hostile files.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from buildkit.errors import ToolError
from buildkit.tools.process import Command, run

ENGINES = {"picklescan": "picklescan", "modelaudit-picklescan": "modelaudit_picklescan"}
_WORKER = Path(__file__).with_name("second_opinion_worker.py")
_SECONDS = 120
_MEMORY = 4 << 30
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Another scanner: name and version of its distribution."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """Another scanner's verdict on a file: ``unsafe`` (None: no verdict), and ``why``."""

    engine: Engine
    unsafe: bool | None
    why: str


def find_engines() -> tuple[Engine, ...]:
    """Return the scanners that can be imported."""
    found = []
    for name, module in ENGINES.items():
        if find_spec(module) is not None:
            try:
                found.append(Engine(name=name, version=version(name)))
            except PackageNotFoundError:
                found.append(Engine(name=name, version=""))
    return tuple(found)


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
        return Opinion(engine=engine, unsafe=None, why=f"{error.message}: {why}"[:_LONGEST])
    except (ValueError, KeyError, TypeError):
        return Opinion(engine=engine, unsafe=None, why="its answer cannot be read")
    if unsafe:
        return Opinion(engine=engine, unsafe=True, why=", ".join(issues)[:_LONGEST])
    if not complete:
        return Opinion(engine=engine, unsafe=None, why="it could not read all of it as pickles")
    return Opinion(engine=engine, unsafe=False, why="")
