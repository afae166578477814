"""GPUs for all services of an environment together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from buildkit.build.gpu_grants import Warn, assume_gpus, grant_gpus, plan_gpus
from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.services import Service, Services
from buildkit.running.environment import DescribeStage, RunningEnvironment, find_request
from buildkit.running.flags import ContainerSpec
from buildkit.running.mps import with_mps
from buildkit.running.replicas import count_gpus
from buildkit.tools.gpu_host import find_gpu_host


@contextmanager
def granted_environment(
    environment: RunningEnvironment, leaving: frozenset[str], warn: Warn
) -> Iterator[RunningEnvironment]:
    """Yield the environment with the GPUs that its services get, reserved until the block ends; see `grant_gpus`.

    The daemon of MPS has those of its clients.
    """
    containers = [service.container for service in environment.services]
    with grant_gpus(containers, warn, environment=_name(environment), leaving=leaving) as granted:
        yield with_mps(_with_containers(environment, granted))


def planned_environment(environment: RunningEnvironment) -> RunningEnvironment:
    """Return the environment with GPUs for a file that starts it later; see `plan_gpus`."""
    containers = [service.container for service in environment.services]
    return _with_containers(environment, plan_gpus(containers, environment=_name(environment)))


def assumed_environment(environment: RunningEnvironment) -> RunningEnvironment:
    """Return the environment with GPUs for a file that is the same on every host: by index, if none are named."""
    containers = [service.container for service in environment.services]
    return with_mps(_with_containers(environment, assume_gpus(containers)))


def with_counted_gpus(services: Services, name: str, describe: DescribeStage) -> Services:
    """Return services of which those with a replica on each of all GPUs ask for as many as this host has."""

    def request(service: Service) -> GpuRequest | None:
        return find_request(service, describe)

    def count() -> int:
        return len(find_gpu_host().devices())

    counted = (count_gpus(one, request, count) if one.name == name else one for one in services.environments)
    return replace(services, environments=tuple(counted))


def _name(environment: RunningEnvironment) -> str:
    return f"{environment.project}-{environment.name}"


def _with_containers(environment: RunningEnvironment, containers: Sequence[ContainerSpec]) -> RunningEnvironment:
    pairs = zip(environment.services, containers, strict=True)
    return replace(environment, services=tuple(replace(service, container=one) for service, one in pairs))
