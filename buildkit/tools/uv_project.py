"""Export a choice of a uv.lock with ``uv export``, which applies uv's own rules: extras, groups, members, conflicts.

uv also says whether the lock is in step with its projects. The interpreter that it is given starts no build backend,
and says that it is the target's Python, because the host's need not fit the project (`PythonTrap`).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from buildkit.declare.lock_choice import LockChoice
from buildkit.errors import DefinitionError, Problem, ToolError
from buildkit.tools.process import Command, run
from buildkit.tools.python_trap import HostBuildError, PythonTrap
from buildkit.tools.resolver import uv_program

_STALE = re.compile(r"needs to be updated|No solution found|network was disabled|Failed to fetch")
_ERROR = re.compile(r"^\s*error:\s*(.+)$", re.MULTILINE)
_OF_CHOICE = re.compile(r"^(?:Extras? |Groups? |The workspace does not have|Failed to parse|.*declared conflicts)")
_UNREADABLE = "Failed to parse `uv.lock`"
_PLACE = re.compile(r"TOML parse error at (line \d+, column \d+)")
_REGISTRY = re.compile(r'^source = \{ registry = "(https?://[^"\s]+)" \}$', re.MULTILINE)
_FOLDER = re.compile(r'^source = \{ registry = "([^":]+)" \}$', re.MULTILINE)
_CALLERS = {
    "UV_FROZEN": "0",
    "UV_LOCKED": "0",
    "NO_COLOR": "1",
    "VIRTUAL_ENV": "",
}  # a caller's settings change nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """A request to export ``choice`` of the repository at ``root`` for a full version of Python (``3.13.5``).

    With ``host_builds``, build backends of local packages may run on this host.
    """

    root: Path
    choice: LockChoice
    python: str
    host_builds: bool = False


def export_lock(request: ExportRequest) -> str:
    """Return what is chosen as the text of a pylock.toml, with paths relative to the folder of the uv.lock.

    Raises DefinitionError if the lock is not in step with its projects, or lacks what is chosen; HostBuildError if a
    build backend would have to run; else ToolError or MissingTool. Asks no index if the lock is in step.
    """
    failure = _try(request, _offline(request))
    if isinstance(failure, str):
        return failure
    if isinstance(failure, ToolError):  # perhaps uv had to ask an index, so it is left to its own settings
        again = _try(request, {})
        if isinstance(again, str):
            return again
        failure = failure if isinstance(again, HostBuildError) else again
    raise _explain(failure, request.choice) if isinstance(failure, ToolError) else failure


def _try(request: ExportRequest, env: Mapping[str, str]) -> str | ToolError | HostBuildError | DefinitionError:
    """Return what uv exports, or its failure."""
    choice = request.choice
    with tempfile.TemporaryDirectory(prefix="buildkit-export-") as folder:
        trap = None if request.host_builds else PythonTrap(Path(folder)).set_up(request.python)
        argv = (*uv_program(), "export", *_options(choice), *(("--python", str(trap.program)) if trap else ()))
        command = Command(
            argv=argv, env={**_CALLERS, **env}, cwd=request.root / choice.folder, what=f"exporting {choice} with uv"
        )  # fmt: skip
        try:
            return run(command).stdout.decode("utf-8", "replace")
        except ToolError as error:
            said = _ERROR.search(error.output)
            if said and said[1] == _UNREADABLE:
                return DefinitionError.of([_find_broken(choice, error.output)])
            if said and _OF_CHOICE.search(said[1]):
                return DefinitionError.of([Problem(file=choice.file, what=f"uv cannot take this choice: {said[1]}")])
            if "missing hashes" in error.output:
                what = "has files without hashes, so it pins no bytes"
                hint = "its index gives none; lock from one that does"
                return DefinitionError.of([Problem(file=choice.file, what=what, hint=hint)])
            tree = trap.find_caught() if trap else None
            return error if tree is None else _refuse(choice, tree, error)


def _find_broken(choice: LockChoice, output: str) -> Problem:
    """Return the problem of a lock that is no TOML, most often with the marks of a merge."""
    place = _PLACE.search(output)
    what = f"uv cannot read it{f' ({place[1]})' if place else ''}"
    hint = f"if a merge left it so, run: git checkout HEAD -- {choice.file} && uv lock"
    return Problem(file=choice.file, what=what, hint=hint)


def _offline(request: ExportRequest) -> dict[str, str]:
    """Return the variables with which uv compares lock and projects, and asks nobody.

    It is given the indexes of the lock, because a lock of an index that the settings do not name is not in step for uv:
    a mirror of this machine says nothing about that.
    """
    text = (request.root / request.choice.file).read_text("utf-8", "replace")
    indexes = (*os.environ.get("UV_INDEX", "").split(), *sorted(set(_REGISTRY.findall(text))))
    folder = request.root / request.choice.folder
    links = (os.environ.get("UV_FIND_LINKS", ""), *(str(folder / path) for path in sorted(set(_FOLDER.findall(text)))))
    return {"UV_OFFLINE": "1", "UV_INDEX": " ".join(indexes), "UV_FIND_LINKS": ",".join(filter(None, links))}


def _refuse(choice: LockChoice, tree: Path, error: ToolError) -> HostBuildError:
    return HostBuildError(
        f"{choice.file}: whether it is in step with {tree} is known to its build backend only, which would run here",
        tree=str(tree),
        hint="write its dependencies into [project]; if you trust it: nox -s lock -- --allow-host-builds",
        output=error.output,
    )


def _options(choice: LockChoice) -> tuple[str, ...]:
    return (
        "--locked",                              # refuse a lock that is not in step
        "--format", "pylock.toml",
        "--no-header",
        "--no-progress",
        "--no-python-downloads",
        "--no-default-groups",                   # an image gets the groups that its stage names
        *(("--package", choice.package) if choice.package else ()),
        *(word for name in choice.extras for word in ("--extra", name)),
        *(word for name in choice.groups for word in ("--group", name)),
        *(word for name in choice.only_groups for word in ("--only-group", name)),
        *(() if choice.project else ("--no-emit-workspace",)),
    )  # fmt: skip


def _explain(error: ToolError, choice: LockChoice) -> DefinitionError | ToolError:
    """Return the error for people: that the lock is not in step with its projects, if that is what uv says."""
    if not _STALE.search(error.output):
        return error
    where = f" in {choice.folder}" if choice.folder else ""
    what = "is not in step with pyproject.toml: what is needed has changed since it was made"
    return DefinitionError.of([Problem(file=choice.file, what=what, hint=f"run{where}: uv lock")])
