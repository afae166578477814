"""What ``nox -l`` shows of a project's stages, and which sessions a noxfile defines. Only the standard library is used.

Stage files are read, not checked: a mistake in one is reported by the session that needs it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REFERENCE_SERVICE = "stages/runtime/app/detector.py"  # what `bench-serve` measures: it sends speech

_LIST = re.compile(r"-[rRvxlN]*l[rRvxlN]*|--list(-sessions)?")  # -l, also among other options of one letter
_SELECT = re.compile(r"-[rRvxlN]*[skt].*|--(sessions?|tags|keywords)(=.*)?")


class StageOutline(NamedTuple):
    """A stage: the line that describes it, its base, and whether it ships or starts something of its own."""

    summary: str
    base: str = ""
    ships: bool = False
    starts: bool = False


_UNREADABLE = StageOutline("its stage file cannot be read", ships=True, starts=True)  # the session tells why


def find_stages(folder: Path) -> tuple[str, ...]:
    """Return the names of the stages below a project's folder, sorted; loading them reports a name that is wrong."""
    names = (path.parent.name for path in folder.glob("stages/*/stage.toml"))
    return tuple(sorted(name for name in names if name.isprintable()))


def outline_stage(path: Path) -> StageOutline:
    """Read a stage file; one that cannot be read yields an outline all the same."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return _UNREADABLE
    summary = table.get("summary")
    return StageOutline(
        summary="".join(filter(str.isprintable, summary)) if isinstance(summary, str) else "no summary",
        base=str(table.get("from", "")),
        ships=table.get("ships") is True,
        starts=bool(_table(table, "config").keys() & {"cmd", "entrypoint"} or "image" in _table(table, "root")),
    )


def _table(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def find_pointless(folder: Path, stages: Mapping[str, StageOutline]) -> frozenset[str]:
    """Return the sessions that a list omits: ``push-`` of what does not ship, ``run-`` where nothing would start.

    And ``bench-serve`` where the reference service is not.
    """
    idle = {f"run-{name}" for name in stages if not any(stages[link].starts for link in _chain(name, stages))}
    kept = {f"push-{name}" for name, stage in stages.items() if not stage.ships}
    return frozenset(idle | kept | (set() if (folder / REFERENCE_SERVICE).exists() else {"bench-serve"}))


def _chain(name: str, stages: Mapping[str, StageOutline]) -> Iterator[str]:
    seen: set[str] = set()
    while name in stages and name not in seen:
        yield name
        seen.add(name)
        name = stages[name].base


def asks_for_list(words: Sequence[str]) -> bool:
    """Return whether arguments of Nox ask for a list of sessions."""
    return any(map(_LIST.fullmatch, words))


def selects_sessions(words: Sequence[str]) -> bool:
    """Return whether arguments of Nox select sessions; without, it runs the defaults, or lists all if there is none."""
    return any(map(_SELECT.fullmatch, words))


def find_declared(noxfile: str) -> frozenset[str]:
    """Return the names of the sessions that the text of a noxfile declares, above or below the call of ``register``."""
    try:
        tree = ast.parse(noxfile)
    except (SyntaxError, ValueError):
        return frozenset()
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(name for function in functions for name in _session_names(function))


def _session_names(function: ast.FunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        if ast.unparse(called).rpartition(".")[2] != "session":  # nox.session, session, and those of plugins
            continue
        words = decorator.keywords if isinstance(decorator, ast.Call) else []
        given = [word.value.value for word in words if word.arg == "name" and isinstance(word.value, ast.Constant)]
        yield str(given[0]) if given else function.name
