"""What the guide claims, beside what was measured of its own service and of this project's. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.bench.serve_bench import ServeSample, ServeSamples
from buildkit.bench.serve_tables import format_cpu, render_table

WHAT = "short"  # the clip of all rows
MANY = 50  # clients; of so many the guide speaks
_TOLERATED = 0.001  # errors, the guide's own figure

_UNMEASURED = (("GPU utilisation", "60 % → 85 %", "no GPU here", "no GPU here"),)


def render_claims(samples: ServeSamples, guide: str, ours: str) -> str:
    """Return the table: the claim, the guide's own service, this project's."""
    head = ("metric", "the guide claims", f"{guide} service, measured", f"{ours}, measured")
    return render_table(head, [*_rows(samples, (guide, ours)), *_UNMEASURED], left=4)


def _rows(samples: ServeSamples, services: Sequence[str]) -> list[tuple[str, ...]]:
    def row(what: str, claim: str, cells: Sequence[str]) -> tuple[str, ...]:
        return (what, claim, *cells)

    one = [samples.find(who, WHAT, 1) for who in services]
    many = [samples.find(who, WHAT, MANY) for who in services]
    starts = {sample.who: sample for sample in samples.starts}
    return [
        row("inference latency, one client", "200 ms → 50 ms", [_latency(sample) for sample in one]),
        row(f"latency, {MANY} clients", "", [_latency(sample) for sample in many]),
        row(f"answers a second, {MANY} clients", "", [_rate(sample) for sample in many]),
        row("CPU an answer", "", [_cost(sample) for sample in many]),
        row(f"memory, {MANY} clients", "8 GB → 4 GB", [_memory(sample) for sample in many]),
        row("concurrent requests", "10 → 50", [_concurrent(samples, who) for who in services]),
        row(f"error rate, {MANY} clients", "2 % → 0.1 %", [_errors(sample) for sample in many]),
        row("container start-up", "120 s → 15 s", [f"{starts[who].median:.2f} s" for who in services]),
        row("CPU of a start, least", "", [format_cpu(starts[who]) for who in services]),
    ]


def find_concurrent(samples: ServeSamples, who: str) -> int:
    """Return the most clients among those measured at which a service answered all but 0.1 % of the requests; 0: none.

    A number counts only if all smaller ones do.
    """
    found = 0
    for sample in sorted((one for one in samples.loads if one.who == who), key=lambda one: one.clients):
        if sample.what == WHAT:
            if sample.result.errors > _TOLERATED:
                break
            found = sample.clients
    return found


def _concurrent(samples: ServeSamples, who: str) -> str:
    found = find_concurrent(samples, who)
    most = max(sample.clients for sample in samples.loads)
    return f"{found} and more" if found == most else str(found)


def _latency(sample: ServeSample | None) -> str:
    if sample is None or not sample.result.answered:
        return "–"
    median, worst = (sample.result.quantile(share) * 1000 for share in (0.5, 0.99))
    return f"{median:.0f} ms (99 %: {worst:.0f} ms)"


def _rate(sample: ServeSample | None) -> str:
    return "–" if sample is None else f"{sample.result.rate:.1f}"


def _cost(sample: ServeSample | None) -> str:
    return "–" if sample is None or sample.cost is None else f"{sample.cost * 1000:.1f} ms"


def _memory(sample: ServeSample | None) -> str:
    return "–" if sample is None or sample.memory is None else f"{sample.memory / (1 << 20):.0f} MiB"


def _errors(sample: ServeSample | None) -> str:
    if sample is None:
        return "–"
    result = sample.result
    return f"{result.errors:.2%} ({result.refused + result.lost} of {result.requests})"
