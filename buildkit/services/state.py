"""What runs of an environment, and at which addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.services.labels import environment_labels
from buildkit.tools import podman
from buildkit.tools.podman_objects import FoundContainer, list_containers


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """A service as it is now.

    ``state`` is ``healthy``, ``unhealthy``, ``running`` (it has no check), ``completed``, ``ended`` (with
    ``exit_code``) or ``absent``. ``addresses`` are the host's (``127.0.0.1:8000``), for each published port.
    """

    name: str
    container: str
    state: str
    addresses: tuple[str, ...] = ()
    exit_code: int = 0


def find_states(environment: RunningEnvironment, *, awaited: bool = False) -> tuple[ServiceState, ...]:
    """Return the states of an environment's services, in the order of their start.

    Each health check is run once, unless the services were just ``awaited``.
    """
    found = {container.name: container for container in list_containers(environment_labels(environment))}
    return tuple(_state(service, found.get(service.container.name), awaited) for service in environment.services)


def _state(service: RunningService, container: FoundContainer | None, awaited: bool) -> ServiceState:
    name = service.container.name
    if container is None:
        return ServiceState(name=service.name, container=name, state="absent")
    addresses = tuple(_addresses(service, container))
    if container.state == "running":
        checked = service.container.health is not None
        well = awaited or not checked or podman.check_health(name).code == 0
        state = "unhealthy" if not well else "healthy" if checked else "running"
        return ServiceState(name=service.name, container=name, state=state, addresses=addresses)
    state = "completed" if container.state == "exited" and container.exit_code == 0 else "ended"
    return ServiceState(name=service.name, container=name, state=state, exit_code=container.exit_code)


def _addresses(service: RunningService, container: FoundContainer) -> Iterator[str]:
    published = {(port.number, port.protocol): port.host for port in container.ports}
    for port in service.container.ports:
        yield f"{port.where}:{published.get((port.number, port.protocol), port.host)}"
