"""What stages need: all keys, the downloads of their layers, and the images that containers start from."""

from __future__ import annotations

import re
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from buildkit.build.collision_sets import set_key
from buildkit.build.containers import ContainerRunner
from buildkit.build.context import BuildContext, make_context
from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.layer_writer import LayerWriter
from buildkit.build.planner import Planner
from buildkit.build.root_references import whole_ref
from buildkit.cache_admin.needed_keys import Needed, collect_needed, find_needed
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.digest import FileHash, Key
from buildkit.errors import DefinitionError
from buildkit.events import ignore_event
from buildkit.locks.freshness import wheels_inputs
from buildkit.locks.model_source import PypiSource, UrlSource
from buildkit.locks.pins import Model
from buildkit.locks.wheels_lock import make_wheels_lock, render_wheels_lock, wheels_lock_path
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger
from tests.plan.derivedmodels import derive
from tests.plan.planfakes import STAGES, FakeCheckout, base_checkout, composer, make_graph_of, model_file, sdist, wheel


def needed(stages: dict[str, str] | None = None, checkout: FakeCheckout | None = None, settings: str = "") -> Needed:
    made = composer(stages, checkout, settings)
    return collect_needed(made._project, make_graph_of(stages or STAGES), made)


def test_needed_keys_have_every_key_with_its_stages() -> None:
    found = needed()
    made = composer()
    for name in STAGES:
        for spec in made.compose(name).specs:
            assert name in found.layers[spec.key], spec.name
            assert found.specs[spec.key].recipe == spec.recipe
    by_name = {spec.name: found.layers[key] for key, spec in found.specs.items()}
    assert by_name["base/root"] == ("base", "builder", "runtime")
    assert by_name["deps/heavy"] == ("deps", "runtime")
    assert by_name["builder/prepare"] == ("builder",)


def test_needed_downloads_have_wheels_sdists_and_compiled_wheels() -> None:
    found = needed()
    for artifact in (wheel("heavy"), wheel("light"), sdist("native")):
        assert found.downloads[artifact.sha256 or FileHash.of(b"")] == ("deps", "runtime")
    (key,) = found.wheels
    assert found.wheels[key].artifact.name == "native"
    assert found.layers[key] == ("deps", "runtime")


def test_needed_downloads_have_a_derived_file_and_what_it_would_be_made_of_again() -> None:
    checkout = base_checkout()
    checkout.wheels["deps.txt"] = (wheel("light"),)  # nothing is compiled, so nothing else needs the builder
    before = needed(checkout=checkout).refs
    far = Model(name="far", version="", source=UrlSource(url="https://x/y"), license="", files=(model_file("far.bin"),))
    made = derive(far, "int8", "onnx-quantise-dynamic", stage="builder")
    checkout.locked = {"models.lock": (made,)}
    found = needed(checkout=checkout)
    assert found.downloads[made.files[0].sha256] == ("weights", "runtime")
    assert found.downloads[far.files[0].sha256] == ("weights", "runtime")
    assert found.refs - before == {whole_ref(composer()._project, composer().compose("builder"))}  # where the tool runs


def test_needed_downloads_have_models_except_those_of_the_repository() -> None:
    checkout = base_checkout()
    far = Model(name="far", version="", source=UrlSource(url="https://x/y"), license="", files=(model_file("far.bin"),))
    packed = wheel("packed")
    inside = Model(
        name="in",
        version="1",
        source=PypiSource(project="packed"),
        license="",
        files=(model_file("in.bin"),),
        wheel=packed,
    )
    checkout.locked = {"models.lock": (*checkout.locked["models.lock"], far, inside)}
    found = needed(checkout=checkout)
    assert found.downloads[far.files[0].sha256] == ("weights", "runtime")
    assert packed.sha256 in found.downloads
    assert inside.files[0].sha256 not in found.downloads
    assert checkout.locked["models.lock"][0].files[0].sha256 not in found.downloads


def test_needed_images_are_those_that_containers_start_from() -> None:
    names = sorted(re.sub("-[0-9a-f]{12}$", "", ref) for ref in needed().refs)
    assert names == [
        "localhost/p/base:root",  # bytecode is compiled in it, and the builder's first step starts from it
        "localhost/p/builder:root",  # its second step
        "localhost/p/builder:whole",  # an sdist is compiled in it
    ]
    checkout = base_checkout()
    checkout.wheels = {"deps.txt": (wheel("light"),)}
    names = sorted(re.sub("-[0-9a-f]{12}$", "", ref) for ref in needed(checkout=checkout).refs)
    assert names == ["localhost/p/base:root", "localhost/p/builder:root"]
    alone = {name: text for name, text in STAGES.items() if name in ("base", "weights")}
    assert needed(alone).refs == frozenset()


def test_needed_image_names_are_those_that_builds_use() -> None:
    made = composer()
    blobs = SimpleNamespace(leases=SimpleNamespace(hold=None))
    shared = cast("BuildContext", SimpleNamespace(project=made._project, blobs=blobs, image_store=None))
    containers = ContainerRunner(shared, LayerWriter(blobs=shared.blobs, store=shared.image_store), ExitStack())
    assert {containers._root_ref(made.compiler), containers._whole_ref(made.builder)} <= needed().refs


def test_needed_layer_sets_are_those_that_builds_check() -> None:
    made = composer()
    assert needed().checked == {set_key(made.compose(name)) for name in STAGES}
    assert all(isinstance(key, Key) for key in needed().checked)


def test_needed_keys_are_refused_if_any_stage_is_invalid() -> None:
    with pytest.raises(DefinitionError, match="there is no stage `nothing`"):
        needed(settings="bytecode-root = 'nothing'")


def test_project_without_bytecode_needs_no_compiler_image() -> None:
    checkout = base_checkout()
    checkout.wheels = {"deps.txt": (wheel("light"),)}
    stages = {name: text for name, text in STAGES.items() if name != "builder"}
    assert needed(stages, checkout, "bytecode = false").refs == frozenset()


def test_keys_that_name_the_first_processors_image_are_needed_as_builds_name_them(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.buildkit]\narch = ["x86_64", "aarch64"]\n')
    stages = {
        "base": f'summary = "x"\n[root]\nimage = "r.example/python@sha256:{"a" * 64}"\n',
        "app": 'summary = "x"\nfrom = "base"\n[wheels]\nlocks = ["app.txt"]\n',
    }
    for name, text in stages.items():
        (tmp_path / f"stages/{name}").mkdir(parents=True)
        (tmp_path / f"stages/{name}/stage.toml").write_text(text)
    lock = f"pure==1.0 --hash={wheel('pure').sha256}\n"
    (tmp_path / "app.txt").write_text(lock)
    first, second = load_project(tmp_path).of_each_arch()
    for target in (first.target, second.target):
        made = make_wheels_lock(wheels_inputs(lock, target), target, (wheel("pure"),))
        (tmp_path / wheels_lock_path("app.txt", target.lock_arch)).write_text(render_wheels_lock(made))
    graph = load_graph(tmp_path)
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:
        context = make_context(second, Blobs(tmp_path / "cache"), ledger, ignore_event)
        checkout = DiskCheckout(second, graph, context.stat_index, ignore_event)
        built = Planner(context, graph, checkout).composer.compose("app")
        found = find_needed(context, graph, ignore_event)
    assert {spec.key for spec in built.specs} <= found.layers.keys()
    assert len(found.specs) == 4  # two images, and one virtual environment and one layer of wheels for both
