"""Every single change of a project is a cause with its location in the project's files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import keyinputs as inputs
import pytest
from hypothesis import given, settings
from keymutations import Mutate
from projectdisk import Disk, Seen, list_all
from smallproject import Small, projects

from buildkit.build import disk_checkout as checkout
from buildkit.build import tree_listing
from buildkit.build.layer_causes import CheckoutLocations, Reasons
from buildkit.declare.graph import load_graph
from buildkit.declare.project import load_project
from buildkit.digest import FileHash
from buildkit.oci.blob import LayerResult
from buildkit.plan.compose import Composer
from buildkit.plan.explain.causes import Cause, CauseKind, format_cause
from buildkit.plan.spec import PackWheels
from buildkit.store.ledger import Ledger
from buildkit.store.stat_index import StatIndex

ALIKE = {
    f"{kind}: {name}": mutate
    for kind, named in (
        ("stage", inputs.STAGES),
        ("setting", inputs.PROJECT),
        ("wheel", inputs.WHEELS),
        ("models", inputs.MODELS),
        ("file", inputs.FILES),
    )
    for name, mutate in named.items()
}
PARTS_WITH_CAUSES = {"packages", "wheels", "files", "mounts", "parent", "users"}  # parts that have causes of their own


class Built:
    """Projects whose builds are recorded, each in a ledger of its own.

    Hypothesis tries the same projects with every change: each is composed and recorded once.
    """

    def __init__(self, folder: Path, index: Ledger) -> None:
        self.disk = Disk(folder / "project", index)
        self._folder = folder
        self._builds: dict[str, tuple[Seen, Ledger]] = {}

    def record(self, small: Small) -> tuple[Seen, Ledger]:
        """Return what the project composes to, and the ledger that knows nothing but its builds."""
        told = repr(small)
        if told not in self._builds:
            ledger = Ledger(self._folder / f"ledger-{len(self._builds)}.sqlite")
            self._builds[told] = (self.disk.compose(small), ledger)
            record_builds(*self._builds[told])
        return self._builds[told]

    def close(self) -> None:
        """Close the ledgers."""
        for _, ledger in self._builds.values():
            ledger.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    folder = tmp_path_factory.mktemp("causes")
    with (
        pytest.MonkeyPatch.context() as patch,
        closing(Ledger(folder / "index.sqlite")) as index,
        closing(Built(folder, index)) as made,
    ):
        patch.setattr(tree_listing, "list_files", list_all)
        yield made


def ref(stage: str) -> str:
    return f"localhost/small/{stage}:latest"


def record_builds(seen: Seen, ledger: Ledger) -> None:
    """Record in the ledger that every stage was built."""
    for name, composition in seen.stages.items():
        layers = []
        for spec in composition.specs:
            ledger.add_layer(spec, LayerResult(blobs=()), [])
            layers.append({"name": spec.name, "key": str(spec.key), "source": "built", "why": "first build"})
            for item in spec.work.compiled if isinstance(spec.work, PackWheels) else ():
                ledger.wheels.add(item.key, item.recipe, "x.whl", FileHash.of(b"x"), 1.0)
        report = {"stage": name, "image": ref(name), "digest": "", "seconds": 1.0, "timings": {}, "layers": layers}
        ledger.builds.add(report, 0.0)


def explain(disk: Disk, ledger: Ledger, before: Seen) -> dict[str, tuple[Cause, ...]]:
    """Return the causes for every layer that no stage had."""
    project, graph = load_project(disk.folder), load_graph(disk.folder)
    read = checkout.DiskCheckout(project, graph, StatIndex(ledger), lambda _event: None)
    composer = Composer(project, graph, read)
    refs = {name: ref(name) for name in graph.stages}
    had = {spec.key for composition in before.stages.values() for spec in composition.specs}
    causes: dict[str, tuple[Cause, ...]] = {}
    for name in sorted(graph.stages.keys() & before.stages.keys()):
        composition = composer.compose(name)
        reasons = Reasons(ledger, CheckoutLocations(graph, composer, read, composition), composition, refs)
        causes |= {spec.name: reasons.find(spec) for spec in composition.specs if spec.key not in had}
    return causes


def check_place(folder: Path, cause: Cause) -> None:
    """Check that the location is a file of the project whose line names the changed thing."""
    file, _, rest = cause.where.partition(":")
    if rest.isdigit():
        line = (folder / file).read_text().splitlines()[int(rest) - 1]
        named = [str(getattr(part, name, "")) for part in inner(cause) for name in ("name", "path", "stage")]
        assert any(name and (name in line.replace("_", "-").lower() or name in line) for name in named) or (
            "python3" in line
        ), f"{cause}: {line}"
    elif rest:
        assert (folder / file).is_file() or "stages/" in file, cause.where
    elif cause.kind not in (CauseKind.FILE_REMOVED, CauseKind.MODEL_FILE_REMOVED) and "removed" not in str(cause):
        assert (folder / file).exists() or (folder / file).is_symlink(), cause.where


def inner(cause: Cause) -> Iterator[Cause]:
    yield cause
    if cause.because is not None:
        yield from inner(cause.because)


def check(built: Built, small: Small, mutate: Mutate) -> None:
    other = small.copy()
    mutate(other)
    before, ledger = built.record(small)
    built.disk.lay(other)
    for name, causes in explain(built.disk, ledger, before).items():
        assert not {cause.kind for cause in causes} & {CauseKind.FIRST_BUILD, CauseKind.FORGOTTEN}, name
        for cause in causes:
            parts = list(inner(cause))
            assert not re.search(r"[0-9a-f]{12}", format_cause(cause)), format_cause(cause)
            assert not [
                part for part in parts if part.kind is CauseKind.SETTING_CHANGED and part.key in PARTS_WITH_CAUSES
            ], cause
            assert cause.where, f"{name}: {cause}"
            check_place(built.disk.folder, cause)


@pytest.mark.parametrize("what", ALIKE)
@settings(max_examples=2)
@given(small=projects())
def test_project_change_has_a_cause_with_a_location(built: Built, what: str, small: Small) -> None:
    check(built, small, ALIKE[what])


@pytest.mark.parametrize("what", inputs.DEBIAN)
@settings(max_examples=2)
@given(small=projects(debian=True))
def test_debian_root_change_has_a_cause_with_a_location(built: Built, what: str, small: Small) -> None:
    check(built, small, inputs.DEBIAN[what])


@pytest.mark.parametrize("what", inputs.IMAGE)
@settings(max_examples=2)
@given(small=projects(debian=False))
def test_registry_root_change_has_a_cause_with_a_location(built: Built, what: str, small: Small) -> None:
    check(built, small, inputs.IMAGE[what])
