"""The decision records describe every kind of recipe and every table of the ledger."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from planfakes import STAGES, FakeCheckout, base_checkout, composer

from buildkit.plan.spec import RECIPE_FORMAT, PackWheels
from buildkit.store.ledger import Ledger
from buildkit.store.schema import VERSION

DECISIONS = Path(__file__).parents[2] / "docs/decisions"
RECIPES = (DECISIONS / "001-keys-from-locks.md").read_text("utf-8")
LEDGER = (DECISIONS / "010-ledger.md").read_text("utf-8")
IMAGE = {"other": 'summary = "other"\n[root]\nimage = "docker.io/library/python:3.12@sha256:' + "a" * 64 + '"'}
STEP = """
[[run]]
name = "secret"
script = "true"
secrets = ["token"]
"""


def rows(page: str) -> dict[str, str]:
    """Table rows of a page: each name of the first column, without marks, and the rest of its row."""
    found = re.findall(r"^\| (`[^|]*`) \|(.*)\|$", page, re.MULTILINE)
    return {name: rest for names, rest in found for name in re.findall("`([^`]+)`", names)}


def parts() -> dict[str, set[str]]:
    """The parts of every kind of recipe, of a project that has one of everything."""
    found: dict[str, set[str]] = {}
    settings = "compression = 'gzip'"
    stages = (
        STAGES | IMAGE | {"builder": STAGES["builder"].replace("        ", "").replace("[config]", STEP + "[config]")}
    )
    made = composer(stages, base_checkout(), settings)
    specs = [spec for stage in stages for spec in made.compose(stage).specs]
    file = {"file": 'summary = "f"\n[root]\ncontainerfile = "Containerfile"\nsecrets = ["token"]'}
    checkout = FakeCheckout(texts={"Containerfile": f"FROM docker.io/x/y@sha256:{'a' * 64}\n"})
    specs += composer(file, checkout).compose("file").specs
    own = composer(settings="interpreter = 'standalone'")
    mounting = composer(STAGES | {"weights": STAGES["weights"] + "\nmount = true"}).compose("weights")
    tuned = STAGES | {"deps": STAGES["deps"] + "\n[framework]\nthreads = 'cgroup'"}
    specs += composer(tuned).compose("deps").specs
    recipes = [spec.recipe for spec in (*specs, *own.compose("deps").specs, *mounting.specs)]
    recipes += [item.recipe for s in specs if isinstance(s.work, PackWheels) for item in s.work.compiled]
    for recipe in map(json.loads, recipes):
        found.setdefault(recipe["kind"], set()).update(recipe.keys() - {"kind", "format", "compression"})
    return found


def test_every_part_of_every_kind_of_recipe_is_described() -> None:
    described = {kind: set(re.findall("`([^`]+)`", rest)) for kind, rest in rows(RECIPES).items()}
    assert described.pop("compile") == parts()["compile"] | {"tree"}, "the project has an sdist"
    assert described == {kind: names for kind, names in parts().items() if kind != "compile"}
    assert f'{{"format": {RECIPE_FORMAT}, "kind": KIND, …}}' in RECIPES
    assert f"Format {RECIPE_FORMAT} " in RECIPES


def test_every_table_of_the_ledger_is_described(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        tables = {name for (name,) in ledger.database.select("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert rows(LEDGER).keys() == tables
    assert f"schema version, {VERSION}, in `PRAGMA user_version`" in " ".join(LEDGER.split())


@pytest.mark.parametrize("version", range(2, VERSION + 1))
def test_every_version_of_the_ledger_is_described(version: int) -> None:
    history = LEDGER.partition("Version 2 added ")[2].partition("migrates from each version to the next")[0]
    assert history
    assert version == 2 or f"; version {version}" in " ".join(history.split())
