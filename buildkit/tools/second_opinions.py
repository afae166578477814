"""Second opinions on model files: ``picklescan`` and ``modelaudit-picklescan``, where they are installed.

They are asked in a process of their own with limits of time and memory: they read hostile files, too.
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
    """Another scanner: distribution and version."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What another scanner says of a file: ``unsafe``, or None where it has no opinion, and ``why``."""

    engine: Engine
    unsafe: bool | None
    why: str


def find_engines() -> tuple[Engine, ...]:
    """Those that can be imported here."""
    found = []
    for name, module in ENGINES.items():
        if find_spec(module) is not None:
            try:
                found.append(Engine(name=name, version=version(name)))
            except PackageNotFoundError:
                found.append(Engine(name=name, version=""))
    return tuple(found)


def ask(engine: Engine, path: Path, *, seconds: int = _SECONDS, memory: int = _MEMORY) -> Opinion:
    """An engine's opinion of a file, within ``seconds`` of processor time and ``memory`` bytes; raises Interrupted.

    picklescan goes by the name's end: give the file the name that it has.
    """
    argv = (sys.executable, "-P", str(_WORKER), engine.name, str(path), str(seconds), str(memory))
    try:
        done = run(Command(argv=argv, what=engine.name))
        said = json.loads(done.stdout)
        unsafe, complete, issues = bool(said["unsafe"]), bool(said["complete"]), [str(one) for one in said["issues"]]
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
