"""The part of a pyproject.toml that dependencies are resolved from, without that of linters and descriptions."""

from __future__ import annotations

from typing import Any

from buildkit.declare.toml import parse_toml

_NEEDED = ("name", "version", "dependencies", "optional-dependencies", "requires-python", "dynamic")


def needed_tables(text: str, file: str) -> dict[str, Any]:
    """Return what a pyproject.toml says of dependencies and how they are resolved. Raises DefinitionError."""
    table = parse_toml(text, file)
    project, tools = table.get("project"), table.get("tool")
    needed = {key: project[key] for key in _NEEDED if key in project} if isinstance(project, dict) else {}
    resolvers = {key: tools[key] for key in ("uv", "poetry") if key in tools} if isinstance(tools, dict) else {}
    return {"project": needed, "groups": table.get("dependency-groups", {}), "tool": resolvers}
