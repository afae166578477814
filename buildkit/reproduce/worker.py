"""Building a stage's layers again, in a process of its own: ``python -m buildkit.reproduce.worker``.

Its arguments are the folder, the stage, how many layers are packed at once, and the umask (decimal). `build_again`
starts it, and hears of it by lines of JSON on its standard output: events, or an error of ours. What was made stands
in the ledger there. Another umask, and the steps in another order, are seen to here; the rest is the environment's.
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
from buildkit.events import Emit, Event, StepFailed, StepFinished, StepProgress, StepStarted
from buildkit.plan.spec import Spec
from buildkit.tools.interrupts import interruptible
from buildkit.tools.process import Command, stream

if TYPE_CHECKING:
    from buildkit.build.planner import Planner

_PATIENCE = 120.0  # seconds to remove containers in, when it is interrupted
_EVENTS = {kind.__name__: kind for kind in (StepStarted, StepProgress, StepFinished, StepFailed)}
_ERROR = "error"


# here


def build_again(folder: Path, stage: str, env: Mapping[str, str], emit: Emit, *, jobs: int, umask: int) -> None:
    """Build the stage's layers at ``folder`` in another process; notes and warnings are not repeated.

    Raises what the build there raises, and ToolError where the process dies. When this is left it has ended.
    """
    argv = (sys.executable, "-P", "-m", "buildkit.reproduce.worker", str(folder), stage, str(jobs), str(umask))
    command = Command(argv=argv, env=env, cwd=folder, what="building again", grace=_PATIENCE)
    rest = b""
    with closing(stream(command)) as chunks:
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for kind, value in map(json.loads, lines):
                if kind == _ERROR:
                    raise BuildkitError.from_json(value | {"message": f"building again: {value['message']}"})
                emit(_EVENTS[kind](**value))


def execute(planner: Planner, specs: Sequence[Spec], jobs: int, *, backwards: bool = False) -> None:
    """Make the layers that the planner's cache lacks; ``backwards`` begins with the last. Raises as building does."""
    from buildkit.build.build_layers import build_layers

    try:
        build_layers(planner, specs, jobs, backwards=backwards)
    except LostError:  # what was damaged is removed, and is had anew
        build_layers(planner, specs, jobs, backwards=backwards)


# there


def main(arguments: list[str]) -> int:
    """Build, and say on standard output how it went."""
    folder, stage, jobs, umask = arguments
    os.umask(int(umask))
    stop = threading.Event()
    tell = _teller(stop)

    def emit(event: Event) -> None:
        if type(event).__name__ in _EVENTS:
            tell(type(event).__name__, asdict(event))

    try:
        with interruptible():
            _build(Path(folder), stage, int(jobs), emit, stop)
    except KeyboardInterrupt:
        return 130
    except BuildkitError as error:
        tell(_ERROR, error.as_json())
    return 0


def _build(folder: Path, stage: str, jobs: int, emit: Emit, stop: threading.Event) -> None:
    from buildkit.build.planner import open_planner

    with open_planner(folder, emit, stop=stop) as planner:
        execute(planner, planner.composer.compose(stage).specs, jobs, backwards=True)


def _teller(gone: threading.Event) -> Callable[[str, Any], None]:
    """What writes a line; once nobody reads them any more, ``gone`` is set."""
    lock = threading.Lock()
    out = sys.stdout.buffer

    def tell(kind: str, value: Any) -> None:  # noqa: ANN401 - a JSON value
        line = json.dumps([kind, value]).encode() + b"\n"
        try:
            with lock:
                out.write(line)
                out.flush()
        except BrokenPipeError:
            gone.set()

    return tell


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
