"""The release of Python in Debian roots, which a full version in the settings (``python = "3.13.5"``) must name."""

from __future__ import annotations

from buildkit.errors import Problem
from buildkit.locks.apt_lock import apt_lock_path
from buildkit.locks.root_release import find_releases_of
from buildkit.resolve.request import LockDrafts, LockRequest


def check_root_python(request: LockRequest, drafts: LockDrafts) -> tuple[Problem, ...]:
    """Return a problem for each apt lock whose Python is another release than the target's.

    Markers and Requires-Python are judged by the target's, and the image would run the other.
    """
    target = request.target
    if not target.is_exact:
        return _check_archs(request, drafts)
    found = [
        (apt_lock_path(entry.file, each.lock_arch), release)
        for entry in request.apt
        for each in (target, *request.others)
        for release in find_releases_of(entry.file, drafts.read, each)
    ]
    differ = target.python in {release for _, release in found}
    return tuple(
        Problem(
            file="pyproject.toml",
            key="tool.buildkit.python",
            what=f"is {target.python}, and {lock} has Python {release}",
            hint="roots differ; refresh their locks: nox -s lock -- --upgrade-apt"
            if differ
            else f'set: python = "{release}"',
        )
        for lock, release in dict.fromkeys(found)
        if release != target.python
    )


def _check_archs(request: LockRequest, drafts: LockDrafts) -> tuple[Problem, ...]:
    """Return a problem for each apt list whose locks have several releases of Python: a requirements lock is of one."""
    problems = []
    for entry in request.apt:
        locks = {
            apt_lock_path(entry.file, target.lock_arch): find_releases_of(entry.file, drafts.read, target)
            for target in (request.target, *request.others)
            if drafts.read(apt_lock_path(entry.file, target.lock_arch)) is not None
        }
        if len(set(locks.values())) > 1:
            what = "; ".join(f"{lock} has Python {' and '.join(found) or 'none'}" for lock, found in locks.items())
            hint = "the archive has them at different times; run: nox -s lock -- --upgrade-apt"
            problems.append(Problem(file=entry.file, what=f"its locks differ: {what}", hint=hint))
    return tuple(problems)
