"""The file between the two halves of the monitor: what the serving half makes of it, whatever happens to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildkit.monitor.feed import FILE, FeedReader, write_feed
from buildkit.monitor.metrics import MetricFamily, counter, gauge
from buildkit.monitor.state import MonitorState, parse_state, render_state

FIGURES = (
    gauge("container_threads", "Threads.", ((("name", "a\nb"), ("image", "é\udc80")), 3)),
    counter("xoe_monitor_errors_total", "Errors.", ((("source", "nvml"),), 1)),
    MetricFamily(name="xoe_container_info", kind="info", help="Info.", samples=(((), 1),)),
)


class Clocks:
    """A clock that goes on, and a time of day that may jump."""

    def __init__(self) -> None:
        self.now, self.day = 1000.0, 50_000.0

    def reader(self, folder: Path) -> FeedReader:
        return FeedReader(folder, lambda: self.now, lambda: self.day)

    def state(self, **changes: object) -> MonitorState:
        return MonitorState(
            **{"time": self.day, "families": FIGURES, "document": {"snapshot": {"a": [None]}}} | changes
        )

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.day += seconds


def names(state: MonitorState) -> set[str]:
    return {family.name for family in state.families if family.samples}


ALL = {family.name for family in FIGURES} | {"xoe_monitor_state_age_seconds"}
OWN = {"xoe_monitor_errors_total", "xoe_monitor_state_age_seconds"}


def test_a_state_comes_through_whole() -> None:
    state = Clocks().state(problem="podman does not answer")
    assert parse_state(render_state(state)) == state


def test_figures_are_served_until_they_are_old_and_again_when_they_are_new(tmp_path: Path) -> None:
    clocks = Clocks()
    reader = clocks.reader(tmp_path)
    assert "does not run" in reader.state().problem
    write_feed(tmp_path, clocks.state())
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o644, "another user reads it"
    clocks.pass_by(1)
    assert names(reader.state()) == ALL
    assert reader.state().document == {"snapshot": {"a": [None]}}
    clocks.pass_by(29)
    assert (names(reader.state()), reader.state().problem) == (ALL, "")
    clocks.pass_by(10)
    old = reader.state()
    assert (names(old), old.document) == (OWN, {}), "what may be wrong is not shown"
    assert old.problem == "the figures are 40 s old"
    write_feed(tmp_path, clocks.state(problem="podman does not answer"))
    clocks.pass_by(1)
    assert (names(reader.state()), reader.state().problem) == (ALL, "podman does not answer")


def test_a_file_that_was_there_before_is_as_old_as_it_says(tmp_path: Path) -> None:
    clocks = Clocks()
    write_feed(tmp_path, clocks.state())
    clocks.pass_by(3600)
    assert names(clocks.reader(tmp_path).state()) == OWN


def test_the_time_of_day_may_jump(tmp_path: Path) -> None:
    clocks = Clocks()
    reader = clocks.reader(tmp_path)
    write_feed(tmp_path, clocks.state())
    clocks.now += 1
    assert names(reader.state()) == ALL
    for jump in (86_400.0, -900_000.0):
        clocks.day += jump
        clocks.now += 1
        assert names(reader.state()) == ALL
        write_feed(tmp_path, clocks.state())
        clocks.now += 1
        assert (names(reader.state()), reader.state().problem) == (ALL, "")


def test_a_file_that_goes_or_is_damaged_is_said_and_its_figures_are_dropped(tmp_path: Path) -> None:
    clocks = Clocks()
    reader = clocks.reader(tmp_path)
    good = render_state(clocks.state())
    bad = {
        "JSONDecodeError": good[:50],
        "no state of a monitor": b"[]",
        "KeyError": b'{"format": 1}',
        "no kind of metric": good.replace(b'"counter"', b'"summary"'),
        "TypeError": good.replace(b",3]", b',"3"]'),
        "both halves must be of one version": good.replace(b'"format":1', b'"format":2'),
        "OverflowError": b'{"format":1,"problem":"","families":[],"document":{},"time":1' + b"0" * 400 + b"}",
        "RecursionError": b'{"format":1,"time":0,"problem":"","families":' + b"[" * 100_000,
        "Expecting value": b"\x00" * 10,
    }
    for text in bad.values():
        (tmp_path / FILE).write_bytes(good)
        clocks.pass_by(1)
        assert names(reader.state()) == ALL
        (tmp_path / FILE).write_bytes(text)
        clocks.pass_by(1)
        state = reader.state()
        assert state.problem.startswith(str(tmp_path / FILE)), text
        assert names(state) == OWN
    (tmp_path / FILE).unlink()
    clocks.pass_by(1)
    assert "does not run" in reader.state().problem


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b'{"format":1}', json.dumps({"format": 3}).encode()])
def test_other_texts_are_no_states(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_state(text)


def test_the_file_is_read_at_most_twice_a_second(tmp_path: Path) -> None:
    clocks = Clocks()
    reader = clocks.reader(tmp_path)
    write_feed(tmp_path, clocks.state())
    clocks.pass_by(1)
    reader.state()
    write_feed(tmp_path, clocks.state(families=FIGURES[:1]))
    clocks.pass_by(0.1)
    assert names(reader.state()) == ALL
    clocks.pass_by(0.5)
    assert names(reader.state()) == {"container_threads", "xoe_monitor_state_age_seconds"}
