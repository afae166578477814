"""Where the source of a `[[copy]]` is: one rule for names next to the stage file and names in the repository.

- ``/x`` is ``x`` in the repository, as in .gitignore and in a Dockerfile's COPY.
- ``.``, ``./x`` and ``../x`` are relative to the stage's folder.
- ``x`` is next to the stage file or in the repository; if both exist, the user must say which.
"""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from buildkit.declare.schema import find_similar
from buildkit.declare.stage import Stage
from buildkit.errors import DefinitionError, Problem

_RULE = "a name is looked up next to the stage file and in the repository; `/NAME` means the repository alone"
_MOST_ENTRIES = 1000  # of a folder that is searched for a similar name


def locate_source(folder: Path, stage: Stage, source: str) -> str:
    """Return the path of a copy's source, relative to the project at ``folder``.

    Raises DefinitionError, with the nearest name, if there is no such file, and if there are two.
    """
    places = _candidates(stage, source)
    found = [place for place in places if os.path.lexists(folder / place)]
    if len(found) == 1:
        return found[0]
    if found:
        near, whole = found
        what = f"`{source}` is next to the stage file, {near}, and in the repository, {whole}"
        hint = f'write source = "./{source}" for the first or "/{source}" for the second'
    else:
        what = f"there is no {' and no '.join(places)} in the repository"
        hint = _suggest(folder, places)
    raise DefinitionError.of([Problem(file=stage.file, key="copy.source", what=what, hint=hint)])


def _candidates(stage: Stage, source: str) -> tuple[str, ...]:
    near = posixpath.normpath(posixpath.join(stage.folder, source))
    whole = posixpath.normpath(source.lstrip("/") or ".")
    if source.startswith("/"):
        return (whole,)
    return (near,) if source.split("/")[0] in (".", "..") else (near, whole)


def _suggest(folder: Path, places: tuple[str, ...]) -> str:
    """Return a hint that names the most similar path beside those that do not exist, or one for patterns."""
    if any(set("*?[") & set(place) for place in places):
        return "patterns are not read; name the folder, and list what to leave out in .containerignore"
    suggestions = (suggest_path(folder, place) for place in places)
    return next(filter(None, suggestions), "") or _RULE


def suggest_path(folder: Path, path: str) -> str:
    """Return a hint that names the most similar path below ``folder`` to one that does not exist there, or nothing."""
    near = ""
    for name in path.rstrip("/").split("/"):
        place = posixpath.join(near, name)
        if not os.path.lexists(folder / place):
            similar = find_similar(name, _names(folder / near))
            if similar is None:
                break
            place = posixpath.join(near, similar)
        near = place
    return f"did you mean `{near}`?" if near and not f"{path}/".startswith(f"{near}/") else ""


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry, _ in zip(entries, range(_MOST_ENTRIES), strict=False))
    except OSError:
        return []
