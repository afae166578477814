"""Render findings as text and JSON; control characters are removed from foreign text. Pure."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable

from buildkit.doctor.diagnosis import Diagnosis, DiagnosisStatus
from buildkit.report.text import sanitize

_MARKS = {
    DiagnosisStatus.OK: "ok",
    DiagnosisStatus.NOTE: "note",
    DiagnosisStatus.WARNING: "warning",
    DiagnosisStatus.ERROR: "ERROR",
}
_COLOURS = {
    DiagnosisStatus.OK: "32",
    DiagnosisStatus.NOTE: "36",
    DiagnosisStatus.WARNING: "33",
    DiagnosisStatus.ERROR: "1;31",
}
_INDENT = 9


def render_text(findings: Iterable[Diagnosis], *, width: int, colour: bool) -> str:
    """Return a line for each finding, followed by its cost and the command that mends it, and a count at the end.

    Commands are never wrapped, so that they can be copied.
    """
    rows = list(findings)
    lines: list[str] = []
    for finding in rows:
        mark = _MARKS[finding.status].ljust(_INDENT)
        if colour:
            mark = f"\x1b[{_COLOURS[finding.status]}m{mark}\x1b[0m"
        first, *rest = _wrap(finding.what, width)
        lines += [mark + first, *rest]
        if finding.cost:
            lines += _wrap(f"costs: {finding.cost}", width, first=" " * _INDENT)
        if finding.mend:
            lines.append(f"{' ' * _INDENT}mend:  {_flat(finding.mend)}")
    counts = Counter(finding.status for finding in rows)
    lines.append("")
    lines.append(", ".join(f"{counts[status]} {_plural(status, counts[status])}" for status in DiagnosisStatus))
    return "\n".join(lines) + "\n"


def render_json(findings: Iterable[Diagnosis]) -> str:
    """Return ``{"findings": [{"id", "status", "what", "cost", "mend"}]}``, one finding a line."""
    rows = [
        {
            "id": finding.id,
            "status": finding.status.value,
            "what": finding.what,
            "cost": finding.cost,
            "mend": finding.mend,
        }
        for finding in findings
    ]
    body = ",\n".join(f"  {json.dumps(row)}" for row in rows)  # ASCII: no escape reaches a terminal
    return f'{{"findings": [\n{body}\n]}}\n'


def _wrap(text: str, width: int, first: str = "") -> list[str]:
    room = max(width, 40) - (0 if first else _INDENT)
    later = " " * (_INDENT + (7 if first else 0))
    lines = textwrap.wrap(_flat(text), room, initial_indent=first, break_long_words=False, break_on_hyphens=False) or [
        first
    ]
    rest = textwrap.wrap(
        " ".join(lines[1:]), max(width, 40), initial_indent=later, subsequent_indent=later,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [lines[0], *rest]


def _flat(text: str) -> str:
    """Return one line without control characters, including C1 (0x80 to 0x9f), which some terminals execute."""
    return " ".join("".join(mark for mark in sanitize(text) if not "\x80" <= mark <= "\x9f").split())


def _plural(status: DiagnosisStatus, count: int) -> str:
    return status.value if status is DiagnosisStatus.OK or count == 1 else f"{status.value}s"
