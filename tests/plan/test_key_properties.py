"""Keys of whole projects, from text on the disk: how it is written does not matter; what it says does."""

from __future__ import annotations

from collections.abc import Iterator

import keyinputs as inputs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keymutations import Mutate, expected
from projectdisk import Disk, list_all
from smallproject import Small, projects
from tomlstyles import Style

from buildkit.cache.ledger import Ledger
from buildkit.declare import modelslock, wheelslock
from buildkit.declare.project import SETTINGS
from buildkit.declare.shapes import ListOf, Shape, Table
from buildkit.declare.stageshape import STAGE
from buildkit.engine import checkout

SEEDS = st.integers(0, 1 << 32)
KINDS = {
    "stage": inputs.STAGES,
    "setting": inputs.PROJECT,
    "wheel": inputs.WHEELS,
    "models": inputs.MODELS,
    "file": inputs.FILES,
}
ANY = {f"{kind}: {name}": mutate for kind, named in KINDS.items() for name, mutate in named.items()}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    made = Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite")
    yield made
    made.close()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, ledger: Ledger) -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkout, "list_files", list_all)
        yield Disk(tmp_path_factory.mktemp("disk") / "project", ledger)


@settings(max_examples=60)
@given(projects(), SEEDS)
def test_how_a_project_is_written_does_not_matter(disk: Disk, small: Small, seed: int) -> None:
    plain, other = disk.compose(small), disk.compose(small, Style(seed))
    assert other.keys == plain.keys
    assert other.images == plain.images


def check(disk: Disk, small: Small, mutate: Mutate, seed: int) -> None:
    """A mutation moves just the keys that it belongs to, and those that depend on them."""
    other = small.copy()
    belongs = mutate(other)
    before, after = disk.compose(small), disk.compose(other, Style(seed))
    were, are = set(before.keys.values()), set(after.keys.values())
    assert were - are == expected(belongs, before, after, small)
    assert are - were == expected(belongs, after, before, other)


@pytest.mark.parametrize("what", ANY)
@settings(max_examples=3)
@given(small=projects(), seed=SEEDS)
def test_what_a_project_says_moves_what_depends_on_it(disk: Disk, what: str, small: Small, seed: int) -> None:
    check(disk, small, ANY[what], seed)


@pytest.mark.parametrize("what", inputs.DEBIAN)
@settings(max_examples=3)
@given(small=projects(debian=True), seed=SEEDS)
def test_what_a_debian_root_is_made_of(disk: Disk, what: str, small: Small, seed: int) -> None:
    check(disk, small, inputs.DEBIAN[what], seed)


@pytest.mark.parametrize("what", inputs.IMAGE)
@settings(max_examples=3)
@given(small=projects(debian=False), seed=SEEDS)
def test_what_a_registrys_root_is_made_of(disk: Disk, what: str, small: Small, seed: int) -> None:
    check(disk, small, inputs.IMAGE[what], seed)


def places(shape: Shape, path: str = "") -> Iterator[str]:
    """Every place of a file that may hold something: ``root.user[].name``."""
    if isinstance(shape, Table):
        for key, field in shape.fields.items():
            yield from places(field.shape, f"{path}.{key}" if path else key)
    elif isinstance(shape, ListOf):
        yield from places(shape.item, path + ("[]" if isinstance(shape.item, Table) else ""))
    else:
        yield path


def test_every_place_of_every_file_is_an_input_or_known_to_be_none() -> None:
    stages = inputs.named([*inputs.STAGES, *inputs.DEBIAN, *inputs.IMAGE])
    assert set(places(STAGE)) - stages == set()
    assert set(places(SETTINGS)) == inputs.named(inputs.PROJECT)
    assert set(places(modelslock._LOCK)) - inputs.named(inputs.MODELS) == set()
    assert wheelslock._KEYS - inputs.named(inputs.WHEELS) == set()
