"""Which folders of a project are watched: those of staged files with all below, and those of all tracked files."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from buildkit.tools.git import list_files


def find_watched_folders(folder: Path, sources: Iterable[str], rules: Iterable[str] = ()) -> tuple[set[str], set[str]]:
    """Return the folders of the project at ``folder`` to watch with all below, and those to watch alone.

    ``sources`` are staged files, ``rules`` paths of the user's own rules. Folders without tracked files, such as
    virtual environments, are not watched, unless they are in a folder of staged files.
    """
    listing = list_files(folder, ".")
    if listing is None:
        return {"."}, set()
    extra = set(rules)
    own = {posixpath.dirname(source) for source in sources} | {path for path in extra if (folder / path).is_dir()}
    deep = {path for path in own - {"", "."} if own.isdisjoint(_above(path))}
    shallow = {".", ".git"} | _folders(listing.tracked) | {posixpath.dirname(path) or "." for path in extra}
    return deep, {path for path in shallow if path not in deep and deep.isdisjoint(_above(path))}


def _above(path: str) -> list[str]:
    """Return the folders that a path is in, without the project's own."""
    return [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]


def _folders(names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        parent = posixpath.dirname(name)
        while parent and parent not in found:
            found.add(parent)
            parent = posixpath.dirname(parent)
    return found
