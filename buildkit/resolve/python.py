"""Make the lock of the images' own Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from buildkit.declare.target import Target
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, step
from buildkit.locks.pins import PythonArchive
from buildkit.locks.python_lock import PYTHON_LOCK, find_stale_python, parse_python_lock, render_python_lock
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.tools.standalone_python import ListedPython, choose_python

ListPythons = Callable[[Path], tuple[ListedPython, ...]]
PinPython = Callable[[ListedPython, Path], PythonArchive]


def find_stale_own_python(request: LockRequest, drafts: LockDrafts) -> Problem | None:
    """Return the problem of the lock, or None; a project whose Python is the root's needs none."""
    if not request.target.standalone:
        return None
    problems = (find_stale_python(drafts.read(PYTHON_LOCK), each.target) for each in request.of_each_arch())
    return next(filter(None, problems), None)


def lock_python(
    request: LockRequest, drafts: LockDrafts, list_pythons: ListPythons, pin: PinPython, emit: Emit, *, upgrade: bool
) -> None:
    """Decide the lock if it is stale, or with ``upgrade``: the newest release that the settings allow.

    Processors that the lock has already stay in it, at the same release; ``upgrade`` asks for their archives again,
    because a build that meets other bytes points to it. Raises what ``list_pythons`` and ``pin`` do,
    and DefinitionError for a release that the list has not.
    """
    target = request.target
    old = _old(drafts)
    if not target.standalone or not (upgrade or find_stale_own_python(request, drafts)):
        return
    with step(emit, "lock python", "lock"):
        listed = list_pythons(request.root)
        ours = [each.target.arch for each in request.of_each_arch()]
        wanted = dict.fromkeys((*ours, *(one.arch for one in old)))
        chosen = _keep(listed, old, target) if not upgrade else None
        first = chosen or choose_python(listed, target.python, target.arch)
        same = (one for one in old if (one.version, one.build) == (first.version, first.build))
        kept = {} if upgrade else {one.arch: one for one in same}
        archives = [kept.get(arch) or pin(_same_release(listed, first, arch), request.root) for arch in wanted]
    drafts.decide(PYTHON_LOCK, render_python_lock(tuple(archives), target))


def _old(drafts: LockDrafts) -> tuple[PythonArchive, ...]:
    try:
        return parse_python_lock(drafts.read(PYTHON_LOCK) or "")
    except DefinitionError:
        return ()


def _keep(listed: tuple[ListedPython, ...], old: tuple[PythonArchive, ...], target: Target) -> ListedPython | None:
    """Return the locked release for the target's processor, if the settings still ask for it and the list has it."""
    locked = next((one for one in old if target.python in (one.version, one.version.rpartition(".")[0])), None)
    same = (one for one in listed if locked and (one.version, one.build) == (locked.version, locked.build))
    return next((one for one in same if one.arch == target.arch), None)


def _same_release(listed: tuple[ListedPython, ...], first: ListedPython, arch: str) -> ListedPython:
    for one in listed:
        if (one.version, one.build, one.arch) == (first.version, first.build, arch):
            return one
    raise DefinitionError(
        f"uv's list has Python {first.version} for {first.arch}, and none for {arch}",
        hint=f"ask for another release, or remove {arch} from `arch` in [tool.buildkit] and from {PYTHON_LOCK}",
    )
