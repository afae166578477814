"""Lock requirements and choose their files until the two agree on Requires-Python.

uv ignores upper bounds and exclusions of Requires-Python, on purpose (https://docs.astral.sh/uv/concepts/resolution/,
"Requires-Python upper bounds"), and locks a version that the images' Python may not have. pip takes an older one. So
such versions are excluded, and the requirements resolved again.
"""

from __future__ import annotations

from dataclasses import replace

from buildkit.errors import ToolError
from buildkit.events import Emit, Note
from buildkit.resolve.request import LockDrafts, LockRequest
from buildkit.resolve.requirements import Resolve, lock_requirements
from buildkit.resolve.wheels import Choose, ExcludedByPythonError, lock_wheels

_MOST_ROUNDS = 16  # each excludes all versions that the indexes say the Python may not have
_UNSATISFIABLE = ("No solution found", "ResolutionImpossible", "No matching distribution")


def lock_packages(
    request: LockRequest, drafts: LockDrafts, resolve: Resolve, choose: Choose, emit: Emit, *, upgrade: bool
) -> None:
    """Decide every stale requirements lock and wheels lock (with ``upgrade``, every one).

    Raises as `lock_requirements` and `lock_wheels` do.
    """
    refused: ExcludedByPythonError | None = None
    for _ in range(_MOST_ROUNDS):
        try:
            lock_requirements(request, drafts, resolve, emit, upgrade=upgrade and refused is None)
        except ToolError as error:
            if refused is not None and any(words in error.output for words in _UNSATISFIABLE):
                raise refused from error  # the inputs allow no other version
            raise
        try:
            for each in request.of_each_arch():
                lock_wheels(each, drafts, choose, emit)
        except ExcludedByPythonError as error:
            refused = error
        else:
            return
        for problem in refused.problems:
            emit(Note(text=f"{problem.file}: {problem.what}: looking for an older version", warning=True))
        request = replace(request, excluded=(*request.excluded, *refused.versions))
    assert refused is not None  # noqa: S101 - every round but a successful one sets it
    raise refused
