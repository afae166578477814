"""The environment that watches another: its services, where they keep what, and whose network they join."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from buildkit.declare.observe_settings import PORTS, PUBLISHED, STACK, Observe
from buildkit.declare.ports import PublishedPort
from buildkit.declare.services import FILE, Environment, NamedVolume, Service, Services
from buildkit.errors import DefinitionError
from buildkit.observe.configuration import (
    FOLDER,
    Files,
    StackPace,
    load_rules,
    render_alertmanager,
    render_prometheus,
    render_thresholds,
)
from buildkit.observe.targets import find_targets
from buildkit.running.environment import DescribeStage, RunningEnvironment, RunningService, make_environment
from buildkit.running.mounts import BindMount, held_files

FEED = "/feed"  # where the monitor reads what the host's half of it writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is watched: the project and, if it has one, the environment; ``rules`` are files of rules of its own.

    ``in_cluster``, containers are reached by name, and no monitor reads a host.
    """

    project: str
    services: Services
    environment: RunningEnvironment | None = None
    rules: Files = ()
    in_cluster: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what watches."""
        return tuple(name for name in PORTS if name != "monitor" or not self.in_cluster)


def choose_environment(services: Services, name: str) -> str:
    """Return the name of the environment that is watched, empty if the project has none. Raises DefinitionError."""
    names = [one.name for one in services.environments]
    if STACK in names:
        raise DefinitionError(f"{FILE}: the environment `{STACK}` has the name of what watches", hint="rename it")
    name = name or services.observe.environment or (names[0] if len(names) == 1 else "")
    if not name and names:
        hint = f"name one of {', '.join(names)}, or set observe.environment in {FILE}"
        raise DefinitionError("which environment is to be watched?", hint=hint)
    return name


def make_stack(watched: Watched, describe: DescribeStage, state: str) -> RunningEnvironment:
    """Return the environment ``observe``; ``describe`` gives the containers of its stages.

    ``state`` is the folder in which its configuration lies. Raises DefinitionError for what contradicts itself.
    """
    stack = make_environment(_services(watched), STACK, describe, project=watched.project, state=state)
    if watched.environment and _overlap(watched.environment.network.subnet, stack.network.subnet):
        raise DefinitionError(
            f"the networks of {watched.environment.name} and of {STACK} overlap: {stack.network.subnet}",
            hint=f"give {watched.environment.name} another `subnet` in {FILE}",
        )
    mounts = dict(_mounts(watched, state))
    services = tuple(_with(one, mounts, watched.environment) for one in stack.services)
    return replace(stack, services=services, joined=watched.environment)


def _overlap(one: str, other: str) -> bool:
    return ipaddress.IPv4Network(one).overlaps(ipaddress.IPv4Network(other))


def _services(watched: Watched) -> Services:
    """Return the stack as a services file would define it."""
    observe = watched.services.observe
    kept = (f"--storage.tsdb.retention.time={observe.days}d", f"--storage.tsdb.retention.size={observe.size.upper()}B")
    address = f"--web.external-url=http://127.0.0.1:{observe.port('prometheus') or PORTS['prometheus']}"
    prometheus = Service(
        name="prometheus",
        stage="prometheus",
        volumes=(NamedVolume(name="prometheus", target="/var/lib/prometheus"),),
        command=(*kept, address),
    )
    alertmanager = Service(
        name="alertmanager",
        stage="alertmanager",
        secrets=observe.secrets,
        volumes=(NamedVolume(name="alertmanager", target="/var/lib/alertmanager"),),
    )
    exporter, monitor = (Service(name=name, stage=name) for name in ("node-exporter", "monitor"))
    parts = (alertmanager, monitor, exporter, prometheus)
    services = tuple(_given(one, observe) for one in parts if one.name in watched.parts)
    environment = Environment(name=STACK, services=services)
    return Services(file=FILE, services=services, secrets=watched.services.secrets, environments=(environment,))


def _given(service: Service, observe: Observe) -> Service:
    """Return a part of the stack with its port; Alertmanager alone reaches other hosts, if there is anybody to tell."""
    port = PublishedPort(number=PORTS[service.name], host=observe.port(service.name))
    outgoing = observe.tells and service.name == "alertmanager"
    ports = (port,) if service.name in PUBLISHED else ()
    return replace(service, ports=ports, resources=(("outgoing", outgoing),))


def feed_folder(state: str, project: str) -> PurePath:
    """Return the folder of the host in which the two halves of the monitor meet."""
    return PurePath(state, STACK, project, "feed")


def _mounts(watched: Watched, state: str) -> Iterator[tuple[str, BindMount]]:
    folder, pace = f"{state}/{STACK}/{watched.project}", StackPace()
    observe, environment = watched.services.observe, watched.environment
    targets = find_targets(environment, by_name=watched.in_cluster) if environment else ()
    names = (watched.project, environment.name if environment else "")
    places = {name: f"{name}:{PORTS[name]}" for name in watched.parts}
    files = (
        ("prometheus.yml", render_prometheus(targets, names, pace, places)),
        ("thresholds.yml", render_thresholds(observe)),
        *load_rules(),
        *watched.rules,
    )
    yield "prometheus", held_files(folder, "prometheus", FOLDER, files)
    told = (("alertmanager.yml", render_alertmanager(observe, pace)),)
    yield "alertmanager", held_files(folder, "alertmanager", FOLDER, told)
    yield "monitor", BindMount(source=str(feed_folder(state, watched.project)), target=FEED)


def _with(
    service: RunningService, mounts: Mapping[str, BindMount], watched: RunningEnvironment | None
) -> RunningService:
    """Return a part of the stack with its files; Prometheus joins the network of what it asks."""
    container = service.container
    if service.name in mounts:
        container = replace(container, mounts=(*container.mounts, mounts[service.name]))
    if service.name == "prometheus" and watched:
        container = replace(container, networks=(*container.networks, watched.network))
    return replace(service, container=container)
