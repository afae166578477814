"""Shell scripts that the package passes on: no commands in strings, a head for readers, and text that keys rely on."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

import buildkit
from buildkit.shell import load_script

PACKAGE = Path(buildkit.__file__).parent
SCRIPTS = sorted((PACKAGE / "shell").glob("*.sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script_is_passed_on_without_its_head(path: Path) -> None:
    script = load_script(path.stem)
    head, blank, body = path.read_text("utf-8").partition("\n\n")
    assert blank
    assert all(line.startswith("#") for line in head.splitlines())
    assert head.startswith("# shellcheck shell=sh\n")
    assert script == body
    assert script.endswith("\n")
    subprocess.run(("sh", "-n", "-c", script), check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_is_used(path: Path) -> None:
    sources = [source.read_text("utf-8") for source in PACKAGE.rglob("*.py")]
    assert any(f'"{path.stem}"' in text or f"'{path.stem}'" in text for text in sources)


def test_no_module_holds_a_shell_script_of_several_lines() -> None:
    """A loop, a function or a test in a constant would be read by no linter; fragments that are filled in may stay."""
    found = []
    for source in PACKAGE.rglob("*.py"):
        for node in ast.parse(source.read_text("utf-8")).body:
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""
            if any(f"\n{word}" in text for word in ("done\n", "fi\n", "esac\n")):
                found.append(f"{source.relative_to(PACKAGE)}:{node.lineno}")
    assert found == []
