"""Peers with a daemon, which runs only for the race and keeps all state in the peer's lane."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from buildkit.bench.environment import ParticipantLane, RaceEnvironment, background, used_space
from buildkit.bench.image_inspection import inspect_in_registry
from buildkit.bench.measure import measure
from buildkit.bench.participant import BuildOutcome, Goal, Step
from buildkit.bench.project_copy import ProjectCopy
from buildkit.errors import BuildError
from buildkit.tools.process import Command, run

ANY = tuple(range(256))
_PATIENCE = 30.0
_STEP = re.compile(r"#(\d+) \[\s*(?:([\w.-]+) )?\s*(\d+)/\d+\] (.*)")
_STATE = re.compile(r"#(\d+) (CACHED|DONE|ERROR)\b")


class DaemonPeer:
    """Builds with BuildKit and pushes. Its images are in a store that podman cannot read."""

    name = ""
    version = ""
    goals: tuple[Goal, ...] = (Goal.PUSHED, Goal.FRESH)

    def __init__(self, environment: RaceEnvironment, checkout: ProjectCopy) -> None:
        self.environment = environment
        self.checkout = checkout
        self.lanes: dict[Goal, ParticipantLane] = {}
        self._daemons: dict[Goal, tuple[AbstractContextManager[int], int]] = {}

    def daemon(self, lane: ParticipantLane) -> tuple[str, ...]:
        """Return the daemon's command, listening at ``sock`` in the lane."""
        raise NotImplementedError

    def commands(self, goal: Goal, ref: str) -> Sequence[Command]:
        """Return the commands that build the checkout and push it as ``ref``."""
        raise NotImplementedError

    def probe(self, goal: Goal) -> Command:
        """Return a command that succeeds once the daemon answers."""
        raise NotImplementedError

    def clear(self, goal: Goal) -> None:
        """Replace the daemon by one without images and cache. Raises BuildError."""
        self._stop(goal)
        lane = self.lanes[goal] = self.environment.lane(f"{self.name}-{goal}")
        log = lane.folder / "log"
        daemon = background(Command(argv=self.daemon(lane), env=lane.env, grace=_PATIENCE), log)
        self._daemons[goal] = daemon, daemon.__enter__()
        self._await(self.probe(goal), log)

    def close(self) -> None:
        """Stop the daemons."""
        for goal in list(self._daemons):
            self._stop(goal)

    def build(self, goal: Goal) -> BuildOutcome:
        """Build and push."""
        ran = measure(self.commands(goal, self.ref(goal)), (self._daemons[goal][1],))
        return BuildOutcome(ran=ran, steps=tuple(read_steps(ran.output)))

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of those paths that the image has."""
        try:
            return inspect_in_registry(self.environment.data, f"{self.name}/{goal}", paths)
        except OSError as error:
            raise BuildError(f"the image was not pushed: {error}") from error

    def space(self, goal: Goal) -> int:
        """Return the bytes of everything the daemon keeps."""
        return used_space(self.lanes[goal].folder / "data")

    def ref(self, goal: Goal) -> str:
        """Return the reference of its images."""
        return f"{self.environment.proxy.host}/{self.name}/{goal}:latest"

    def _stop(self, goal: Goal) -> None:
        if goal in self._daemons:
            self._daemons.pop(goal)[0].__exit__(None, None, None)

    def _await(self, probe: Command, log: Path) -> None:
        end = time.monotonic() + _PATIENCE
        while run(Command(argv=probe.argv, env=probe.env, accept=ANY)).code != 0:
            if time.monotonic() > end:
                text = log.read_text("utf-8", "replace")[-4000:] if log.exists() else ""
                hint = "leave this peer out: name the others by --peer"
                raise BuildError(f"{self.name}: the daemon does not answer", hint=hint, output=text)
            time.sleep(0.1)


def read_steps(output: str) -> Iterator[Step]:
    """Read the instructions of BuildKit's plain output and which were cached, the last stage last."""
    steps: dict[str, tuple[str, int, str]] = {}
    cached: set[str] = set()
    for line in output.splitlines():
        if step := _STEP.match(line):
            steps.setdefault(step[1], (step[2] or "", int(step[3]), step[4]))
        elif (state := _STATE.match(line)) and state[2] == "CACHED":
            cached.add(state[1])
    for key, (stage, _, text) in sorted(steps.items(), key=lambda item: (item[1][0].startswith("stage-"), item[1])):
        yield Step(text=text, cached=key in cached or text.startswith("FROM "), stage=stage)
