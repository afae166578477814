"""A service behind a proxy as the containers that it is: the proxy, which has its name, and replicas. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.proxy_settings import ProxySettings
from buildkit.declare.rollout import Rollout, Scale, Version
from buildkit.declare.services import FILE, PER_GPU, Dependency, Environment, Replica, Service
from buildkit.errors import DefinitionError, Problem
from buildkit.rollout.proxied import ProxiedService, ProxyLimits, ProxyPool, ProxyServer
from buildkit.rollout.state import RolloutState

CONFIGURATION = "/etc/haproxy/run"  # in the proxy's container
FindRequest = Callable[[Service], GpuRequest | None]
ONLY = "only"  # the pool of a service without versions
_ALL = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxiedPlan:
    """What stands behind a proxy: ``versions``, the control first, and the names of the replicas of each, by number.

    Without ``scale``, all of them run.
    """

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
        return self.scale.least if self.scale else max(len(names) for _, names in self.replicas)

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
    versions = service.rollout.running if service.rollout else (ONLY,)
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
    count = service.scale.most if service.scale else max(service.replicas, 1)
    yield from (f"{prefix}-{number}" for number in range(1, count + 1))


def expand_replicas(environment: Environment, find_request: FindRequest) -> Environment:
    """Return an environment in which each service behind a proxy is that proxy and all replicas that may ever run.

    ``find_request`` gives the GPUs that a service asks for. Raises DefinitionError if a replica would have the name of
    another service, or there are no GPUs for replicas on each, or to scale by.
    """
    for one in environment.services:
        if one.scale and "gpu" in dict(one.scale.targets) and find_request(one) is None:
            key, hint = f"services.{one.name}.scale.target.gpu", "add gpu = { count = 1 }"
            raise DefinitionError.of([Problem(file=FILE, key=key, what="the service asks for no GPU", hint=hint)])
    services = [one for service in environment.services for one in _expand(_on_each_gpu(service, find_request))]
    names = [service.name for service in services]
    for name in names:
        if names.count(name) > 1:
            what = f"is also a replica's name in {environment.name}"
            raise DefinitionError.of(
                [Problem(file=FILE, key=f"services.{name}", what=what, hint="give the service another name")]
            )
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
            gpu = _part(service.gpu, number) if service.gpu and service.gpu.apart else service.gpu
            yield replace(
                changed, name=name, ports=(), replicas=0, proxy=None, rollout=None, scale=None, gpu=gpu,
                replica=Replica(service=service.name, version=version, number=number),
            )  # fmt: skip
    needed = (Dependency(service=name, condition="healthy") for _, names in plan.replicas for name in names)
    yield Service(
        name=service.name,
        stage=service.proxy.stage,
        depends_on=tuple(needed),
        ports=service.ports,
        replicas=service.replicas,
        proxy=service.proxy,
        rollout=service.rollout,
        scale=service.scale,
    )


def count_gpus(environment: Environment, find_request: FindRequest, count: Callable[[], int]) -> Environment:
    """Return an environment whose services with a replica on each of all GPUs ask for as many as ``count`` finds."""

    def counted(service: Service) -> Service:
        request = find_request(service)
        if service.replicas != PER_GPU or request is None or not request.every:
            return service
        return replace(service, gpu=replace(request, count=max(count(), 1)))

    return replace(environment, services=tuple(map(counted, environment.services)))


def _on_each_gpu(service: Service, find_request: FindRequest) -> Service:
    """Return a service with the number of its replicas; those on one GPU each have the request of all."""
    if service.replicas != PER_GPU:
        return service
    request, key = find_request(service), f"services.{service.name}.replicas"
    if request is None:
        raise DefinitionError.of([Problem(file=FILE, key=key, what="asks for no GPU", hint="add gpu = { count = 2 }")])
    if request.every:
        what, hint = "the number of GPUs is only known on the host that starts it", "add gpu = { count = 2 }"
        raise DefinitionError.of([Problem(file=FILE, key=key, what=what, hint=hint)])
    count = len(request.devices) or request.count
    return replace(service, replicas=count, gpu=replace(request, apart=service.name))


def _part(request: GpuRequest, number: int) -> GpuRequest:
    """Return what a replica asks for if all share what the service does."""
    return replace(request, count=1, devices=request.devices[number - 1 : number])


def _with_version(service: Service, version: Version | None) -> Service:
    """Return a service as a version has it; an image is run as the stage is, whose earlier build it is."""
    if version is None:
        return service
    return replace(
        service,
        stage=version.stage or service.stage,
        image=version.image or ("" if version.stage else service.image),
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
