"""Walk a poetry.lock of lock-version 2.0 or 1.1, which has what packages need, from what ``[tool.poetry]`` names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.toml import Table, find_table
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.requirements_txt import normalise_name


@dataclass(frozen=True, slots=True)
class _Need:
    """A need for a package: PEP 440 versions (empty: any), marker, and extras of it."""

    name: str
    versions: str
    marker: str
    extras: tuple[str, ...]


def find_needed(lock: Table, pyproject: Table, choice: LockChoice) -> Iterator[tuple[Table, str]]:
    """Yield each package that the choice needs, with a marker. Raises DefinitionError for what cannot be decided."""
    packages = _by_name(lock)
    ways: dict[tuple[str, str], list[frozenset[str]]] = {}
    todo = [(need, frozenset[str]()) for need in _roots(find_table(pyproject, "tool", "poetry"), choice)]
    needs: dict[str, list[_Need]] = {}
    while todo:
        need, above = todo.pop()
        markers = above | {need.marker} - {""}
        needs.setdefault(need.name, []).append(replace(need, marker=_and(*sorted(markers))))
        for extra in ("", *need.extras):
            known = ways.setdefault((need.name, extra), [])
            if any(way <= markers for way in known):
                continue  # it is reached in at least these environments
            known.append(markers)
            for package in packages.get(need.name, ()):
                todo += [(one, markers) for one in _needs_of(package, extra)]
    for name, found in needs.items():
        yield from _versions(packages.get(name, []), found, choice)


def _versions(packages: list[Table], needs: list[_Need], choice: LockChoice) -> Iterator[tuple[Table, str]]:
    """Yield the versions of one project, each with the marker of the environments that it is for."""
    if len(packages) == 1:
        yield packages[0], _or([need.marker for need in needs])
        return
    versions = [str(package.get("version", "")) for package in packages]
    apart = [need for need in needs if not all(_allows(need.versions, version) for version in versions)]
    for package, version in zip(packages, versions, strict=True):
        markers = [need.marker for need in apart if _allows(need.versions, version)]
        if not markers or "" in markers:
            what = f"has {len(packages)} versions of {package.get('name')}; only Poetry 2 writes down which is for what"
            raise DefinitionError.of([Problem(file=choice.file, what=what, hint="with Poetry 2, run: poetry lock")])
        yield package, _or(markers)


def _by_name(lock: Table) -> dict[str, list[Table]]:
    found: dict[str, list[Table]] = {}
    listed = lock.get("package")
    for package in listed if isinstance(listed, list) else ():
        if isinstance(package, dict):
            found.setdefault(normalise_name(str(package.get("name", ""))), []).append(package)
    return found


def _roots(poetry: Table, choice: LockChoice) -> Iterator[_Need]:
    if not choice.only_groups:
        chosen = {
            normalise_name(str(name).partition("[")[0].split()[0])
            for extra, names in find_table(poetry, "extras").items()
            if normalise_name(extra) in {normalise_name(word) for word in choice.extras}
            for name in names
        }
        for name, need, optional in _read(find_table(poetry, "dependencies")):
            if name != "python" and (not optional or name in chosen):
                yield need
    groups = {normalise_name(name): table for name, table in find_table(poetry, "group").items()}
    if "dev-dependencies" in poetry:
        groups.setdefault("dev", {"dependencies": poetry["dev-dependencies"]})
    for group in choice.only_groups or choice.groups:
        for _, need, _ in _read(find_table(groups, normalise_name(group), "dependencies")):
            yield need


def _needs_of(package: Table, extra: str) -> Iterator[_Need]:
    """Yield what a package needs: with no extra what it always needs, with one what that adds."""
    for _, need, optional in _read(find_table(package, "dependencies")):
        named = re.findall(r"extra\s*==\s*[\"']([^\"']+)[\"']", need.marker)
        if (extra == "" and not named and not optional) or (
            extra and normalise_name(extra) in map(normalise_name, named)
        ):
            yield _Need(need.name, need.versions, _without_extra(need.marker), need.extras)


def _read(table: Mapping[str, object]) -> Iterator[tuple[str, _Need, bool]]:
    """Yield the needs of a table of dependencies, and whether each is optional."""
    for key, value in table.items():
        name = normalise_name(key)
        for entry in value if isinstance(value, list) else [value]:
            spec = entry if isinstance(entry, dict) else {"version": str(entry)}
            markers = [str(spec.get("markers", "")), _python_marker(str(spec.get("python", "")))]
            if "platform" in spec:
                markers.append(f"sys_platform == '{spec['platform']}'")
            need = _Need(name, specifier(str(spec.get("version", ""))), _and(*markers), tuple(spec.get("extras", ())))
            yield name, need, spec.get("optional") is True


def specifier(constraint: str) -> str:
    """Return Poetry's constraint (``^1.2``, ``~1.2``, ``1.2``, ``>=1,<2``) as PEP 440; unions have `` || ``."""
    return " || ".join(
        ",".join(_plain(part.strip()) for part in one.replace(" ", ",").split(",") if part.strip() not in ("", "*"))
        for one in re.split(r"\s*\|\|?\s*", re.sub(r"([<>=!~^]+)\s+", r"\1", constraint.strip()))
    )


def _plain(part: str) -> str:
    if part[0] in "^~" and not part.startswith("~="):
        numbers = [int(word) for word in re.findall(r"\d+", part)]
        last = 0 if part[0] == "~" and len(numbers) == 1 else 1
        if part[0] == "^":
            last = next((place for place, number in enumerate(numbers) if number), len(numbers) - 1)
        return f">={part[1:]},<{'.'.join(map(str, [*numbers[:last], numbers[last] + 1]))}"
    return f"=={part}" if part[0].isdigit() else part


def _allows(versions: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return not versions or any(SpecifierSet(one).contains(version, prereleases=True) for one in versions.split(" || "))


def _python_marker(constraint: str) -> str:
    """Return the marker for a constraint on Python."""
    from packaging.specifiers import SpecifierSet

    if not constraint:
        return ""
    unions = [
        _and(
            *(f"{_variable(one.version)} {one.operator} '{one.version}'" for one in sorted(SpecifierSet(each), key=str))
        )
        for each in specifier(constraint).split(" || ")
    ]
    return _or(unions)


def _without_extra(marker: str) -> str:
    """Return a marker for which the extra that it names is chosen."""
    return re.sub(r"extra\s*==\s*[\"'][^\"']+[\"']", "python_version >= '0'", marker)


def _and(*markers: str) -> str:
    parts = list(dict.fromkeys(marker for marker in markers if marker))
    return " and ".join(f"({part})" if " or " in part else part for part in parts)


def _or(markers: list[str]) -> str:
    return "" if "" in markers else " or ".join(f"({marker})" for marker in dict.fromkeys(markers))


def _variable(version: str) -> str:
    return "python_full_version" if version.count(".") > 1 else "python_version"
