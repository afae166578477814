"""Refuses a cache that another user could have prepared, by the rules of OpenSSH and git, and closes ours to others.

Whoever can write to the cache, or replace it through a folder above, decides what images hold. So every folder and link
on the way belongs to the user or to root, and nobody else may write there; folders with the sticky bit (``/tmp``) are
fine, because what lies in them has an owner of its own. The user's private group (of the same name, with no other
member) is the user.

For root the owner of ``$HOME`` counts as the user, too: root reads settings and credentials there anyway. CI containers
and sudo are such cases. In a user namespace, owners without a mapping show as one number; they are trusted above the
cache if ``/`` has it, because the host's root then looks the same.

``BUILDKIT_TRUSTED_FOLDERS`` (separated by colons) excuses folders and all below them, as git's ``safe.directory``
does. It is the user's environment that decides, never the repository.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from buildkit.errors import BuildError

VARIABLE = "BUILDKIT_TRUSTED_FOLDERS"
_OURS = ("sha256", "files", "tmp", "locks", "boxes", "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm",
         "ledger.sqlite-journal")  # fmt: skip
_MOST_LINKS = 40  # as the kernel


def ensure_private(
    folder: Path, ours: Iterable[str] = _OURS, what: str = "cache", mover: str = "BUILDKIT_CACHE"
) -> None:
    """Create a folder for the user alone; take away from others what they may only read in an older one.

    ``what`` it is, ``ours`` are the names that we make in it, and the variable ``mover`` names another place. Raises
    BuildError if another user could change what is in it, and OSError.
    """
    _make(folder)
    excused, users, visited = _excused_folders(), trusted_users(), list(_walk(folder))
    above, (real, found) = {*users, visited[0][1].st_uid}, visited[-1]
    if not stat.S_ISDIR(found.st_mode):
        raise BuildError(f"{real} is not a folder, and so no {what}", hint=f"move the {what}: {mover}=/path")
    refuse = partial(_refuse, folder, what=what, mover=mover)
    for path, status in visited:
        if not _is_below(path, excused):
            is_cache = path == real and not stat.S_ISLNK(status.st_mode)
            problem = find_writers(path, status, users) if is_cache else _find_writers_above(path, status, above)
            refuse(path, problem)
    for name in ours:
        path = f"{real}/{name}"
        with suppress(FileNotFoundError):
            status = os.stat(path)  # noqa: PTH116 - runs in every build
            if not _is_below(path, excused):
                refuse(path, find_writers(path, status, users))
                _tighten(path, status)


def may_others_change(file: Path) -> bool:
    """Return whether another user could change a file, or what leads to it, by the rules of a cache. Raises OSError."""
    excused, users, visited = _excused_folders(), trusted_users(), list(_walk(file))
    above = {*users, visited[0][1].st_uid}
    path, status = visited.pop()
    writers = [(path, find_writers(path, status, users))]
    writers += [(path, _find_writers_above(path, status, above)) for path, status in visited]
    return any(problem and not _is_below(path, excused) for path, problem in writers)


def trusted_users() -> frozenset[int]:
    """Return the user ids that may own what this process relies on."""
    user = os.geteuid()
    if user:
        return frozenset({user, 0})
    with suppress(OSError, RuntimeError):
        return frozenset({0, Path.home().stat().st_uid})
    return frozenset({0})


def _excused_folders() -> list[str]:
    return [os.path.normpath(Path(entry).absolute()) for entry in os.environ.get(VARIABLE, "").split(":") if entry]


def _is_below(path: str, folders: Collection[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every folder and link that leads to ``folder``, itself last; ends at the first that does not exist."""
    at, parts, links = "/", [*reversed(folder.parts[1:])], 0
    yield at, os.lstat(at)
    while parts:
        part = parts.pop()
        if part in ("", ".", ".."):
            at = os.path.dirname(at) if part == ".." else at  # noqa: PTH120
            continue
        path = f"{at.rstrip('/')}/{part}"
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return
        yield path, status
        if not stat.S_ISLNK(status.st_mode):
            at = path
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(path)  # noqa: PTH115
        at = "/" if target.startswith("/") else at
        parts += reversed(target.split("/"))


def find_writers(path: str, status: os.stat_result, users: Collection[int]) -> tuple[str, str] | None:
    """Return who else could change ``path``, and the command that mends it, without the path; None if nobody could."""
    if status.st_uid not in users:
        return f"user {status.st_uid} owns it", f"chown {os.geteuid()}"
    if status.st_mode & stat.S_IWOTH:
        return "every user may write to it", "chmod o-w"
    if status.st_mode & stat.S_IWGRP and not _is_private_group(path, status):
        return f"group {status.st_gid} may write to it", "chmod g-w"
    return None


def _find_writers_above(path: str, status: os.stat_result, users: Collection[int]) -> tuple[str, str] | None:
    """Return the same for a folder or link that leads to the cache: who may only add to a folder replaces nothing."""
    has_owners = stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX
    return None if has_owners and status.st_uid in users else find_writers(path, status, users)


def _refuse(folder: Path, path: str, problem: tuple[str, str] | None, *, what: str, mover: str) -> None:
    if problem:
        why, mend = problem
        place = "" if path == str(folder) else f"{path}: "
        if what == "cache" and _is_below(path, [os.path.realpath(folder)]):  # files of layers keep owners and modes
            mend = mend.replace(" ", " -R ", 1)
        raise BuildError(
            f"{folder}: this {what} is not used: {place}{why}, and could change what images hold",
            hint=f"if nobody did: {mend} {shlex.quote(path)}; "
            f"if you trust all who can: export {VARIABLE}={shlex.quote(path)}; or move the {what}: {mover}=/path",
        )


def _is_private_group(path: str, status: os.stat_result) -> bool:
    """Return whether only the owner is in the group, as Debian's OpenSSH decides; a list of other users says no."""
    import grp
    import pwd

    with suppress(OSError):
        if os.getxattr(path, "system.posix_acl_access"):
            return False
    try:
        group, user = grp.getgrgid(status.st_gid), pwd.getpwuid(status.st_uid)
    except KeyError:
        return False
    alone = group.gr_gid == user.pw_gid and group.gr_name == user.pw_name
    return alone and set(group.gr_mem) <= {user.pw_name}


def _make(folder: Path) -> None:
    """Create the folder and those above it for the user alone, as the XDG specification demands, whatever the umask."""
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    for path in reversed(missing):
        with suppress(FileExistsError):
            path.mkdir(0o700)


def _tighten(path: str, status: os.stat_result) -> None:
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        with suppress(OSError):  # a file system without modes, which was accepted above
            os.chmod(path, stat.S_IMODE(status.st_mode) & 0o700)  # noqa: PTH101
