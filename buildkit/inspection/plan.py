"""Forecast where every layer of an image will come from, and what that costs, before anything runs."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

from buildkit.build.planner import Planner
from buildkit.digest import Digest
from buildkit.plan.forecast import Cost, Paces, forecast, measure, measure_kinds, total
from buildkit.plan.plan import LayerSource, Plan, PlannedLayer
from buildkit.report.columns import Column, print_columns
from buildkit.report.text import format_bytes, format_seconds
from buildkit.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """The plan of a stage with its costs; ``tools`` are needed to build it, but no part of its image."""

    stage: str
    image: str
    plan: Plan
    costs: tuple[Cost, ...]
    tools: tuple[PlannedLayer, ...]
    tool_costs: tuple[Cost, ...]
    pushes: bool
    unpacks: bool = False

    @property
    def total(self) -> Cost:
        """The total cost."""
        return total([*self.costs, *self.tool_costs])

    def as_json(self) -> dict[str, Any]:
        """Return ``{"stage", "image", "layers", "tools", "bytes", "seconds"}``, as docs/cache.md describes it."""
        summed = self.total.as_json()
        seconds = summed.pop("seconds")
        return {
            "stage": self.stage,
            "image": self.image,
            "layers": [_line(e, c) for e, c in zip(self.plan.entries, self.costs, strict=True)],
            "tools": [_line(e, c) for e, c in zip(self.tools, self.tool_costs, strict=True)],
            "bytes": summed,
            "seconds": seconds,
        }


def forecast_stage(planner: Planner, name: str, *, imports: bool = True, repository: str = "") -> StageForecast:
    """Plan a stage and forecast its costs, with those of a push to ``repository`` as far as its contents are known."""
    planner.warn_of_gpus(name)
    pushed = planner.context.ledger.remote_blobs.find(repository) if repository else frozenset()
    planned = planner.plan(name, storage=imports)
    stored = planner.stored_keys(planned) if imports else frozenset()
    unpacks = imports and planner.context.image_store is not None  # what is built becomes a tree on its way

    def is_imported(entry: PlannedLayer) -> bool:
        return entry.spec.key not in stored and not (unpacks and entry.source is LayerSource.BUILT)

    if repository and any(_lacks(entry, planner, pushed) for entry in planned.plan.entries):
        planned = planner.plan(name, storage=False)
    tools = planner.plan_tools(planned.plan)
    paces = measure_paces(planner.context.ledger)
    return StageForecast(
        stage=name,
        image=planned.ref,
        plan=planned.plan,
        costs=forecast(
            planned.plan,
            paces,
            planner.to_fetch,
            is_imported=is_imported if imports else None,
            is_pushed=(lambda blob: blob.digest in pushed) if repository else None,
        ),
        tools=tools,
        tool_costs=forecast(Plan(composition=planned.plan.composition, entries=tools), paces, planner.to_fetch),
        pushes=bool(repository),
        unpacks=unpacks,
    )


def _lacks(entry: PlannedLayer, planner: Planner, pushed: Container[Digest]) -> bool:
    """Return whether a push needs blobs of a layer that local storage has, but the cache lacks."""
    blobs = entry.result.blobs if entry.result and entry.source is LayerSource.STORAGE else ()
    return not all(blob.digest in pushed or planner.is_present(blob) for blob in blobs)


_COLUMNS = (
    Column(title="layer"),
    Column(title="from"),
    Column(title="fetch", right=True, extra=True),
    Column(title="build", right=True, extra=True),
    Column(title="import", right=True),
    Column(title="push", right=True),
    Column(title="seconds", right=True),
    Column(title="why"),
)


def print_forecast(stage_forecast: StageForecast, out: TextIO, *, whole: bool = False) -> None:
    """Print a table of the work, or of the ``whole`` image, and the totals."""
    pairs = zip(stage_forecast.plan.entries, stage_forecast.costs, strict=True)
    busy = [(e, c) for e, c in pairs if whole or e.source is LayerSource.BUILT or c.fetch or c.imports or c.push]
    busy += [
        (e, c)
        for e, c in zip(stage_forecast.tools, stage_forecast.tool_costs, strict=True)
        if e.source is LayerSource.BUILT
    ]
    columns = [replace(c, title="unpack") if stage_forecast.unpacks and c.title == "import" else c for c in _COLUMNS]
    print_columns(columns, [_row(entry, cost, pushes=stage_forecast.pushes) for entry, cost in busy], out)
    print(render_sum(stage_forecast), file=out)


def render_sum(stage_forecast: StageForecast) -> str:
    """Return the last lines: layers by source, bytes, and the time of the work."""
    sources = [entry.source for entry in stage_forecast.plan.entries]
    counts = ", ".join(f"{sources.count(source)} {words}" for source, words in _SOURCES.items() if source in sources)
    costs = [*stage_forecast.costs, *stage_forecast.tool_costs]
    if all((cost.fetch, cost.build, cost.imports, cost.push or 0) == (0, 0, 0, 0) for cost in costs):
        what = "" if stage_forecast.unpacks else " or to import"
        return f"{stage_forecast.stage}: nothing to build{what}: {counts or 'it has no layers'}"
    seconds = stage_forecast.total.seconds
    work = "time not known yet" if seconds is None else f"about {format_seconds(seconds)} of work"
    expected = "about " * (LayerSource.BUILT in sources)  # sizes of layers that were never built
    amounts = {
        "fetch": _sum([c.fetch for c in costs]),
        "build": _sum([c.build for c in costs], expected),
        "unpack" if stage_forecast.unpacks else "import": _sum([c.imports for c in costs], expected),
        "push": _sum([c.push for c in stage_forecast.costs]) if stage_forecast.pushes else "",
    }
    work_amounts = ", ".join(f"to {what} {amount}" for what, amount in amounts.items() if amount)
    return f"{stage_forecast.stage}: {counts}\n{work_amounts}; {work}"


def _sum(sizes: Sequence[int | None], expected: str = "") -> str:
    """Return the total as text; empty for zero."""
    total_known = sum(size or 0 for size in sizes)
    if None in sizes:
        return f"{expected}{format_bytes(total_known)} and more" if total_known else "an unknown amount"
    return f"{expected}{format_bytes(total_known)}" if total_known else ""


_SOURCES = {
    LayerSource.STORAGE: "in local storage",
    LayerSource.CACHE: "in the cache",
    LayerSource.SHARED: "in the remote cache",
    LayerSource.BUILT: "to be built",
}


def measure_paces(ledger: Ledger) -> Paces:
    """Return how fast earlier builds built, fetched and imported layers."""
    return Paces(
        build=measure_kinds(ledger.layers.build_times()),
        fetch=measure(ledger.downloads.fetch_times()),
        imports=measure(ledger.builds.import_times()),
    )


def _line(entry: PlannedLayer, cost: Cost) -> dict[str, Any]:
    spec = entry.spec
    named = {"name": spec.name, "kind": str(spec.kind), "key": str(spec.key), "source": str(entry.source)}
    return {**named, "why": entry.why, **cost.as_json()}


def _row(entry: PlannedLayer, cost: Cost, *, pushes: bool) -> tuple[str, ...]:
    seconds = "?" if cost.seconds is None else format_seconds(cost.seconds) if cost.seconds else ""
    sizes = (_short(cost.fetch), _short(cost.build), _short(cost.imports), _short(cost.push) if pushes else "")
    return (entry.spec.name, str(entry.source), *sizes, seconds, entry.why)


def _short(size: int | None) -> str:
    return "?" if size is None else format_bytes(size) if size else ""
