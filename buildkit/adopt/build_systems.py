"""Which build systems the packages of a repository need: those that their pyproject.toml names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from buildkit.adopt.draft import ImageDraft
from buildkit.adopt.survey import Survey
from buildkit.declare.toml import parse_toml

_FILE = "pyproject.toml"


def find_build_requirements(found: Survey, images: Iterable[ImageDraft]) -> tuple[str, ...]:
    """Return the requirements of the packages that the images install from the repository, each once.

    Raises DefinitionError for a pyproject.toml that is no TOML.
    """
    folders = dict.fromkeys(folder for image in images for folder in _folders(found, image))
    wanted: dict[str, None] = {}
    for folder in folders:
        system = _read(found, folder).get("build-system")
        requires = system.get("requires") if isinstance(system, dict) else None
        wanted |= dict.fromkeys(line for line in requires or () if isinstance(line, str))
    return tuple(wanted)


def _folders(found: Survey, image: ImageDraft) -> Iterator[str]:
    for line in image.wheels.lines:
        if re.match(r"\.{1,2}/|\.$|\.\[", line):
            yield posixpath.normpath(line.partition("[")[0])
    if not image.wheels.package:
        return
    for lock in image.wheels.locks:
        folder = posixpath.dirname(lock) or "."
        yield folder
        yield from _members(found, folder)


def _members(found: Survey, folder: str) -> Iterator[str]:
    """Yield the members of a workspace of uv."""
    table: Any = _read(found, folder)
    for key in ("tool", "uv", "workspace", "members"):
        table = table.get(key, {}) if isinstance(table, dict) else {}
    for pattern in table if isinstance(table, list) else ():
        yield from found.find(posixpath.normpath(posixpath.join(folder, str(pattern))))


def _read(found: Survey, folder: str) -> Mapping[str, Any]:
    path = posixpath.join(folder, _FILE)
    return parse_toml(found.read(path), path)
