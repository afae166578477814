"""Scale the versions of a service on one host, as Kubernetes' HPA would: start, drain and end replicas.

What runs is found by labels, what should run is in the state, and what the proxy does is asked: each round brings the
three together, so a scaler that was killed, or a proxy that was restarted, leaves nothing behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from buildkit.declare.rollout import Scale, ScaleRate
from buildkit.errors import BuildError, BuildkitError
from buildkit.events import Emit, Note
from buildkit.rollout.haproxy_answers import ProxyLoad
from buildkit.rollout.hpa import (
    LoadSample,
    ReplicaBounds,
    ScaleHistory,
    ScalingPolicy,
    ScalingRules,
    next_replicas,
    recommend,
)
from buildkit.rollout.state import RolloutState, VersionReplicas
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.flags import ContainerSpec
from buildkit.running.gpu_nodes import gpu_limits
from buildkit.services.host_limits import HostCapacity, count_bearable, find_capacity
from buildkit.services.labels import environment_labels
from buildkit.services.load import CpuMeter, GpuMeter, cpu_sample, gpu_sample, metric_samples, proxy_samples
from buildkit.services.proxy import LiveProxy, apply_state, drain, target_of, wait_until_seen
from buildkit.services.replicas import with_fewest
from buildkit.services.rollout_files import changing, load_state, plan_of
from buildkit.services.start import StartOptions, start_environment
from buildkit.tools import podman
from buildkit.tools.haproxy import fetch_page
from buildkit.tools.podman_objects import list_containers

METRICS_PATH = "/metrics"


def make_bounds(scale: Scale, most: int) -> ReplicaBounds:
    """Return the bounds of HPA for a declaration, on a host that bears ``most`` replicas."""
    return ReplicaBounds(
        least=scale.least,
        most=max(min(scale.most, most), scale.least),
        up=_rules(scale.up, scale.tolerance),
        down=_rules(scale.down, scale.tolerance),
    )


def _rules(rate: ScaleRate, tolerance: float) -> ScalingRules:
    kinds = (("Pods", rate.replicas), ("Percent", rate.percent))
    policies = (ScalingPolicy(kind=kind, value=value, period=rate.period) for kind, value in kinds if value)
    return ScalingRules(
        window=rate.window, policies=tuple(policies), select=rate.select.capitalize(), tolerance=tolerance
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleStep:
    """What a round found and did for a version: replicas before and after, and why not as many as wanted."""

    version: str
    before: int
    wanted: int
    after: int
    limit: str = ""


@dataclass(slots=True, kw_only=True)
class Scaler:
    """Scales one service; ``now`` gives seconds since the epoch, so that history outlives this process.

    ``gpus`` are asked only if their use is a target.
    """

    environment: RunningEnvironment
    service: RunningService
    options: StartOptions
    emit: Emit
    proxy: LiveProxy
    now: Callable[[], float] = field(default=time.time)
    sleep: Callable[[float], None] = field(default=time.sleep)
    capacity: HostCapacity = field(default_factory=find_capacity)
    gpus: GpuMeter = field(default_factory=GpuMeter)
    _cpu: CpuMeter = field(default_factory=CpuMeter)
    _blind: bool = False

    def round(self, looks: int, pause: float) -> tuple[ScaleStep, ...]:
        """Look at the load several times, a ``pause`` apart, and follow it.

        Without an answer of the proxy nothing is changed: no data is no reason. Raises BuildError then.
        """
        loads: list[ProxyLoad] = []
        self.gpus.begin()
        for number in range(looks):
            if number:
                self.sleep(pause)
            loads.append(self.proxy.load())
            if self.follows_gpus:
                self.gpus.look()
        with changing(self.service) as write:
            state = self._reconcile(load_state(self.service, self.now), write)
            steps = []
            for version in plan_of(self.service).versions:
                state, step = self._scale(version, loads, state, write)
                steps.append(step)
        return tuple(steps)

    def _reconcile(self, state: RolloutState, write: Callable[[RolloutState], str]) -> RolloutState:
        """Start replicas that have ended, end those that nobody wants, and bring the proxy to the state."""
        plan = plan_of(self.service)
        state = with_fewest(plan, state)
        running = self._running()
        wanted = {name: (version, n) for version, names in plan.replicas for n, name in enumerate(names, 1)}
        missing = [name for name, (version, n) in wanted.items() if n in state.running(version) and name not in running]
        if missing:
            self._start(missing)
        write(state)
        apply_state(self.proxy, target_of(self.service, state))
        for name, (version, number) in wanted.items():
            if name in running and number not in state.running(version):
                self._end(version, name)
        return state

    def _running(self) -> frozenset[str]:
        """Return the names of the replicas whose containers run."""
        containers = {
            one.name for one in list_containers(environment_labels(self.environment)) if one.state == "running"
        }
        ours = (one for one in self.environment.services if one.replica and one.replica.service == self.service.name)
        return frozenset(one.name for one in ours if one.container.name in containers)

    def _scale(
        self, version: str, loads: list[ProxyLoad], state: RolloutState, write: Callable[[RolloutState], str]
    ) -> tuple[RolloutState, ScaleStep]:
        plan, scale = plan_of(self.service), self._declared
        running = state.running(version)
        bearable, short_of = self._bearable(version, state)
        bounds = make_bounds(scale, bearable)
        wanted = recommend(len(running), self._samples(version, loads, running), bounds)
        known = next(one for one in state.replicas if one.version == version)
        count, history = next_replicas(len(running), wanted, known.history, bounds, self.now())
        after, limit = self._apply(version, running, count), ""
        if wanted > bearable and scale.most > bearable:
            limit = f"this host has not enough {short_of} for more"
        elif len(after) < count:
            limit = "a replica did not start"
        names = dict(plan.replicas)[version]
        state = state.with_replicas(
            VersionReplicas(version=version, running=after, history=_settled(history, after, count))
        )
        write(state)
        apply_state(self.proxy, target_of(self.service, state))
        for number in sorted(set(after) - set(running)):
            if not wait_until_seen(self.proxy, names[number - 1], self.sleep):
                self.emit(Note(text=f"{names[number - 1]} is healthy, but the proxy's check of it fails", warning=True))
        for number in sorted(set(running) - set(after)):
            self._end(version, names[number - 1])
        return state, ScaleStep(version=version, before=len(running), wanted=wanted, after=len(after), limit=limit)

    @property
    def follows_gpus(self) -> bool:
        """Whether the use of GPUs is a target."""
        return "gpu" in dict(self._declared.targets)

    @property
    def _declared(self) -> Scale:
        scale = plan_of(self.service).scale
        assert scale is not None  # noqa: S101 - the command chooses services that have it
        return scale

    def _bearable(self, version: str, state: RolloutState) -> tuple[int, str]:
        """Return how many replicas of a version the host bears beside everything else of the environment."""
        plan = plan_of(self.service)
        own = set(dict(plan.replicas)[version])
        idle = {name for one, names in plan.replicas for n, name in enumerate(names, 1) if n not in state.running(one)}
        others = [one.container.running for one in self.environment.services if one.name not in own | idle]
        return count_bearable(self.environment.get(plan.replica(version, 1)).container.running, others, self.capacity)

    def _samples(self, version: str, loads: list[ProxyLoad], running: tuple[int, ...]) -> Iterator[LoadSample]:
        plan, scale = plan_of(self.service), self._declared
        yield from proxy_samples(scale, loads, version)
        replicas = [self.environment.get(plan.replica(version, number)).container for number in running]
        for name, target in scale.targets:
            if name == "cpu" and replicas:
                used = self._cpu.measure(one.name for one in replicas)
                yield from cpu_sample(target, used, replicas[0].running.cpus or float(os.cpu_count() or 1))
            if name == "gpu" and replicas:
                yield from self._sample_gpus(target, replicas)
        if any(name.startswith("metric:") for name, _ in scale.targets):
            asked = self.service.container.name
            pages = [fetch_page(asked, f"{one.address}:{plan.port}", METRICS_PATH) for one in replicas]
            yield from metric_samples(scale, pages)

    def _sample_gpus(self, target: float, replicas: Sequence[ContainerSpec]) -> list[LoadSample]:
        used = self.gpus.read([one.name for one in replicas])
        if used is None and not self._blind:
            what = f"{self.service.name}: the driver tells nothing of its GPUs: `gpu` is not followed"
            self.emit(Note(text=what, warning=True))
        self._blind = used is None
        return gpu_sample(target, used, sum(gpu_limits(replicas[0]).values()))

    def _apply(self, version: str, running: tuple[int, ...], count: int) -> tuple[int, ...]:
        """Start the replicas that are to come; return which run then, without those that are to go."""
        names = dict(plan_of(self.service).replicas)[version]
        free = [number for number in range(1, len(names) + 1) if number not in running]
        new = free[: max(count - len(running), 0)]
        kept = running[:count] if count < len(running) else running
        for number in new:
            try:
                self._start([names[number - 1]])
            except BuildkitError as error:
                self.emit(Note(text=f"{names[number - 1]} did not start: {error.message}", warning=True))
                return kept
            kept = tuple(sorted((*kept, number)))
        return kept

    def _start(self, names: list[str]) -> None:
        """Start replicas, and wait until their health checks pass. Raises BuildError."""
        services = tuple(one for one in self.environment.services if one.name in names)
        used = {secret for service in services for secret in service.secrets}
        secrets = tuple(one for one in self.environment.secrets if one.name in used)
        start_environment(replace(self.environment, services=services, secrets=secrets), self.options, self.emit)

    def _end(self, version: str, name: str) -> None:
        """Drain a replica that the state no longer has, then end it: it answers what it was asked."""
        drain(self.proxy, version, name, plan_of(self.service).settings.answer_seconds, self.sleep)
        container = self.environment.get(name).container
        podman.remove(container.name, container.running.stop_seconds)


def _settled(history: ScaleHistory, after: tuple[int, ...], count: int) -> ScaleHistory:
    """Return a history in which only what was done counts: a start that failed is tried again at once."""
    return history if len(after) == count else replace(history, done=history.done[:-1])


def watch_scale(scaler: Scaler, looks: int, pause: float, report: Callable[[tuple[ScaleStep, ...]], None]) -> None:
    """Scale until interrupted. A proxy that is gone is reported once; nothing changes until it is there again."""
    silent = ""
    while True:
        try:
            steps = scaler.round(looks, pause)
        except BuildError as error:
            if error.message != silent:
                scaler.emit(Note(text=f"{error.message}: nothing is changed", warning=True))
            silent = error.message
            steps = ()
        else:
            silent = ""
        report(steps)
        scaler.sleep(pause)
