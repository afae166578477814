"""Indexes and find-links that requirements inputs name themselves, as in ``--extra-index-url``.

Settings of this machine need not have them. A lock names no index, so the sidecar says where files from there are.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from buildkit.locks.requirement_inputs import Read, included_path
from buildkit.locks.requirements_txt import logical_lines

_SOURCE = re.compile(r"(?:(-i|--index-url|--extra-index-url)|-f|--find-links)(?:\s*=\s*|\s+)(\S+)")


@dataclass(frozen=True, slots=True)
class InputSources:
    """URLs of indexes, and find-links: URLs, or paths relative to the repository. URLs may contain credentials."""

    indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()


def find_input_sources(files: Iterable[str], read: Read) -> InputSources:
    """Return what the inputs ``files``, and the files that they include, name."""
    seen: set[str] = set()
    found = [pair for file in files for pair in _find(file, read, seen)]
    indexes = dict.fromkeys(place for is_index, place in found if is_index)
    links = dict.fromkeys(place for is_index, place in found if not is_index)
    return InputSources(tuple(indexes), tuple(links))


def _find(file: str, read: Read, seen: set[str]) -> Iterator[tuple[bool, str]]:
    if file in seen:
        return
    seen.add(file)
    for _, line in logical_lines(read(file) or ""):
        if included := included_path(line):
            yield from _find(posixpath.normpath(posixpath.join(posixpath.dirname(file), included)), read, seen)
        elif source := _SOURCE.fullmatch(line):
            is_path = "://" not in source[2]
            place = posixpath.normpath(posixpath.join(posixpath.dirname(file), source[2])) if is_path else source[2]
            yield bool(source[1]), place
