"""Measure the development loop of a project in a copy of it, and other ways to get a saved file into a container."""

from __future__ import annotations

import json
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from buildkit.bench.dev_samples import DevSample, Poller, attach_debugger, measure_edits
from buildkit.bench.project_copy import ProjectCopy
from buildkit.errors import BuildError
from buildkit.tools import composed, podman
from buildkit.tools.process import Command, run, start

_OURS = "nox -s dev"
_PEER = "buildkit-bench-dev"
_PATIENCE = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DevBenchRequest:
    """What is measured: ``text`` in ``file`` is replaced, and ``url`` shows the new one.

    ``tests`` are arguments of one quick test; ``server`` is the command of a server that reloads by itself, empty for
    no comparison.
    """

    folder: Path
    stage: str
    file: str
    text: str
    url: str
    repeat: int = 20
    tests: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    pins: int = 3


def run_dev_bench(request: DevBenchRequest, report: Callable[[DevSample], None]) -> None:
    """Measure everything; ``report`` gets each sample. Raises BuildError and ToolError."""
    with tempfile.TemporaryDirectory(prefix="bench-dev-") as place:
        folder, links = Path(place, "project"), Path(place, "links")
        links.mkdir()
        run(
            Command(
                argv=("git", "clone", "--quiet", "--", str(request.folder), str(folder)), what="copying the project"
            )
        )
        environment = {"PIP_FIND_LINKS": str(links)}
        took = []
        for _ in range(3):
            began = time.monotonic()
            with _developing(request, folder, environment):
                took.append(time.monotonic() - began)
        report(DevSample(who=_OURS, what="start until all are healthy", seconds=tuple(took)))
        with _developing(request, folder, environment) as events:
            _measure_ours(request, folder, links, events, report)
        if request.server:
            _measure_peers(request, folder, report)


def _measure_ours(
    request: DevBenchRequest, folder: Path, links: Path, events: _Events, report: Callable[[DevSample], None]
) -> None:
    path, poller = folder / request.file, Poller(request.url)
    poller.until(request.text)
    seconds = measure_edits(path, request.text, poller, request.repeat)
    report(
        DevSample(
            who=_OURS, what="save until the first answer with the new code", seconds=seconds, failed=poller.failed
        )
    )
    with suppress(ConnectionRefusedError):  # no debugger in this stage
        attached = tuple(attach_debugger(5678) for _ in range(min(request.repeat, 5)))
        report(DevSample(who=_OURS, what="debugger attached", seconds=attached))
    if request.tests:
        report(DevSample(who=_OURS, what=f"test {' '.join(request.tests)}", seconds=_run_tests(folder, request)))
    copy, pinned = ProjectCopy(folder, request.stage, links), []
    for number in range(request.pins):
        poller = Poller(request.url)
        began = time.monotonic()
        copy.add_wheel(number)
        events.until("reacted", lambda event: event["action"] == "rebuild" and event["ok"])
        poller.until(request.text)
        pinned.append(time.monotonic() - began)
    if pinned:
        report(DevSample(who=_OURS, what="another pin until the service answers", seconds=tuple(pinned)))


def _run_tests(folder: Path, request: DevBenchRequest) -> tuple[float, ...]:
    """Return how long a run of tests takes after an edit, without the first one."""
    path, found = folder / request.file, []
    before = path.read_text("utf-8")
    for number in range(6):
        path.write_text(f"{before}# edit {number}\n", "utf-8")
        began = time.monotonic()
        argv = (sys.executable, "-P", "-m", "buildkit", "dev", "--test", *request.tests)
        run(Command(argv=argv, cwd=folder, what="the tests"))
        found.append(time.monotonic() - began)
    path.write_text(before, "utf-8")
    return tuple(found[1:])


def _measure_peers(request: DevBenchRequest, folder: Path, report: Callable[[DevSample], None]) -> None:
    """Measure a server that reloads by itself, and restarts of the container, with the folder mounted."""
    project = ProjectCopy(folder, request.stage, folder)
    image, path = project.project.ref(request.stage), folder / request.file
    source = Path(request.file).parent
    target = next(
        copy.target
        for part in project.graph.resolve(request.stage).parts
        for copy in part.copy
        if source.name in copy.source
    )
    mount, port = f"{folder / source}:{target}:ro", request.url.rpartition(":")[2].partition("/")[0]
    for who, command in (("server that reloads, mounted folder", request.server), ("podman restart", ())):
        argv = (
            "podman",
            "run",
            "--detach",
            f"--name={_PEER}",
            f"--publish=127.0.0.1:{port}:{port}",
            f"--volume={mount}",
        )
        podman.start_detached((*argv, *podman.probe_host().options, image, *command))
        try:
            poller = Poller(request.url)
            poller.until(request.text)
            poller.failed = 0
            restart = (lambda: None) if command else partial(composed.restart, _PEER)
            seconds = measure_edits(path, request.text, poller, min(request.repeat, 10), restart)
            what = "save until the first answer with the new code"
            report(DevSample(who=who, what=what, seconds=seconds, failed=poller.failed))
        finally:
            podman.remove(_PEER)


class _Events:
    """The events that a development session prints."""

    def __init__(self, out: BinaryIO) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(out,), daemon=True).start()

    def _read(self, out: BinaryIO) -> None:
        for line in out:
            self._queue.put(json.loads(line))
        self._queue.put({"event": "ended"})

    def until(self, name: str, fits: Callable[[dict[str, Any]], bool] = lambda _event: True) -> None:
        """Wait for an event. Raises BuildError if the session ends, or takes more than three minutes."""
        end = time.monotonic() + _PATIENCE
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if event["event"] == name and fits(event):
                return
            if event["event"] == "ended":
                break
        raise BuildError(f"the development session did not come to `{name}`", hint="run nox -s dev to see why")


@contextmanager
def _developing(request: DevBenchRequest, folder: Path, environment: dict[str, str]) -> Iterator[_Events]:
    """Run the session in a copy of the project, until the block ends."""
    argv = (sys.executable, "-P", "-m", "buildkit", "dev", "--json", "--stage", request.stage)
    with start(Command(argv=argv, cwd=folder, env=environment, grace=60.0)) as child:
        assert child.stdout is not None  # noqa: S101 - pipes
        assert child.stderr is not None  # noqa: S101
        threading.Thread(target=child.stderr.read, daemon=True).start()
        events = _Events(cast("BinaryIO", child.stdout))
        events.until("watching")
        yield events
