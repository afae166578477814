"""Statistics of drift against scipy's, against what chance does, and the window that forgets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy  # which imports its parts where they are used

from buildkit.xoe_runtime.drift import (
    BINS,
    Sketch,
    compare,
    count_needed,
    find_pvalue,
    make_edges,
    make_sketch,
    measure_ks,
    measure_psi,
)
from buildkit.xoe_runtime.drift_window import DriftWindow

EDGES = tuple(range(1, 20))


def counts_of(values: np.ndarray, edges: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1).tolist())


@pytest.mark.parametrize("seed", range(20))
def test_ks_equals_scipy_on_the_same_data(seed: int) -> None:
    random = np.random.default_rng(seed)
    before, now = (random.normal(shift, 1, size) for shift, size in ((0, 700), (seed / 20, 50 + 40 * seed)))
    finest = tuple(sorted({*before.tolist(), *now.tolist()}))
    exact = scipy.stats.ks_2samp(before, now, method="asymp")
    assert measure_ks(make_sketch(before, finest).counts, counts_of(now, finest)) == pytest.approx(
        exact.statistic, abs=1e-12
    )
    binned = [np.searchsorted(EDGES, 5 * values) for values in (before, now)]
    inexact = scipy.stats.ks_2samp(*binned, method="asymp")
    distance = measure_ks(*(counts_of(5 * values, EDGES) for values in (before, now)))
    assert distance == pytest.approx(inexact.statistic, abs=1e-12)
    root = math.sqrt(before.size * now.size / (before.size + now.size))
    assert find_pvalue(distance, before.size, now.size) == pytest.approx(
        scipy.special.kolmogorov(root * distance), abs=1e-12
    )


def test_pvalue_equals_scipy_over_its_whole_range() -> None:
    for x in np.linspace(0, 4, 401):
        assert find_pvalue(float(x) / math.sqrt(500), 1000, 1000) == pytest.approx(
            scipy.special.kolmogorov(x), abs=1e-12
        )


def test_psi_is_that_of_the_formula_and_symmetric() -> None:
    before, now = (100, 300, 600), (200, 300, 500)
    expected = 0.1 * math.log(2) - 0.1 * math.log(5 / 6)
    assert measure_psi(before, now) == pytest.approx(expected, abs=1e-15)
    assert measure_psi(now, before) == pytest.approx(expected, abs=1e-15)
    assert measure_psi(before, tuple(7 * count for count in before)) == 0


def test_psi_of_an_empty_bin_is_finite_and_grows_with_what_is_missing() -> None:
    few, many = measure_psi((50, 50), (10, 0)), measure_psi((500, 500), (1000, 0))
    assert 0 < few < many < math.inf
    assert measure_psi((10, 0, 10), (5, 0, 5)) == 0


@pytest.mark.parametrize("freedom", [1, 2, 5, 9, 30])
def test_needed_samples_are_where_chance_seldom_makes_half_of_a_drift(freedom: int) -> None:
    reference = (1000,) * (freedom + 1)
    needed = count_needed(reference)
    quantile = scipy.stats.chi2.ppf(0.999, freedom)
    by_chance = quantile * (1 / needed + 1 / sum(reference))
    assert by_chance == pytest.approx(0.1, rel=0.05)


def test_chance_drifts_never_and_a_shift_of_half_a_deviation_mostly() -> None:
    random = np.random.default_rng(1)
    before = random.normal(size=5000)
    reference = make_sketch(before, make_edges(before))
    size = count_needed(reference.counts)

    def share_of_drifts(shift: float) -> float:
        found = (compare(reference, counts_of(random.normal(shift, 1, size), reference.edges)) for _ in range(500))
        return sum(one.state == "drifted" for one in found) / 500

    assert share_of_drifts(0) == 0
    assert share_of_drifts(0.5) > 0.8
    assert share_of_drifts(1) == 1


def test_too_few_samples_say_nothing() -> None:
    reference = Sketch((1.0, 2.0, 3.0), (500, 500, 500, 500))
    needed = count_needed(reference.counts)
    few = compare(reference, (needed - 1, 0, 0, 0))
    assert (few.state, few.psi, few.ks, few.pvalue) == ("too few", None, None, None)
    assert (few.samples, few.needed) == (needed - 1, needed)
    assert compare(reference, (needed, 0, 0, 0)).state == "drifted"
    assert compare(reference, (needed,) * 4).state == "steady"


def test_a_reference_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match=r"50 values are too few for a reference: [0-9]+ are needed"):
        count_needed((10,) * 5)


def test_edges_share_values_out_evenly() -> None:
    values = np.random.default_rng(2).gamma(2, size=10_000)
    edges = make_edges(values)
    assert len(edges) == BINS - 1
    assert make_sketch(values, edges).counts == pytest.approx([1000] * BINS, abs=10)


def test_frequent_values_get_bins_of_their_own() -> None:
    rates = [16_000.0] * 700 + [8_000.0] * 300
    sketch = make_sketch(rates, make_edges(rates))
    assert sketch.counts == (0, 300, 0, 700, 0)
    for unseen in (4_000, 11_025, 44_100):  # each falls into a bin that the reference has nothing in
        assert measure_psi(sketch.counts, make_sketch([float(unseen)] * 100, sketch.edges).counts) > 1


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_edges_of_nothing_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="no"):
        make_edges(values)


def test_window_forgets_what_is_old_and_keeps_what_is_needed() -> None:
    window = DriftWindow({"level": (0.0,)}, slot=10, least=3, most=6)
    for second in range(60):  # six slots of ten values
        window.add({"level": -1.0 if second < 30 else 1.0}, second)
    assert window.read("level", 0, 59) == (0, 30)  # the three latest slots
    assert window.read("level", 35, 59) == (10, 30)  # and one more, for more is needed
    assert window.read("level", 1000, 59) == (30, 30)
    assert window.read("level", 1000, 85) == (0, 30)
    assert window.read("level", 1000, 1000) == (0, 0)


def test_window_is_bounded_and_leaves_out_what_is_no_number() -> None:
    window = DriftWindow({"level": (0.0,)}, slot=1, least=1, most=4)
    for second in range(1000):
        window.add({"level": math.nan if second % 2 else 1.0, "other": 1.0}, second)
    assert len(window._slots) == 4
    assert sum(window.read("level", 1000, 999)) == 2
