"""Building a stage's layers again, in a process of its own: ``python -m buildkit.engine.again``.

Its arguments are the folder, the stage, how many layers are packed at once, and the umask (decimal). `build_again`
starts it, and hears of it by lines of JSON on its standard output: events, or an error of ours. What was made stands
in the ledger there. Another umask, and the steps in another order, are seen to here; the rest is the environment's.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildkit import errors
from buildkit.engine.scheduler import Lane, interruptible, run_tasks
from buildkit.errors import BuildError, BuildkitError, LostError
from buildkit.events import Event, Say, StepFailed, StepFinished, StepProgress, StepStarted
from buildkit.plan.spec import Spec
from buildkit.tools.process import Command, stream

if TYPE_CHECKING:
    from buildkit.engine.planning import Planner

_PATIENCE = 120.0  # seconds to remove containers in, when it is interrupted
_DOWNLOADS = 8
_EVENTS = {kind.__name__: kind for kind in (StepStarted, StepProgress, StepFinished, StepFailed)}


# here


def build_again(folder: Path, stage: str, env: Mapping[str, str], say: Say, *, jobs: int, umask: int) -> None:
    """Build the stage's layers at ``folder`` in another process; notes and warnings are not repeated.

    Raises what the build there raises, and ToolError where the process dies. When this is left it has ended.
    """
    argv = (sys.executable, "-P", "-m", "buildkit.engine.again", str(folder), stage, str(jobs), str(umask))
    command = Command(argv=argv, env=env, cwd=folder, what="building again", patience=_PATIENCE)
    rest = b""
    with closing(stream(command)) as chunks:
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for kind, value in map(json.loads, lines):
                if kind not in _EVENTS:
                    raise _error(kind, value)
                say(_EVENTS[kind](**value))


def _error(kind: str, value: Mapping[str, str]) -> BuildkitError:
    found: type[BuildkitError] = getattr(errors, kind, BuildError)
    error = found(f"building again: {value['message']}", hint=value["hint"])
    error.output = value["output"]
    return error


# there


def main(arguments: list[str]) -> int:
    """Build, and say on standard output how it went."""
    folder, stage, jobs, umask = arguments
    os.umask(int(umask))
    tell = _teller()

    def say(event: Event) -> None:
        if type(event).__name__ in _EVENTS:
            tell(type(event).__name__, asdict(event))

    try:
        with interruptible():
            _build(Path(folder), stage, int(jobs), say)
    except KeyboardInterrupt:
        return 130
    except BuildkitError as error:
        tell(type(error).__name__, {"message": error.message, "hint": error.hint, "output": error.output})
    return 0


def _build(folder: Path, stage: str, jobs: int, say: Say) -> None:
    from buildkit.engine.planning import open_planner

    with open_planner(folder, say, jobs) as planner:
        specs = planner.composer.compose(stage).specs
        try:
            _realise(planner, specs, jobs)
        except LostError:  # a download was damaged; its link is removed, and now it is fetched
            _realise(planner, specs, jobs)


def _realise(planner: Planner, specs: Iterable[Spec], jobs: int) -> None:
    from buildkit.engine.boxes import open_boxes
    from buildkit.engine.realise import Realiser

    shop = planner.shop
    with open_boxes(shop) as boxes:
        realiser = Realiser(shop, boxes, planner.lookup, planner.composer)
        realiser.want(specs)
        tasks = dict(reversed(realiser.tasks.items()))
        run_tasks(tasks, {Lane.CPU: jobs, Lane.NET: _DOWNLOADS, Lane.BOX: 1}, shop.say, shop.stop)


def _teller() -> Callable[[str, Any], None]:
    lock = threading.Lock()
    out = sys.stdout.buffer

    def tell(kind: str, value: Any) -> None:  # noqa: ANN401 - a JSON value
        line = json.dumps([kind, value]).encode() + b"\n"
        with lock, suppress(BrokenPipeError):  # who listened has gone, and stops us
            out.write(line)
            out.flush()

    return tell


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
