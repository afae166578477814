"""The report as Markdown, for the summary of a CI job; foreign text is escaped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buildkit.report.build_markdown import escape, render_markdown
from tests.report.test_build_report import BUILT, REPORT


def test_markdown_of_a_build_with_push_matches_the_expected_text() -> None:
    report = replace(REPORT, pushed=7, delivery="", imported=0, pushed_as={"r.io/me/a_b:1": "sha256:p"})
    assert render_markdown(report) == (
        "### runtime\n\n"
        "1 built, 2 reused (1.8 GB), 5.0 MB fetched, 7 B pushed, 1.2 s\n\n"
        "| built | size | seconds | why |\n|---|---:|---:|---|\n"
        "| runtime/app | 21.4 kB | 0.12 s | main.py changed |\n\n"
        "| pushed | digest |\n|---|---|\n"
        "| <code>r.io/me/a\\_b:1</code> | <code>sha256:p</code> |\n\n"
        "| phase | seconds |\n|---|---:|\n"
        "| assemble | 0.01 s |\n| plan | 0.02 s |\n\n"
    )


def test_markdown_omits_tables_without_rows() -> None:
    text = render_markdown(replace(REPORT, layers=REPORT.layers[:2], built=0, phases={}))
    assert text == "### runtime\n\nnothing to build, 2 reused (1.8 GB), 5.0 MB fetched, 70.0 kB imported, 1.2 s\n\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<img src=x> & co", "&lt;img src=x&gt; &amp; co"),
        ("[x](http://y) *b* `c`", "\\[x\\](http://y) \\*b\\* \\`c\\`"),
        ("one\n\n# two\t\x1b[31mred", "one # two red"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_escaped_foreign_text_is_one_literal_line(text: str, shown: str) -> None:
    assert escape(text) == shown
    row = render_markdown(replace(REPORT, layers=(replace(BUILT, why=text),))).splitlines()[6]
    assert row == f"| runtime/app | 21.4 kB | 0.12 s | {shown} |"
