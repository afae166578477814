"""Render the report of a build as Markdown, for the summary of a CI job."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from buildkit.report.build_report import Report, render_last_line
from buildkit.report.text import format_bytes, format_seconds, sanitize

_MARKS = re.compile(r"([\\`*_\[\]|~])")


def render_markdown(report: Report) -> str:
    """Return a heading, the summary, and tables: what was built and why, what was pushed, seconds by phase."""
    built = [
        (escape(x.name), format_bytes(x.size), format_seconds(x.seconds), escape(x.why))
        for x in report.layers
        if x.source == "built"
    ]
    pushed = [(_code(ref), _code(digest)) for ref, digest in report.pushed_as.items()]
    phases = [(escape(name), format_seconds(spent.seconds)) for name, spent in sorted(report.phases.items())]
    ended = render_last_line(report).partition("\n")[0].partition(": ")[2]
    blocks = [
        f"### {escape(report.stage)}\n\n{escape(ended)}\n",
        _table(("built", "size:", "seconds:", "why"), built),
        _table(("pushed", "digest"), pushed),
        _table(("phase", "seconds:"), phases),
    ]
    return "\n".join(filter(None, blocks)) + "\n"


def escape(text: str) -> str:
    """Escape foreign text so that it shows literally, on one line: no markup, no HTML, no end of a table cell."""
    return _MARKS.sub(r"\\\1", html.escape(" ".join(sanitize(text).split()), quote=False))


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"  # within back-ticks, escapes would show


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, or nothing if there are no rows; a colon at the end of a name aligns the column right."""
    lines = [f"| {' | '.join(row)} |\n" for row in rows]
    if not lines:
        return ""
    names = " | ".join(column.rstrip(":") for column in columns)
    marks = "|".join("---:" if column.endswith(":") else "---" for column in columns)
    return f"| {names} |\n|{marks}|\n" + "".join(lines)
