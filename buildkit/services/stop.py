"""End an environment: containers, networks and secrets; volumes only on request."""

from __future__ import annotations

from buildkit.events import Emit, step
from buildkit.running.environment import RunningEnvironment
from buildkit.running.labels import SERVICE
from buildkit.services.labels import environment_labels
from buildkit.services.secret_values import remove_secrets
from buildkit.tools import podman
from buildkit.tools.podman_objects import list_containers, list_volumes, remove_volume

_GRACE = 10  # seconds of a container whose service is no longer in the file


def stop_environment(environment: RunningEnvironment, emit: Emit, *, volumes: bool = False) -> tuple[str, ...]:
    """End what runs, dependents first, and return the names of the services that ended.

    With ``volumes``, volumes and generated secrets are removed, too, and what is in them is lost.
    """
    labels = environment_labels(environment)
    order = {service.name: number for number, service in enumerate(environment.services)}
    patience = {service.name: service.container.running.stop_seconds for service in environment.services}
    found = [(dict(one.labels).get(SERVICE, ""), one.name) for one in list_containers(labels, is_cleanup=True)]
    for service, container in sorted(found, key=lambda pair: order.get(pair[0], len(order)), reverse=True):
        with step(emit, f"stop {service}", "stop"):
            podman.remove(container, patience.get(service, _GRACE))
    for network in (*environment.networks, *((environment.joined.network,) if environment.joined else ())):
        podman.remove_network(network.name)
    remove_secrets(environment, generated=volumes)
    own = list_volumes(labels) if volumes or environment.memory else ()
    memory = {one.volume for one in environment.memory}
    for volume in own if volumes else sorted(memory.intersection(own)):
        remove_volume(volume)
    return tuple(service for service, _ in found)
