"""The Markdown report of a race: tables, machine, versions and notes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buildkit.bench.results import Results, SampleVerdict, median_calibrations
from buildkit.bench.tables import (
    Table,
    format_notes,
    make_tables,
    participant_title,
    participant_titles,
    scenario_title,
)
from buildkit.report.build_markdown import escape
from buildkit.report.text import format_bytes, format_seconds, sanitize

_BYTES = ("memory", "disk", "wheel bytes", "model bytes")
_SHOWN_OUTPUT = 1500


def render_markdown(results: Results, pictures: Sequence[str] = ()) -> str:
    """Return the report. ``pictures`` are file names in the same folder."""
    blocks = [f"# Race: {escape(str(results.workload.get('name', '')))}"]
    blocks += [f"![Bars for every scenario]({picture})" for picture in pictures]
    blocks.append("Medians of seconds, least and most in brackets; every figure is of one run on one machine.")
    blocks += [_table(table) for table in make_tables(results)]
    if notes := list(format_notes(results)):
        blocks.append("## Beside the figures\n\n" + "\n".join(f"- {escape(note)}" for note in notes))
    blocks += _failures(results)
    blocks.append(_facts("Machine", results.machine))
    blocks.append(_facts("Workload", results.workload))
    racing = {participant_title(name): version for name, version in results.participants.items()}
    blocks.append(_facts("Versions", {**racing, **results.versions}))
    fixed = {name: format_seconds(seconds) for name, seconds in median_calibrations(results).items()}
    blocks.append(_facts("Fixed work, medians", fixed))
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> str:
    head = " | ".join(escape(column) or " " for column in table.columns)
    marks = "|".join(["---", *["---:"] * (len(table.columns) - 1)])
    rows = "".join(f"| {' | '.join(escape(cell) or ' ' for cell in row)} |\n" for row in table.rows)
    return f"## {escape(table.title[:1].upper() + table.title[1:])}\n\n| {head} |\n|{marks}|\n{rows}".rstrip()


def _failures(results: Results) -> Iterator[str]:
    """Yield the end of the output of each failure, once per row."""
    titles, seen = participant_titles(results), set()
    for sample in results.samples:
        cell = (sample.until, sample.scenario, sample.participant)
        if sample.verdict is SampleVerdict.FAILED and cell not in seen:
            seen.add(cell)
            text = sanitize(sample.output)[-_SHOWN_OUTPUT:].replace("```", "'''")
            who = f"{titles[sample.participant]}, {scenario_title(sample.scenario)}, {sample.until}"
            yield f"### {escape(who)}: failed\n\n```text\n{text.strip()}\n```"


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    lines = [f"- {escape(name)}: {escape(_say(name, value))}" for name, value in facts.items()]
    return f"## {title}\n\n" + "\n".join(lines)


def _say(name: str, value: object) -> str:
    return format_bytes(value) if name in _BYTES and isinstance(value, int) else str(value)
