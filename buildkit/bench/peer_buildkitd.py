"""BuildKit alone as a peer: ``buildctl build`` with the race's own ``buildkitd``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from buildkit.bench.baseline import LINKED, STAGED
from buildkit.bench.environment import ParticipantLane, RaceEnvironment
from buildkit.bench.participant import Goal, PeerUnavailable
from buildkit.bench.peer_daemon import DaemonPeer
from buildkit.bench.project_copy import ProjectCopy
from buildkit.tools.process import Command, find_tool, run

NAME = "buildkitd"
STAGES_NAME = "buildkitd-stages"
_CONFIG = """[registry."{host}"]
  http = true
  insecure = true
"""


class Buildkitd(DaemonPeer):
    """Uses zstd layers as we do. Its registry cache holds every step (``mode=max``)."""

    name = NAME
    file = LINKED

    def __init__(self, environment: RaceEnvironment, checkout: ProjectCopy) -> None:
        super().__init__(environment, checkout)
        if os.geteuid() != 0:
            raise PeerUnavailable("its daemon needs root")
        for tool in ("buildkitd", "buildctl"):
            if find_tool(tool) is None:
                raise PeerUnavailable(f"{tool} is not installed")
        output = run(Command(argv=("buildkitd", "--version"))).text
        match = re.search(r"v?(\d+\.\d+\S*)", output)
        self.version = match[1] if match else output

    def daemon(self, lane: ParticipantLane) -> tuple[str, ...]:
        """Return the command of a buildkitd with runc that leaves the host's network alone."""
        config = lane.folder / "buildkitd.toml"
        config.write_text(_CONFIG.format(host=self.environment.proxy.host), "utf-8")
        return (
            "buildkitd",
            "--config", str(config),
            "--root", str(lane.folder / "data"),
            "--addr", f"unix://{lane.folder / 'sock'}",
            "--oci-worker=true", "--oci-worker-net=host", "--containerd-worker=false",
        )  # fmt: skip

    def commands(self, goal: Goal, ref: str) -> Sequence[Command]:
        """Return the command that builds and pushes."""
        cache = f"type=registry,ref={self.environment.proxy.host}/{self.name}/cache:latest"
        shared = ("--import-cache", cache, "--export-cache", f"{cache},mode=max,compression=zstd")
        folder = self.checkout.folder
        argv = (
            "build", "--progress=plain",
            "--frontend", "dockerfile.v0",
            "--local", f"context={folder}",
            "--local", f"dockerfile={folder}",
            "--opt", f"filename={self.file}",
            *(shared if goal is Goal.FRESH else ()),
            "--output", f"type=image,name={ref},push=true,compression=zstd,oci-mediatypes=true",
        )  # fmt: skip
        return (self._buildctl(goal, *argv),)

    def probe(self, goal: Goal) -> Command:
        """Return a command that succeeds once the daemon answers."""
        return self._buildctl(goal, "debug", "workers")

    def _buildctl(self, goal: Goal, *arguments: str) -> Command:
        lane = self.lanes[goal]
        argv = ("buildctl", "--addr", f"unix://{lane.folder / 'sock'}", *arguments)
        return Command(argv=argv, env=lane.env, what="buildctl")


class StagedBuildkitd(Buildkitd):
    """The same with a stage for each group of wheels, so that they run concurrently and are cached separately."""

    name = STAGES_NAME
    file = STAGED
