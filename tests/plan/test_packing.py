"""Grouping and order of layers: no wheel is lost, small changes move little, large stable layers are low."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, permutations
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planfakes import MB, composer, sdist, wheel

from buildkit.digest import Key
from buildkit.locks.pins import Artifact
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


def test_packages_that_change_often_are_apart_whatever_their_size() -> None:
    items = [wheel("heavy", size=2 * MB), wheel("light"), sdist("own")]
    made = dict(group_wheels(items, heavy=MB, bins=1, apart={"own"}))
    assert {name: [one.name for one in group] for name, group in made.items()} == {
        "heavy": ["heavy"], "own": ["own"], "bin-0": ["light"],
    }  # fmt: skip


@given(artifacts(), st.integers(1, 64))
def test_every_wheel_is_in_one_layer_and_layers_are_limited(items: list[Artifact], bins: int) -> None:
    made = groups(items, bins)
    members = [artifact for group in made.values() for artifact in group]
    assert sorted(a.name for a in members) == sorted(a.name for a in items)
    assert len(made) <= MOST_HEAVY + bins
    assert all(group for group in made.values())


@given(artifacts())
def test_heavy_wheels_are_alone_and_light_wheels_and_sdists_in_bins(items: list[Artifact]) -> None:
    made = groups(items)
    heavy = [a for a in items if a.is_wheel and a.size >= MB]
    alone = [group[0].name for name, group in made.items() if not name.startswith("bin-")]
    assert set(alone) <= {a.name for a in heavy}
    assert len(alone) == min(len(heavy), MOST_HEAVY)


@given(artifacts(), NAMES, st.integers(0, MB - 1))
def test_additional_light_wheel_changes_only_one_bin(items: list[Artifact], name: str, size: int) -> None:
    items = [a for a in items if a.name != name]
    before, after = groups(items), groups([*items, wheel(name, size=size)])
    differ = {group for group in before.keys() | after.keys() if before.get(group) != after.get(group)}
    assert differ == {f"bin-{bin_of(name, 8)}"}


@st.composite
def crowds(draw: st.DrawFn) -> list[Artifact]:
    """Wheels among which there are about as many heavy ones as may lie alone, or more."""
    sizes = draw(st.lists(st.integers(MB, 40 * MB), min_size=MOST_HEAVY - 2, max_size=MOST_HEAVY + 5))
    light = draw(st.lists(st.integers(0, MB - 1), max_size=5))
    return [wheel(f"w{number:02}", size=size) for number, size in enumerate([*sizes, *light])]


ANY_WHEELS = st.one_of(artifacts(), crowds())


def count_rebuilt(before: list[Artifact], after: list[Artifact]) -> int:
    """Return the number of layers of ``after`` that are not layers of ``before``."""
    known = set(groups(before).values())
    return sum(group not in known for group in groups(after).values())


def is_heavy(artifact: Artifact) -> bool:
    return artifact.is_wheel and artifact.size >= MB


def is_crowded(*sets: list[Artifact]) -> bool:
    """Whether heavy wheels exceed the layers for single wheels, so that adding or removing one moves another."""
    return any(sum(map(is_heavy, items)) > MOST_HEAVY for items in sets)


@given(ANY_WHEELS, st.text("xyz", min_size=1, max_size=3), st.integers(0, 40 * MB))
def test_additional_wheel_changes_its_layer_and_at_most_one_other(items: list[Artifact], name: str, size: int) -> None:
    after = [*(a for a in items if a.name != name), wheel(name, size=size)]
    before = after[:-1]
    rebuilt = count_rebuilt(before, after)
    assert rebuilt == 1 or (rebuilt == 2 and is_heavy(after[-1]) and is_crowded(after))


@given(ANY_WHEELS, st.data())
def test_removed_wheel_changes_at_most_its_bin_or_those_it_makes_room_for(
    items: list[Artifact], data: st.DataObject
) -> None:
    assume(items)
    gone = data.draw(st.sampled_from(items))
    after = [a for a in items if a is not gone]
    rebuilt = count_rebuilt(items, after)
    if not is_heavy(gone):
        assert rebuilt <= 1
    else:  # one that may lie alone now, and the bin that it leaves
        assert rebuilt <= (2 if is_crowded(items) else 0)


@given(ANY_WHEELS, st.data(), st.integers(0, 40 * MB))
def test_upgrade_changes_one_layer_or_two_across_the_limit(
    items: list[Artifact], data: st.DataObject, size: int
) -> None:
    wheels = [a for a in items if a.is_wheel]
    assume(wheels)
    old = data.draw(st.sampled_from(wheels))
    new = wheel(old.name, "2.0", size=size)
    after = [new if a is old else a for a in items]
    rebuilt = count_rebuilt(items, after)
    if is_crowded(items, after) and (is_heavy(old) or is_heavy(new)):
        assert 1 <= rebuilt <= 3  # and the wheel that it displaces or that replaces it
    elif is_heavy(new) and not is_heavy(old):
        assert 1 <= rebuilt <= 2  # its layer, and the bin that it leaves
    else:
        assert rebuilt == 1


@given(ANY_WHEELS, st.integers(1, 64), st.randoms(use_true_random=False))
def test_groups_do_not_depend_on_the_order_of_the_lock(items: list[Artifact], bins: int, random: Random) -> None:
    shuffled = items[:]
    random.shuffle(shuffled)
    assert group_wheels(items, heavy=MB, bins=bins) == group_wheels(shuffled, heavy=MB, bins=bins)


@given(ANY_WHEELS, st.data())
def test_small_growth_moves_no_layer(items: list[Artifact], data: st.DataObject) -> None:
    assume(items)
    one = data.draw(st.sampled_from(items))
    assume(one.is_wheel)
    low = 1 << one.size.bit_length() >> 1
    size = data.draw(st.integers(low, max(2 * low - 1, 0)))  # MB is a power of two: no limit is crossed
    grown = [wheel(a.name, size=size) if a is one else a for a in items]
    named = [{name: [a.name for a in group] for name, group in groups(some).items()} for some in (items, grown)]
    assert named[0] == named[1]


def test_heaviest_wheels_are_alone_whatever_their_names() -> None:
    items = [wheel(f"w{number:02}", size=(2 if number < 30 else 4) * MB) for number in range(40)]
    alone = {name for name in groups(items) if not name.startswith("bin-")}
    assert alone == {f"w{number:02}" for number in (*range(30, 40), *range(22))}


def test_heaviest_wheels_stay_alone_after_small_growth() -> None:
    items = [wheel(f"w{number:02}", size=(4 if number < 30 else 2) * MB) for number in range(40)]
    alone = {name for name in groups(items) if not name.startswith("bin-")}
    assert alone == {f"w{number:02}" for number in range(32)}
    grown = [wheel(a.name, size=a.size + (MB // 2 if a.name == "w39" else 0)) for a in items]
    assert {name for name in groups(grown) if not name.startswith("bin-")} == alone


def test_wheels_have_golden_bins() -> None:
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


def test_large_and_stable_layers_are_lowest() -> None:
    made = order(
        spec("app", Kind.FILES, 1000, 100.0),
        spec("big app", Kind.FILES, 1000 * MB, 100.0),
        spec("small wheel", weight=MB),
        spec("torch", weight=2000 * MB),
        spec("model", Kind.MODEL, 500 * MB),
        spec("prefix", Kind.PREFIX, 0, 0.01),
    )
    assert made == ["prefix", "torch", "model", "big app", "small wheel", "app"]


def test_each_key_is_ordered_once() -> None:
    assert order(spec("a"), spec("b"), spec("a")) == ["a", "b"]


KINDS = st.sampled_from([Kind.WHEELS, Kind.MODEL, Kind.FILES, Kind.PREFIX])
SPEC = st.builds(
    spec,
    NAMES,
    KINDS,
    st.one_of(st.integers(0, 40), st.integers(0, 1 << 40)),
    st.one_of(st.integers(1, 60).map(float), st.sampled_from([0.01, 0.5, 100.0])),
)
SPECS = st.lists(SPEC, unique_by=lambda found: found.name, max_size=30)


@given(SPECS, st.randoms(use_true_random=False))
def test_the_order_of_layers_is_total(specs: list[Spec], random: Random) -> None:
    shuffled = specs[:]
    random.shuffle(shuffled)
    assert order(*specs) == order(*shuffled)
    assert sorted(order(*specs)) == sorted(found.name for found in specs)


@given(SPECS, st.data())
def test_order_does_not_depend_on_which_stage_comes_first(specs: list[Spec], data: st.DataObject) -> None:
    assume(specs)
    twice = data.draw(st.lists(st.sampled_from(specs), min_size=1, max_size=5))
    named = [replace(found, name=f"other/{found.name}") for found in twice]  # two stages share it: one key, two names
    shuffled = data.draw(st.permutations([*specs, *named]))
    assert order_layers(shuffled) == order_layers([*specs, *named])
    assert sorted(found.key for found in order_layers(shuffled)) == sorted(found.key for found in specs)


@given(SPECS, SPEC)
def test_additional_layer_does_not_move_the_others(specs: list[Spec], one: Spec) -> None:
    without = [found for found in specs if found.name != one.name]
    assert [name for name in order(*without, one) if name != one.name] == order(*without)


@given(SPECS, st.data(), st.integers(0, 1 << 40))
def test_resized_layer_does_not_move_the_others(specs: list[Spec], data: st.DataObject, size: int) -> None:
    assume(specs)
    one = data.draw(st.sampled_from(specs))
    after = [replace(found, weight=size) if found is one else found for found in specs]
    before, now = order(*specs), order(*after)
    assert [name for name in now if name != one.name] == [name for name in before if name != one.name]
    assert now == before or size.bit_length() != one.weight.bit_length()


def power(number: float) -> Fraction:
    """The least power of two above: sizes and rates count by these."""
    return Fraction(2) ** (math.floor(math.log2(number)) + 1)


def cost(specs: Sequence[Spec], rate: Callable[[Spec], Fraction], weight: Callable[[Spec], Fraction]) -> Fraction:
    """Expected bytes extracted again: whatever changes takes itself and all that lies above it along."""
    above = [sum((weight(found) for found in specs[number:]), Fraction()) for number in range(len(specs))]
    return sum((rate(found) * size for found, size in zip(specs, above, strict=True)), Fraction())


def counted(specs: Sequence[Spec]) -> Fraction:
    """The cost by powers of two."""
    return cost(specs, lambda found: power(found.rate), lambda found: power(max(found.weight, 1)))


def real(specs: Sequence[Spec]) -> Fraction:
    return cost(specs, lambda found: Fraction(found.rate), lambda found: Fraction(max(found.weight, 1)))


FREE = SPEC.filter(lambda found: found.kind is not Kind.PREFIX)  # that one lies lowest whatever it costs


@settings(max_examples=60)
@given(st.lists(FREE, unique_by=lambda found: found.name, max_size=5))
def test_order_has_the_least_cost(specs: list[Spec]) -> None:
    ours = order_layers(specs)
    assert counted(ours) == min(map(counted, permutations(specs)))
    assert real(ours) <= 4 * min(map(real, permutations(specs)))  # a factor of two each for rates and sizes


@given(st.lists(FREE, unique_by=lambda found: found.name, max_size=30))
def test_exchanging_two_neighbours_never_helps(specs: list[Spec]) -> None:
    for low, high in pairwise(order_layers(specs)):
        assert counted([low, high]) <= counted([high, low])


@pytest.mark.parametrize(("count", "weight"), [(9, 1100), (15, 2000), (8, 1024)])
def test_bin_moves_only_at_another_power_of_two_of_size_or_number(count: int, weight: int) -> None:
    others = [spec(f"w{size}", weight=size) for size in (10, 100, 1000, 10_000)]
    quiet = order(*others, spec("bin", weight=1030, rate=8.0))
    assert order(*others, spec("bin", weight=weight, rate=float(count))) == quiet


def test_an_image_of_too_many_layers_is_refused_before_it_is_built() -> None:
    from buildkit.errors import DefinitionError

    with pytest.raises(DefinitionError, match=r"runtime/stage\.toml: the image would have 10 layers, more than 9"):
        composer(settings="max-layers = 9").compose("runtime")
    assert len(composer(settings="max-layers = 10").compose("runtime").specs) == 10
