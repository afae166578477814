"""What Prometheus asks: the services of an environment that declare metrics."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.running.cluster import in_cluster
from buildkit.running.environment import RunningEnvironment, RunningService


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeTarget:
    """Where a container answers (``ADDRESS:PORT`` and path), and the labels of its series.

    ``service`` is the name in the file, ``instance`` that of the container in the environment. One that ``may_rest``
    is a replica of a service that is scaled, which may be down without anything being wrong.
    """

    address: str
    path: str
    service: str
    instance: str
    may_rest: bool = False


def find_targets(environment: RunningEnvironment, *, by_name: bool = False) -> tuple[ScrapeTarget, ...]:
    """Return what is asked, sorted by name; ``by_name``, as a cluster knows containers, else by address."""
    environment = in_cluster(environment) if by_name else environment
    scaled = {one.name for one in environment.services if one.proxied and one.proxied.scale}
    found = (_target(one, environment, scaled, by_name=by_name) for one in environment.services if one.metrics)
    return tuple(sorted(filter(None, found), key=lambda target: target.instance))


def _target(
    service: RunningService, environment: RunningEnvironment, scaled: set[str], *, by_name: bool
) -> ScrapeTarget | None:
    assert service.metrics is not None  # noqa: S101 - the caller has looked
    if service.name in environment.jobs:
        return None  # it has ended before anybody asks
    name = service.replica.service if service.replica else service.name
    host = service.name if by_name else service.container.address
    return ScrapeTarget(
        address=f"{host}:{service.metrics.port}",
        path=service.metrics.path,
        service=name,
        instance=service.name,
        may_rest=name in scaled,
    )
