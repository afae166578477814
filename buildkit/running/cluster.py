"""An environment as a cluster runs it: no proxy of ours, and a Deployment for each version, not replicas. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from buildkit.declare.ports import PublishedPort
from buildkit.rollout.manifests import RoutedService
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.gpu_nodes import gpu_limits
from buildkit.running.replicas import ONLY, ProxiedPlan

Shares = tuple[tuple[str, int], ...]


def in_cluster(environment: RunningEnvironment) -> RunningEnvironment:
    """Return an environment without proxies, in which the first replica of each version stands for all."""
    return replace(environment, services=tuple(_in_cluster(environment)))


def _in_cluster(environment: RunningEnvironment) -> Iterator[RunningService]:
    plans = {service.name: service.proxied for service in environment.services if service.proxied}
    for service in environment.services:
        if service.proxied:
            continue
        if service.replica is None:
            yield service
        elif service.replica.number == 1 and (plan := plans.get(service.replica.service)):
            name = _name(plan, service.replica.version)
            port = PublishedPort(number=plan.port, host=0)
            prefix = service.container.name.removesuffix(service.name)
            container = replace(service.container, name=f"{prefix}{name}", ports=(port,))
            yield replace(service, name=name, container=container)


def _name(plan: ProxiedPlan, version: str) -> str:
    return plan.service if version == ONLY and plan.rollout is None else f"{plan.service}-{version}"


def route_service(environment: RunningEnvironment, service: RunningService, shares: Shares = ()) -> RoutedService:
    """Return a service behind a proxy as a cluster routes it; ``shares`` are those of its state, or as declared."""
    plan = service.proxied
    assert plan is not None  # noqa: S101 - callers choose proxies
    known = dict(shares or plan.split)
    first = {version: environment.get(plan.replica(version, 1)).container for version in plan.versions}
    return RoutedService(
        name=plan.service,
        workload=service.container.name,
        port=plan.port,
        shares=tuple((version, known[version]) for version in plan.versions if version in known)
        if plan.rollout
        else (),
        shadow=plan.rollout.shadow if plan.rollout else "",
        scale=plan.scale,
        images=tuple((version, container.image) for version, container in first.items()),
        gpus=sum(gpu_limits(first[plan.versions[0]]).values()),
    )


def find_routed(environment: RunningEnvironment) -> tuple[RoutedService, ...]:
    """Return the services of an environment that have versions or replicas."""
    return tuple(route_service(environment, service) for service in environment.services if service.proxied)
