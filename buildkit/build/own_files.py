"""The repository's own files, which links must not replace by files of the machine."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from buildkit.errors import DefinitionError

_GIT = ".git"  # its settings may hold credentials


def own_path(root: Path, name: str, what: str) -> Path:
    """Return the path of ``name``, relative to the repository at ``root``; ``what`` names its use in messages.

    The file need not exist. Raises DefinitionError if the path, or a link in it, leads out of the repository or into
    git's own folder.
    """
    path = root / name
    home, place = os.path.realpath(root), os.path.realpath(path)
    inside = os.path.relpath(place, home)
    if inside == os.pardir or inside.startswith(f"{os.pardir}/") or inside.split("/")[0] == _GIT:
        raise DefinitionError(
            f"{name}: {what} leads out of the repository's files, to {place}",
            hint="put the file itself there, or remove the link",
        )
    return path


def is_below(name: str, folder: str) -> bool:
    """Return whether a name is that of ``folder`` (a file, too) or of something in it, both relative."""
    whole, above = posixpath.normpath(name), posixpath.normpath(folder)
    if above == ".":
        return whole.split("/", 1)[0] != ".."
    return whole == above or whole.startswith(f"{above}/")
