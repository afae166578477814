"""Which replicas of an environment run, and its proxies when `up` starts or changes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from buildkit.events import Emit, Note, ignore_event
from buildkit.rollout.state import RolloutState, VersionReplicas
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.replicas import ProxiedPlan, keep_running
from buildkit.services.proxy import LiveProxy, apply_state, configure_anew, target_of
from buildkit.services.rollout_files import changing, find_proxies, load_state, plan_of


def choose_replicas(environment: RunningEnvironment) -> RunningEnvironment:
    """Return an environment less the replicas that do not run now: at first, the fewest of each version do."""
    away: set[str] = set()
    for proxy in find_proxies(environment):
        plan = plan_of(proxy)
        names = {name for _, version in plan.replicas for name in version}
        away |= names - keep_running(plan, with_fewest(plan, load_state(proxy)))
    kept = (one for one in environment.services if one.name not in away)
    return replace(environment, services=tuple(_without_dependencies(one, away) for one in kept))


def _without_dependencies(service: RunningService, away: set[str]) -> RunningService:
    waits = tuple(one for one in service.depends_on if one.service not in away)
    return replace(service, depends_on=waits)


def with_fewest(plan: ProxiedPlan, state: RolloutState) -> RolloutState:
    """Return a state in which each version has as many replicas as it must have, and none that does not exist."""
    for version, names in plan.replicas:
        known = next((one for one in state.replicas if one.version == version), None)
        running = [number for number in (known.running if known else ()) if number <= len(names)]
        free = (number for number in range(1, len(names) + 1) if number not in running)
        while len(running) < plan.least:
            running.append(next(free))
        kept = replace(known, running=tuple(sorted(running))) if known else None
        state = state.with_replicas(kept or VersionReplicas(version=version, running=tuple(sorted(running))))
    return replace(state, replicas=tuple(one for one in state.replicas if one.version in plan.versions))


def write_proxy(proxy: RunningService, emit: Emit) -> None:
    """Write the configuration of a proxy that is about to start, and say what it will not do."""
    for text in shadow_notes(proxy):
        emit(Note(text=text, warning=True))
    with changing(proxy) as write:
        write(with_fewest(plan_of(proxy), load_state(proxy)))


def shadow_notes(proxy: RunningService) -> Iterator[str]:
    """Yield what the proxy of a service does not do for a shadow."""
    rollout = plan_of(proxy).rollout
    if rollout and rollout.shadow:
        what = f"{proxy.name}: {rollout.shadow} gets no copies of requests, for HAProxy sends none"
        yield f"{what}; nox -s rollout -- nginx prints a configuration that does"


def write_proxies(environment: RunningEnvironment) -> None:
    """Write the configurations of all proxies, for a file that starts them without `up`."""
    for proxy in find_proxies(environment):
        write_proxy(proxy, ignore_event)


def follow_proxy(proxy: RunningService) -> None:
    """Bring a proxy that ran already to what is declared now. Raises BuildError."""
    with changing(proxy) as write:
        state = with_fewest(plan_of(proxy), load_state(proxy))
        text = write(state)
        live = LiveProxy.of(proxy)
        configure_anew(text, live.ask, live.reload)
        apply_state(live, target_of(proxy, state))


def forget_replicas(environment: RunningEnvironment) -> None:
    """Write down that nothing runs: the next start begins with the fewest replicas, and the split that there is."""
    for proxy in find_proxies(environment):
        with changing(proxy) as write:
            write(replace(load_state(proxy), replicas=()))
