"""Which files belong to a tree of a checkout: those that git tracks, or all, without those in .containerignore.

What is left out is said: new files that git does not track, and, for copies, those that git ignores.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from buildkit.errors import DefinitionError
from buildkit.events import Emit, Note
from buildkit.tools.git import WorkTreeFiles, list_files

_BYTECODE = "__pycache__"
_BY_PRODUCTS = (_BYTECODE, "node_modules", "venv")  # of tools; so are folders that begin with a dot
_BY_PRODUCT_ENDS = (".pyc", ".egg-info", ".dist-info")
_MOST_NAMES = 5


class TreeListing:
    """Lists trees of the project at ``folder``; ``ignored`` decides by paths relative to it.

    ``copied`` trees are those of `[[copy]]`; ``untracked`` takes what git does not track, too.
    """

    def __init__(
        self,
        folder: Path,
        emit: Emit,
        ignored: Callable[[str], bool],
        *,
        copied: bool = False,
        untracked: bool = False,
    ) -> None:
        self._folder = folder
        self._emit = emit
        self._ignored = ignored
        self._copied = copied
        self._untracked = untracked

    def names(self, place: str) -> list[str]:
        """Return the project-relative paths of the files of ``place``. A submodule may be listed as its folder.

        Raises DefinitionError for what a sparse checkout left out.
        """
        listing = self._git(place)
        if listing is None:
            if not self._untracked:
                self._emit(Note(text=f"{place}: not in a git repository, so every file is taken", warning=True))
            return self._kept(self._every(place))
        for name in listing.skipped:
            if not self._ignored(name) and not os.path.lexists(self._folder / name):
                hint = f"run: git sparse-checkout add {posixpath.dirname(name) or name}, or list it in .containerignore"
                raise DefinitionError(f"{name}: left out of this sparse checkout", hint=hint)
        if self._untracked:
            return self._kept(sorted({*listing.tracked, *self._every(place)}))
        new = self._kept(listing.untracked)
        if new:
            more = f" and {len(new) - 1} more" if len(new) > 1 else ""
            self._emit(Note(text=f"{new[0]}{more}: not tracked by git, so left out (git add it)", warning=True))
        if self._copied:
            self._report_ignored(place, listing)
        return self._kept(listing.tracked)

    def _kept(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not self._ignored(name)]

    def _every(self, place: str) -> list[str]:
        return ([] if (self._folder / place).is_dir() else [place]) + _walk(self._folder, place)

    def _report_ignored(self, place: str, listing: WorkTreeFiles) -> None:
        """Name what git ignores beside the tracked files; the caches of tools are left out of the images anyway."""
        found = [
            name
            for name in _find_others(self._folder, place, listing)
            if not _is_by_product(name) and not self._ignored(name.rstrip("/")) and not self._ignored(f"{name}x")
        ]
        if found:
            more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
            text = f"{', '.join(found[:_MOST_NAMES])}{more}: ignored by git, so left out of the copy of {place}"
            hint = "(`untracked = true` takes such files; .containerignore settles that they stay out)"
            self._emit(Note(text=f"{text} {hint}", warning=True))

    def _git(self, place: str) -> WorkTreeFiles | None:
        """Return tracked, untracked and skipped paths, or None outside a repository.

        The nearest repository is asked: a submodule knows its own files.
        """
        parents = [folder.as_posix() for folder in (Path(place), *Path(place).parents)]
        nearest = next((folder for folder in parents if (self._folder / folder / ".git").exists()), ".")
        listing = list_files(self._folder / nearest, os.path.relpath(place, nearest))
        if listing is None or nearest == ".":
            return listing
        tracked, untracked, skipped = (
            tuple(f"{nearest}/{name}" for name in names)
            for names in (listing.tracked, listing.untracked, listing.skipped)
        )
        return WorkTreeFiles(tracked=tracked, untracked=untracked, skipped=skipped)


def _find_others(folder: Path, place: str, listing: WorkTreeFiles) -> Iterator[str]:
    """Yield what is beside tracked files and is neither tracked nor new; a folder ends in a slash.

    That reads the folders of tracked files alone, and needs no second run of git.
    """
    tracked = {posixpath.normpath(name) for name in listing.tracked}
    folders = _parents(tracked, place)
    known = tracked | folders | {*listing.untracked} | _parents(listing.untracked, place)
    for name in sorted(folders):
        if not (folder / name).is_dir() or name in tracked:
            continue
        at = posixpath.normpath(name)
        prefix = "" if at == "." else f"{at}/"
        with os.scandir(folder / name) as entries:
            others = sorted(prefix + entry.name for entry in entries if entry.name != ".git")
        for path in others:
            if path in known:
                continue
            is_folder = (folder / path).is_dir()  # which a link in a circle is not
            if not (is_folder and not _walk(folder, path)):
                yield f"{path}/" if is_folder else path


def _parents(names: Iterable[str], place: str) -> set[str]:
    """Return the folders above files, as far as ``place``."""
    found = {place}
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        parent = folder or "."
        while parent not in found and len(parent) > 1:
            found.add(parent)
            parent = posixpath.dirname(parent) or "."
    return found


def _is_by_product(name: str) -> bool:
    """Return whether an ignored name is that of a tool's cache or of an environment."""
    last = posixpath.basename(name.rstrip("/"))
    is_hidden_folder = name.endswith("/") and last.startswith(".")
    return is_hidden_folder or last in _BY_PRODUCTS or last.endswith(_BY_PRODUCT_ENDS)


def _walk(folder: Path, path: str) -> list[str]:
    paths = []
    for parent, folders, names in os.walk(folder / path):
        folders[:] = sorted(name for name in folders if name not in (".git", _BYTECODE))
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118
        own = (name for name in names + links if name != ".git")  # a submodule's is a file
        paths += [os.path.relpath(os.path.join(parent, name), folder) for name in own]  # noqa: PTH118 - hot
    return paths
