"""Where things lie: blocks by their areas, lanes that do not meet, text within its room."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.report.svg_blocks import (
    BlockRule,
    clip,
    find_bottom,
    find_lanes,
    find_right_edge,
    find_scale,
    pack,
    text_width,
    wrap,
)

RULE = BlockRule(height=52, least=64, unknown=3000)
SIZES = st.lists(st.none() | st.integers(0, 3_000_000_000), max_size=120)


@given(st.lists(SIZES, max_size=6))
def test_blocks_have_their_areas_and_do_not_overlap(groups: list[list[int | None]]) -> None:
    scale = find_scale(groups, 9000, RULE)
    for group in groups:
        blocks = pack(RULE.areas(group, scale), RULE)
        assert len(blocks) == len(group)
        assert find_right_edge(blocks) <= 9000
        assert find_bottom(blocks) <= RULE.height + 1e-6
        for size, block in zip(group, blocks, strict=True):
            area = RULE.unknown if size is None else max(RULE.least, size * scale)
            assert block.width * block.height == pytest.approx(area)
            assert min(block.width, block.height) >= 3.9
        for before, after in pairwise(blocks):  # from left to right, from above to below
            run_concurrently = after.x >= before.x + before.width - 1e-6 and after.y == 0
            below = after.x == before.x and after.y >= before.y + before.height - 1e-6
            assert run_concurrently or below


def test_widest_group_fills_the_width() -> None:
    groups = [[80_000_000, 60_000_000, 3_000_000, 900_000], [1_000_000]]
    scale = find_scale(groups, 560, RULE)
    assert 550 < find_right_edge(pack(RULE.areas(groups[0], scale), RULE)) <= 560


def test_groups_without_bytes_can_be_packed() -> None:
    assert pack(RULE.areas([], find_scale([], 560, RULE)), RULE) == []
    blocks = pack(RULE.areas([0, None], find_scale([[0, None]], 560, RULE)), RULE)
    assert [round(block.width * block.height) for block in blocks] == [64, 3000]


def test_small_blocks_are_stacked_and_large_ones_stand_alone() -> None:
    blocks = pack([20_000, 300, 300, 300], RULE)
    assert [block.y > 0 for block in blocks] == [False, False, True, True]
    assert blocks[0].height == RULE.height
    assert len({block.x for block in blocks}) == 2


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), max_size=30))
def test_lines_of_one_lane_do_not_overlap(pairs: list[tuple[int, int]]) -> None:
    spans = find_lanes([(upper, upper + length) for upper, length in pairs])
    assert [(span.upper, span.lower - span.upper) for span in spans] == pairs
    for index, one in enumerate(spans):
        for other in spans[:index]:
            assert one.lane != other.lane or one.lower < other.upper or other.lower < one.upper


def test_short_line_is_in_the_lane_next_to_the_rows() -> None:
    long, short = find_lanes([(0, 9), (3, 4)])
    assert (long.lane, short.lane) == (1, 0)


@given(st.text(max_size=60), st.floats(0, 300))
def test_clip_returns_text_that_fits(text: str, room: float) -> None:
    shown = clip(text, room, 11)
    assert text_width(shown, 11) <= room or shown == ""
    assert shown in (text, "") or (shown.endswith("…") and text.startswith(shown[:-1]))


def test_wrap_clips_the_last_line() -> None:
    assert wrap(["includes", "one,", "two,", "three"], 1000, 11, 2) == ["includes one, two, three"]
    lines = wrap(["includes", *(f"stage-{n}," for n in range(20))], 150, 11, 2)
    assert len(lines) == 2
    assert lines[0].startswith("includes stage-0,")
    assert lines[1].endswith("…")
    assert all(text_width(line, 11) <= 150 for line in lines)
    assert wrap([], 100, 11, 2) == []
