from __future__ import annotations

import random

import pytest
import reference

from segments import Rules, Segmenter, make_rules

RULES = make_rules(threshold=0.5, min_speech_ms=0, min_silence_ms=0, pad_ms=0)
W = 512


def run(values: list[float], rules: Rules = RULES, total: int | None = None) -> list[tuple[int, int]]:
    segmenter = Segmenter(rules)
    found = [segment for value in values for segment in segmenter.push(value)]
    found += segmenter.finish(len(values) * W if total is None else total)
    return [(segment.start, segment.end) for segment in found]


def test_silence_has_no_segments() -> None:
    assert run([]) == []
    assert run([0.0] * 10) == []


def test_speech_lasts_from_its_first_window_to_its_first_quiet_one() -> None:
    assert run([0, 1, 1, 0, 0]) == [(W, 3 * W)]


def test_speech_at_the_end_ends_with_the_audio() -> None:
    assert run([0, 1, 1], total=2 * W + 100) == [(W, 2 * W + 100)]


def test_the_threshold_counts_as_speech_and_the_band_below_it_keeps_what_there_was() -> None:
    assert run([0.4, 0.5, 0.4, 0.36, 0.34, 0.4]) == [(W, 4 * W)]


def test_the_lower_threshold_stays_above_zero() -> None:
    assert make_rules(threshold=0.1, min_speech_ms=0, min_silence_ms=0, pad_ms=0).low == 0.01


def test_a_short_silence_does_not_divide() -> None:
    rules = Rules(threshold=0.5, min_speech=0, min_silence=2 * W, pad=0)
    assert run([1, 0, 0, 1, 0, 0, 0], rules) == [(0, 4 * W)]
    assert run([1, 0, 0, 0, 1, 0, 0, 0], rules) == [(0, W), (4 * W, 5 * W)]


def test_short_speech_is_dropped_and_must_be_longer_than_the_limit() -> None:
    rules = Rules(threshold=0.5, min_speech=2 * W, min_silence=0, pad=0)
    assert run([1, 1, 0, 1, 1, 1, 0], rules) == [(3 * W, 6 * W)]


def test_padding_stays_within_the_audio() -> None:
    rules = Rules(threshold=0.5, min_speech=0, min_silence=0, pad=10 * W)
    assert run([0, 1, 0], rules) == [(0, 3 * W)]


def test_neighbours_share_a_gap_too_small_for_both_pads() -> None:
    rules = Rules(threshold=0.5, min_speech=0, min_silence=0, pad=W)
    assert run([0, 0, 1, 0, 1, 0, 0, 0], rules) == [(W, 3 * W + W // 2), (3 * W + W // 2, 6 * W)]


def test_a_segment_comes_out_as_soon_as_the_next_is_known() -> None:
    segmenter = Segmenter(RULES)
    out = [[(one.start, one.end) for one in segmenter.push(value)] for value in (1, 0, 1, 0, 0)]
    assert out == [[], [], [], [(0, W)], []]


@pytest.mark.parametrize("seed", range(300))
def test_the_stream_agrees_with_the_plain_reference(seed: int) -> None:
    rng = random.Random(seed)
    value, values = 0.0, []
    for _ in range(rng.randrange(200)):
        value = rng.random() if rng.random() < rng.choice((0.1, 0.9)) else value
        values.append(value)
    total = max(0, len(values) * W - rng.randrange(W))
    rules = make_rules(
        threshold=rng.uniform(0.05, 0.95),
        min_speech_ms=rng.choice((0, 50, 250)),
        min_silence_ms=rng.choice((0, 32, 100, 700)),
        pad_ms=rng.choice((0, 30, 500)),
    )
    found = run(values, rules, total)
    assert found == reference.find_segments(values, total, rules)
    flat = [edge for segment in found for edge in segment]
    assert flat == sorted(flat)
    assert all(0 <= edge <= total for edge in flat)
