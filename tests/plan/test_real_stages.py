"""Every key of the repository's own stages, computed from the checkout alone."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from buildkit.build.disk_checkout import DiskCheckout
from buildkit.build.options import ModelChanges
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.events import Event, Note
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.spec import Kind
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex

ROOT = Path(__file__).resolve().parents[2]
STAGES = (
    "base", "builder", "clients", "development", "hardened", "ml-deps", "models", "postgres", "proxy", "redis",
    "runtime", "triton", "wheels",
)  # fmt: skip


def compose_all(folder: Path, cache: Path) -> dict[str, Composition]:
    events: list[Event] = []
    project, graph = load_project(folder), load_graph(folder)
    ledger = Ledger(cache / "ledger.sqlite")
    try:
        composer = Composer(
            project, graph, DiskCheckout(project, graph, StatIndex(ledger), events.append, models=ModelChanges.FROZEN)
        )
        found = {name: composer.compose(name) for name in graph.stages}
    finally:
        ledger.close()
    assert [event for event in events if isinstance(event, Note) and "models" in event.text] == []
    return found


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Composition]]:
    def refuse(*_: object, **__: object) -> NoReturn:
        pytest.fail("a key asked the network")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setenv("BUILDKIT_CACHE", "/nonexistent")
        yield compose_all(ROOT, tmp_path_factory.mktemp("empty"))


@pytest.mark.tools  # git lists what belongs to the checkout
def test_every_key_of_every_stage_needs_nothing_but_the_checkout(composed: dict[str, Composition]) -> None:
    assert tuple(composed) == STAGES
    for name, composition in composed.items():
        assert composition.specs, name
        names = [spec.name for spec in composition.specs]
        assert len(set(names)) == len(names)
        assert len(names) <= 64


@pytest.mark.tools
def test_a_copy_in_another_folder_has_the_same_keys(composed: dict[str, Composition], tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    subprocess.run(["git", "add", "--all", "--force"], cwd=copy, check=True)
    again = compose_all(copy, tmp_path)
    assert {n: [s.key for s in c.specs] for n, c in again.items()} == {
        n: [s.key for s in c.specs] for n, c in composed.items()
    }
    assert {n: c.config for n, c in again.items()} == {n: c.config for n, c in composed.items()}


@pytest.mark.tools
def test_design_describes_the_stages(composed: dict[str, Composition]) -> None:
    runtime, hardened, development = composed["runtime"], composed["hardened"], composed["development"]
    assert [spec.key for spec in hardened.layers[:-1]] == [spec.key for spec in runtime.layers]
    assert hardened.layers[-1].kind is Kind.SBOM
    assert hardened.root != runtime.root
    assert runtime.root == composed["base"].root == development.root
    assert set(runtime.layers) < set(development.layers)
    assert composed["builder"].root[0] == runtime.root[0]
    heavy = {spec.name for spec in runtime.layers if spec.kind is Kind.WHEELS and "bin-" not in spec.name}
    assert "ml-deps/onnxruntime" in heavy
    assert runtime.layers[-1].kind is Kind.FILES
    assert runtime.layers[0].kind is Kind.PREFIX
    assert (runtime.config.user, hardened.config.user) == ("mluser", "65532:65532")
    assert runtime.config.healthcheck is not None


@pytest.mark.tools
def test_recipes_do_not_contain_anything_of_this_machine(composed: dict[str, Composition]) -> None:
    recipes = [spec.recipe for composition in composed.values() for spec in composition.specs]
    for foreign in (str(ROOT), str(Path.home()), socket.gethostname(), sys.prefix):
        assert not [recipe for recipe in recipes if re.search(rf"(?<!\w){re.escape(foreign)}\b", recipe)]
