"""Builds a stage's layers in a process of its own: ``python -m buildkit.reproduce.worker FOLDER STAGE JOBS UMASK``.

JOBS is how many layers are packed at once, UMASK is decimal. `build_in_process` starts the process, which writes lines
of JSON to its standard output: ``[EVENT, FIELDS]``, or ``["error", ERROR]`` at the end. The results are in the ledger
of its cache. The process sets the umask and reverses the order of tasks; its caller sets everything else by the
environment.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit.errors import BuildkitError, LostError
from buildkit.events import Emit, Event, StepFailed, StepFinished, StepPhase, StepProgress, StepStarted
from buildkit.plan.spec import Spec
from buildkit.tools.interrupts import interruptible
from buildkit.tools.process import Command, stream

if TYPE_CHECKING:
    from buildkit.build.planner import Planner

_STOP_SECONDS = 120.0  # for removing containers after an interrupt
_EVENTS = {kind.__name__: kind for kind in (StepStarted, StepProgress, StepPhase, StepFinished, StepFailed)}
_ERROR = "error"


# the caller


def build_in_process(folder: Path, stage: str, env: Mapping[str, str], emit: Emit, *, jobs: int, umask: int) -> None:
    """Build a stage of the checkout ``folder`` in another process, which has ended when this returns or raises.

    Steps are passed on to ``emit``, notes and warnings are not: the first build emitted them. Raises what the build
    raises, and ToolError if the process dies.
    """
    argv = (sys.executable, "-P", "-m", "buildkit.reproduce.worker", str(folder), stage, str(jobs), str(umask))
    command = Command(argv=argv, env=env, cwd=folder, what="building again", grace=_STOP_SECONDS)
    rest = b""
    with closing(stream(command)) as chunks:
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for kind, value in map(json.loads, lines):
                if kind == _ERROR:
                    raise BuildkitError.from_json(value | {"message": f"building again: {value['message']}"})
                emit(_EVENTS[kind](**value))


def build_missing(planner: Planner, specs: Sequence[Spec], jobs: int, *, backwards: bool = False) -> None:
    """Build the layers that the planner's cache lacks; ``backwards`` starts with the last task.

    Raises what `build_layers` raises.
    """
    from buildkit.build.build_layers import build_layers

    try:
        build_layers(planner, specs, jobs, backwards=backwards)
    except LostError:  # damaged files are removed by now, so they are fetched or built again
        build_layers(planner, specs, jobs, backwards=backwards)


# the process


def main(arguments: list[str]) -> int:
    """Build, and write events and errors to standard output; return the exit code, 130 after an interrupt."""
    folder, stage, jobs, umask = arguments
    os.umask(int(umask))
    stop = threading.Event()
    write = _line_writer(stop)

    def emit(event: Event) -> None:
        if type(event).__name__ in _EVENTS:
            write(type(event).__name__, asdict(event))

    try:
        with interruptible():
            _build(Path(folder), stage, int(jobs), emit, stop)
    except KeyboardInterrupt:
        return 130
    except BuildkitError as error:
        write(_ERROR, error.as_json())
    return 0


def _build(folder: Path, stage: str, jobs: int, emit: Emit, stop: threading.Event) -> None:
    from buildkit.build.planner import open_planner

    with open_planner(folder, emit, stop=stop) as planner:
        build_missing(planner, planner.composer.compose(stage).specs, jobs, backwards=True)


def _line_writer(closed: threading.Event) -> Callable[[str, Any], None]:
    """Return a thread-safe function that writes a line; ``closed`` is set once the caller no longer reads them."""
    lock = threading.Lock()
    out = sys.stdout.buffer

    def write(kind: str, value: Any) -> None:  # noqa: ANN401 - a JSON value
        line = json.dumps([kind, value]).encode() + b"\n"
        try:
            with lock:
                out.write(line)
                out.flush()
        except BrokenPipeError:
            closed.set()

    return write


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
