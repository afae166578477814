"""Start an environment: networks, volumes, secrets, then services in the order of their dependencies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from buildkit.build.gpu_environment import granted_environment
from buildkit.build.mounted_models import check_models
from buildkit.declare.observe_settings import STACK
from buildkit.errors import BuildError
from buildkit.events import Emit, Note, step
from buildkit.running.commands import memory_volume_argv, volume_argv
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.flags import run_argv
from buildkit.running.host import PodmanHost, UnsupportedFlag, find_unsupported
from buildkit.running.labels import SERVICE
from buildkit.running.mps import find_strangers
from buildkit.services.compare import Changes, ServiceChange, compare, take_fingerprint
from buildkit.services.containers import MadeObjects, retire, start_container, undoing
from buildkit.services.labels import CHECKOUT, FINGERPRINT, environment_labels
from buildkit.services.mounted_files import ensure_mounted_files, remove_old_files
from buildkit.services.networks import ensure_networks
from buildkit.services.nim_host import check_nim_host
from buildkit.services.replicas import follow_proxy, write_proxy
from buildkit.services.secret_values import ensure_secrets, read_secrets
from buildkit.services.turns import in_turn
from buildkit.services.wait import wait_completed, wait_healthy
from buildkit.tools import podman
from buildkit.tools.podman_objects import FoundContainer, ensure_volume, find_image_ids, list_containers
from buildkit.worker_pool import WorkerPool

PATIENCE = 120.0  # seconds until a service must be healthy
_ASKED_AT_ONCE = 3
_GRACE = 10  # seconds of a container whose service is no longer in the file


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """How to start: the project's folder, seconds until a service must be healthy, and services replaced anyway.

    With ``strict``, a host that cannot apply a flag starts nothing; None: as the services' stages say. ``host`` is what
    podman said of this host, if it was asked already: it takes half a second.
    """

    folder: Path
    patience: float = PATIENCE
    replaced: frozenset[str] = frozenset()
    strict: bool | None = None
    host: PodmanHost | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedEnvironment:
    """What was done to each service, and what the host cannot apply of the flags."""

    steps: Mapping[str, ServiceChange]
    lacks: tuple[UnsupportedFlag, ...]


def start_environment(environment: RunningEnvironment, options: StartOptions, emit: Emit) -> StartedEnvironment:
    """Start what does not run, replace what differs, and wait until every service is healthy or completed.

    Services that run as they should are not touched. If anything fails, what this call started is removed, and what it
    replaced runs again. Raises BuildError with the end of a service's log, or why a service gets no GPU (nothing is
    started then), and Interrupted.
    """
    values = read_secrets(environment.secrets, options.folder)
    with in_turn(environment, emit):
        return _start(environment, values, options, emit)


def _start(
    environment: RunningEnvironment, values: Mapping[str, bytes], options: StartOptions, emit: Emit
) -> StartedEnvironment:
    labels = environment_labels(environment)
    with WorkerPool(_ASKED_AT_ONCE) as pool:  # podman takes a fifth of a second for each answer
        asked = pool.submit(_get_images, environment), pool.submit(list_containers, labels)
        host, images, found = options.host or podman.probe_host(), asked[0].result(), asked[1].result()
    check_checkout(environment, found, options.folder)
    with _with_gpus(environment, found, emit) as granted, undoing(labels) as made:
        environment = granted
        _check_users(environment, host)
        check_nim_host(environment.services, Path(host.volumes))
        host = ensure_networks(environment, host, made.networks.append)
        lacks = _find_lacks(environment, host, options.strict)
        for volume in environment.volumes:
            ensure_volume(volume_argv(environment.volume(volume), labels))
        for memory in environment.memory:
            ensure_volume(memory_volume_argv(memory, labels))
        secrets = ensure_secrets(environment, values, made.secrets.append)
        ensure_mounted_files(environment)
        commands = _Commands(environment, host, lacks, options.folder)
        fingerprints = {}
        for service in environment.services:
            models = service.container.models
            mounted = (images[models.image],) if models else ()
            given = (images[service.container.image], *mounted, *(secrets[name] for name in service.secrets))
            fingerprints[service.name] = take_fingerprint(service, commands.argv(service), *given)
        changes = _with_bound(_with_replaced(compare(environment, fingerprints, found), options.replaced), environment)
        for container in found:
            if container.name in changes.leftovers and _belongs_to_nobody(environment, container):
                podman.remove(container.name, _GRACE)
        argvs = {one.name: commands.labelled(one, fingerprints[one.name]) for one in environment.services}
        _run(environment, argvs, changes, made, _Awaited(environment, options.patience, emit))
    remove_old_files(environment)
    return StartedEnvironment(steps=changes.steps, lacks=lacks)


@contextmanager
def _with_gpus(
    environment: RunningEnvironment, found: Sequence[FoundContainer], emit: Emit
) -> Iterator[RunningEnvironment]:
    """Yield the environment with the GPUs that its services get, reserved while it is started. Raises BuildError."""
    names = {service.container.name for service in environment.services}
    leaving = {one.name for one in found if one.name not in names and _belongs_to_nobody(environment, one)}

    def warn(text: str) -> None:
        emit(Note(text=text, warning=True))

    with granted_environment(environment, frozenset(leaving), warn) as granted:
        yield granted


def _check_users(environment: RunningEnvironment, host: PodmanHost) -> None:
    if found := find_strangers(environment, host.uids):
        raise BuildError(f"nothing was started: {'; '.join(one.what for one in found)}", hint=found[0].hint)


def _run(
    environment: RunningEnvironment,
    argvs: Mapping[str, tuple[str, ...]],
    changes: Changes,
    made: MadeObjects,
    awaited: _Awaited,
) -> None:
    """Start what has to be started, each service after what it needs, and wait for all."""
    for service in environment.services:
        if (what := changes.steps[service.name]) is not ServiceChange.KEEP:  # what runs has had what it needs
            for dependency in service.depends_on:
                if dependency.service in changes.steps:  # else it runs elsewhere
                    awaited.until(dependency.service, dependency.condition)
            for other in reversed(environment.services):
                if service.name in other.bound_to and changes.steps[other.name] is ServiceChange.REPLACE:
                    retire(other, made)
            with step(awaited.emit, service.name, "start") as handle:
                if service.proxied:
                    write_proxy(service, awaited.emit)
                start_container(service, argvs[service.name], what, made)
                handle.note = what.value
    for service in environment.services:
        awaited.until(service.name, "completed" if service.name in environment.jobs else "healthy")
        if service.proxied and changes.steps[service.name] is ServiceChange.KEEP:
            follow_proxy(service)


def replace_service(
    environment: RunningEnvironment, name: str, options: StartOptions, emit: Emit
) -> StartedEnvironment:
    """Start one service of a running environment anew, and whatever else does not run as it should."""
    environment.get(name)
    return start_environment(environment, replace(options, replaced=frozenset((name,))), emit)


def _belongs_to_nobody(environment: RunningEnvironment, container: FoundContainer) -> bool:
    """Return whether no service of the environment, started or left out, has the container."""
    service = dict(container.labels).get(SERVICE, "")
    left_out = environment.network.addresses.keys() - {one.name for one in environment.services}
    return service not in left_out


def _with_replaced(changes: Changes, names: frozenset[str]) -> Changes:
    forced = {name: ServiceChange.REPLACE for name in sorted(names) if changes.steps[name] is ServiceChange.KEEP}
    return replace(changes, steps={**changes.steps, **forced})


def _with_bound(changes: Changes, environment: RunningEnvironment) -> Changes:
    """Return the changes with every service replaced that is bound to one that starts."""
    for service in environment.services:
        if any(changes.steps.get(name, ServiceChange.KEEP) is not ServiceChange.KEEP for name in service.bound_to):
            changes = _with_replaced(changes, frozenset((service.name,)))
    return changes


def _get_images(environment: RunningEnvironment) -> dict[str, str]:
    """Return the ids of the images by name. Raises BuildError for images that local storage lacks."""
    mounted = [service.container.models.image for service in environment.services if service.container.models]
    images = find_image_ids([*(service.container.image for service in environment.services), *mounted])
    stages = {service.container.image: service.stage for service in environment.services if service.stage}
    for service in environment.services:
        if service.container.image not in images:
            stage = stages.get(service.container.image)
            built = STACK if environment.name == STACK else f"build-{stage}"
            hint = f"nox -s {built}" if stage else f"podman pull {service.image}"
            raise BuildError(f"{service.name}: {service.container.image} is not in local storage", hint=hint)
        check_models(service.container.image, service.container.models)
    return images


def check_checkout(environment: RunningEnvironment, found: Sequence[FoundContainer], folder: Path) -> None:
    """Raise BuildError if a container of the environment was started from another folder than ``folder``."""
    checkouts = {dict(one.labels).get(CHECKOUT, "") for one in found}
    for other in sorted(checkouts - {str(folder.resolve())}):
        raise BuildError(
            f"{environment.name} of {environment.project} runs already, started in {other}",
            hint=f"end it there first: cd {other} && nox -s {_session(environment)} --down",
        )


def _session(environment: RunningEnvironment) -> str:
    """Return the session that starts an environment, as it is typed."""
    return f"{STACK} --" if environment.name == STACK else f"up -- {environment.name}"


def _find_lacks(environment: RunningEnvironment, host: PodmanHost, strict: bool | None) -> tuple[UnsupportedFlag, ...]:
    """Return what the host cannot apply, each once. Raises BuildError if a service insists on it."""
    lacks: dict[str, UnsupportedFlag] = {}
    for service in environment.services:
        found = find_unsupported(service.container, host)
        if found and (service.container.running.strict if strict is None else strict):
            what = "; ".join(lack.what for lack in found)
            raise BuildError(
                f"this host cannot run {service.name} as strictly as it should be: {what}",
                hint="--no-strict runs it without the flags that were named",
            )
        lacks |= {lack.needs: lack for lack in reversed(found)}
    return tuple(lacks.values())


class _Commands:
    """The commands that start the services on this host."""

    def __init__(
        self, environment: RunningEnvironment, host: PodmanHost, lacks: tuple[UnsupportedFlag, ...], folder: Path
    ) -> None:
        self._labels = (*environment_labels(environment), (CHECKOUT, str(folder.resolve())))
        self._lacking = frozenset(lack.needs for lack in lacks)
        self._host = host

    def argv(self, service: RunningService) -> tuple[str, ...]:
        """Return the command without labels."""
        container = service.container.on_this_host()
        return run_argv(container, "--detach", lacking=self._lacking, needed=self._host.options)

    def labelled(self, service: RunningService, fingerprint: str) -> tuple[str, ...]:
        """Return the command with the labels by which the container is found."""
        argv = self.argv(service)
        labels = (*self._labels, (SERVICE, service.name), (FINGERPRINT, fingerprint))
        return (*argv[:2], *(f"--label={name}={value}" for name, value in labels), *argv[2:])


class _Awaited:
    """Waits for each service once."""

    def __init__(self, environment: RunningEnvironment, patience: float, emit: Emit) -> None:
        self._environment = environment
        self._patience = patience
        self.emit = emit
        self._done: set[tuple[str, str]] = set()

    def until(self, name: str, condition: str) -> None:
        """Wait until the service is ``healthy`` or ``completed``; raises BuildError."""
        if condition == "started" or (name, condition) in self._done:
            return
        service = self._environment.get(name)
        health = service.container.health
        patience, lack = max(self._patience, health.start_period if health else 0), ""
        with step(self.emit, name, condition):
            if condition == "completed":
                wait_completed(service, patience)
            else:
                lack = wait_healthy(service, patience)
        if lack:
            self.emit(Note(text=lack, warning=True))
        self._done.add((name, condition))
