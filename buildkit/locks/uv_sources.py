"""Requirements of inputs that ``[tool.uv.sources]`` of the checkout gives a source of their own.

uv applies that table to the dependencies of a pyproject.toml alone, and takes the same name in a requirements file from
any index: https://docs.astral.sh/uv/concepts/projects/dependencies/#dependency-sources. Somebody else's package may
have the name there. So a source that names an index counts for inputs, too, and other sources are refused.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from buildkit.declare.toml import find_table, parse_toml
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.requirement_inputs import Read, find_sourced_packages, included_path
from buildkit.locks.requirements_txt import logical_lines, normalise_name

_PYPROJECT = "pyproject.toml"
_CONSTRAINTS = re.compile(r"-c|--constraint\b")
_REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)(?=\s*(?:$|[\[<>=!~;( -]))(?!\s*(?:\[[^]]*\]\s*)?@)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcedRequirement:
    """A line of an input whose project has a source: ``file`` and ``line``, the requirement, and the entries."""

    file: str
    line: int
    name: str
    text: str
    entries: tuple[Mapping[str, Any], ...]


def find_sourced(file: str, read: Read) -> tuple[SourcedRequirement, ...]:
    """Return the requirements of an input, and of the files that it includes, that have a source."""
    sources = _read_sources(read)
    return tuple(_find(file, read, sources, set())) if sources else ()


def find_source_problems(file: str, read: Read, locker: str) -> list[Problem]:
    """Return a problem for each requirement whose source the locker would pass over."""
    packages = find_sourced_packages(file, read) if locker != "uv" else {}
    return [
        Problem(
            file=package,
            key=f"tool.uv.sources.{name}",
            what=f"{locker} does not know it, and would take `{name}` of any index",
            hint='set locker = "uv", or list its folder in the input and remove the source',
        )
        for package, names in packages.items()
        for name in names
    ] + [
        Problem(file=f"{found.file}:{found.line}", what=what, hint=hint)
        for found in find_sourced(file, read)
        for what, hint in _judge(found, locker)
    ]


def _judge(found: SourcedRequirement, locker: str) -> Iterator[tuple[str, str]]:
    what = f"`{found.name}` has a source in [tool.uv.sources] of {_PYPROJECT}, which"
    if locker != "uv":
        yield f"{what} {locker} does not know", 'set locker = "uv", or remove the source'
        return
    for entry in found.entries:
        if "path" in entry:
            path = posixpath.normpath(str(entry["path"]))
            yield f"{what} uv does not apply to inputs", f"write its folder instead of its name: ./{path}"
        elif "workspace" in entry:
            yield (
                f"{what} uv does not apply to inputs",
                "write its folder instead of its name, as in: ./libs/x",
            )
        elif "git" in entry:
            rev = entry.get("rev") or entry.get("tag") or entry.get("branch") or "REVISION"
            yield f"{what} uv does not apply to inputs", f"write: {found.name} @ git+{entry['git']}@{rev}"
        elif "index" not in entry:
            yield f"{what} no lock can hold", "put the package below the checkout, and write its folder: ./libs/x"


def _read_sources(read: Read) -> dict[str, tuple[Mapping[str, Any], ...]]:
    text = read(_PYPROJECT) or ""
    if "sources" not in text:
        return {}
    try:
        table = find_table(parse_toml(text, _PYPROJECT), "tool", "uv", "sources")
    except DefinitionError:
        return {}  # reported where the file is read for its settings
    return {
        normalise_name(name): tuple(item for item in entries if isinstance(item, dict))
        for name, entry in table.items()
        for entries in [entry if isinstance(entry, list) else [entry]]
    }


def _find(
    file: str, read: Read, sources: Mapping[str, tuple[Mapping[str, Any], ...]], seen: set[str]
) -> Iterator[SourcedRequirement]:
    if file in seen:
        return
    seen.add(file)
    for number, line in logical_lines(read(file) or ""):
        if included := included_path(line):
            if not _CONSTRAINTS.match(line):
                place = posixpath.normpath(posixpath.join(posixpath.dirname(file), included))
                yield from _find(place, read, sources, seen)
        elif (named := _REQUIREMENT.match(line)) and (entries := sources.get(normalise_name(named[1]))):
            text = line.partition(" --")[0].strip()
            yield SourcedRequirement(file=file, line=number, name=named[1], text=text, entries=entries)
