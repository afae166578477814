"""Shift users of a running service between its versions: by hand, or when measurements say so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from buildkit.declare.rollout import Rollout
from buildkit.errors import BuildError, DefinitionError
from buildkit.rollout.decide import RolloutAction, RolloutDecision, decide, measure
from buildkit.rollout.haproxy_answers import SHOW_ANSWERS, PoolLoad, parse_answers
from buildkit.rollout.state import RolloutState, advance, find_next_step, promote, take_back
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.services.proxy import LiveProxy, apply_state, target_of
from buildkit.services.rollout_files import changing, find_proxies, load_state, plan_of

_BOUND_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """A version as it serves: its share of users in per cent, replicas, and what it did since the share began.

    ``p95_ms`` is None before the first answer.
    """

    version: str
    role: str
    share: float
    healthy: int
    replicas: int
    in_flight: int
    queued: int
    requests: int
    failed: int
    p95_ms: float | None


@dataclass(slots=True, kw_only=True)
class RunningRollout:
    """A service whose versions run, through its proxy; ``now`` gives seconds since the epoch."""

    service: RunningService
    proxy: LiveProxy
    now: Callable[[], float] = field(default=time.time)

    @classmethod
    def of(cls, service: RunningService) -> RunningRollout:
        """Return the rollout of a service in its containers."""
        return cls(service=service, proxy=LiveProxy.of(service))

    @property
    def rollout(self) -> Rollout:
        """The declaration. Raises DefinitionError for a service without versions."""
        if (declared := plan_of(self.service).rollout) is None:
            raise DefinitionError(
                f"{self.service.name} has no versions", hint=f"add [services.{self.service.name}.rollout]"
            )
        return declared

    def load(self) -> RolloutState:
        """Return the present state. Raises DefinitionError for a file that is none."""
        return load_state(self.service, self.now)

    def status(self) -> tuple[VersionStatus, ...]:
        """Return what each version does. Raises BuildError if the proxy does not run."""
        state, plan = self.load(), plan_of(self.service)
        load, answers = self.proxy.load(), list(parse_answers(self.proxy.ask(SHOW_ANSWERS)))
        found = []
        for version in plan.versions:
            pool = load.pools.get(version, PoolLoad(healthy=0, in_flight=0, queued=0, requests=0))
            measured = measure(answers, version, state.since)
            p95 = measured.estimate("p95", _BOUND_CONFIDENCE).value if measured.times else None
            found.append(
                VersionStatus(
                    version=version,
                    role=_role(version, plan.rollout),
                    share=state.share(version) / 10,
                    healthy=pool.healthy,
                    replicas=len(state.running(version)),
                    in_flight=pool.in_flight,
                    queued=pool.queued,
                    requests=measured.requests,
                    failed=measured.failed,
                    p95_ms=None if p95 is None else round(p95 * 1000, 1),
                )
            )
        return tuple(found)

    def judge(self) -> RolloutDecision:
        """Return what follows for the candidate. Raises BuildError if the proxy does not run."""
        rollout, state = self.rollout, self.load()
        if rollout.promote is None:
            return RolloutDecision(action=RolloutAction.HOLD, reason="services.toml declares no `promote`")
        if state.ended:
            return RolloutDecision(
                action=RolloutAction.HOLD, reason="the candidate was taken back; nox -s rollout -- promote resumes"
            )
        if not self._healthy(rollout.candidate):
            return RolloutDecision(action=RolloutAction.ABORT, reason=f"no replica of {rollout.candidate} is healthy")
        answers = list(parse_answers(self.proxy.ask(SHOW_ANSWERS)))
        since = state.counts_from(self.now())
        candidate, control = (measure(answers, name, since) for name in (rollout.candidate, rollout.control))
        decision = decide(
            rollout.promote.checks,
            candidate,
            control,
            waited=self.now() - state.since,
            after=rollout.promote.seconds,
        )
        if decision.action is RolloutAction.PROMOTE and find_next_step(state, rollout) is None:
            return RolloutDecision(action=RolloutAction.HOLD, reason=f"that was the last step: {decision.reason}")
        return decision

    def _healthy(self, version: str) -> bool:
        pool = self.proxy.load().pools.get(version)
        return pool is not None and pool.healthy > 0

    def step(self) -> tuple[RolloutState, RolloutDecision]:
        """Judge, and do what follows; return the state after it."""
        decision = self.judge()
        if decision.action is RolloutAction.HOLD:
            return self.load(), decision
        return self._change(lambda state: advance(state, self.rollout, decision, self.now())), decision

    def promote(self, share: int | None = None) -> RolloutState:
        """Give the candidate its next step, or a share. Raises BuildError if none of its replicas is healthy."""
        rollout = self.rollout
        if not self._healthy(rollout.candidate):
            raise BuildError(
                f"no replica of {rollout.candidate} is healthy: it gets no users", hint="nox -s up starts it"
            )
        return self._change(lambda state: promote(state, rollout, "by hand", self.now(), share))

    def back(self) -> RolloutState:
        """Give the control all users. It needs no build and no start: the control has run all the time."""
        return self._change(lambda state: take_back(state, self.rollout, "by hand", self.now()))

    def _change(self, change: Callable[[RolloutState], RolloutState]) -> RolloutState:
        """Change the state; it is written before the proxy learns it, so that a restart in between loses nothing."""
        with changing(self.service) as write:
            state = change(self.load())
            write(state)
            apply_state(self.proxy, target_of(self.service, state))
        return state


def _role(version: str, rollout: Rollout | None) -> str:
    if rollout is None or version == rollout.control:
        return "control"
    return "shadow" if version == rollout.shadow else "candidate"


def find_rollout(environment: RunningEnvironment, name: str) -> RunningRollout:
    """Return the rollout of a service; without a name, of the only one. Raises DefinitionError."""
    proxies = {proxy.name: proxy for proxy in find_proxies(environment) if plan_of(proxy).rollout}
    return RunningRollout.of(choose_service(proxies, name, environment, "rollout"))


def choose_service(
    proxies: dict[str, RunningService], name: str, environment: RunningEnvironment, table: str
) -> RunningService:
    """Return a service that has a table; without a name, the only one. Raises DefinitionError."""
    if name in proxies:
        return proxies[name]
    if name:
        environment.get(name)
        raise DefinitionError(f"{name} has no `{table}`", hint=f"add [services.{name}.{table}]; docs/rollout.md")
    if len(proxies) != 1:
        if not proxies:
            hint = f"add [services.NAME.{table}]; docs/rollout.md shows it"
            raise DefinitionError(f"no service of {environment.name} has `{table}`", hint=hint)
        raise DefinitionError(f"which service? {len(proxies)} have `{table}`", hint=f"name one: {', '.join(proxies)}")
    return next(iter(proxies.values()))
