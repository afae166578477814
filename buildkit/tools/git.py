"""git: the files of a checkout and its commit."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from buildkit.errors import ToolError
from buildkit.lazy_dataclass import dataclass
from buildkit.tools.process import Command, run

# "… of the parent directories)"; if a repository is lost, git names its place instead
_NO_REPOSITORY = b"not a git repository (or any"

_EMPTY = b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git's id of an empty file


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkTreeFiles:
    """Paths relative to the listed folder: files that git tracks, and files that it neither tracks nor ignores.

    ``skipped`` are tracked files that a sparse checkout leaves out. A submodule is one tracked path, of its folder.
    """

    tracked: tuple[str, ...]
    untracked: tuple[str, ...]
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """The checked-out commit: id, time (seconds since the epoch), and whether tracked files differ."""

    id: str
    time: int
    dirty: bool


def find_commit(folder: Path) -> Commit | None:
    """Return the commit of a work tree, compared with its files below ``folder``; None without git or a commit."""
    log = _ask(folder, "log", "-1", "--format=%H %ct", "HEAD")
    if log is None:
        return None
    name, _, seconds = log.decode().strip().partition(" ")
    changes = _ask(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all", "--", ".")
    return Commit(id=name, time=int(seconds), dirty=changes is None or bool(changes.strip()))


def find_commit_time(folder: Path, commit: str) -> int | None:
    """Return the time of a commit, by its whole id, in seconds since the epoch; None if the repository lacks it."""
    log = _ask(folder, "log", "-1", "--format=%H %ct", commit, "--")
    name, _, seconds = (log or b"").decode().strip().partition(" ")
    return int(seconds) if name == commit else None


def list_changed(folder: Path) -> tuple[str, ...]:
    """Return files below ``folder`` that differ from the commit, relative to it; none outside a repository."""
    changed = _ask(folder, "diff", "--name-only", "--no-ext-diff", "--relative", "-z", "HEAD", "--", ".")
    return tuple(filter(None, (changed or b"").decode("utf-8", "surrogateescape").split("\0")))


def _ask(folder: Path, *words: str) -> bytes | None:
    """Return git's output about a work tree, or None if it fails."""
    safe = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "log.showSignature=false")
    env = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"}
    finished = run(Command(argv=("git", *safe, *words), cwd=folder, env=env, accept=(0, 128), what=f"git {words[0]}"))
    return finished.stdout if finished.code == 0 else None


def list_files(folder: Path, path: str) -> WorkTreeFiles | None:
    """Return the files of a work tree below ``folder``/``path``, or None if ``folder`` is not inside one.

    Raises ToolError for a work tree that git cannot list, because its files must not be guessed.
    """
    command = Command(
        argv=(
            "git",
            "--literal-pathspecs",  # a folder may be called `*`
            "-c", "safe.directory=*",  # the owner of a checkout does not change what is tracked
            "-c", "core.fsmonitor=false",  # never start a program that its configuration names
            "ls-files",
            "-z",  # names may hold anything
            "-t",  # H: tracked, S: tracked and skipped, ?: not tracked
            "--cached", "--others", "--exclude-standard",
            "--", path,
        ),
        cwd=folder,
        env={"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C.UTF-8"},
        accept=(0, 128),
        what=f"git, listing the files of {path},",
    )  # fmt: skip
    finished = run(command)
    if finished.code == 128:
        if _NO_REPOSITORY in finished.stderr and not _has_git_folder(folder):
            return None
        raise ToolError(
            f"{command.what} failed",
            hint="repair the repository: otherwise ignored files would get into images",
            output=finished.stderr.decode("utf-8", "replace").strip(),
        )
    rows = [os.fsdecode(row) for row in finished.stdout.split(b"\0") if row]
    return WorkTreeFiles(
        tracked=_names(row for row in rows if row[0] != "?"),
        untracked=_names(row for row in rows if row[0] == "?"),
        skipped=_names(row for row in rows if row[0] == "S"),
    )


def is_submodule(folder: Path, path: str) -> bool:
    """Return whether git tracks ``path`` of a work tree as a submodule: as a commit of another repository."""
    listed = _ask(folder, "--literal-pathspecs", "ls-files", "--stage", "-z", "--", path)
    return (listed or b"").startswith(b"160000 ")


def make_repository(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Make ``folder`` a work tree that tracks ``names``; return the environment in which git uses it.

    Contents are not read: the index lists every file as empty. The environment matters if another repository's is set,
    as in git's hooks. Raises ToolError.
    """
    place = folder / ".git"
    env = {
        "GIT_DIR": str(place),
        "GIT_WORK_TREE": str(folder),
        "GIT_INDEX_FILE": str(place / "index"),
        "GIT_OBJECT_DIRECTORY": str(place / "objects"),
        "GIT_DEFAULT_HASH": "sha1",  # as _EMPTY is
    }
    index = b"".join(b"100644 %s\t%s\0" % (_EMPTY, os.fsencode(name)) for name in names)
    what = f"git, which is to track {folder},"
    run(Command(argv=("git", "init", "--quiet"), cwd=folder, env=env, what=what))
    run(Command(argv=("git", "update-index", "-z", "--index-info"), cwd=folder, env=env, stdin=index, what=what))
    return env


def _has_git_folder(folder: Path) -> bool:
    """Return whether there is a ``.git`` that git does not recognise, and that is damaged."""
    return any(os.path.lexists(place / ".git") for place in (folder, *folder.resolve().parents))


def _names(rows: Iterable[str]) -> tuple[str, ...]:
    """Return the names sorted, each once: a file in conflict is listed with every stage of its merge."""
    return tuple(sorted({row[2:] for row in rows}))
