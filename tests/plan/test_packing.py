"""Packing and order: nothing lost, stable under insertion, large and lasting layers low."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planfakes import MB, composer, sdist, wheel

from buildkit.declare.pins import Artifact
from buildkit.digest import Key
from buildkit.plan.packing import MOST_HEAVY, bin_of, group_wheels, order_layers
from buildkit.plan.spec import Kind, PackPrefix, Spec

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
SIZES = st.integers(0, 3 * MB)


@st.composite
def artifacts(draw: st.DrawFn) -> list[Artifact]:
    found = draw(st.dictionaries(NAMES, st.tuples(SIZES, st.booleans()), max_size=60))
    return [wheel(name, size=size) if whole else sdist(name) for name, (size, whole) in found.items()]


def groups(items: list[Artifact], bins: int = 8) -> dict[str, tuple[Artifact, ...]]:
    made = group_wheels(items, heavy=MB, bins=bins)
    assert len({name for name, _ in made}) == len(made)
    return dict(made)


@given(artifacts(), st.integers(1, 64))
def test_no_wheel_is_lost_or_doubled_and_there_are_never_too_many_layers(items: list[Artifact], bins: int) -> None:
    made = groups(items, bins)
    members = [artifact for group in made.values() for artifact in group]
    assert sorted(a.name for a in members) == sorted(a.name for a in items)
    assert len(made) <= MOST_HEAVY + bins
    assert all(group for group in made.values())


@given(artifacts())
def test_heavy_wheels_lie_alone_and_light_ones_and_sdists_in_bins(items: list[Artifact]) -> None:
    made = groups(items)
    heavy = [a for a in items if a.is_wheel and a.size >= MB]
    alone = [group[0].name for name, group in made.items() if not name.startswith("bin-")]
    assert set(alone) <= {a.name for a in heavy}
    assert len(alone) == min(len(heavy), MOST_HEAVY)


@given(artifacts(), NAMES, st.integers(0, MB - 1))
def test_a_light_wheel_more_changes_one_bin_alone(items: list[Artifact], name: str, size: int) -> None:
    items = [a for a in items if a.name != name]
    before, after = groups(items), groups([*items, wheel(name, size=size)])
    differ = {group for group in before.keys() | after.keys() if before.get(group) != after.get(group)}
    assert differ == {f"bin-{bin_of(name, 8)}"}


@given(artifacts(), st.randoms(use_true_random=False))
def test_the_order_of_the_lock_does_not_matter(items: list[Artifact], random: object) -> None:
    shuffled = items[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert group_wheels(items, heavy=MB, bins=8) == group_wheels(shuffled, heavy=MB, bins=8)


def test_the_heaviest_lie_alone_and_a_little_growth_changes_nothing() -> None:
    items = [wheel(f"w{number:02}", size=(4 if number < 30 else 2) * MB) for number in range(40)]
    alone = {name for name in groups(items) if not name.startswith("bin-")}
    assert alone == {f"w{number:02}" for number in range(32)}
    grown = [wheel(a.name, size=a.size + (MB // 2 if a.name == "w39" else 0)) for a in items]
    assert {name for name in groups(grown) if not name.startswith("bin-")} == alone


def test_bins_are_those_that_they_always_were() -> None:
    names = ["anyio", "click", "fastapi", "numpy", "starlette", "uvicorn"]
    assert [bin_of(name, 8) for name in names] == [6, 4, 2, 2, 6, 2]
    assert {bin_of(f"n{number}", 5) for number in range(99)} == set(range(5))


def spec(name: str, kind: Kind = Kind.WHEELS, weight: int = 0, rate: float = 1.0) -> Spec:
    return Spec(
        name=name,
        kind=kind,
        recipe="",
        key=Key.of(name.encode()),
        work=PackPrefix(),
        history="",
        weight=weight,
        rate=rate,
    )


def order(*specs: Spec) -> list[str]:
    return [found.name for found in order_layers(specs)]


def test_what_is_large_and_seldom_changes_lies_low() -> None:
    made = order(
        spec("app", Kind.FILES, 1000, 100.0),
        spec("big app", Kind.FILES, 1000 * MB, 100.0),
        spec("small wheel", weight=MB),
        spec("torch", weight=2000 * MB),
        spec("model", Kind.MODEL, 500 * MB),
        spec("prefix", Kind.PREFIX, 0, 0.01),
    )
    assert made == ["prefix", "torch", "model", "big app", "small wheel", "app"]


def test_each_key_lies_once() -> None:
    assert order(spec("a"), spec("b"), spec("a")) == ["a", "b"]


SPECS = st.lists(
    st.builds(spec, NAMES, st.just(Kind.WHEELS), st.integers(0, 1 << 32), st.integers(1, 60).map(float)),
    unique_by=lambda found: found.name,
    max_size=30,
)


@given(SPECS, st.randoms(use_true_random=False))
def test_the_order_of_layers_is_total(specs: list[Spec], random: object) -> None:
    shuffled = specs[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert order(*specs) == order(*shuffled)
    assert sorted(order(*specs)) == sorted(found.name for found in specs)


@given(SPECS, NAMES)
def test_a_layer_more_does_not_move_the_others(specs: list[Spec], name: str) -> None:
    before = [found for found in order(*specs) if found != name]
    assert [found for found in order(*specs, spec(name, weight=MB)) if found != name] == before


@pytest.mark.parametrize(("count", "weight"), [(9, 1100), (15, 2000), (8, 1024)])
def test_a_bin_moves_only_when_size_or_number_reach_another_power_of_two(count: int, weight: int) -> None:
    others = [spec(f"w{size}", weight=size) for size in (10, 100, 1000, 10_000)]
    quiet = order(*others, spec("bin", weight=1030, rate=8.0))
    assert order(*others, spec("bin", weight=weight, rate=float(count))) == quiet


def test_an_image_of_too_many_layers_is_refused_before_it_is_built() -> None:
    from buildkit.errors import DefinitionError

    with pytest.raises(DefinitionError, match=r"runtime/stage\.toml: the image would have 10 layers, more than 9"):
        composer(settings="max-layers = 9").compose("runtime")
    assert len(composer(settings="max-layers = 10").compose("runtime").specs) == 10
