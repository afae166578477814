"""buildah in the race: ``buildah build --layers``, and ``buildah push``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from buildkit.bench.baseline import FILE, LINKED
from buildkit.bench.environment import Lane, RaceEnvironment, used_space
from buildkit.bench.image_inspection import look_in_registry, look_in_storage
from buildkit.bench.measure import measure
from buildkit.bench.participant import Absence, Built, Goal, Step
from buildkit.bench.project_copy import Checkout
from buildkit.errors import BuildError
from buildkit.tools.process import Command, find_tool, run

NAME = "buildah"
_IMAGE = "localhost/bench/app:latest"
_LINKS_SINCE = [1, 41]
_STEP = re.compile(r"STEP \d+/\d+: (.*)")


class Buildah:
    """Builds the expert's Containerfile with a cache of layers."""

    name = NAME
    untils = (Goal.RUNNABLE, Goal.PUSHED, Goal.FRESH)

    def __init__(self, arena: RaceEnvironment, checkout: Checkout) -> None:
        if find_tool("buildah") is None:
            raise Absence("buildah is not installed")
        self.version = run(Command(argv=("buildah", "--version"))).text.split(" ")[2]
        self._linked = [int(part) for part in self.version.split(".")[:2]] >= _LINKS_SINCE
        self._arena = arena
        self._checkout = checkout
        self._lanes: dict[Goal, Lane] = {}
        self._isolation = os.environ.get("BUILDAH_ISOLATION") or "chroot"  # works everywhere, and starts soonest

    def clear(self, until: Goal) -> None:
        """Have nothing."""
        self._lanes[until] = self._arena.lane(f"{NAME}-{until}")

    def build(self, until: Goal) -> Built:
        """Build, and push where that is asked for."""
        env, host = self._lanes[until].env, self._arena.gate.host
        cache = f"{host}/{NAME}/cache"
        shared = ("--cache-from", cache, "--cache-to", cache) if until is Goal.FRESH else ()
        argv = (
            "buildah", "build", "--layers",
            "--tls-verify=false",
            "--isolation", self._isolation,
            "--format", "docker",  # an OCI image has no place for HEALTHCHECK
            *shared,
            "--tag", _IMAGE,
            "--file", str(self._checkout.folder / (LINKED if self._linked else FILE)),
            "--", str(self._checkout.folder),
        )  # fmt: skip
        push = (
            "buildah", "push", "--quiet", "--tls-verify=false",
            "--format", "oci", "--compression-format", "zstd",  # quicker than gzip, and smaller
            "--", _IMAGE, f"docker://{host}/{NAME}/{until}:latest",
        )  # fmt: skip
        argvs = [argv] if until is Goal.RUNNABLE else [argv, push]
        ran = measure([Command(argv=one, env=env, what="buildah") for one in argvs])
        return Built(ran=ran, steps=tuple(read_steps(ran.output)))

    def look(self, until: Goal, paths: Iterable[str]) -> Mapping[str, str]:
        """What the image has."""
        if until is Goal.RUNNABLE:
            return look_in_storage(self._lanes[until].env, _IMAGE, paths)
        try:
            return look_in_registry(self._arena.data, f"{NAME}/{until}", "latest", paths)
        except OSError as error:
            raise BuildError(f"the image was not pushed: {error}") from error

    def space(self, until: Goal) -> int:
        """Storage, with the cache's layers."""
        return used_space(self._lanes[until].folder)

    def close(self) -> None:
        """Nothing runs in the background."""


def read_steps(output: str) -> Iterator[Step]:
    """Instructions of ``buildah build``'s output, in their order, and which were found in its cache."""
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
