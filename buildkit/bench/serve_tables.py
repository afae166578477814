"""Figures of services as Markdown, and in a document between two marks. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from buildkit.bench.serve_bench import ServeSample, ServeSamples, StartSample
from buildkit.errors import BuildError

_WORDS = ("audio", "clients", "service")
_HEAD = (*_WORDS, "median", "95 %", "99 %", "answers/s", "CPU an answer", "refused", "lost", "memory")


def render_loads(samples: ServeSamples) -> str:
    """Return a table with a row for each service under each load, and one of starts."""
    rows = [_load_row(one) for one in samples.loads]
    starts = [
        (one.who, _seconds(one.median), _seconds(max(one.seconds)), format_cpu(one), len(one.seconds))
        for one in samples.starts
    ]
    head = ("service", "start until ready, median", "worst", "CPU, least", "starts")
    return render_table(_HEAD, rows, left=len(_WORDS)) + "\n" + render_table(head, starts, left=1)


def format_cpu(one: StartSample) -> str:
    """Return the least CPU time of a start."""
    return f"{min(one.cpu):.2f} s" if one.cpu else "–"


def _load_row(one: ServeSample) -> tuple[object, ...]:
    result = one.result
    quantiles = (_seconds(result.quantile(share)) for share in (0.5, 0.95, 0.99))
    shares = (_share(number, result.requests) for number in (result.refused, result.lost))
    cost = "–" if one.cost is None else f"{one.cost * 1000:.1f} ms"
    return (one.what, one.clients, one.who, *quantiles, f"{result.rate:.1f}", cost, *shares, _bytes(one.memory))


def render_machine(machine: dict[str, Any], podman: str, commit: str) -> str:
    """Return the sentence that says where and of what it was measured."""
    memory = round(machine["memory"] / (1 << 30))
    return (
        f"{machine['processor']}, {machine['cores']} cores, {memory} GiB, kernel {machine['kernel']}, {podman}; "
        f"load average before {machine['load']}; commit `{commit}`.\n"
    )


def render_table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int) -> str:
    """Return a Markdown table; the first ``left`` columns hold words."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "".join(f"| {' | '.join(map(str, row))} |\n" for row in (head, rule, *rows))


def replace_between(document: str, mark: str, text: str) -> str:
    """Return a document with ``text`` between ``<!-- MARK -->`` and ``<!-- end of MARK -->``.

    Raises BuildError if it has no such place.
    """
    found = re.search(rf"(<!-- {re.escape(mark)} -->\n)(.*?)(<!-- end of {re.escape(mark)} -->)", document, re.DOTALL)
    if found is None:
        raise BuildError("the document has no place for the figures", hint=f"<!-- {mark} --> … <!-- end of {mark} -->")
    return document[: found.end(1)] + text + document[found.start(3) :]


def _seconds(value: float) -> str:
    if math.isnan(value):
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _share(number: int, of: int) -> str:
    return f"{number} of {of} ({number / of:.1%})" if number else "0"


def _bytes(value: int | None) -> str:
    return "–" if value is None else f"{value / (1 << 20):.0f} MiB"
