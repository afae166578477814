"""Volumes and secrets for a stage that is run alone, as its service in services.toml has them, for that run only."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from buildkit.build.planner import Planner
from buildkit.declare.services import FILE, Service
from buildkit.declare.services_file import load_services
from buildkit.running.commands import volume_argv
from buildkit.running.flags import ContainerSpec
from buildkit.running.mounts import SecretMount, VolumeMount
from buildkit.tools import podman
from buildkit.tools.podman_objects import create_secret, ensure_volume, remove_secret, remove_volume


@contextmanager
def lent_needs(planner: Planner, target: str, container: ContainerSpec) -> Iterator[ContainerSpec]:
    """Yield the container with empty volumes and random secrets, which are removed at the end, with the container.

    Raises DefinitionError for a services.toml that is none, and ToolError.
    """
    service = _find_service(planner, target)
    if service is None:
        yield container
        return
    volumes = tuple(VolumeMount(volume=f"{container.name}-{one.name}", target=one.target) for one in service.volumes)
    given = tuple(
        SecretMount(name=name, secret=f"{container.name}-{name}", owner=container.owner) for name in service.secrets
    )
    with ExitStack() as made:
        for volume in volumes:
            ensure_volume(volume_argv(volume))
            made.callback(remove_volume, volume.volume)
        for secret in given:
            create_secret(secret.secret, secrets.token_urlsafe().encode())
            made.callback(remove_secret, secret.secret)
        made.callback(podman.remove, container.name)
        yield replace(container, mounts=volumes, secrets=given)


def _find_service(planner: Planner, target: str) -> Service | None:
    """Return the first service of a stage that needs volumes or secrets."""
    folder = planner.context.project.folder
    if target not in planner.graph.stages or not (folder / FILE).exists():
        return None
    services = load_services(folder, planner.graph.stages).services
    return next((one for one in services if one.stage == target and (one.volumes or one.secrets)), None)
