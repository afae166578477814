"""The reading half of the monitor: looks at containers, GPUs, findings and builds, and makes metrics of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from buildkit.errors import BuildkitError
from buildkit.gpu.use import GpuUse
from buildkit.inspection.container_watch import ContainerWatch
from buildkit.inspection.gpu_metrics import gpu_families
from buildkit.inspection.page_sections import list_gpus
from buildkit.monitor.container_metrics import container_families
from buildkit.monitor.metrics import MetricFamily, counter, gauge
from buildkit.monitor.page.view import view_snapshot
from buildkit.monitor.snapshot import Snapshot
from buildkit.monitor.state import LazyDocument, MonitorState

MOST = 500  # containers with metrics
_FRESH = 0.5  # seconds: whoever is sooner gets the same figures
_EVERY = 5.0  # seconds between looks that nobody asked for: a container that was short of memory may soon be gone
_SOURCES = ("podman", "nvml", "builds", "findings", "otlp")

Extra = Callable[[], tuple[MetricFamily, ...]]


@dataclass(slots=True, kw_only=True)
class LiveMonitor:
    """The present figures of this host, however many threads ask for them.

    ``stages`` are names of stages by those of images. ``extras`` by source, such as ``builds``, are asked in a
    thread of their own: one that raises BuildkitError, OSError or ValueError is counted, and what it said before stays.
    Anything else ends its thread; `noticing` makes that the state's problem, for what is shown may be old from then on.
    """

    watch: ContainerWatch
    uses: Callable[[], tuple[GpuUse, ...]] = tuple
    stages: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, Extra] = field(default_factory=dict)
    most: int = MOST
    clock: Callable[[], float] = time.monotonic
    errors: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _state: MonitorState | None = None
    _looked: float = 0.0
    _known: dict[str, tuple[MetricFamily, ...]] = field(default_factory=dict)
    _published: dict[str, Any] = field(default_factory=dict)
    _broken: str = ""

    def state(self) -> MonitorState:
        """Return figures that are at most half a second old. Raises MissingTool or ToolError at the first look only."""
        with self._lock:
            now = self.clock()
            if self._state is None or not 0 <= now - self._looked < _FRESH:
                self._state = self._look()
                self._looked = now
            return self._state

    def publish(self, kind: str, data: Any) -> None:  # noqa: ANN401 - a JSON value
        """Give the page something else to show."""
        with self._lock:
            self._published = {**self._published, kind: data}

    def ask_extras(self) -> None:
        """Ask builds and findings anew."""
        for source, ask in self.extras.items():
            try:
                found = ask()
            except (BuildkitError, OSError, ValueError):
                self.errors[source] += 1
                continue
            self._known[source] = found
        with self._lock:
            self._state = None

    def start(self) -> None:
        """Look, and ask the extras, which then know what there is. Raises MissingTool and ToolError."""
        self.state()
        self.ask_extras()

    @contextmanager
    def noticing(self) -> Iterator[None]:
        """Notice, until the block ends, if a thread of this process ends by an exception, which is printed as usual."""
        before = threading.excepthook

        def notice(args: threading.ExceptHookArgs) -> None:
            name = args.thread.name if args.thread else "a thread"
            self._broken = f"{name} ended by {args.exc_type.__name__}: start the monitor again"
            before(args)

        threading.excepthook = notice
        try:
            yield
        finally:
            threading.excepthook = before

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look again and again until the block ends, also if nobody asks."""
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(_EVERY):
                self.ask_extras()
                self.state()

        self.start()
        thread = threading.Thread(target=go_on, name="monitor", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(_EVERY)

    def _look(self) -> MonitorState:
        began = time.perf_counter()
        snapshot = self.watch.look()
        families, shown = container_families(snapshot, self.stages, self.most)
        self.errors["podman"] = self.watch.failures
        self.errors["nvml"] += len(snapshot.gpu_problems)
        published, uses = self._published, self.uses()
        extras = [family for found in tuple(self._known.values()) for family in found]
        seconds = time.perf_counter() - began
        return MonitorState(
            time=snapshot.time,
            families=(*families, *gpu_families(uses, shown), *extras, *self._own(snapshot, seconds)),
            document=LazyDocument(
                lambda: {"snapshot": {**view_snapshot(snapshot), "gpus": list_gpus(uses)}, **published}
            ),
            problem=self._broken
            or (f"podman does not answer: {snapshot.podman_problem}" if snapshot.podman_problem else ""),
        )

    def _own(self, snapshot: Snapshot, seconds: float) -> Iterator[MetricFamily]:
        answers = int(not snapshot.podman_problem)
        yield gauge("xoe_monitor_podman_up", "Whether podman answered when it was asked last.", ((), answers))
        yield gauge("xoe_monitor_scrape_duration_seconds", "How long the last look took.", ((), round(seconds, 6)))
        failed = (((("source", source),), self.errors[source]) for source in _SOURCES)
        yield counter("xoe_monitor_errors_total", "Answers that a source did not give.", *failed)


def remember_uses(measure: Callable[[], tuple[GpuUse, ...]]) -> tuple[Callable[[], tuple[GpuUse, ...]], ...]:
    """Return a function that measures GPUs, and one that returns what was measured last."""
    last: list[tuple[GpuUse, ...]] = [()]

    def measure_now() -> tuple[GpuUse, ...]:
        last[0] = measure()
        return last[0]

    return measure_now, lambda: last[0]
