"""Peers with a daemon: started for the race alone, with all of its state in the peer's lane."""

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
    """Builds by BuildKit and pushes; its images are in a store that podman does not read."""

    name = ""
    version = ""
    goals: tuple[Goal, ...] = (Goal.PUSHED, Goal.FRESH)

    def __init__(self, environment: RaceEnvironment, checkout: ProjectCopy) -> None:
        self.environment = environment
        self.checkout = checkout
        self.lanes: dict[Goal, ParticipantLane] = {}
        self._daemons: dict[Goal, tuple[AbstractContextManager[int], int]] = {}

    def daemon(self, lane: ParticipantLane) -> tuple[str, ...]:
        """The daemon's command line, listening at ``sock`` in the lane."""
        raise NotImplementedError

    def commands(self, goal: Goal, ref: str) -> Sequence[Command]:
        """What builds the checkout and pushes it as ``ref``."""
        raise NotImplementedError

    def probe(self, goal: Goal) -> Command:
        """What succeeds as soon as the daemon answers."""
        raise NotImplementedError

    def clear(self, goal: Goal) -> None:
        """A daemon without images and cache, in place of the one before. Raises BuildError."""
        self._stop(goal)
        lane = self.lanes[goal] = self.environment.lane(f"{self.name}-{goal}")
        log = lane.folder / "log"
        daemon = background(Command(argv=self.daemon(lane), env=lane.env, patience=_PATIENCE), log)
        self._daemons[goal] = daemon, daemon.__enter__()
        self._await(self.probe(goal), log)

    def close(self) -> None:
        """End the daemons."""
        for goal in list(self._daemons):
            self._stop(goal)

    def build(self, goal: Goal) -> BuildOutcome:
        """Build and push."""
        ran = measure(self.commands(goal, self.ref(goal)), (self._daemons[goal][1],))
        return BuildOutcome(ran=ran, steps=tuple(read_steps(ran.output)))

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """What the image has."""
        try:
            return inspect_in_registry(self.environment.data, f"{self.name}/{goal}", "latest", paths)
        except OSError as error:
            raise BuildError(f"the image was not pushed: {error}") from error

    def space(self, goal: Goal) -> int:
        """All that the daemon keeps."""
        return used_space(self.lanes[goal].folder / "data")

    def ref(self, goal: Goal) -> str:
        """The name that its images get."""
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
    """Instructions of BuildKit's plain output, by stage and number, the last stage last, and which were cached."""
    found: dict[str, tuple[str, int, str]] = {}
    cached: set[str] = set()
    for line in output.splitlines():
        if step := _STEP.match(line):
            found.setdefault(step[1], (step[2] or "", int(step[3]), step[4]))
        elif (state := _STATE.match(line)) and state[2] == "CACHED":
            cached.add(state[1])
    for key, (stage, _, text) in sorted(found.items(), key=lambda item: (item[1][0].startswith("stage-"), item[1])):
        yield Step(text=text, cached=key in cached or text.startswith("FROM "), stage=stage)
