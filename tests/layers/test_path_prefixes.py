"""Path prefixes are fewer than paths, and never hide that two layers overlap."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import Key
from buildkit.layers import path_prefixes as claims
from buildkit.layers.path_prefixes import MAX_PREFIXES, find_overlaps, make_overlap_test, path_prefixes_of
from buildkit.layers.tar.contents import FOLDER

NAMES = st.sampled_from(["a", "b", "ab", "a.b", "a-b", "__pycache__"])
PATHS = st.lists(NAMES, min_size=1, max_size=9).map("/".join)
LAYERS = st.lists(st.sets(PATHS, max_size=6), max_size=5)


def key(number: int) -> Key:
    return Key.of(str(number).encode())


def prefixes_of(paths: Iterable[str]) -> tuple[str, ...]:
    return path_prefixes_of((path, "content") for path in paths)


def meet(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether both own a path, or a path of one is a folder of the other: by trying all pairs."""
    return any(f"{b}/".startswith(f"{a}/") or f"{a}/".startswith(f"{b}/") for a, b in itertools.product(one, other))


@given(LAYERS)
def test_layers_with_common_paths_have_overlapping_prefixes(layers: list[set[str]]) -> None:
    found = find_overlaps({key(n): prefixes_of(paths) for n, paths in enumerate(layers)})
    for (n, one), (m, other) in itertools.combinations(enumerate(layers), 2):
        if meet(one, other):
            assert {key(n), key(m)} <= found


@given(LAYERS)
def test_only_layers_with_overlapping_prefixes_are_found(layers: list[set[str]]) -> None:
    short = [prefixes_of(paths) for paths in layers]
    found = find_overlaps({key(n): claimed for n, claimed in enumerate(short)})
    for n, claimed in enumerate(short):
        others = [path for m, other in enumerate(short) if m != n for path in other]
        assert (key(n) in found) == meet(claimed, others)


@given(LAYERS)
def test_test_for_many_layers_says_what_a_comparison_of_two_says(layers: list[set[str]]) -> None:
    short = [prefixes_of(paths) for paths in layers]
    for one, other in itertools.product(short, short):
        assert make_overlap_test(one)(other) == meet(one, other)
        assert make_overlap_test(one)(other) == bool(find_overlaps({key(1): one, key(2): other}))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=5), st.integers(2, 40))
def test_layers_of_many_paths_have_few_prefixes_that_still_overlap(shapes: list[tuple[int, int]], most: int) -> None:
    layers = [{"/".join(("x" * shift, *"abcdefghi"[:depth], str(n))) for n in range(50)} for depth, shift in shapes]
    layers = [{path.lstrip("/") for path in paths} for paths in layers]
    before, claims.MAX_PREFIXES = claims.MAX_PREFIXES, most
    try:
        short = [prefixes_of(paths) for paths in layers]
    finally:
        claims.MAX_PREFIXES = before
    found = find_overlaps({key(n): claimed for n, claimed in enumerate(short)})
    for (n, one), (m, other) in itertools.combinations(enumerate(layers), 2):
        if meet(one, other):
            assert {key(n), key(m)} <= found
    for paths, claimed in zip(layers, short, strict=True):
        assert len(claimed) <= most or all("/" not in path for path in claimed)
        assert all(any(f"{path}/".startswith(f"{claim}/") for claim in claimed) for path in paths)


def test_wheel_has_a_handful_of_prefixes() -> None:
    place = "opt/venv/lib/python3.13/site-packages"
    paths = [f"{place}/numpy/core/{n}.py" for n in range(9000)] + [f"{place}/numpy-2.0.dist-info/RECORD"]
    assert prefixes_of(paths) == (f"{place}/numpy", f"{place}/numpy-2.0.dist-info")


def test_bytecode_of_single_file_modules_causes_no_overlap() -> None:
    place = "opt/venv/lib/python3.13/site-packages"
    one, two = ([f"{place}/{name}.py", f"{place}/__pycache__/{name}.cpython-313.pyc"] for name in ("six", "cffi"))
    assert prefixes_of(one) == (f"{place}/__pycache__/six.cpython-313.pyc", f"{place}/six.py")
    assert find_overlaps({key(1): prefixes_of(one), key(2): prefixes_of(two)}) == set()


def test_too_many_files_of_a_folder_become_a_prefix_of_the_folder() -> None:
    assert len(prefixes_of(f"app/data/{n}" for n in range(MAX_PREFIXES))) == MAX_PREFIXES
    assert prefixes_of(f"app/data/{n}" for n in range(MAX_PREFIXES + 1)) == ("app/data",)


def test_layer_without_paths_has_no_prefixes() -> None:
    assert prefixes_of([]) == ()
    assert find_overlaps({}) == set()


def test_empty_folder_of_a_root_overlaps_only_with_what_would_replace_it() -> None:
    root = path_prefixes_of([("srv", FOLDER), ("etc/x", "1"), ("a/b/c/d/e/f/g/empty", FOLDER)])
    for path, is_overlap in (("srv", True), ("srv/file", False), ("srv2", False), ("etc", True), ("a/b", True)):
        assert bool(find_overlaps({key(1): root, key(2): prefixes_of([path])})) == is_overlap, path
