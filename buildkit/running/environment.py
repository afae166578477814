"""An environment as it runs: its services in the order of their start, with containers, names and addresses. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from buildkit.declare.gpu_request import NO_GPU, GpuRequest
from buildkit.declare.nim_settings import Nim
from buildkit.declare.observe_settings import Metrics
from buildkit.declare.services import (
    FILE,
    Dependency,
    Environment,
    Reload,
    Replica,
    Service,
    Services,
    ServiceSecret,
    Watch,
)
from buildkit.declare.stage import Running
from buildkit.errors import DefinitionError, Problem
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import BindMount, MemoryVolume, SecretMount, ServiceNetwork, VolumeMount
from buildkit.running.nim import with_nim
from buildkit.running.replicas import CONFIGURATION, ProxiedPlan, expand_replicas, plan_proxied

DescribeStage = Callable[[str], ContainerSpec]
_FIRST_HOST = 2  # the first address is the bridge's


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSecret:
    """A secret by podman's name, and its source."""

    name: str
    source: ServiceSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """A service of an environment: its container, what it waits for, and what changes of files do.

    ``image`` is empty for a ``stage`` of this project. ``volumes`` and ``secrets`` are podman's names. It starts anew
    with every service that it is ``bound_to``: it would be of no use with another one.
    """

    name: str
    container: ContainerSpec
    stage: str = ""
    image: str = ""
    depends_on: tuple[Dependency, ...] = ()
    bound_to: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    watch: tuple[Watch, ...] = ()
    reload: Reload = field(default_factory=Reload)
    proxied: ProxiedPlan | None = None
    replica: Replica | None = None
    nim: Nim | None = None
    metrics: Metrics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEnvironment:
    """Services that run together, each after those that it depends on.

    Names in podman are ``PROJECT-NAME`` for the network, with ``-SERVICE``, ``-VOLUME`` or ``-SECRET`` behind it for
    the others. ``outgoing`` is the network of services that may reach other hosts, None if no service may.
    ``owned`` are those of its volumes that have an owner from the start. ``joined`` is an environment whose network a
    service of this one joins, to watch it.
    """

    project: str
    name: str
    services: tuple[RunningService, ...]
    network: ServiceNetwork
    outgoing: ServiceNetwork | None = None
    secrets: tuple[NamedSecret, ...] = ()
    volumes: tuple[str, ...] = ()
    owned: tuple[VolumeMount, ...] = ()
    memory: tuple[MemoryVolume, ...] = ()
    joined: RunningEnvironment | None = None

    @property
    def networks(self) -> tuple[ServiceNetwork, ...]:
        """The networks that it needs."""
        return (self.network, self.outgoing) if self.outgoing else (self.network,)

    def volume(self, name: str) -> VolumeMount:
        """Return a volume by podman's name, with its owner and size if they are known."""
        return next((one for one in self.owned if one.volume == name), VolumeMount(volume=name, target=""))

    @property
    def jobs(self) -> frozenset[str]:
        """The services on whose end others wait: they run once, and no health check counts."""
        waited = (one for service in self.services for one in service.depends_on)
        return frozenset(one.service for one in waited if one.condition == "completed")

    def get(self, name: str) -> RunningService:
        """Return a service. Raises DefinitionError, with the names that there are."""
        for service in self.services:
            if service.name == name:
                return service
        names = ", ".join(service.name for service in self.services if service.replica is None)
        raise DefinitionError(f"there is no service `{name}` in {self.name}", hint=f"services are {names}")


def make_environment(
    services: Services, name: str, describe: DescribeStage, *, project: str, state: str = "."
) -> RunningEnvironment:
    """Return an environment of ``services.toml``; ``describe`` gives the container of a stage.

    ``state`` is the folder in which the configurations of proxies lie. All replicas that may ever run are among the
    services.
    Raises DefinitionError if there is no such environment, or for what the containers of its services contradict.
    """
    environment = expand_replicas(services.environment(name), lambda one: find_request(one, describe))
    environment = replace(environment, services=tuple(map(with_nim, environment.services)))
    prefix = f"{project}-{name}"
    ordered = tuple(_in_order({service.name: service for service in environment.services}))
    network = _network(prefix, environment)
    containers = {service.name: _container(service, prefix, describe, state) for service in ordered}
    if problems := [problem for service in ordered for problem in _contradictions(service, containers, name)]:
        raise DefinitionError.of(problems)
    reaches_out = any(container.running.outgoing for container in containers.values())
    outgoing = ServiceNetwork(name=f"{prefix}-outgoing", subnet="", closed=False) if reaches_out else None
    used = {secret for service in ordered for secret in (*service.secrets, *dict(service.secret_variables).values())}
    running = tuple(_running(service, containers[service.name], (network, outgoing)) for service in ordered)
    return RunningEnvironment(
        project=project,
        name=name,
        services=running,
        network=network,
        outgoing=outgoing,
        secrets=tuple(
            NamedSecret(name=f"{prefix}-{one.name}", source=one) for one in services.secrets if one.name in used
        ),
        volumes=tuple(sorted({volume for service in running for volume in service.volumes})),
        owned=tuple(_owned(containers.values())),
    )


def _owned(containers: Iterable[ContainerSpec]) -> Iterator[VolumeMount]:
    for container in containers:
        yield from (mount for mount in container.mounts if isinstance(mount, VolumeMount) and mount.owner)


def find_request(service: Service, describe: DescribeStage) -> GpuRequest | None:
    """Return the GPUs that a service asks for, by itself or by its stage."""
    found = service.gpu or (describe(service.stage).gpu if service.stage else None)
    return None if found == NO_GPU else found


def _in_order(services: Mapping[str, Service]) -> Iterator[Service]:
    """Yield each service after those that it depends on; there is no cycle."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[Service]:
        if name not in done:
            done.add(name)
            for dependency in services[name].depends_on:
                yield from visit(dependency.service)
            yield services[name]

    for name in sorted(services):
        yield from visit(name)


def _network(prefix: str, environment: Environment) -> ServiceNetwork:
    """Return the network, with an address for each service that depends on its name, not on what else there is."""
    digest = hashlib.sha256(prefix.encode()).digest()
    subnet = ipaddress.IPv4Network(environment.subnet or f"10.{90 + digest[0] % 160}.{digest[1]}.0/24")
    free = subnet.num_addresses - _FIRST_HOST - 1  # the last is broadcast
    if len(environment.services) > free - 1:
        what = f"{subnet} has {free - 1} addresses for services and replicas, and {len(environment.services)} need one"
        raise DefinitionError(f"{FILE}: {environment.name}: {what}", hint="name a larger `subnet`")
    taken = {free - 1: ""}  # the address of a guest
    for service in sorted(environment.services, key=lambda one: one.replica is not None):  # replicas move nobody
        number = int.from_bytes(hashlib.sha256(service.name.encode()).digest()[:4], "big") % free
        while number in taken:
            number = (number + 1) % free
        taken[number] = service.name
    hosts = sorted((name, str(subnet[number + _FIRST_HOST])) for number, name in taken.items() if name)
    unnamed = {service.name for service in environment.services if service.replica}
    return ServiceNetwork(
        name=prefix,
        subnet=str(subnet),
        closed=True,
        hosts=tuple(pair for pair in hosts if pair[0] not in unnamed),
        replicas=tuple(pair for pair in hosts if pair[0] in unnamed),
    )


def _container(service: Service, prefix: str, describe: DescribeStage, state: str) -> ContainerSpec:
    """Return the container of a service before it joins networks."""
    base = describe(service.stage) if service.stage else _image_container(service.image)
    if service.image:
        base = replace(base, image=service.image)
    running = replace(base.running, **dict(service.resources))
    if service.metrics:
        running = replace(running, metrics=f"{service.metrics.port}{service.metrics.path}")
    user = service.user or base.user
    owner = (base.owner if user == base.user else None) or _numbers(user)
    gpu = service.gpu or base.gpu
    return replace(
        base,
        name=f"{prefix}-{service.name}",
        hostname=service.name,
        running=running,
        user=user,
        owner=owner,
        ports=service.ports,
        health=service.health or base.health,
        seccomp=f"{prefix}.seccomp.json" if running.system_calls == "service" else "",
        command=service.command,
        env=service.env,
        mounts=tuple(_mounts(service, prefix, state, owner)),
        secrets=tuple(_secrets(service, prefix, owner)),
        exceptions=tuple(sorted(one.allow for one in service.exceptions)),
        gpu=None if gpu == NO_GPU else gpu,
    )


def _secrets(service: Service, prefix: str, owner: tuple[int, int] | None) -> Iterator[SecretMount]:
    for name in service.secrets:
        yield SecretMount(name=name, secret=f"{prefix}-{name}", owner=owner)
    for variable, name in service.secret_variables:
        yield SecretMount(name=name, secret=f"{prefix}-{name}", variable=variable)


def _mounts(
    service: Service, prefix: str, state: str, owner: tuple[int, int] | None
) -> Iterator[VolumeMount | BindMount]:
    for volume in service.volumes:
        owned = owner if volume.owned else None
        yield VolumeMount(volume=f"{prefix}-{volume.name}", target=volume.target, owner=owned, size=volume.size)
    if service.proxy:  # a folder, for a file that is replaced would keep its old content in there
        yield BindMount(source=f"{state}/proxies/{prefix}-{service.name}/run", target=CONFIGURATION)


def _image_container(image: str) -> ContainerSpec:
    return ContainerSpec(image=image, name="", running=Running())


def _numbers(user: str) -> tuple[int, int] | None:
    """Return user and group id if ``user`` is made of numbers; a group that is not said is the user's."""
    uid, _, gid = user.partition(":")
    gid = gid or uid
    return (int(uid), int(gid)) if uid.isdecimal() and gid.isdecimal() else None


def _running(
    service: Service, container: ContainerSpec, networks: tuple[ServiceNetwork, ServiceNetwork | None]
) -> RunningService:
    network, outgoing = networks
    joined = (network, outgoing) if container.running.outgoing and outgoing else (network,)
    return RunningService(
        name=service.name,
        container=replace(container, networks=joined),
        stage="" if service.image else service.stage,
        image=service.image,
        depends_on=service.depends_on,
        secrets=tuple(secret.secret for secret in container.secrets),
        volumes=tuple(mount.volume for mount in container.mounts if isinstance(mount, VolumeMount)),
        watch=service.watch,
        reload=service.reload,
        proxied=plan_proxied(service) if service.proxy else None,
        replica=service.replica,
        nim=service.nim,
        metrics=service.metrics or _metrics(container),
    )


def _metrics(container: ContainerSpec) -> Metrics | None:
    """Return where the stage of a container says that it has metrics."""
    found = container.metrics
    return Metrics(port=int(found[0]), path=found[1]) if found else None


def _contradictions(service: Service, containers: Mapping[str, ContainerSpec], name: str) -> Iterator[Problem]:
    """Yield what an environment asks for and its containers do not have."""
    key, container = f"services.{service.name}", containers[service.name]
    bare = sorted(one.service for one in service.depends_on if containers[one.service].health is None)
    if service.proxy and bare:
        what = f"is missing: nobody could tell whether {bare[0]} may have requests"
        yield Problem(
            file=FILE,
            key=f"{key}.healthcheck",
            what=what,
            hint='healthcheck = { test = ["…"] } here, or config.healthcheck of its stage',
        )
    for dependency in () if service.proxy else service.depends_on:
        if dependency.condition == "healthy" and containers[dependency.service].health is None:
            what = f"waits for `{dependency.service}` to be healthy in {name}, which has no health check"
            hint = f"add services.{dependency.service}.healthcheck, or wait until it is `started`"
            yield Problem(file=FILE, key=f"{key}.depends-on", what=what, hint=hint)
    for exception in container.exceptions:
        folder = exception.partition(":")[2]
        if exception.startswith("executable:") and folder not in dict(container.running.tmpfs):
            named = ", ".join(dict(container.running.tmpfs)) or "none"
            what = f"`{exception}` names no folder in memory; there are {named}"
            yield Problem(file=FILE, key=f"{key}.exceptions", what=what)
    folders = {mount.target for mount in container.mounts} & dict(container.running.tmpfs).keys()
    for folder in sorted(folders):
        yield Problem(file=FILE, key=f"{key}.volumes", what=f"{folder} is a folder in memory, too")
