"""What has to be done to an environment: which services stay, start, are replaced or end. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.services.labels import FINGERPRINT
from buildkit.tools.podman_objects import FoundContainer


class ServiceChange(StrEnum):
    """What is done to a service."""

    KEEP = "unchanged"
    START = "started"
    REPLACE = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is done to each service, and containers that no longer belong to the environment."""

    steps: Mapping[str, ServiceChange]
    leftovers: tuple[str, ...]


def take_fingerprint(service: RunningService, argv: Iterable[str], *given: str) -> str:
    """Return the SHA-256 of how a service is started: its command, and what is ``given`` to it besides.

    Names of services that it does not depend on do not count: another service may come without replacing this one.
    """
    needed = {dependency.service for dependency in service.depends_on}
    words = [word for word in argv if not word.startswith("--add-host=") or _host(word) in needed]
    return hashlib.sha256("\0".join((*words, *given)).encode()).hexdigest()


def _host(word: str) -> str:
    return word.removeprefix("--add-host=").partition(":")[0]


def compare(
    environment: RunningEnvironment, fingerprints: Mapping[str, str], found: Iterable[FoundContainer]
) -> Changes:
    """Compare an environment with the containers that were found; ``fingerprints`` are those wanted, by service."""
    containers = {container.name: container for container in found}
    jobs = environment.jobs
    steps = {
        name: _step(containers.pop(container, None), fingerprints[name], ends=name in jobs)
        for name, container in ((service.name, service.container.name) for service in environment.services)
    }
    return Changes(steps=steps, leftovers=tuple(sorted(containers)))


def _step(container: FoundContainer | None, fingerprint: str, *, ends: bool) -> ServiceChange:
    """Return what is done to a service; one that ``ends`` has done so well if it is not to run again."""
    if container is None:
        return ServiceChange.START
    same = dict(container.labels).get(FINGERPRINT) == fingerprint
    done = ends and container.state == "exited" and container.exit_code == 0
    return ServiceChange.KEEP if same and (container.state == "running" or done) else ServiceChange.REPLACE
