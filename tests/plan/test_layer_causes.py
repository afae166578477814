"""Causes from the ledger's history, and the locations of pins and settings in a checkout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from planfakes import STAGES, base_checkout, composer, make_graph_of

from buildkit.build.layer_causes import CheckoutLocations, LedgerHistory, Reasons, read_tombstone
from buildkit.digest import FileHash, Key
from buildkit.oci.blob import LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.explain.causes import Cause, CauseKind, format_causes
from buildkit.plan.spec import PackWheels
from buildkit.store.build_history import BuiltRecord, find_built, find_recipe
from buildkit.store.ledger import Ledger
from buildkit.store.maintenance import LedgerMaintenance
from buildkit.store.tables.tombstones import Tombstone
from tests.ledgers import LayerId

REFS = {name: f"localhost/p/{name}:latest" for name in STAGES}
RUNTIME = composer().compose("runtime")
BUILDER = composer().compose("builder")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as made:
        yield made


def record_build(ledger: Ledger, composition: Composition, stage: str = "") -> None:
    """Record in the ledger that layers and their compiled wheels were built, as a build of ``stage``."""
    for spec in composition.specs:
        ledger.add_layer(spec, LayerResult(blobs=()), [])
        for item in spec.work.compiled if isinstance(spec.work, PackWheels) else ():
            ledger.wheels.add(item.key, item.recipe, "x.whl", FileHash.of(b"x"), 1.0)
    if stage:
        layers = [
            {"name": spec.name, "key": str(spec.key), "source": "built", "why": f"why {spec.name}"}
            for spec in composition.specs
        ]
        report = {"stage": stage, "image": REFS[stage], "digest": "", "seconds": 1.0, "timings": {}, "layers": layers}
        ledger.builds.add(report, 100.0)


def reasons(ledger: Ledger, composition: Composition) -> Reasons:
    graph = make_graph_of(STAGES)
    places = CheckoutLocations(graph, composer(), base_checkout(), composition)  # type: ignore[arg-type]
    return Reasons(ledger, places, composition, REFS)


def test_last_build_includes_the_builder_of_its_wheels(ledger: Ledger) -> None:
    assert LedgerHistory(ledger, "runtime", REFS).last == {}
    record_build(ledger, BUILDER)
    record_build(ledger, RUNTIME, "runtime")
    expected = {spec.name: spec.recipe for spec in (*RUNTIME.specs, *BUILDER.specs)}
    assert LedgerHistory(ledger, "runtime", REFS).last == expected


def test_unbuilt_builder_is_compared_with_builds_that_used_it(ledger: Ledger) -> None:
    record_build(ledger, BUILDER)
    record_build(ledger, RUNTIME, "runtime")
    history = LedgerHistory(ledger, "builder", REFS)
    assert history.last.items() >= {spec.name: spec.recipe for spec in BUILDER.specs}.items()
    changed = composer(STAGES | {"builder": STAGES["builder"].replace('"true"', '"false"')}).compose("builder")
    line = "script of step prepare true → false (stages/builder/stage.toml: run.script)"
    assert format_causes(reasons(ledger, changed).find(changed.root[-1])) == line
    assert format_causes(reasons(ledger, RUNTIME).find(RUNTIME.specs[-1])) == "its blob is missing from the cache"


def test_unbuilt_stage_is_compared_with_images_that_include_its_layers(ledger: Ledger) -> None:
    """A layer is shared by all images: it is not new because an image is."""
    record_build(ledger, RUNTIME, "runtime")
    checkout = base_checkout()
    checkout.wheels["deps.txt"] = tuple(
        replace(one, version="1.1", sha256=FileHash.of(b"1.1")) if one.name == "heavy" else one
        for one in checkout.wheels["deps.txt"]
    )
    extra = """
        summary = "an image that is new"
        from = "base"
        include = ["deps"]
        [[copy]]
        source = "app"
        target = "/app"
        """
    checkout.trees["stages/extra/app"] = checkout.trees["stages/runtime/conf"]
    later = composer(STAGES | {"extra": extra}, checkout)
    for stage, others in (("deps", []), ("extra", ["extra/app: first build"])):
        composition = later.compose(stage)
        found = Reasons(
            ledger,
            CheckoutLocations(make_graph_of(STAGES | {"extra": extra}), later, checkout, composition),  # type: ignore[arg-type]
            composition,
            REFS | {"extra": "localhost/p/extra:latest"},
        )
        changed = [spec for spec in composition.specs if spec.recipe not in {known.recipe for known in RUNTIME.specs}]
        lines = [f"{spec.name}: {format_causes(found.find(spec))}" for spec in changed]
        assert lines == ["deps/heavy: heavy 1.0 → 1.1 (deps.txt)", *others]


def test_latest_image_with_a_layer_counts(ledger: Ledger) -> None:
    for number, stage in enumerate(("runtime", "weights", "builder"), 1):
        recipe = f'{{"number":{number}}}'
        key = Key.of(recipe.encode())
        ledger.add_layer(LayerId(key, "files", "x/x", recipe), LayerResult(blobs=()), [])
        layers = [{"name": "x/x", "key": str(key), "source": "built", "why": ""}]
        report = {"stage": stage, "image": REFS[stage], "digest": "", "seconds": 1.0, "timings": {}, "layers": layers}
        ledger.builds.add(report, 100.0 + number)
    assert LedgerHistory(ledger, "deps", REFS).last == {"x/x": '{"number":3}'}
    assert LedgerHistory(ledger, "weights", REFS).last == {"x/x": '{"number":2}'}


def test_layer_dropped_from_the_ledger_is_forgotten_not_new(ledger: Ledger) -> None:
    record_build(ledger, RUNTIME, "runtime")
    gone = RUNTIME.specs[-1]
    ledger.database.execute("DELETE FROM layers WHERE key = ?", (gone.key.hex,))
    assert reasons(ledger, RUNTIME).find(gone) == (Cause(CauseKind.FORGOTTEN),)


def test_built_layer_without_blob_is_blob_gone(ledger: Ledger) -> None:
    assert reasons(ledger, RUNTIME).find(RUNTIME.specs[0]) == (Cause(CauseKind.FIRST_BUILD),)
    record_build(ledger, RUNTIME, "runtime")
    assert reasons(ledger, RUNTIME).find(RUNTIME.specs[0]) == (Cause(CauseKind.BLOB_GONE),)


@pytest.mark.parametrize("change", ["blobs = '[]]'", "sum = ''"])
def test_damaged_row_is_the_cause(ledger: Ledger, change: str) -> None:
    """Its blob may exist, both before and after verify removes the row."""
    record_build(ledger, RUNTIME, "runtime")
    spec = RUNTIME.specs[0]
    ledger.database.execute(f"UPDATE layers SET {change} WHERE key = ?", (spec.key.hex,))
    assert reasons(ledger, RUNTIME).find(spec) == (Cause(CauseKind.ROW_DAMAGED),)
    (dropped,) = LedgerMaintenance(ledger).delete_damaged_rows()
    assert dropped.key == spec.key
    (cause,) = reasons(ledger, RUNTIME).find(spec)
    assert cause.kind is CauseKind.ROW_DAMAGED
    assert cause.at > 0
    assert cause.why == "found by verify"
    record_build(ledger, RUNTIME, "runtime")
    assert reasons(ledger, RUNTIME).find(spec) == (Cause(CauseKind.BLOB_GONE),)


def test_damaged_recipe_is_not_compared(ledger: Ledger) -> None:
    record_build(ledger, RUNTIME, "runtime")
    spec = RUNTIME.specs[-1]
    ledger.database.execute("UPDATE layers SET recipe = x'ff' WHERE key = ?", (spec.key.hex,))
    assert reasons(ledger, RUNTIME).find(spec) == (Cause(CauseKind.FORGOTTEN),)
    assert find_recipe(ledger, spec.key.hex) is None


@pytest.mark.parametrize(
    ("why", "cause"),
    [
        ("shared, r.io/a", Cause(CauseKind.ONLY_SHARED, repository="r.io/a")),
        ("evicted by gc", Cause(CauseKind.EVICTED, at=5.0)),
        ("evicted by gc: too old", Cause(CauseKind.EVICTED, at=5.0, why="too old")),
        ("too large", Cause(CauseKind.EVICTED, at=5.0, why="too large")),
        ("damaged, found by verify", Cause(CauseKind.DAMAGED, at=5.0, why="found by verify")),
        ("missing, found by verify", Cause(CauseKind.BLOB_GONE)),
        ("row damaged, found by verify", Cause(CauseKind.ROW_DAMAGED, at=5.0, why="found by verify")),
    ],
)
def test_tombstone_is_read_as_a_cause(why: str, cause: Cause) -> None:
    assert read_tombstone(Tombstone(why, 5.0)) == cause


def test_recipes_and_builds_are_found_by_key(ledger: Ledger) -> None:
    record_build(ledger, BUILDER)
    record_build(ledger, RUNTIME, "runtime")
    first, other = RUNTIME.specs[-1], BUILDER.specs[-1]
    assert find_recipe(ledger, first.key.hex) == (first.name, first.recipe)
    (compiled,) = (i for s in RUNTIME.specs if isinstance(s.work, PackWheels) for i in s.work.compiled)
    assert find_recipe(ledger, compiled.key.hex) == ("", compiled.recipe)
    assert find_recipe(ledger, "0" * 64) is None
    found = find_built(ledger, [first.key.hex, other.key.hex, "0" * 64])
    assert found[first.key.hex] == BuiltRecord(at=100.0, stage="runtime", why=f"why {first.name}")
    assert (found[other.key.hex].stage, found[other.key.hex].why) == ("", "")  # made on the way
    assert found.keys() == {first.key.hex, other.key.hex}


def test_removed_stage_and_wheel_of_several_locks_have_locations(ledger: Ledger) -> None:
    two = STAGES | {"deps": STAGES["deps"].replace('["deps.txt"]', '["deps.txt", "more.txt"]')}
    places = CheckoutLocations(make_graph_of(two), composer(), base_checkout(), RUNTIME)  # type: ignore[arg-type]
    assert places.stage("old") == "stages/old/stage.toml"
    assert places.pin("old", "x") == "stages/old/stage.toml: wheels.locks"
    assert places.pin("deps", "gone") == "stages/deps/stage.toml: wheels.locks"
    assert places.model_file("old", "vad", "big.bin") == ""
    assert places.wheel_layer("deps", "heavy") == "deps/heavy"
    assert places.wheel_layer("other", "heavy") == ""


def test_no_op_build_does_not_import_explain() -> None:
    code = "import sys, buildkit.build.pipeline; print(*(name for name in sys.modules if name.startswith('buildkit.')))"
    done = subprocess.run((sys.executable, "-c", code), check=True, capture_output=True, text=True)
    heavy = {"build.layer_causes", "build.build_layers", "build.containers", "build.executor"}
    heavy |= {f"plan.explain.{name}" for name in ("causes", "comparison", "find_causes", "recipe_diff")}
    assert all(find_spec(f"buildkit.{name}") for name in heavy)
    imported = done.stdout.split()
    assert not {f"buildkit.{name}" for name in heavy} & set(imported)
    assert not [name for name in imported if name.startswith("buildkit.plan.explain.")]
