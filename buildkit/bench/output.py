"""The output of a race: results.json, a report, charts, tables on the terminal, and the verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from buildkit.bench.chart import render_chart
from buildkit.bench.race_markdown import render_markdown
from buildkit.bench.regression_gate import ComparedRow, RegressionOutcome, compare_rows
from buildkit.bench.results import HINT, Results, SampleVerdict, parse_results, render_results
from buildkit.bench.tables import format_notes, make_tables, scenario_title
from buildkit.errors import BuildError, DefinitionError
from buildkit.report.table import print_table
from buildkit.report.text import format_count, sanitize
from buildkit.tools.process import Command, find_tool, run

_PIXELS = "1.5"  # PNG pixels per SVG pixel
_MEET = "race the scenarios and goals of the old results (--scenario, --until), with a --peer of the same version"
_QUIET = "race on a machine that does nothing else, more often (--repeat 9), or allow for more: --fail-over 30%"


def write_output(results: Results, folder: Path) -> None:
    """Write ``results.json``, ``report.md``, ``GOAL.svg`` and, if rsvg-convert is installed, ``GOAL.png``.

    Raises DefinitionError if the folder is not writable.
    """
    write_results(results, folder)
    try:
        goals = list(dict.fromkeys(until for until, _ in results.rows()))
        for goal in goals:
            (folder / f"{goal}.svg").write_text(render_chart(results, goal), "utf-8")
        report = render_markdown(results, tuple(f"{goal}.svg" for goal in goals))
        (folder / "report.md").write_text(report, "utf-8")
    except OSError as error:
        raise DefinitionError(f"{error.filename}: {error.strerror}", hint="name a folder by --output") from error
    if find_tool("rsvg-convert"):
        for goal in goals:
            argv = ("rsvg-convert", "--zoom", _PIXELS, "--output", str(folder / f"{goal}.png"))
            run(Command(argv=(*argv, str(folder / f"{goal}.svg")), what="rsvg-convert"))


def write_results(results: Results, folder: Path) -> None:
    """Write only ``results.json``, with the samples so far. Raises DefinitionError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(render_results(results), "utf-8")
    except OSError as error:
        raise DefinitionError(f"{error.filename}: {error.strerror}", hint="name a folder by --output") from error


def read_results(path: Path) -> Results:
    """Read the ``results.json`` of another race. Raises DefinitionError."""
    try:
        return parse_results(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise DefinitionError(f"{path}: {error.strerror}", hint=HINT) from error
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path}: no results of a race: {error}", hint=HINT) from error


def print_results(results: Results) -> None:
    """Print the tables and their notes."""
    for table in make_tables(results):
        print_table(table.title, table.columns, table.rows, sys.stdout)
    for note in format_notes(results):
        sys.stdout.write(f"{sanitize(note)}\n")


def judge(results: Results) -> int:
    """Print our own failures, wrong images and excess work; return 1 if there are any."""
    ours = next(iter(results.participants))
    bad = [
        sample for sample in results.samples if sample.participant == ours and sample.verdict is not SampleVerdict.RIGHT
    ]
    for sample in bad:
        sys.stderr.write(
            f"error: {scenario_title(sample.scenario)}, {sample.until}: {sample.verdict}: {sanitize(sample.note)}\n"
        )
    return 1 if bad else 0


def compare(old: Results, new: Results, limit: float) -> int:
    """Print the comparison with older results; return 1 if we became slower by more than ``limit``.

    Raises BuildError if no row could be compared: that is not a pass.
    """
    rows = compare_rows(old, new, limit)
    slower, fine, noisy, unmet = ([row for row in rows if row.outcome is outcome] for outcome in RegressionOutcome)
    lacking = [
        f"{why}: {_names(row for row in unmet if row.why == why)}" for why in dict.fromkeys(r.why for r in unmet)
    ]
    if not slower + fine + noisy:
        why = "".join(f"\n  - {line}" for line in lacking) or ": nothing was raced"
        raise BuildError(f"nothing to compare{why}", hint=_MEET)
    for row in slower:
        sys.stderr.write(f"error: {row}\n")
    if noisy:
        sys.stderr.write(f"{format_count(len(noisy), 'row')} too noisy to say: {_names(noisy)}\n")
    for line in lacking:
        sys.stderr.write(f"not compared: {sanitize(line)}\n")
    if not slower + fine:
        raise BuildError("every row that can be compared is too noisy to say whether we became slower", hint=_QUIET)
    if not slower:
        sys.stderr.write(f"no slower than before: {format_count(len(fine), 'row')}, limit {limit:.0%}\n")
    return 1 if slower else 0


def _names(rows: Iterable[ComparedRow]) -> str:
    return ", ".join(row.name for row in rows)
