"""Which tests a change concerns: those whose imports, followed through the application's files, reach it."""

from __future__ import annotations

import ast
import fnmatch
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

TESTS = ("test_*.py", "*_test.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file, the dotted names by which it may be imported, and the names that it imports."""

    path: str
    names: frozenset[str]
    imports: frozenset[str]


def parse_imports(text: str, package: str) -> frozenset[str]:
    """Return the dotted names that a module's text imports, anywhere in it; of ``from a import b`` also ``a.b``.

    ``package`` is the dotted name of the folder, for relative imports. Raises SyntaxError.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            found.add(base)
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return frozenset(found - {""})


def load_imports(folders: Iterable[str]) -> list[Source]:
    """Return every Python file below the folders; one that does not parse imports nothing."""
    found = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.py")):
            if "__pycache__" in path.parts or "site-packages" in path.parts:
                continue
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            # a file may be found from any folder above it: app/api.py as app.api and as api
            names = frozenset(".".join(parts[start:]) for start in range(len(parts)))
            try:
                imports = parse_imports(path.read_text("utf-8"), ".".join(parts[:-1]))
            except (OSError, SyntaxError, ValueError):
                imports = frozenset()
            found[str(path)] = Source(path=str(path), names=names, imports=imports)
    return list(found.values())


def select_tests(sources: Iterable[Source], touched: Iterable[str]) -> list[str] | None:
    """Return the test files to run for these paths, sorted; None for all, where that cannot be told."""
    by_path = {source.path: source for source in sources}
    paths = {os.path.abspath(path) for path in touched}  # noqa: PTH100
    if any(path not in by_path or _is_conftest(path) for path in paths):
        return None
    graph = _make_graph(by_path.values())
    return sorted(path for path in by_path if is_test(path) and (_reachable(path, graph) & paths))


def is_test(path: str) -> bool:
    """Whether pytest would collect this file by its name."""
    return any(fnmatch.fnmatchcase(Path(path).name, pattern) for pattern in TESTS)


def _is_conftest(path: str) -> bool:
    return Path(path).name == "conftest.py"


def _make_graph(sources: Iterable[Source]) -> dict[str, set[str]]:
    sources = list(sources)
    by_name: dict[str, set[str]] = {}
    for source in sources:
        for name in source.names:
            by_name.setdefault(name, set()).add(source.path)
    conftests = {str(Path(source.path).parent): source.path for source in sources if _is_conftest(source.path)}
    graph: dict[str, set[str]] = {}
    for source in sources:
        reached = {path for name in source.imports for path in by_name.get(name, ())}
        if is_test(source.path):
            reached.update(path for folder, path in conftests.items() if source.path.startswith(folder + "/"))
        graph[source.path] = reached
    return graph


def _reachable(start: str, graph: Mapping[str, set[str]]) -> set[str]:
    seen, todo = {start}, [start]
    while todo:
        for path in graph.get(todo.pop(), ()):
            if path not in seen:
                seen.add(path)
                todo.append(path)
    return seen
