"""No output depends on the order of a set, which differs from one process to the next.

Python salts the hashes of strings (``PYTHONHASHSEED``), so a loop over a set of names runs in another order each time.
This check reads the sources: where a set is turned into something ordered, ``sorted`` must stand in between.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import buildkit

PACKAGE = Path(buildkit.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
OPERATORS = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Sub)
SET_METHODS = {"union", "intersection", "difference", "symmetric_difference"}
ORDERED = {"chain", "dict", "enumerate", "extend", "from_iterable", "fromkeys", "iter", "join", "list", "map", "next",
           "tuple", "zip"}  # fmt: skip
UNORDERED = {"all", "any", "bool", "frozenset", "len", "max", "min", "set", "sorted", "sum", "update"}
EXEMPT = {
    "bench/measure.py": "the sizes are summed",
    "scan/archives/torchzip.py": "prefixes are only compared",
    "tools/process.py": "every child gets the same signal",
    "tools/resolver.py": "quoted paths are sorted afterwards",
}


def called_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


class SetFinder:
    """Tell which expressions of a module are sets: literals, operators, calls, and names that are bound to one."""

    def __init__(self, scope: ast.AST) -> None:
        self.names: set[str] = set()
        nodes = list(ast.walk(scope))
        for node in nodes:
            if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation:
                kind = ast.unparse(node.annotation).partition("[")[0]
                if kind in ("set", "frozenset", "Set", "AbstractSet"):
                    self.names.add(node.arg if isinstance(node, ast.arg) else called_name(node.target))
        for node in nodes:
            if isinstance(node, ast.Assign) and self.is_set(node.value):
                self.names |= {target.id for target in node.targets if isinstance(target, ast.Name)}

    def is_set(self, node: ast.expr) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call():
                name = called_name(node.func)
                return name in ("set", "frozenset") or (isinstance(node.func, ast.Attribute) and name in SET_METHODS)
            case ast.BinOp():
                sides = (node.left, node.right)
                return isinstance(node.op, OPERATORS) and any(self.is_set(side) or is_keys(side) for side in sides)
            case ast.Name():
                return node.id in self.names
            case _:
                return False


def is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def find_ordered_sets(scope: ast.AST) -> Iterator[int]:
    """Lines of a function that make something ordered of a set."""
    sets = SetFinder(scope)
    consumers = {
        argument: called_name(call.func)
        for call in ast.walk(scope)
        if isinstance(call, ast.Call)
        for argument in call.args
    }
    made_sets = (part.iter for node in ast.walk(scope) if isinstance(node, ast.SetComp) for part in node.generators)
    consumers |= dict.fromkeys(made_sets, "set")
    for node in ast.walk(scope):
        if consumers.get(node, "") in UNORDERED:  # type: ignore[call-overload]
            continue
        found: list[ast.expr] = []
        match node:
            case ast.For():
                found = [node.iter]
            case ast.ListComp() | ast.GeneratorExp() | ast.DictComp():
                found = [part.iter for part in node.generators]
            case ast.List() | ast.Tuple():
                found = [item.value for item in node.elts if isinstance(item, ast.Starred)]
            case ast.YieldFrom():
                found = [node.value]
            case ast.Call() if called_name(node.func) in ORDERED:
                found = [item.value if isinstance(item, ast.Starred) else item for item in node.args]
        if any(sets.is_set(item) for item in found):
            yield node.lineno  # type: ignore[attr-defined]


def find_in_source(text: str) -> list[int]:
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    return sorted({line for function in functions for line in find_ordered_sets(function)})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_ordered_value_is_made_from_a_set(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() not in EXEMPT:
        assert find_in_source(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "for name in old.keys() & new.keys(): print(name)",
        "for name in {1, 2} - {1}: print(name)",
        "return [name for name in set(old)]",
        "return {name: 1 for name in frozenset(old)}",
        "return ', '.join(set(old))",
        "return (*set(old), 1)",
        "names = {name for name in old}; return list(names)",
        "yield from set(old) | new",
    ],
)
def test_check_finds_an_ordered_set(line: str) -> None:
    assert find_in_source(f"def f(old, new):\n    {line}") == [2]


@pytest.mark.parametrize(
    "line",
    [
        "for name in sorted(old.keys() & new.keys()): print(name)",
        "return {name for name in set(old)}",
        "return sum(x for x in set(old))",
        "return old - new",
        "return [x - 1 for x in old]",
    ],
)
def test_check_accepts_sorted_and_unordered_uses(line: str) -> None:
    assert find_in_source(f"def f(old, new):\n    {line}") == []
