"""Views: lines for logs, rows for terminals; nothing foreign reaches a terminal as it came."""

from __future__ import annotations

import io
import os
import threading

import pytest

from buildkit.events import Event, Note, StepFailed, StepFinished, StepPhase, StepProgress, StepStarted
from buildkit.report.live import LiveView, open_screen, render_amounts
from buildkit.report.plain import PlainView, render_event
from buildkit.report.table import print_table
from buildkit.report.text import format_bytes, format_seconds, sanitize
from buildkit.report.view import open_view
from tests.waiting import wait_until


class Terminal(io.StringIO):
    """Keeps what is written, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("LINES", "40")


HOSTILE = "evil\x1b[2J\x1b]0;title\x07\x1b[31m\r\x9b1m"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_500_000, "1.5 MB"), (99_400_000, "99.4 MB"),
     (99_600_000, "100 MB"), (999_700, "1.0 MB"), (12_345_678_901, "12.3 GB"), (5e12, "5.0 TB")],
)  # fmt: skip
def test_bytes_are_formatted_with_a_unit(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0412, "0.04 s"), (1, "1.0 s"), (59.4, "59.4 s"), (185, "3 min 05 s"), (119.7, "2 min 00 s")],
)
def test_seconds_are_formatted_as_minutes_from_one_minute(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b[?25lx\x1bM\x1bcy", "xcy"),
        ("\x1b\x1b[31mx", "x"),
        ("a\rb\x00\x7f\x9b\x85c", "abc"),
        ("ünï → 木", "ünï → 木"),
        ("a\u202egpj.exe\u2066\u200f", "a\\u202egpj.exe\\u2066\\u200f"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff\ud800", "\\udcff\\ud800"),
        ("\x1b]0;title\x07x\x1b]8;;http://y\x1b\\z", "xz"),
    ],
)
def test_sanitize_removes_terminal_control_sequences(text: str, kept: str) -> None:
    assert sanitize(text) == kept


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            StepFinished(step="w/x", phase="pack", seconds=1.25, size=2_000_000, note="n"),
            "    pack  w/x  2.0 MB  1.2 s  n",
        ),
        (StepFinished(step="w/x", phase="compile", seconds=0.5), " compile  w/x  0.50 s"),
        (StepFailed(step="w/x", phase="run", message="why"), "     run  w/x: failed: why"),
        (Note(text="t"), "    note  t"),
        (Note(text="t", warning=True), " warning  t"),
    ],
)
def test_render_event_gives_one_line(event: StepFinished | StepFailed | Note, line: str) -> None:
    assert render_event(event) == line


def test_plain_view_prints_each_end_and_a_line_every_ten_seconds_of_a_long_step() -> None:
    out, now = io.StringIO(), [0.0]
    view = PlainView(out, lambda: now[0])

    def at(seconds: float, event: Event) -> list[str]:
        now[0] = seconds
        before = len(out.getvalue())
        view(event)
        return out.getvalue()[before:].splitlines()

    assert at(0, StepStarted(step="a", phase="fetch", total=100_000_000)) == []
    assert at(9.9, StepProgress(step="a", done=1_000_000)) == []
    assert at(10.1, StepProgress(step="a", done=2_000_000)) == ["       …  a: 2.0 MB of 100 MB"]
    assert at(12, StepProgress(step="a", done=3_000_000)) == []
    assert at(20.2, StepProgress(step="a", done=4_000_000)) == ["       …  a: 4.0 MB of 100 MB"]
    assert at(21, StepStarted(step="b", phase="run")) == []
    assert at(32, StepProgress(step="b", done=7)) == ["       …  b: 7 B"]
    assert at(33, StepProgress(step="nobody started", done=7)) == []
    assert at(33, StepPhase(step="b", phase="extracting\narchives")) == ["       …  b: extracting archives"]
    assert at(33.5, StepProgress(step="a", done=195_000_000)) == ["       …  a: 195 MB"], "a total that was an estimate"
    assert at(34, StepFinished(step="a", phase="fetch", seconds=34.0)) == ["   fetch  a  34.0 s"]


def test_plain_view_removes_escapes() -> None:
    out = io.StringIO()
    PlainView(out)(Note(text=HOSTILE))
    assert out.getvalue() == "    note  evil\n"


def test_open_view_prints_plain_lines_to_a_file() -> None:
    out = io.StringIO()
    with open_view(out) as emit:
        emit(Note(text="x"))
    assert out.getvalue() == "    note  x\n"


def test_live_view_shows_a_row_with_bytes_for_each_step() -> None:
    out = Terminal()
    view = LiveView(out)
    try:
        view(StepStarted(step="ml-deps/torch", phase="fetch", total=200_000_000))
        view(StepProgress(step="ml-deps/torch", done=50_000_000))
        view(StepStarted(step="base/root", phase="root"))
        wait_for(out, "50.0 MB of 200 MB")
        wait_for(out, "base/root")
        view(StepPhase(step="base/root", phase="extracting archives"))
        wait_for(out, "base/root: extracting archives")
        view(StepPhase(step="unknown", phase="nothing"))
        view(StepProgress(step="unknown", done=1))
        before = len(out.getvalue())
        view(StepFinished(step="ml-deps/torch", phase="fetch", seconds=2.0, size=200_000_000))
        view(StepFailed(step="base/root", phase="root", message="no mirror"))
        view(StepFinished(step="never started", phase="run", seconds=1.0))
    finally:
        view.close()
    after = sanitize(out.getvalue()[before:])
    assert "   fetch  ml-deps/torch  200 MB  2.0 s" in after
    assert "    root  base/root: failed: no mirror" in after
    assert "never started" in after
    assert out.getvalue().endswith("\x1b[?25h\x1b[0m") or "\x1b[?25h" in out.getvalue(), "the cursor is back"


def wait_for(out: Terminal, text: str) -> None:
    wait_until(lambda: text in sanitize(out.getvalue()), lambda: f"never shown: {text}")


def test_live_view_removes_escapes_and_markup_in_step_names() -> None:
    out = Terminal()
    view = LiveView(out)
    try:
        view(StepStarted(step=f"[red]{HOSTILE}[/red]", phase="run"))
        wait_for(out, "[red]evil[/red]")
        view(StepFailed(step=f"[red]{HOSTILE}[/red]", phase="run", message=HOSTILE))
    finally:
        view.close()
    text = out.getvalue()
    assert "[red]evil[/red]: failed: evil" in sanitize(text)
    assert "\x1b[2J" not in text
    assert "\x1b]0" not in text
    assert "\x9b" not in text


def test_live_view_draws_nothing_before_the_first_event() -> None:
    out = Terminal()
    with open_view(out):
        pass
    assert out.getvalue() == ""


def test_concurrent_first_events_open_one_live_view(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[LiveView] = []
    real = LiveView.__init__

    def init(self: LiveView, out: Terminal) -> None:
        threading.Event().wait(0.02)
        made.append(self)
        real(self, out)

    monkeypatch.setattr(LiveView, "__init__", init)
    out = Terminal()
    with open_view(out) as emit:
        threads = [
            threading.Thread(target=emit, args=(StepStarted(step=str(number), phase="fetch"),)) for number in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 1


@pytest.mark.parametrize(
    ("amounts", "text"),
    [
        ((0, None, None, 0.5), ""),
        ((0, 9, None, 2.0), "2.0 s"),
        ((1_000_000, None, None, 1.0), "1.0 MB"),
        ((1_000_000, 4_000_000, 1_000_000, 1.0), "1.0 MB of 4.0 MB  1.0 MB/s  3.0 s left"),
        ((4_000_000, 4_000_000, 1_000_000, 1.0), "4.0 MB of 4.0 MB  1.0 MB/s"),
    ],
)
def test_amounts_are_rendered_with_totals_if_known(
    amounts: tuple[float, float | None, float | None, float], text: str
) -> None:
    assert render_amounts(*amounts) == text


def test_table_shows_cells_literally_and_aligns_numbers_right() -> None:
    out = io.StringIO()
    print_table("t", ("layer", "size"), [("[bold]a", "1 B"), (HOSTILE, "100 MB")], out)
    title, _, *rows = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    assert title == "t"
    assert [row.split() for row in rows] == [["[bold]a", "1", "B"], ["evil", "100", "MB"]]
    assert len({len(row) for row in rows}) == 1, "sizes end in one column"
    assert "\x1b" not in out.getvalue()


def test_screen_is_redrawn_and_the_one_before_comes_back() -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as out, open_screen(out) as draw:
        draw([("container  cpu", "bold"), ("app\x1b]0;title\x07 \x1b[2J  0.25", "red")])
        draw([("no container runs", "dim")])
    text = ""
    while "\x1b[?1049l" not in text:  # a terminal gives a page at a time
        text += os.read(master, 1 << 16).decode()
    os.close(master)
    assert text.startswith("\x1b[?1049h")
    assert text.index("container  cpu") < text.index("no container runs")
    assert "\x1b]0;title" not in text
    assert "\x1b[2J  0.25" not in text
