"""This project in the race: sessions of the checkout, as a user would type them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from buildkit.bench.environment import Lane, RaceEnvironment, used_space
from buildkit.bench.image_inspection import look_in_registry, look_in_storage
from buildkit.bench.measure import measure
from buildkit.bench.participant import Built, Goal
from buildkit.bench.project_copy import Checkout
from buildkit.bench.workload import OUR_PYTHON, nox_argv
from buildkit.tools.process import Command

NAME = "xoe-buildkit"


class Ours:
    """Builds by ``nox -s build-STAGE`` and ``push-STAGE``."""

    name = NAME
    untils = (Goal.RUNNABLE, Goal.PUSHED, Goal.FRESH)

    def __init__(self, arena: RaceEnvironment, checkout: Checkout) -> None:
        self._arena = arena
        self._checkout = checkout
        self._lanes: dict[Goal, Lane] = {}
        self.version = find_version()

    def clear(self, until: Goal) -> None:
        """Have nothing."""
        self._lanes[until] = self._arena.lane(f"{NAME}-{until}")

    def build(self, until: Goal) -> Built:
        """Run the session."""
        lane, stage = self._lanes[until], self._checkout.stage
        report = lane.folder / "report.json"
        report.unlink(missing_ok=True)
        ref = f"{self._arena.gate.host}/{self._repository(until)}"
        arguments = {
            Goal.RUNNABLE: (f"build-{stage}",),
            Goal.PUSHED: (f"push-{stage}", f"{ref}:latest"),
            Goal.FRESH: (f"push-{stage}", f"{ref}:latest", "--cache-write", ref),
        }[until]
        argv = nox_argv(self._checkout.folder, *arguments, "--json", str(report))
        ran = measure([Command(argv=argv, env={**lane.env, **self._sources()}, what="buildkit")])
        if ran.finished is None:
            return Built(ran=ran)
        made: dict[str, Any] = json.loads(report.read_text("utf-8"))
        kinds = Counter(layer["kind"] for layer in made["layers"] if layer["source"] == "built")
        kept = tuple(layer["name"] for layer in made["layers"] if layer["source"] != "built")
        return Built(ran=ran, kinds=kinds, kept=kept, phases=made["phases"])

    def look(self, until: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """What the image has."""
        if until is Goal.RUNNABLE:
            return look_in_storage(self._lanes[until].env, self._checkout.project.ref(self._checkout.stage), paths)
        return look_in_registry(self._arena.data, self._repository(until), "latest", paths)

    def space(self, until: Goal) -> int:
        """Cache and storage."""
        return used_space(self._lanes[until].folder)

    def close(self) -> None:
        """Nothing runs in the background."""

    def _repository(self, until: Goal) -> str:
        return f"{NAME}/{until}"

    def _sources(self) -> dict[str, str]:
        """Wheels come from the arena alone."""
        return {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self._checkout.links),
            "UV_NO_CONFIG": "1",
            **OUR_PYTHON,
        }


def find_version() -> str:
    """Our own version."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xoe-buildkit")
    except PackageNotFoundError:
        return "of a checkout"
