"""The request of ``bench-build``: its options as a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from buildkit.bench.participant import Goal


@dataclass(frozen=True, slots=True, kw_only=True)
class RaceRequest:
    """A race, or (``scale``) a measurement of planning; empty or None means everything, or the default.

    ``workload`` is ``reference``, ``heavy`` or the folder of a project; ``fail_over`` is the share by which a build
    may be slower than in the results ``compare``. ``fill_memory`` is whether free memory is filled before each turn
    (`bench.held_memory`).
    """

    workload: str = "reference"
    stage: str = ""
    scenario: tuple[str, ...] | None = None
    until: tuple[Goal, ...] | None = None
    peer: tuple[str, ...] | None = None
    repeat: int = 3
    output: Path | None = None
    json: bool = False
    scale: bool = False
    fill_memory: bool = False
    compare: Path | None = None
    fail_over: float = 0.15
