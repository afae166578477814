"""A pyproject.toml as an input of requirements: the project itself with extras, its dependency groups, or both.

The text is that of an ``.in`` file, which exists nowhere on disk; its lock does.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.toml import Table, find_table, parse_toml
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.requirements_txt import normalise_name


def render_project_input(choice: LockChoice, text: str) -> str:
    """Return the requirements that ``choice`` takes from the ``text`` of its pyproject.toml. Raises DefinitionError."""
    table = parse_toml(text, choice.file)
    project, extras = find_table(table, "project"), _normalised(find_table(table, "project", "optional-dependencies"))
    groups = find_table(table, "dependency-groups")
    _check(choice, "extra", choice.extras, extras)
    _check(choice, "group", (*choice.groups, *choice.only_groups), _normalised(groups))
    lines: list[str] = []
    if choice.project and not choice.only_groups:
        chosen = f"[{','.join(choice.extras)}]" if choice.extras else ""
        lines.append(f"./{choice.folder}{chosen}")
    elif not choice.only_groups:
        lists = (project.get("dependencies", ()), *(extras[normalise_name(name)] for name in choice.extras))
        lines += [str(line) for listed in lists if isinstance(listed, list) for line in listed]
    sources = _normalised(find_table(table, "tool", "uv", "sources"))
    return "".join(f"{_from_git(line, sources)}\n" for line in (*lines, *_expand(choice, groups)))


def _from_git(line: str, sources: Mapping[str, object]) -> str:
    """Return a requirement with the git repository that ``[tool.uv.sources]`` names for it, if there is one."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = Requirement(line)
    except InvalidRequirement:
        return line  # the resolver refuses it
    source = sources.get(normalise_name(wanted.name))
    if not isinstance(source, dict) or "git" not in source or wanted.url:
        return line
    revision = next((f"@{source[key]}" for key in ("rev", "tag", "branch") if key in source), "")
    folder = f"#subdirectory={source['subdirectory']}" if "subdirectory" in source else ""
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    marker = f" ; {wanted.marker}" if wanted.marker else ""
    return f"{wanted.name}{extras} @ git+{source['git']}{revision}{folder}{marker}"


def _expand(choice: LockChoice, groups: Table) -> tuple[str, ...]:
    """Return the requirements of the groups, with those that they include (PEP 735)."""
    from packaging.dependency_groups import resolve_dependency_groups

    names = (*choice.groups, *choice.only_groups)
    try:
        return tuple(resolve_dependency_groups(groups, *names)) if names else ()
    except Exception as error:  # of several kinds, some of them groups of exceptions
        causes = getattr(error, "exceptions", (error,))
        problems = [Problem(file=choice.file, key="dependency-groups", what=str(cause)) for cause in causes]
        raise DefinitionError.of(problems) from error


def _check(choice: LockChoice, kind: str, asked: Iterable[str], known: Mapping[str, object]) -> None:
    problems = [
        Problem(file=choice.file, what=f"has no {kind} `{name}`", hint=f"it has: {', '.join(sorted(known)) or 'none'}")
        for name in asked
        if normalise_name(name) not in known
    ]
    if problems:
        raise DefinitionError.of(problems)


def _normalised(table: Table) -> dict[str, object]:
    return {normalise_name(name): value for name, value in table.items()}


def find_shown(file: str, choices: Mapping[str, LockChoice]) -> str:
    """Return the name of an input for a message: a file on disk."""
    return choices[file].file if file in choices else posixpath.normpath(file)
