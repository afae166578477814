"""Indexes and find-links that requirements inputs name themselves, as in ``--extra-index-url``.

Settings of this machine need not have them. A lock names no index, so the sidecar says where files from there are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from buildkit.locks.requirement_inputs import Read, included_path
from buildkit.locks.requirements_txt import logical_lines

_SOURCE = re.compile(r"(?:(-i|--index-url|--extra-index-url)|-f|--find-links)(?:\s*=\s*|\s+)(\S+)")


@dataclass(frozen=True, slots=True)
class InputSources:
    """URLs of indexes, and find-links: URLs, or paths relative to the repository. URLs may contain credentials.

    ``no_index`` says that no index of the settings counts.
    """

    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False


def find_input_sources(files: Iterable[str], read: Read) -> InputSources:
    """Return what the inputs ``files``, and the files that they include, name."""
    seen: set[str] = set()
    found = [source for file in files for source in _find(file, read, seen)]
    indexes = dict.fromkeys(source.place for source in found if source.is_index)
    links = dict.fromkeys(source.place for source in found if not source.is_index)
    return InputSources(tuple(filter(None, indexes)), tuple(links), no_index="" in indexes)


def find_linked_folders(file: str, read: Read) -> Iterator[tuple[str, str]]:
    """Yield each path of find-links, relative to the repository or absolute, with the line that names it."""
    for source in _find(file, read, set()):
        place = source.place.removeprefix("file://")
        if not source.is_index and "://" not in place:
            yield place, source.at


class _Source(NamedTuple):
    """A source, and the line that names it; no place of an index stands for ``--no-index``."""

    place: str
    at: str
    is_index: bool


def _find(file: str, read: Read, seen: set[str]) -> Iterator[_Source]:
    if file in seen:
        return
    seen.add(file)
    for number, line in logical_lines(read(file) or ""):
        if included := included_path(line):
            yield from _find(posixpath.normpath(posixpath.join(posixpath.dirname(file), included)), read, seen)
        elif line == "--no-index":
            yield _Source("", f"{file}:{number}", is_index=True)
        elif source := _SOURCE.fullmatch(line):
            is_path = "://" not in source[2]
            place = posixpath.normpath(posixpath.join(posixpath.dirname(file), source[2])) if is_path else source[2]
            yield _Source(place, f"{file}:{number}", is_index=bool(source[1]))
