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
from pathlib import Path
from typing import Any, BinaryIO, cast

from buildkit.bench.dev_peers import PeerApp, find_dev_peers
from buildkit.bench.dev_samples import OURS, DevSample, Poller, attach_debugger, measure_edits
from buildkit.bench.project_copy import ProjectCopy
from buildkit.errors import BuildError, BuildkitError, Interrupted
from buildkit.tools.process import Command, run, start

SAVE = "save until the first answer with the new code"
_PATIENCE = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DevBenchRequest:
    """What is measured: ``text`` in ``file`` is replaced, and ``url`` shows the new one.

    ``tests`` are arguments of one quick test, ``suite`` of all; ``server`` is the command of a server that reloads by
    itself, empty for no comparison.
    """

    folder: Path
    stage: str
    file: str
    text: str
    url: str
    repeat: int = 20
    tests: tuple[str, ...] = ()
    suite: tuple[str, ...] = ()
    server: tuple[str, ...] = ()
    starts: int = 3
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
        environment = {"PIP_FIND_LINKS": str(links), "PIP_NO_INDEX": "1"}  # what is built before has the rest
        _measure_starts(request, folder, environment, report)
        with _developing(request, folder, environment) as events:
            _measure_ours(request, folder, links, events, report)
        if request.server:
            _measure_peers(request, folder, report)


def _measure_starts(
    request: DevBenchRequest, folder: Path, environment: dict[str, str], report: Callable[[DevSample], None]
) -> None:
    """Measure a start without the image, whose layers are in the cache, and starts with it."""
    build = (sys.executable, "-P", "-m", "buildkit", "build", request.stage)
    run(Command(argv=build, cwd=folder, what="building the stage"))
    remove = ("podman", "rmi", "--force", ProjectCopy(folder, request.stage, folder).project.ref(request.stage))
    run(Command(argv=remove, accept=tuple(range(256))))  # it stays where our own image store has it
    took = []
    for _ in range(1 + request.starts):
        began = time.monotonic()
        with _developing(request, folder, environment):
            took.append(time.monotonic() - began)
    report(DevSample(who=OURS, what="first start until all are healthy, layers cached", seconds=tuple(took[:1])))
    report(DevSample(who=OURS, what="start until all are healthy", seconds=tuple(took[1:])))


def _measure_ours(
    request: DevBenchRequest, folder: Path, links: Path, events: _Events, report: Callable[[DevSample], None]
) -> None:
    path, poller = folder / request.file, Poller(request.url)
    poller.until(request.text)
    seconds = measure_edits(path, request.text, poller, request.repeat)
    report(DevSample(who=OURS, what=SAVE, seconds=seconds, failed=poller.failed))
    with suppress(ConnectionRefusedError):  # no debugger in this stage
        attached = tuple(attach_debugger(5678) for _ in range(min(request.repeat, 5)))
        report(DevSample(who=OURS, what="debugger attached", seconds=attached))
    if request.tests:
        seconds = _run_tests(folder, request, request.tests, 6)[1:]
        report(DevSample(who=OURS, what=f"test {' '.join(request.tests)}, after a save", seconds=seconds))
    if request.suite:
        seconds = _run_tests(folder, request, request.suite, 2)
        report(DevSample(who=OURS, what=f"all tests: {' '.join(request.suite)}", seconds=seconds))
    copy, pinned = ProjectCopy(folder, request.stage, links), []
    for number in range(request.pins):
        poller = Poller(request.url)
        began = time.monotonic()
        copy.add_wheel(number)
        events.until("reacted", lambda event: event["action"] == "rebuild" and event["ok"])
        poller.until(request.text)
        pinned.append(time.monotonic() - began)
    if pinned:
        report(DevSample(who=OURS, what="another pin until the service answers", seconds=tuple(pinned)))


def _run_tests(folder: Path, request: DevBenchRequest, tests: tuple[str, ...], times: int) -> tuple[float, ...]:
    """Return how long runs of tests take, each after an edit."""
    path, found = folder / request.file, []
    before = path.read_text("utf-8")
    for number in range(times):
        path.write_text(f"{before}# edit {number}\n", "utf-8")
        began = time.monotonic()
        argv = (sys.executable, "-P", "-m", "buildkit", "dev", "--test", *tests)
        run(Command(argv=argv, cwd=folder, what="the tests"))
        found.append(time.monotonic() - began)
    path.write_text(before, "utf-8")
    return tuple(found)


def _measure_peers(request: DevBenchRequest, folder: Path, report: Callable[[DevSample], None]) -> None:
    """Measure other ways to get a saved file into the container."""
    project = ProjectCopy(folder, request.stage, folder)
    path = folder / request.file
    source = Path(request.file).parent
    copies = [copy for part in project.graph.resolve(request.stage).parts for copy in part.copy]
    app = PeerApp(
        folder=folder.parent,
        project=folder,
        stage=request.stage,
        image=project.project.ref(request.stage),
        source=folder / source,
        target=next(copy.target for copy in copies if source.name in copy.source),
        port=request.url.rpartition(":")[2].partition("/")[0],
        server=request.server,
    )
    for peer in find_dev_peers():
        try:
            with contextmanager(peer.serving)(app) as after:
                poller = Poller(request.url)
                poller.until(request.text)
                poller.failed = 0
                seconds = measure_edits(path, request.text, poller, min(request.repeat, 10), after)
                report(DevSample(who=peer.name, what=SAVE, seconds=seconds, failed=poller.failed))
        except Interrupted:
            raise
        except BuildkitError as error:  # another way's failure is no reason to lose what was measured
            said = "\n".join(filter(None, (error.message, error.output, error.hint)))
            sys.stderr.write(f"{peer.name}: failed: {said}\n")


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
