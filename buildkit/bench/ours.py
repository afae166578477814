"""This project as a participant: sessions of the checkout, as a user would type them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from buildkit.bench.environment import ParticipantLane, RaceEnvironment, used_space
from buildkit.bench.image_inspection import inspect_in_registry, inspect_in_storage
from buildkit.bench.measure import measure
from buildkit.bench.participant import BuildOutcome, Goal
from buildkit.bench.project_copy import ProjectCopy
from buildkit.bench.workload import OUR_PYTHON, nox_argv
from buildkit.tools.process import Command

NAME = "xoe-buildkit"


class Ours:
    """Builds with ``nox -s build-STAGE`` and ``push-STAGE``."""

    name = NAME
    goals = (Goal.RUNNABLE, Goal.PUSHED, Goal.FRESH)

    def __init__(self, environment: RaceEnvironment, checkout: ProjectCopy) -> None:
        self._environment = environment
        self._checkout = checkout
        self._lanes: dict[Goal, ParticipantLane] = {}
        self.version = find_version()

    def clear(self, goal: Goal) -> None:
        """Remove cache, storage and downloads."""
        self._lanes[goal] = self._environment.lane(f"{NAME}-{goal}", image_store=True)

    def build(self, goal: Goal) -> BuildOutcome:
        """Run the session."""
        lane, stage = self._lanes[goal], self._checkout.stage
        report = lane.folder / "report.json"
        report.unlink(missing_ok=True)
        ref = f"{self._environment.proxy.host}/{self._repository(goal)}"
        arguments = {
            Goal.RUNNABLE: (f"build-{stage}",),
            Goal.PUSHED: (f"push-{stage}", f"{ref}:latest"),
            Goal.FRESH: (f"push-{stage}", f"{ref}:latest", "--cache-write", ref),
        }[goal]
        argv = nox_argv(self._checkout.folder, *arguments, "--changed-models", "--json", str(report))
        env = {**lane.env, **self._sources(), "CI": ""}  # peers take changed models in CI, too
        ran = measure([Command(argv=argv, env=env, what="buildkit")])
        if ran.finished is None:
            return BuildOutcome(ran=ran)
        content: dict[str, Any] = json.loads(report.read_text("utf-8"))
        kinds = Counter(layer["kind"] for layer in content["layers"] if layer["source"] == "built")
        kept = tuple(layer["name"] for layer in content["layers"] if layer["source"] != "built")
        return BuildOutcome(ran=ran, kinds=kinds, kept=kept, phases=content["phases"])

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of those paths that the image has."""
        if goal is Goal.RUNNABLE:
            return inspect_in_storage(self._lanes[goal].env, self._checkout.project.ref(self._checkout.stage), paths)
        return inspect_in_registry(self._environment.data, self._repository(goal), paths)

    def space(self, goal: Goal) -> int:
        """Return the bytes of cache and storage."""
        return used_space(self._lanes[goal].folder)

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""

    def _repository(self, goal: Goal) -> str:
        return f"{NAME}/{goal}"

    def _sources(self) -> dict[str, str]:
        """Return settings that allow wheels only from the race's own folder."""
        return {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self._checkout.links),
            "UV_NO_CONFIG": "1",
            **OUR_PYTHON,
        }


def find_version() -> str:
    """Return our own version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xoe-buildkit")
    except PackageNotFoundError:
        return "of a checkout"
