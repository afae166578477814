"""What a rollout has come to: one value, kept as one JSON file, from which the proxy's configuration follows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from buildkit.declare.rollout import Rollout
from buildkit.errors import DefinitionError
from buildkit.rollout.decide import RolloutAction, RolloutDecision
from buildkit.rollout.hpa import ScaleEvent, ScaleHistory

FORMAT = 1
_KEPT = 200  # entries of the history
_ALL = 1000
_END_OF_TIME = 1 << 40  # seconds that any calendar can show


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutEntry:
    """What was done at a time (seconds since the epoch), and why; ``shares`` are what versions have since."""

    time: float
    action: str
    shares: tuple[tuple[str, int], ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionReplicas:
    """The numbers of the replicas of a version that run, and what was recommended for it."""

    version: str
    running: tuple[int, ...]
    history: ScaleHistory = field(default_factory=ScaleHistory)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """The state of a service with versions or replicas.

    ``declared`` is the split of services.toml that it began with: when that changes, it begins anew. ``since`` is when
    the present shares began; ``ended`` is whether the candidate was aborted or taken back, so that nothing promotes it.
    """

    declared: tuple[tuple[str, int], ...]
    shares: tuple[tuple[str, int], ...]
    since: float
    ended: bool = False
    replicas: tuple[VersionReplicas, ...] = ()
    history: tuple[RolloutEntry, ...] = ()

    def share(self, version: str) -> int:
        """Return how many of 1000 users a version has."""
        return dict(self.shares).get(version, 0)

    def counts_from(self, now: float) -> float:
        """Return the time from which answers count: all do if the clock was set back, which must not hide failures."""
        return self.since if self.since <= now else 0.0

    def running(self, version: str) -> tuple[int, ...]:
        """Return the numbers of the replicas of a version that run."""
        return next((one.running for one in self.replicas if one.version == version), ())

    def with_replicas(self, changed: VersionReplicas) -> RolloutState:
        """Return the state with other replicas of one version."""
        others = [one for one in self.replicas if one.version != changed.version]
        return replace(self, replicas=tuple(sorted((*others, changed), key=lambda one: one.version)))


def begin(split: tuple[tuple[str, int], ...], now: float) -> RolloutState:
    """Return the state of a service that has just been declared."""
    state = RolloutState(declared=split, shares=split, since=now)
    return _shifted(state, split, "declared", "services.toml", now)


def follow(state: RolloutState, split: tuple[tuple[str, int], ...], now: float) -> RolloutState:
    """Return the state under a declaration: it begins anew if the split is another than the one that it began with."""
    if state.declared == split:
        return state
    return replace(
        _shifted(state, split, "declared", "services.toml has another split", now), declared=split, ended=False
    )


def advance(state: RolloutState, rollout: Rollout, decision: RolloutDecision, now: float) -> RolloutState:
    """Return the state after a decision: the next step, the same, or nobody for the candidate."""
    if decision.action is RolloutAction.ABORT:
        return take_back(state, rollout, f"aborted: {decision.reason}", now)
    if decision.action is RolloutAction.PROMOTE:
        return promote(state, rollout, decision.reason, now)
    return state


def promote(state: RolloutState, rollout: Rollout, reason: str, now: float, share: int | None = None) -> RolloutState:
    """Return the state with the candidate at a share, or at its next step. Raises DefinitionError if there is none."""
    if len(rollout.ordered) != len(("control", "candidate")):
        raise DefinitionError("a promotion is between two versions", hint="split in services.toml says who gets what")
    share = find_next_step(state, rollout) if share is None else share
    if share is None:
        raise DefinitionError(f"{rollout.candidate} has all users that it may get", hint="split in services.toml")
    shares = ((rollout.control, _ALL - share), (rollout.candidate, share))
    return replace(_shifted(state, shares, "promoted", reason, now), ended=False)


def find_next_step(state: RolloutState, rollout: Rollout) -> int | None:
    """Return the share that the candidate gets next, None at the last step. Raises DefinitionError without steps."""
    if rollout.promote is None:
        raise DefinitionError("the rollout has no `promote` with steps", hint="docs/rollout.md shows one")
    share = state.share(rollout.candidate)
    return next((step for step in rollout.promote.steps if step > share), None)


def take_back(state: RolloutState, rollout: Rollout, reason: str, now: float) -> RolloutState:
    """Return the state in which the control serves everybody."""
    shares = tuple((name, _ALL if name == rollout.control else 0) for name in rollout.ordered)
    return replace(_shifted(state, shares, "back", reason, now), ended=True)


def _shifted(
    state: RolloutState, shares: tuple[tuple[str, int], ...], action: str, reason: str, now: float
) -> RolloutState:
    shares = tuple(sorted(shares))
    entry = RolloutEntry(time=now, action=action, shares=shares, reason=reason)
    return replace(state, shares=shares, since=now, history=(*state.history, entry)[-_KEPT:])


def render_state(state: RolloutState) -> str:
    """Return the state as JSON."""
    return json.dumps({"format": FORMAT, **asdict(state)}, indent=1) + "\n"


def parse_state(text: str, file: str) -> RolloutState:
    """Read what ``render_state`` wrote. Raises DefinitionError for anything else."""
    try:
        read = json.loads(text)
        if read["format"] != FORMAT:
            raise DefinitionError(f"{file}: format {read['format']} is another buildkit's", hint=f"rm {file}")
        return RolloutState(
            declared=_shares(read["declared"]),
            shares=_shares(read["shares"]),
            since=_time(read["since"]),
            ended=bool(read["ended"]),
            replicas=tuple(_replicas(item) for item in read["replicas"]),
            history=tuple(_entry(item) for item in read["history"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        hint = f"rm {file}  # the rollout then begins as services.toml declares it"
        raise DefinitionError(f"{file}: is no state of a rollout: {error}", hint=hint) from None


def _shares(items: list[Any]) -> tuple[tuple[str, int], ...]:
    shares = tuple((str(name), int(share)) for name, share in items)
    if min(share for _, share in shares) < 0 or sum(dict(shares).values()) != _ALL or len(dict(shares)) != len(shares):
        raise ValueError(f"shares must add up to {_ALL}")
    return shares


def _time(value: object) -> float:
    if isinstance(value, (int, float)) and 0 <= value < _END_OF_TIME:
        return float(value)
    raise ValueError(f"{value!r} is no time")


def _entry(item: dict[str, Any]) -> RolloutEntry:
    action, reason = str(item["action"]), str(item["reason"])
    return RolloutEntry(time=_time(item["time"]), action=action, shares=_shares(item["shares"]), reason=reason)


def _replicas(item: dict[str, Any]) -> VersionReplicas:
    recommended, done = ([_event(one) for one in item["history"][key]] for key in ("recommended", "done"))
    history = ScaleHistory(recommended=tuple(recommended), done=tuple(done))
    running = tuple(sorted({int(number) for number in item["running"]}))
    if running[:1] < (1,) and running:
        raise ValueError(f"there is no replica {running[0]}")
    return VersionReplicas(version=str(item["version"]), running=running, history=history)


def _event(item: dict[str, Any]) -> ScaleEvent:
    return ScaleEvent(time=_time(item["time"]), replicas=int(item["replicas"]))
