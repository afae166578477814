"""Names that must be unique: of test modules, which pytest imports by name alone, and of classes."""

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_two_test_modules_share_a_name() -> None:
    paths = defaultdict(list)
    for path in TESTS.rglob("test_*.py"):
        paths[path.name].append(path)
    assert [name for name, found in paths.items() if len(found) > 1] == []


def test_class_name_stands_in_one_module() -> None:
    modules = defaultdict(set)
    package = TESTS.parent / "buildkit"
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                modules[node.name].add(str(path.relative_to(package)))
    assert len(modules) > 100
    assert {name: sorted(paths) for name, paths in modules.items() if len(paths) > 1} == {}
