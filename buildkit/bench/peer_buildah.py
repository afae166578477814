"""buildah as a peer: ``buildah build --layers`` and ``buildah push``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from buildkit.bench.baseline import FILE, LINKED
from buildkit.bench.environment import ParticipantLane, RaceEnvironment, used_space
from buildkit.bench.image_inspection import inspect_in_registry, inspect_in_storage
from buildkit.bench.measure import measure
from buildkit.bench.participant import BuildOutcome, Goal, PeerUnavailable, Step
from buildkit.bench.project_copy import ProjectCopy
from buildkit.errors import BuildError
from buildkit.tools.process import Command, find_tool, run

NAME = "buildah"
_IMAGE = "localhost/bench/app:latest"
_LINKS_SINCE = [1, 41]
_STEP = re.compile(r"STEP \d+/\d+: (.*)")


class Buildah:
    """Builds the baseline Containerfile with a layer cache."""

    name = NAME
    goals = (Goal.RUNNABLE, Goal.PUSHED, Goal.FRESH)

    def __init__(self, environment: RaceEnvironment, checkout: ProjectCopy) -> None:
        if find_tool("buildah") is None:
            raise PeerUnavailable("buildah is not installed")
        self.version = run(Command(argv=("buildah", "--version"))).text.split(" ")[2]
        self._linked = [int(part) for part in self.version.split(".")[:2]] >= _LINKS_SINCE
        self._environment = environment
        self._checkout = checkout
        self._lanes: dict[Goal, ParticipantLane] = {}
        self._isolation = os.environ.get("BUILDAH_ISOLATION") or "chroot"  # works everywhere and starts fastest

    def clear(self, goal: Goal) -> None:
        """Remove the storage."""
        self._lanes[goal] = self._environment.lane(f"{NAME}-{goal}")

    def build(self, goal: Goal) -> BuildOutcome:
        """Build, and push if the goal asks for it."""
        env, host = self._lanes[goal].env, self._environment.proxy.host
        cache = f"{host}/{NAME}/cache"
        shared = ("--cache-from", cache, "--cache-to", cache) if goal is Goal.FRESH else ()
        argv = (
            "buildah", "build", "--layers",
            "--tls-verify=false",
            "--isolation", self._isolation,
            "--format", "docker",  # OCI images have no HEALTHCHECK
            *shared,
            "--tag", _IMAGE,
            "--file", str(self._checkout.folder / (LINKED if self._linked else FILE)),
            "--", str(self._checkout.folder),
        )  # fmt: skip
        push = (
            "buildah", "push", "--quiet", "--tls-verify=false",
            "--format", "oci", "--compression-format", "zstd",  # faster and smaller than gzip
            "--", _IMAGE, f"docker://{host}/{NAME}/{goal}:latest",
        )  # fmt: skip
        argvs = [argv] if goal is Goal.RUNNABLE else [argv, push]
        ran = measure([Command(argv=words, env=env, what="buildah") for words in argvs])
        return BuildOutcome(ran=ran, steps=tuple(read_steps(ran.output)))

    def inspect(self, goal: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """Return the SHA-256 of those paths that the image has."""
        if goal is Goal.RUNNABLE:
            return inspect_in_storage(self._lanes[goal].env, _IMAGE, paths)
        try:
            return inspect_in_registry(self._environment.data, f"{NAME}/{goal}", paths)
        except OSError as error:
            raise BuildError(f"the image was not pushed: {error}") from error

    def space(self, goal: Goal) -> int:
        """Return the bytes of the storage, including cached layers."""
        return used_space(self._lanes[goal].folder)

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""


def read_steps(output: str) -> Iterator[Step]:
    """Read the instructions from the output of ``buildah build``, in order, and which were cached."""
    text, cached = "", False
    for line in output.splitlines():
        if found := _STEP.match(line):
            if text:
                yield Step(text=text, cached=cached)
            text, cached = found[1], found[1].startswith("FROM ")
        elif line.startswith(("--> Using cache", "--> Cache pulled")):
            cached = True
    if text:
        yield Step(text=text, cached=cached)
