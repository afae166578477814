"""Who takes part here: ourselves, and every peer that is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from buildkit.bench.environment import RaceEnvironment
from buildkit.bench.ours import Ours
from buildkit.bench.participant import Absence, Participant
from buildkit.bench.peer_buildah import Buildah
from buildkit.bench.peer_buildkitd import Buildkitd, StagedBuildkitd
from buildkit.bench.peer_docker import Docker
from buildkit.bench.project_copy import Checkout
from buildkit.bench.results import Skipped
from buildkit.errors import ToolError
from buildkit.events import Emit, Note

_MAKERS: Mapping[str, Callable[[RaceEnvironment, Checkout], Participant]] = {
    "buildah": Buildah,
    "docker": Docker,
    "buildkitd": Buildkitd,
    "buildkitd-stages": StagedBuildkitd,
}
PEERS = tuple(_MAKERS)


@contextmanager
def open_participants(
    arena: RaceEnvironment, checkout: Checkout, wanted: Sequence[str] | None, skipped: list[Skipped], emit: Emit
) -> Iterator[list[Participant]]:
    """Ourselves first; peers that are absent are said and added to ``skipped``. Their daemons end on leaving."""
    with ExitStack() as stack:
        found: list[Participant] = [Ours(arena, checkout)]
        for name in PEERS if wanted is None else wanted:
            try:
                peer = _MAKERS[name](arena, checkout)
            except (Absence, ToolError) as absence:
                emit(Note(text=f"{name} takes no part: {absence}"))
                skipped.append(Skipped(until="", scenario="", participant=name, why=str(absence)))
                continue
            stack.callback(peer.close)
            found.append(peer)
        yield found
