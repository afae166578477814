"""What git tracks and a checkout lacks: left out of a sparse checkout, or in a submodule that is not fetched."""

from __future__ import annotations

import os
import posixpath
from itertools import accumulate
from pathlib import Path

from buildkit.errors import ToolError
from buildkit.tools.git import is_submodule, list_files


def find_unfetched(root: Path, place: str) -> dict[str, str]:
    """Return what is missing at ``place``, or the submodule that it is in, each with the command that fetches it.

    Raises ToolError for a work tree that git cannot list: what it lacks must not be guessed, either.
    """
    for above in accumulate(place.split("/"), posixpath.join):
        if _is_unfetched(root, above):
            return {above: _fetching(above)}
    folder, missing = root / place, dict[str, str]()
    prefix = f"{place}/" if folder.is_dir() else ""
    try:
        listing = list_files(folder, ".") if prefix else list_files(root, place)
    except ToolError:
        if folder.resolve() == root.resolve() or not (folder / ".git").exists():
            raise
        listing = None  # what came with the files of a model, and is no repository
    if listing is None:  # no work tree of git, or a folder behind a link that leads out of it
        return {}
    for name in listing.tracked:
        path = f"{prefix}{name}"
        if name in listing.skipped and not os.path.lexists(root / path):
            missing[path] = f"git sparse-checkout add {posixpath.dirname(path) or path}"
        elif _is_unfetched(root, path):
            missing[path] = _fetching(path)
    return missing


def _is_unfetched(root: Path, path: str) -> bool:
    folder = root / path
    if not folder.is_dir() or (folder / ".git").exists() or any(folder.iterdir()):
        return False
    return is_submodule(folder.parent, folder.name)


def _fetching(path: str) -> str:
    return f"git submodule update --init -- {path}"
