"""How traffic is split over versions of a service, and how many replicas it has, as ``services.toml`` says."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.declare.condition import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a service: what differs from the service itself; empty is as there."""

    name: str
    stage: str = ""
    image: str = ""
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """When the candidate gets more users: after ``seconds`` at each of ``steps`` (of 1000) if ``checks`` hold."""

    seconds: int
    checks: tuple[Check, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Versions that run side by side.

    ``split`` are shares of 1000 users by version, which add up to that. ``control`` is the version that serves whom no
    other does, and that others are compared with. ``shadow`` gets a copy of each request; its answers go nowhere.
    """

    by: str
    versions: tuple[Version, ...]
    split: tuple[tuple[str, int], ...]
    control: str
    shadow: str = ""
    promote: Promotion | None = None

    @property
    def ordered(self) -> tuple[str, ...]:
        """The names of the versions that answer, the control first."""
        others = sorted(name for name, _ in self.split if name != self.control)
        return (self.control, *others)

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the versions that run: those that answer, and the shadow."""
        return (*self.ordered, self.shadow) if self.shadow else self.ordered

    @property
    def candidate(self) -> str:
        """The version that a promotion is about; the declaration has one if it has a promotion."""
        return self.ordered[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRate:
    """How fast replicas come or go: seconds of stabilisation, and the most replicas and per cent in a period.

    ``select`` is which of both counts: ``max``, ``min`` or ``disabled``.
    """

    window: int
    replicas: int = 0
    percent: int = 0
    period: int = 15
    select: str = "max"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How many replicas of each version run, and what each should have of a load.

    ``targets`` are ``in-flight`` and ``queue`` (requests), ``cpu`` and ``gpu`` (per cent of its CPUs and GPUs), or
    ``metric:NAME``, a gauge of the service itself. ``tolerance`` is a share of the target. ``prometheus`` is where KEDA
    asks.
    """

    least: int
    most: int
    targets: tuple[tuple[str, float], ...]
    up: ScaleRate
    down: ScaleRate
    tolerance: float = 0.1
    prometheus: str = ""
