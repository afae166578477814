"""Docker's BuildKit as a peer: ``docker build`` and ``docker push`` with the race's own daemon."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from buildkit.bench.baseline import FILE, LINKED
from buildkit.bench.environment import ParticipantLane, RaceEnvironment
from buildkit.bench.participant import Goal, PeerUnavailable
from buildkit.bench.peer_daemon import ANY, DaemonPeer
from buildkit.bench.project_copy import ProjectCopy
from buildkit.tools.process import Command, find_tool, run

NAME = "docker"
_LINKS_SINCE = 23  # the first docker whose BuildKit supports COPY --link without fetching a frontend


class Docker(DaemonPeer):
    """Docker's built-in BuildKit. Its registry cache is what the image itself holds (inline)."""

    name = NAME

    def __init__(self, environment: RaceEnvironment, checkout: ProjectCopy) -> None:
        super().__init__(environment, checkout)
        if os.geteuid() != 0:
            raise PeerUnavailable("its daemon needs root")
        if find_tool("dockerd") is None:
            raise PeerUnavailable("dockerd is not installed")
        self._client = find_client()
        self.version = run(Command(argv=("dockerd", "--version"))).text.split(" ")[2].rstrip(",")

    def daemon(self, lane: ParticipantLane) -> tuple[str, ...]:
        """Return the command of a dockerd that leaves the host's network alone."""
        return (
            "dockerd", "--iptables=false", "--bridge=none",
            "--data-root", str(lane.folder / "data"),
            "--exec-root", str(lane.folder / "exec"),
            "--pidfile", str(lane.folder / "pid"),
            "--host", f"unix://{lane.folder / 'sock'}",
        )  # fmt: skip

    def commands(self, goal: Goal, ref: str) -> Sequence[Command]:
        """Return the commands that build, then push."""
        shared = ("--cache-from", ref, "--build-arg", "BUILDKIT_INLINE_CACHE=1") if goal is Goal.FRESH else ()
        linked = int(self.version.partition(".")[0]) >= _LINKS_SINCE
        folder = self.checkout.folder
        options = ("--progress=plain", "--network=host", *shared, "--tag", ref)
        build = ("build", *options, "--file", str(folder / (LINKED if linked else FILE)), str(folder))
        return self._docker(goal, *build), self._docker(goal, "push", "--quiet", ref)

    def probe(self, goal: Goal) -> Command:
        """Return a command that succeeds once the daemon answers."""
        return self._docker(goal, "version")

    def _docker(self, goal: Goal, *arguments: str) -> Command:
        lane = self.lanes[goal]
        argv = (self._client, "--host", f"unix://{lane.folder / 'sock'}", *arguments)
        return Command(argv=argv, env={**lane.env, "DOCKER_BUILDKIT": "1"}, what="docker")


def find_client() -> str:
    """Find a docker that builds with BuildKit: older than 23, or with buildx. Raises PeerUnavailable."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    clients = [path for folder in folders if (path := Path(folder, "docker")).is_file() and os.access(path, os.X_OK)]
    for path in clients:
        version = re.search(r"version (\d+)", run(Command(argv=(str(path), "--version"), accept=ANY)).text)
        old = version is not None and int(version[1]) < 23
        if old or run(Command(argv=(str(path), "buildx", "version"), accept=ANY)).code == 0:
            return str(path)
    raise PeerUnavailable("docker is there, but without buildx" if clients else "docker is not installed")
