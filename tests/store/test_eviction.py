"""Decisions of gc on values: it keeps needed items, evicts the cheapest first, and no more than necessary."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from buildkit.store.eviction import CacheItem, Eviction, EvictionRules, choose_evictions, is_kept

DAY = 86400.0
NOW = 1000 * DAY


def item(name: str, size: int = 100, *, seconds: float = 1.0, days: float = 100, needed: bool = False) -> CacheItem:
    return CacheItem(id=name, files={f"{name}.blob": size}, seconds=seconds, used=NOW - days * DAY, needed=needed)


def names(choice: Eviction) -> list[str]:
    return [one.id for one in choice.items]


_FILES = {f"f{number}": size for number, size in enumerate((1, 10, 70, 500, 3000, 20_000, 100_000, 7))}


@st.composite
def _things(draw: st.DrawFn) -> list[CacheItem]:
    count = draw(st.integers(0, 12))
    return [
        CacheItem(
            id=f"t{number}",
            files={path: _FILES[path] for path in draw(st.sets(st.sampled_from(sorted(_FILES)), max_size=3))},
            seconds=draw(st.floats(0, 1000)),
            used=NOW - draw(st.floats(-50, 400)) * DAY,
            needed=draw(st.booleans()),
        )
        for number in range(count)
    ]


_RULES = st.builds(
    EvictionRules,
    now=st.just(NOW),
    keep=st.none() | st.floats(0, 300 * DAY),
    limit=st.none() | st.integers(0, 200_000),
)


@settings(deadline=None)
@given(_things(), _RULES, st.integers(0, 5000))
def test_eviction_keeps_its_invariants(items: list[CacheItem], rules: EvictionRules, permanent: int) -> None:
    choice = choose_evictions(items, rules, permanent)
    gone = set(choice.files)
    stays = [one for one in items if one not in choice.items]
    kept = [one for one in items if is_kept(one, rules)]
    before = {path: size for one in items for path, size in one.files.items()}

    assert not [one for one in kept if gone & one.files.keys()], "something that must stay loses a file"
    assert not [one for one in stays if gone & one.files.keys()], "something loses a file and is not said to go"
    assert all(gone & one.files.keys() for one in choice.items), "something goes, and no file with it"
    assert len(gone) == len(choice.files)
    assert choice.freed == sum(before[path] for path in gone)
    assert choice.left == permanent + sum(size for path, size in before.items() if path not in gone)
    held = {path for one in kept for path in one.files}
    could_go = [one for one in stays if one not in kept and one.files.keys() - held]
    if rules.limit is None:
        assert not could_go
    else:
        assert choice.left <= rules.limit or not could_go, "over the limit, though something may go"
        assert not choice.items or permanent + sum(before.values()) > rules.limit, "things go, though there is room"
    assert choose_evictions(list(reversed(items)), rules, permanent) == choice, (
        "the order in which things are listed matters"
    )


def _price(one: CacheItem) -> float:
    return one.seconds / sum(one.files.values())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 100)), max_size=12), st.integers(0, 10**6))
def test_cheapest_item_per_byte_is_evicted_first_until_the_limit(parts: list[tuple[int, float]], limit: int) -> None:
    items = [item(f"t{n}", size, seconds=seconds) for n, (size, seconds) in enumerate(parts)]
    choice = choose_evictions(items, EvictionRules(now=NOW, keep=None, limit=limit))
    prices = [_price(one) for one in choice.items]
    assert prices == sorted(prices)
    assert all(_price(one) >= max(prices, default=0) for one in items if one not in choice.items)
    if choice.items:
        assert choice.left + sum(choice.items[-1].files.values()) > limit


def test_recent_and_needed_items_stay() -> None:
    items = [item("old"), item("new", days=13), item("needed", needed=True)]
    assert names(choose_evictions(items, EvictionRules(now=NOW, keep=14 * DAY))) == ["old"]
    assert names(choose_evictions(items, EvictionRules(now=NOW, keep=0))) == ["old", "new"]


def test_age_protects_items_under_a_limit_only_if_set() -> None:
    items = [item("old"), item("new", days=1, seconds=0.1)]
    assert names(choose_evictions(items, EvictionRules(now=NOW, keep=None, limit=150))) == ["new"]
    assert names(choose_evictions(items, EvictionRules(now=NOW, keep=14 * DAY, limit=50))) == ["old"]


def test_last_use_in_the_future_counts_as_now() -> None:
    future = [item("future", days=-300)]
    assert names(choose_evictions(future, EvictionRules(now=NOW, keep=DAY))) == []
    assert names(choose_evictions(future, EvictionRules(now=NOW, keep=0))) == ["future"]


def test_file_of_a_kept_item_stays_and_other_files_go() -> None:
    old = CacheItem(id="old", files={"debian": 50, "python 3.12": 20}, seconds=9, used=0)
    new = CacheItem(id="new", files={"debian": 50, "python 3.13": 21}, seconds=9, used=0, needed=True)
    choice = choose_evictions([old, new], EvictionRules(now=NOW, keep=DAY))
    assert (names(choice), choice.files, choice.freed, choice.left) == (["old"], ("python 3.12",), 20, 71)


def test_item_that_frees_nothing_is_not_evicted() -> None:
    twin = CacheItem(id="twin", files={"x": 50}, seconds=0, used=0)
    needed = CacheItem(id="needed", files={"x": 50}, seconds=0, used=0, needed=True)
    assert names(choose_evictions([twin, needed], EvictionRules(now=NOW, keep=0))) == []


def test_items_that_share_a_file_are_evicted_together() -> None:
    twins = [CacheItem(id=name, files={"x": 100}, seconds=3, used=0) for name in ("a", "b")]
    other = item("other", seconds=5)
    assert names(choose_evictions([*twins, other], EvictionRules(now=NOW, keep=None, limit=150))) == ["other"]
    assert names(choose_evictions([*twins, other], EvictionRules(now=NOW, keep=None, limit=50))) == ["other", "a", "b"]


def test_permanent_bytes_count_against_the_limit() -> None:
    assert names(choose_evictions([item("one", 100)], EvictionRules(now=NOW, keep=None, limit=120), permanent=20)) == []
    assert names(choose_evictions([item("one", 100)], EvictionRules(now=NOW, keep=None, limit=120), permanent=21)) == [
        "one"
    ]


def test_items_that_share_a_file_count_by_their_latest_use() -> None:
    """Two groups of one price: the one with the older use goes first, and its youngest item decides."""
    old_and_new = [
        CacheItem(id=name, files={"shared": 100}, seconds=0.5, used=NOW - days * DAY)
        for name, days in (("a", 300), ("b", 10))
    ]
    choice = choose_evictions([*old_and_new, item("c", days=100)], EvictionRules(now=NOW, keep=None, limit=100))
    assert names(choice) == ["c"]


def test_files_are_evicted_in_the_order_of_their_paths() -> None:
    one = CacheItem(id="a", files={"z": 1, "b": 2, "m": 3}, seconds=1, used=0)
    assert choose_evictions([one], EvictionRules(now=NOW, keep=None)).files == ("b", "m", "z")
