"""docs/design.md names every ring as pyproject.toml does, and the decisions that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/design.md").read_text("utf-8")
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))


def rings_of_page() -> list[list[str]]:
    table = PAGE.split("| ring, from the top | holds |\n|---|---|\n")[1].split("\n\n")[0]
    return [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()]


def rings_of_contract() -> list[list[str]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (contract,) = (contract for contract in settings["contracts"] if contract["type"] == "layers")
    return [[name.strip().removeprefix("buildkit.") for name in ring.split("|")] for ring in contract["layers"]]


def test_ring_table_equals_the_import_contract() -> None:
    assert [sorted(ring) for ring in rings_of_page()] == [sorted(ring) for ring in rings_of_contract()]


def test_every_module_on_disk_belongs_to_a_ring() -> None:
    package = ROOT / "buildkit"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert sorted(name for ring in rings_of_page() for name in ring) == sorted(folders | modules)


def test_decisions_are_numbered_without_gaps_and_have_the_same_sections() -> None:
    assert [int(path.name[:3]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    for path in DECISIONS:
        text = path.read_text("utf-8")
        assert text.startswith(f"# {path.name[:3]}: "), path.name
        assert {"## Context", "## Decision"} <= set(text.splitlines()), path.name


def test_index_of_decisions_lists_each_title() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text("utf-8")
    for path in DECISIONS:
        title = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
        assert f"- [{title}]({path.name})" in index


def test_modules_that_design_and_decisions_name_exist() -> None:
    texts = [PAGE, *(path.read_text("utf-8") for path in DECISIONS)]
    named = {name for text in texts for name in re.findall(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)`", text)}
    folders = (ROOT, ROOT / "buildkit", ROOT / "tests")
    assert {name for name in named if not any((folder / name).exists() for folder in folders)} == set()
