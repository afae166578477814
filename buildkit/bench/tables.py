"""Results as tables of text, for the terminal, Markdown and chart labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from buildkit.bench.results import Figures, Results, SampleVerdict, figure
from buildkit.bench.scenarios import SCENARIOS
from buildkit.report.text import format_bytes, format_seconds

GOALS = {
    "runnable": "until podman can run it",
    "pushed": "until pushed, nothing imported",
    "fresh": "until pushed from a fresh runner with a warm remote cache",
}
_PEERS = {
    "docker": "BuildKit of docker",
    "buildkitd": "BuildKit",
    "buildkitd-stages": "staged BuildKit",
    "buildah": "buildah",
}
_MEANINGS = {"buildkitd-stages": "staged: each group of wheels in a stage of its own"}
_SCENARIOS = {scenario.name: scenario.title for scenario in SCENARIOS}
_ALIKE = 1.05  # smaller ratios count as equal


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text. The first column is text, the others are numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def participant_title(name: str) -> str:
    """Return ``staged BuildKit``, for example; this project keeps its own name."""
    return _PEERS.get(name, name)


def format_meanings(racing: Iterable[str]) -> Iterator[str]:
    """Yield explanations of participants whose titles do not explain themselves."""
    return (_MEANINGS[name] for name in racing if name in _MEANINGS)


def scenario_title(name: str) -> str:
    """Return ``one light pin``, for example."""
    return _SCENARIOS.get(name, name)


def make_tables(results: Results) -> tuple[Table, ...]:
    """Return tables of seconds for every goal, registry traffic, and other resources."""
    goals = list(dict.fromkeys(until for until, _ in results.rows()))
    tables = [_seconds(results, goal) for goal in goals]
    tables += [_bytes(results, goal) for goal in goals if goal != "runnable"]
    tables += [_machine(results, goal) for goal in goals]
    tables.append(_scale(results))
    return tuple(table for table in tables if table.rows)


def make_goal_tables(results: Results, goal: str) -> tuple[Table, ...]:
    """Return the tables of one goal: seconds first, then bytes for goals that push, CPU time and memory last."""
    return (_seconds(results, goal), *([] if goal == "runnable" else [_bytes(results, goal)]), _machine(results, goal))


def format_ratio(results: Results, until: str, scenario: str) -> str:
    """Format ``3.2× faster than buildah``: this project against the best correct peer; empty if there is none."""
    ours, *peers = results.participants
    mine = figure(results.of(until, scenario, ours))
    by_peer = {peer: figures for peer in peers if (figures := figure(results.of(until, scenario, peer)))}
    if mine is None or not by_peer:
        return ""
    best = min(by_peer, key=lambda peer: by_peer[peer].median)
    ratio = by_peer[best].median / mine.median
    title = participant_title(best)
    if 1 / _ALIKE < ratio < _ALIKE:
        return f"as {title}"
    return f"{ratio:.1f}× faster than {title}" if ratio > 1 else f"{1 / ratio:.1f}× slower than {title}"


def format_cell(results: Results, until: str, scenario: str, participant: str) -> str:
    """Format ``3.9 s (3.7–4.4)``, or that samples were wrong or failed, or a dash for a cell that was not raced."""
    samples = results.of(until, scenario, participant)
    if not samples:
        return "–"
    bad = [sample for sample in samples if not sample.counts]
    if bad:
        failed = any(sample.verdict is SampleVerdict.FAILED for sample in bad)
        return "failed" if failed else f"wrong ({format_seconds(bad[0].seconds)})"
    figures = figure(samples)
    assert figures is not None  # noqa: S101 - there are samples, and they count
    return format_figures(figures)


def format_figures(figures: Figures) -> str:
    """Format the median seconds with minimum and maximum in brackets."""
    if figures.count == 1:
        return format_seconds(figures.median)
    return f"{format_seconds(figures.median)} ({_bare(figures.least)}–{_bare(figures.most)})"


def format_notes(results: Results) -> Iterator[str]:
    """Yield notes on the figures: titles, and who was wrong, did excess work, failed, or took no part."""
    yield from format_meanings(results.participants)
    titles = participant_titles(results)
    for until, scenario in results.rows():
        for name, title in titles.items():
            bad = [sample for sample in results.of(until, scenario, name) if sample.verdict is not SampleVerdict.RIGHT]
            if bad:
                last = (bad[0].note.strip().splitlines() or [""])[-1]
                yield f"{title}, {scenario_title(scenario)}, {until}: {bad[0].verdict}, {last}"
    for skipped in dict.fromkeys(results.skipped):
        words = (
            titles.get(skipped.participant, participant_title(skipped.participant)),
            scenario_title(skipped.scenario),
            skipped.until,
        )
        yield f"{', '.join(filter(None, words))}: not raced, {skipped.why}"


def participant_titles(results: Results) -> Mapping[str, str]:
    """Return each participant's title with its version (``buildah 1.28.2``), and this project's name alone."""
    return {
        name: f"{participant_title(name)} {version}" if name in _PEERS else name
        for name, version in results.participants.items()
    }


def _scenarios(results: Results, goal: str) -> list[str]:
    return [scenario for until, scenario in results.rows() if until == goal]


def _racing(results: Results, goal: str) -> list[str]:
    return [
        name for name in results.participants if any(s.until == goal and s.participant == name for s in results.samples)
    ]


def _seconds(results: Results, goal: str) -> Table:
    racing = _racing(results, goal)
    rows = tuple(
        (
            scenario_title(name),
            *(format_cell(results, goal, name, who) for who in racing),
            format_ratio(results, goal, name),
        )
        for name in _scenarios(results, goal)
    )
    titles = participant_titles(results)
    return Table(title=GOALS.get(goal, goal), columns=("", *(titles[who] for who in racing), ""), rows=rows)


def _bytes(results: Results, goal: str) -> Table:
    racing, titles = _racing(results, goal), participant_titles(results)
    rows = [
        (scenario_title(name), *(_moved(figure(results.of(goal, name, who))) for who in racing))
        for name in _scenarios(results, goal)
    ]
    return Table(title=f"{goal}: bytes up, down", columns=("", *(titles[who] for who in racing)), rows=tuple(rows))


def _machine(results: Results, goal: str) -> Table:
    racing, titles = _racing(results, goal), participant_titles(results)
    rows = [
        (scenario_title(name), *(_use(figure(results.of(goal, name, who))) for who in racing))
        for name in _scenarios(results, goal)
    ]
    spaces = {who: _space(results, goal, who) for who in racing}
    rows.append(("disk after the first build", *(spaces[who] for who in racing)))
    return Table(
        title=f"{goal}: CPU seconds, peak memory", columns=("", *(titles[who] for who in racing)), rows=tuple(rows)
    )


def _scale(results: Results) -> Table:
    rows = tuple(
        (
            f"{row['wheels']} wheels, {row['gigabytes']} GB of models, {row.get('files', 0)} small files",
            format_seconds(row["seconds"]),
            format_seconds(row["first"]),
            format_bytes(round(memory)) if (memory := row.get("memory")) else "?",
        )
        for row in results.scale
    )
    columns = ("", "median", "the first time", "peak memory")
    return Table(title="seconds to plan, a whole session", columns=columns, rows=rows)


def _space(results: Results, goal: str, who: str) -> str:
    sizes = [s.space for s in results.samples if (s.until, s.participant) == (goal, who) and s.space is not None]
    return format_bytes(sizes[-1]) if sizes else "–"


def _moved(figures: Figures | None) -> str:
    return f"{format_bytes(figures.up)}, {format_bytes(figures.down)}" if figures else "–"


def _use(figures: Figures | None) -> str:
    if figures is None:
        return "–"
    memory = format_bytes(figures.memory) if figures.memory is not None else "?"
    return f"{figures.cpu:.1f} s, {memory}"


def _bare(seconds: float) -> str:
    return format_seconds(seconds).removesuffix(" s")
