"""The hardened image keeps the modules that the service's own files import: no container is needed to see that."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = ROOT / "stages/runtime/app"
LIBRARY = "!usr/lib/python3.13/"
BUILT_IN = {"itertools", "math", "sys", "time"}  # into Debian's interpreter
TOOLS = {"make_profile.py"}  # run in another image


def imported(path: Path) -> set[str]:
    """Names of modules of the standard library that a file imports, without those of packages' parts."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name.partition(".")[0] for name in found} & sys.stdlib_module_names - BUILT_IN


def is_kept(name: str, kept: list[str]) -> bool:
    places = (f"{name}.py", f"{name}/__init__.py", f"lib-dynload/{name}.")
    return any(line.startswith(tuple(LIBRARY + place for place in places)) for line in kept)


@pytest.mark.parametrize("path", sorted(APP.glob("*.py")), ids=lambda path: path.name)
def test_modules_that_the_service_imports_are_kept(path: Path) -> None:
    kept = (ROOT / "stages/hardened/kept.txt").read_text("utf-8").splitlines()
    missing = {name for name in imported(path) if not is_kept(name, kept)}
    assert not missing or path.name in TOOLS, "nox -s trim-hardened keeps them"


def test_a_module_that_is_left_out_is_seen() -> None:
    kept = [f"{LIBRARY}importlib/resources/__init__.py", f"{LIBRARY}lib-dynload/resources.so", f"{LIBRARY}resources.py"]
    assert not is_kept("resource", kept)
