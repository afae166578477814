"""Packages of the repository itself (``./libs/x``): name and version from their own pyproject.toml."""

from __future__ import annotations

import posixpath

from buildkit.declare.toml import find_table, parse_toml
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.requirement_inputs import Read
from buildkit.locks.requirements_txt import DescribeLocal


def make_describe_local(read: Read) -> DescribeLocal:
    """Return a function from a path to name and version (empty if the build backend computes it).

    It raises DefinitionError for a path without a pyproject.toml that names its project (PEP 621, or Poetry's).
    """

    def describe(path: str) -> tuple[str, str]:
        file = posixpath.normpath(f"{path}/pyproject.toml")
        text = read(file)
        if text is None:
            problem = Problem(file=file, what="there is no such file", hint="a package needs one, with [project] name")
            raise DefinitionError.of([problem])
        table = parse_toml(text, file)
        project, poetry = find_table(table, "project"), find_table(table, "tool", "poetry")
        name = project.get("name", poetry.get("name"))
        version = project.get("version", poetry.get("version", ""))
        if not isinstance(name, str) or not isinstance(version, str):
            raise DefinitionError.of([Problem(file=file, key="project.name", what="is missing")])
        return name, version

    return describe
