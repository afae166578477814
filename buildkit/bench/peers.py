"""The participants of a race: this project, and every peer that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from buildkit.bench.environment import RaceEnvironment
from buildkit.bench.ours import Ours
from buildkit.bench.participant import Participant, PeerUnavailable
from buildkit.bench.peer_buildah import Buildah
from buildkit.bench.peer_buildkitd import Buildkitd, StagedBuildkitd
from buildkit.bench.peer_docker import Docker
from buildkit.bench.project_copy import ProjectCopy
from buildkit.bench.results import Skipped
from buildkit.errors import ToolError
from buildkit.events import Emit, Note

_MAKERS: Mapping[str, Callable[[RaceEnvironment, ProjectCopy], Participant]] = {
    "buildah": Buildah,
    "docker": Docker,
    "buildkitd": Buildkitd,
    "buildkitd-stages": StagedBuildkitd,
}
PEERS = tuple(_MAKERS)


@contextmanager
def open_participants(
    environment: RaceEnvironment,
    checkout: ProjectCopy,
    requested: Sequence[str] | None,
    skipped: list[Skipped],
    emit: Emit,
) -> Iterator[list[Participant]]:
    """Yield this project first, then peers; stop their daemons at the end. Missing peers go into ``skipped``."""
    with ExitStack() as stack:
        participants: list[Participant] = [Ours(environment, checkout)]
        for name in PEERS if requested is None else requested:
            try:
                peer = _MAKERS[name](environment, checkout)
            except (PeerUnavailable, ToolError) as absence:
                emit(Note(text=f"{name} takes no part: {absence}"))
                skipped.append(Skipped(until="", scenario="", participant=name, why=str(absence)))
                continue
            stack.callback(peer.close)
            participants.append(peer)
        yield participants
