"""What a race leaves: results.json, a report, pictures; tables on the terminal; and whether it passes."""

from __future__ import annotations

import sys
from pathlib import Path

from buildkit.bench.chart import render_chart
from buildkit.bench.gate import compared_rows, find_regressions
from buildkit.bench.markdown import render_markdown
from buildkit.bench.results import Results, Verdict, render_results
from buildkit.bench.tables import make_tables, say_notes, say_scenario
from buildkit.errors import DefinitionError
from buildkit.report.table import print_table
from buildkit.report.words import clean
from buildkit.tools.process import Command, find_tool, run

_PIXELS = "1.5"  # of a PNG, for each of the picture's


def write_output(results: Results, folder: Path) -> None:
    """``results.json``, ``report.md``, ``GOAL.svg`` and, where rsvg-convert is, ``GOAL.png``.

    Raises DefinitionError for a folder that cannot be written to.
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
    """``results.json`` alone: what a race has come to so far. Raises DefinitionError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(render_results(results), "utf-8")
    except OSError as error:
        raise DefinitionError(f"{error.filename}: {error.strerror}", hint="name a folder by --output") from error


def print_results(results: Results) -> None:
    """The tables, and what to know beside them."""
    for table in make_tables(results):
        print_table(table.title, table.columns, table.rows, sys.stdout)
    for note in say_notes(results):
        sys.stdout.write(f"{clean(note)}\n")


def judge(results: Results) -> int:
    """1 where we ourselves failed, were wrong, or built more than had to be; it is said."""
    ours = next(iter(results.participants))
    bad = [one for one in results.samples if one.participant == ours and one.verdict is not Verdict.RIGHT]
    for one in bad:
        sys.stderr.write(f"error: {say_scenario(one.scenario)}, {one.until}: {one.verdict}: {clean(one.note)}\n")
    return 1 if bad else 0


def compare(old: Results, new: Results, limit: float) -> int:
    """1 where we became slower by more than ``limit``; what was compared is said."""
    rows = compared_rows(old, new)
    if not rows:
        sys.stderr.write("nothing to compare: the old results have none of these rows\n")
        return 0
    regressions = find_regressions(old, new, limit)
    for regression in regressions:
        sys.stderr.write(f"error: {regression}\n")
    if not regressions:
        sys.stderr.write(f"no slower than before: {len(rows)} rows compared, limit {limit:.0%}\n")
    return 1 if regressions else 0
