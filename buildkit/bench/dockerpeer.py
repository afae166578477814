"""BuildKit in the race: a daemon of docker of the race's own, and ``docker build``, ``docker push``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from buildkit.bench.arena import Arena, Lane, background, used_space
from buildkit.bench.checkout import Checkout
from buildkit.bench.expert import FILE
from buildkit.bench.measure import measure
from buildkit.bench.participant import Absence, Built, Step, Until
from buildkit.bench.sight import look_in_registry
from buildkit.errors import BuildError
from buildkit.tools.process import Command, find_tool, run

NAME = "docker"
_PATIENCE = 30.0
_ANY = tuple(range(256))
_STEP = re.compile(r"#(\d+) \[\s*(?:[\w.-]+ )?\d+/\d+\] (.*)")
_STATE = re.compile(r"#(\d+) (CACHED|DONE|ERROR)\b")


class Docker:
    """Builds the expert's Containerfile by docker's built-in BuildKit.

    Its images are in a store of its own, which podman does not read: it takes part where images are pushed.
    """

    name = NAME
    untils = (Until.PUSHED, Until.FRESH)

    def __init__(self, arena: Arena, checkout: Checkout) -> None:
        if os.geteuid() != 0:
            raise Absence("its daemon needs root")
        if find_tool("dockerd") is None:
            raise Absence("dockerd is not installed")
        self._client = find_client()
        self._arena = arena
        self._checkout = checkout
        self._lanes: dict[Until, Lane] = {}
        self._daemons: dict[Until, tuple[AbstractContextManager[int], int]] = {}
        self.version = run(Command(argv=("dockerd", "--version"))).text.split(" ")[2].rstrip(",")

    def clear(self, until: Until) -> None:
        """A daemon without images and cache, in place of the one before."""
        self._stop(until)
        lane = self._lanes[until] = self._arena.lane(f"{NAME}-{until}")
        log, socket = lane.folder / "log", lane.folder / "sock"
        argv = (
            "dockerd", "--iptables=false", "--bridge=none",  # the host's network is not touched
            "--data-root", str(lane.folder / "data"),
            "--exec-root", str(lane.folder / "exec"),
            "--pidfile", str(lane.folder / "pid"),
            "--host", f"unix://{socket}",
        )  # fmt: skip
        daemon = background(Command(argv=argv, env=lane.env, patience=30.0), log)
        self._daemons[until] = daemon, daemon.__enter__()
        _await_daemon(self._docker(until, "version"), log)

    def close(self) -> None:
        """End the daemons."""
        for until in list(self._daemons):
            self._stop(until)

    def build(self, until: Until) -> Built:
        """Build and push."""
        ref = f"{self._arena.gate.host}/{NAME}/{until}:latest"
        shared = ("--cache-from", ref, "--build-arg", "BUILDKIT_INLINE_CACHE=1") if until is Until.FRESH else ()
        file, folder = str(self._checkout.folder / FILE), str(self._checkout.folder)
        argv = ("build", "--progress=plain", "--network=host", *shared, "--tag", ref, "--file", file, folder)
        commands = [self._docker(until, *argv), self._docker(until, "push", "--quiet", ref)]
        ran = measure(commands, (self._daemons[until][1],))
        return Built(ran=ran, steps=tuple(read_steps(ran.output)))

    def look(self, until: Until, paths: Iterable[str]) -> Mapping[str, str]:
        """What the image has."""
        try:
            return look_in_registry(self._arena.data, f"{NAME}/{until}", "latest", paths)
        except OSError as error:
            raise BuildError(f"the image was not pushed: {error}") from error

    def space(self, until: Until) -> int:
        """All that the daemon keeps."""
        return used_space(self._lanes[until].folder / "data")

    def _docker(self, until: Until, *arguments: str) -> Command:
        lane = self._lanes[until]
        argv = (self._client, "--host", f"unix://{lane.folder / 'sock'}", *arguments)
        return Command(argv=argv, env={**lane.env, "DOCKER_BUILDKIT": "1"}, what="docker")

    def _stop(self, until: Until) -> None:
        if until in self._daemons:
            self._daemons.pop(until)[0].__exit__(None, None, None)


def find_client() -> str:
    """A docker that builds by BuildKit: one before 23, or one with buildx. Raises Absence."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = [path for folder in folders if (path := Path(folder, "docker")).is_file() and os.access(path, os.X_OK)]
    for path in found:
        version = re.search(r"version (\d+)", run(Command(argv=(str(path), "--version"), accept=_ANY)).text)
        old = version is not None and int(version[1]) < 23
        if old or run(Command(argv=(str(path), "buildx", "version"), accept=_ANY)).code == 0:
            return str(path)
    raise Absence("docker is there, but without buildx" if found else "docker is not installed")


def read_steps(output: str) -> Iterator[Step]:
    """Instructions of BuildKit's plain output, in the order of the Containerfile's, and which were cached."""
    texts: dict[str, str] = {}
    cached: set[str] = set()
    for line in output.splitlines():
        if found := _STEP.match(line):
            texts.setdefault(found[1], found[2])
        elif (state := _STATE.match(line)) and state[2] == "CACHED":
            cached.add(state[1])
    for number, text in texts.items():
        yield Step(text=text, cached=number in cached or text.startswith("FROM "))


def _await_daemon(command: Command, log: Path) -> None:
    end = time.monotonic() + _PATIENCE
    while run(Command(argv=command.argv, env=command.env, accept=_ANY)).code != 0:
        if time.monotonic() > end:
            text = log.read_text("utf-8", "replace")[-4000:] if log.exists() else ""
            raise BuildError("dockerd does not answer", hint="leave it out: --peer buildah", output=text)
        time.sleep(0.1)
