"""The design page says of every kind of recipe, and of every table of the ledger, what is in it."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from planfakes import STAGES, base_checkout, composer

from buildkit.plan.spec import RECIPE_FORMAT, PackWheels
from buildkit.store.database import VERSION
from buildkit.store.ledger import Ledger

PAGE = (Path(__file__).parents[2] / "docs/design.md").read_text("utf-8")
IMAGE = {"other": 'summary = "other"\n[root]\nimage = "docker.io/library/python:3.12@sha256:' + "a" * 64 + '"'}
STEP = """
[[run]]
name = "secret"
script = "true"
secrets = ["token"]
"""


def rows(section: str) -> dict[str, str]:
    """Table rows of a section of the page: what is in the first column, without marks, and the rest."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (`[^|]*`) \|(.*)\|$", text, re.MULTILINE)
    return {name: rest for names, rest in found for name in re.findall("`([^`]+)`", names)}


def parts() -> dict[str, set[str]]:
    """The parts of every kind of recipe, of a project that has one of everything."""
    found: dict[str, set[str]] = {}
    settings = "compression = 'gzip'\nsecrets = { token = 'env:TOKEN' }"
    stages = (
        STAGES | IMAGE | {"builder": STAGES["builder"].replace("        ", "").replace("[config]", STEP + "[config]")}
    )
    made = composer(stages, base_checkout(), settings)
    specs = [spec for stage in stages for spec in made.compose(stage).specs]
    recipes = [spec.recipe for spec in specs]
    recipes += [item.recipe for s in specs if isinstance(s.work, PackWheels) for item in s.work.compiled]
    for recipe in map(json.loads, recipes):
        found.setdefault(recipe["kind"], set()).update(recipe.keys() - {"kind", "format", "compression"})
    return found


def test_every_part_of_every_kind_of_recipe_is_described() -> None:
    described = {kind: set(re.findall("`([^`]+)`", rest)) for kind, rest in rows("Recipes").items()}
    assert described.pop("compile") == parts()["compile"] | {"tree"}, "the project has an sdist"
    assert described == {kind: names for kind, names in parts().items() if kind != "compile"}
    assert f'{{"format": {RECIPE_FORMAT}, "kind": KIND, …}}' in PAGE
    assert f"Formats: {RECIPE_FORMAT} " in PAGE


def test_every_table_of_the_ledger_is_described(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        tables = {name for (name,) in ledger.select("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert rows("The cache").keys() == tables
    assert f"schema version {VERSION} in `PRAGMA user_version`" in PAGE


@pytest.mark.parametrize("version", range(2, VERSION + 1))
def test_every_version_of_the_ledger_is_described(version: int) -> None:
    history = PAGE.partition("Version 2 added ")[2].partition("leads from each to the next")[0]
    assert history
    assert version == 2 or f"; {version}" in history
