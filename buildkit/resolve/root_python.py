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
        return ()
    found = [
        (apt_lock_path(entry.file), release)
        for entry in request.apt
        for release in find_releases_of(entry.file, drafts.read, target)
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
