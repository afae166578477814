"""A service behind a proxy as the containers that it is: the proxy, which has its name, and replicas. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from buildkit.declare.proxy_settings import ProxySettings
from buildkit.declare.rollout import Rollout, Scale, Version
from buildkit.declare.services import FILE, Dependency, Environment, Replica, Service
from buildkit.errors import DefinitionError
from buildkit.rollout.proxied import ProxiedService, ProxyLimits, ProxyPool, ProxyServer
from buildkit.rollout.state import RolloutState

CONFIGURATION = "/etc/haproxy/run"  # in the proxy's container
ONLY = "only"  # the pool of a service without versions
_ALL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedPlan:
    """What stands behind a proxy: ``versions``, the control first, and the names of the replicas of each, by number."""

    service: str
    port: int
    settings: ProxySettings
    versions: tuple[str, ...]
    replicas: tuple[tuple[str, tuple[str, ...]], ...]
    rollout: Rollout | None = None
    scale: Scale | None = None

    @property
    def split(self) -> tuple[tuple[str, int], ...]:
        """The declared shares of 1000 users."""
        return self.rollout.split if self.rollout else ((ONLY, _ALL),)

    @property
    def least(self) -> int:
        """The replicas of each version that run at first."""
        return self.scale.least if self.scale else 1

    def replica(self, version: str, number: int) -> str:
        """Return the name of a replica."""
        return dict(self.replicas)[version][number - 1]

    def proxied(self, state: RolloutState, addresses: Mapping[str, str]) -> ProxiedService:
        """Return what the proxy is to do in a state."""
        pools = (
            ProxyPool(
                name=version,
                servers=tuple(
                    ProxyServer(
                        name=name, address=addresses[name], port=self.port, enabled=number in state.running(version)
                    )
                    for number, name in enumerate(dict(self.replicas)[version], 1)
                ),
                share=state.share(version),
            )
            for version in self.versions
        )
        settings = self.settings
        return ProxiedService(
            name=self.service,
            listen=str(self.port),
            pools=tuple(pools),
            by=self.rollout.by if self.rollout else "address",
            salt=self.service,
            probe=settings.probe,
            limits=ProxyLimits(
                at_once=settings.at_once,
                queue_seconds=settings.queue_seconds,
                answer_seconds=settings.answer_seconds,
            ),
        )


def plan_proxied(service: Service) -> ProxiedPlan:
    """Return what stands behind the proxy of a declared service."""
    assert service.proxy is not None  # noqa: S101 - the caller has looked
    versions = service.rollout.ordered if service.rollout else (ONLY,)
    return ProxiedPlan(
        service=service.name,
        port=service.ports[0].number,
        settings=service.proxy,
        versions=versions,
        replicas=tuple((version, tuple(_names(service, version))) for version in versions),
        rollout=service.rollout,
        scale=service.scale,
    )


def _names(service: Service, version: str) -> Iterator[str]:
    prefix = service.name if version == ONLY and not service.rollout else f"{service.name}-{version}"
    yield from (f"{prefix}-{number}" for number in range(1, (service.scale.most if service.scale else 1) + 1))


def expand_replicas(environment: Environment) -> Environment:
    """Return an environment in which each service behind a proxy is that proxy and all replicas that may ever run.

    Raises DefinitionError if a replica would have the name of another service.
    """
    services = [one for service in environment.services for one in _expand(service)]
    names = [service.name for service in services]
    for name in names:
        if names.count(name) > 1:
            raise DefinitionError(f"{FILE}: two services or replicas of {environment.name} have the name {name}")
    return replace(environment, services=tuple(services))


def _expand(service: Service) -> Iterator[Service]:
    if service.proxy is None:
        yield service
        return
    plan = plan_proxied(service)
    known = {version.name: version for version in service.rollout.versions} if service.rollout else {}
    for version, names in plan.replicas:
        changed = _with_version(service, known.get(version))
        for number, name in enumerate(names, 1):
            yield replace(
                changed, name=name, ports=(), proxy=None, rollout=None, scale=None,
                replica=Replica(service=service.name, version=version, number=number),
            )  # fmt: skip
    needed = (Dependency(service=name, condition="healthy") for _, names in plan.replicas for name in names)
    yield Service(
        name=service.name,
        stage=service.proxy.stage,
        depends_on=tuple(needed),
        ports=service.ports,
        proxy=service.proxy,
        rollout=service.rollout,
        scale=service.scale,
    )


def _with_version(service: Service, version: Version | None) -> Service:
    if version is None:
        return service
    image = version.image or ("" if version.stage else service.image)
    return replace(
        service,
        stage="" if image else version.stage or service.stage,
        image=image,
        command=version.command or service.command,
        env=tuple(sorted((dict(service.env) | dict(version.env)).items())),
    )


def keep_running(plan: ProxiedPlan, state: RolloutState) -> frozenset[str]:
    """Return the names of the replicas that run in a state."""
    return frozenset(
        name
        for version, names in plan.replicas
        for number, name in enumerate(names, 1)
        if number in state.running(version)
    )
