"""What a checkout and its ledger say while a monitor runs: the last builds, and the images that are meant."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from buildkit.build.context import cache_folder
from buildkit.build.planner import Planner, open_planner
from buildkit.inspection.expected_images import find_expected_id
from buildkit.inspection.page_sections import list_builds
from buildkit.monitor.metrics import MetricFamily, Sample, gauge

_OLD = 600.0  # seconds after which the checkout is looked at again: its files may have changed
_LEAST = 30.0  # seconds between two openings: the ledger changes all the time while something is built
_LEDGER = ("ledger.sqlite", "ledger.sqlite-wal")
_OUTCOMES = ("built", "cache", "storage", "shared")


class CheckoutWatch:
    """Facts of the checkout in ``folder``; ``stages`` are names of stages by those of images.

    The project is opened when the ledger has changed, when an image is new, and every ten minutes. Between, nothing of
    the cache is held. ``publish`` is told of the last builds, as the page shows them.
    """

    def __init__(
        self,
        folder: Path,
        stages: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        publish: Callable[[dict[str, Any]], None] = lambda _builds: None,
    ) -> None:
        self._folder, self._stages, self._clock, self._publish = folder, stages, clock, publish
        self._expected: dict[str, str | None] = {}
        self._wanted: frozenset[str] = frozenset()
        self._families: tuple[MetricFamily, ...] = ()
        self._ledger: tuple[float, ...] = ()
        self._asked: float | None = None
        self._tried: float | None = None

    def expected(self, names: tuple[str, ...]) -> Mapping[str, str]:
        """Return the ids of images that are meant, as far as they are known; others are known after `ask`."""
        self._wanted = frozenset(names) & self._stages.keys()
        return {name: image for name in names if (image := self._expected.get(name))}

    def ask(self) -> tuple[MetricFamily, ...]:
        """Return the metrics of the last builds. Raises DefinitionError, BuildError and OSError."""
        now, wanted = self._clock(), self._wanted
        if self._tried is not None and abs(now - self._tried) < _LEAST:
            return self._families
        is_old = self._asked is None or abs(now - self._asked) >= _OLD
        if not is_old and wanted <= self._expected.keys() and self._ledger == _last_change():
            return self._families
        self._tried = now
        with open_planner(self._folder, lambda _event: None) as planner:
            self._expected = {name: find_expected_id(planner, self._stages[name]) for name in wanted}
            self._families = tuple(build_families(_last_builds(planner)))
            self._publish(list_builds(planner))
        self._ledger, self._asked = _last_change(), now  # opening it writes its log anew
        return self._families


def build_families(builds: Mapping[str, tuple[float, Mapping[str, Any]]]) -> Iterator[MetricFamily]:
    """Yield the metrics of builds, by stage: when each began, and its report."""
    began: list[Sample] = []
    seconds: list[Sample] = []
    layers: list[Sample] = []
    for stage, (started, report) in sorted(builds.items()):
        label = ("stage", stage)
        began.append(((label,), started))
        seconds.append(((label, ("phase", "all")), float(report["seconds"])))
        phases = report.get("timings", {})
        seconds += [((label, ("phase", name)), float(spent["seconds"])) for name, spent in sorted(phases.items())]
        counts = Counter(layer["source"] for layer in report["layers"])
        layers += [((label, ("outcome", outcome)), counts[outcome]) for outcome in _OUTCOMES]
    yield gauge("xoe_build_started_seconds", "When the last build began, in seconds since 1970.", *began)
    yield gauge("xoe_build_duration_seconds", "How long the last build took; phases run at the same time.", *seconds)
    yield gauge("xoe_build_layers", "Where the layers of the last build came from.", *layers)


def _last_builds(planner: Planner) -> dict[str, tuple[float, Mapping[str, Any]]]:
    ledger, project = planner.context.ledger, planner.context.project
    found = {name: ledger.builds.last(name, project.ref(name), 1) for name in planner.graph.stages}
    return {name: rows[0] for name, rows in found.items() if rows}


def _last_change() -> tuple[float, ...]:
    paths = (cache_folder() / name for name in _LEDGER)
    return tuple(path.stat().st_mtime if path.exists() else 0.0 for path in paths)
