"""Render services as a compose file, for podman-compose and docker compose.

The format is https://github.com/compose-spec/compose-spec. It has no word for ``--read-only-tmpfs=false``; empty
read-only folders stand for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buildkit.running.environment import NamedSecret, RunningEnvironment, RunningService
from buildkit.running.flags import NETWORK_OPTION, NOTHING, SECRET_FOLDER, ContainerSpec
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.mounts import SECRETS, MemoryVolume, SecretMount, ServiceNetwork, VolumeMount
from buildkit.running.secret_notes import secret_notes
from buildkit.running.yaml_text import render_yaml

RESTARTS = 5  # CIS Docker Benchmark 5.15
_CLOSED = "closed"
# podman mounts these for writing over a read-only root unless --read-only-tmpfs=false, for which compose has no setting
_ALWAYS = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - the container's
_MOUNTS_IMAGES = "volumes of `type: image` need podman-compose 1.4, or docker compose 2.35 with Docker Engine 28"
_CONDITIONS = {
    "started": "service_started",
    "healthy": "service_healthy",
    "completed": "service_completed_successfully",
}


def render_compose(container: ContainerSpec, form: GpuFormat = GpuFormat.PODMAN) -> str:
    """Return the compose file of a container that runs alone."""
    document: dict[str, Any] = {"services": {container.name: _service(container, form=form)}}
    if container.closed:
        document["networks"] = {_CLOSED: {**_closed_options(), "x-podman.disable_dns": True}}
    return render_yaml(_interpolated(document), header=_header([container], form))


def _header(containers: Sequence[ContainerSpec], form: GpuFormat) -> tuple[str, ...]:
    """Return comments on what some programs do not read."""
    models = (_MOUNTS_IMAGES,) if any(container.models for container in containers) else ()
    return (*models, *secret_notes(containers, form), *gpu_notes(containers, form))


def render_compose_environment(environment: RunningEnvironment, form: GpuFormat = GpuFormat.PODMAN) -> str:
    """Return the compose file of an environment; networks, volumes and secrets have the names that podman knows.

    The two programs read GPUs in different ``form``.

    A secret that is not a file is one of podman's, which ``nox -s up`` or a command of ``--print`` makes.
    """
    jobs = environment.jobs
    document: dict[str, Any] = {
        "name": f"{environment.project}-{environment.name}",
        "services": {
            service.name: _service(service.container, service, is_job=service.name in jobs, form=form)
            for service in environment.services
        },
        "networks": {network.name: _network(network) for network in environment.networks} | _joined(environment),
    }
    volumes: dict[str, Any] = {
        volume: {"name": volume, **_owned(environment.volume(volume), form)} for volume in environment.volumes
    }
    volumes |= {one.volume: {"name": one.volume, "driver_opts": _memory(one)} for one in environment.memory}
    if volumes:
        document["volumes"] = volumes
    if secrets := dict(_declared_secrets(environment, form)):
        document["secrets"] = secrets
    header = _header([service.container for service in environment.services], form)
    return render_yaml(_interpolated(document), header=header)


def _service(
    container: ContainerSpec,
    service: RunningService | None = None,
    *,
    is_job: bool = False,
    form: GpuFormat = GpuFormat.PODMAN,
) -> dict[str, Any]:
    running = container.running
    always = {*_ALWAYS} if container.read_only else set()
    empty = sorted(always - dict(container.folders).keys() - ({"/run"} if container.secret_files else set()))
    folders = [*((folder, NOTHING) for folder in empty), *container.folders]
    if container.secret_files and container.read_only:
        folders.append((SECRETS, SECRET_FOLDER))
    privileges = () if container.gains_privileges else ("no-new-privileges:true",)
    seccomp = (f"seccomp={container.seccomp}",) if container.seccomp else ()
    written: dict[str, Any] = {
        "image": container.image,
        "container_name": container.name,
        "pull_policy": "never",
        "user": container.user,
        "hostname": container.hostname,
        "entrypoint": list(container.entrypoint),
        "command": list(container.command),
        "labels": container.own_labels,
        "environment": {**dict(container.env), **_from_shell(container, form)},
        "depends_on": dict(_needed(service)) if service else {},
        "read_only": container.read_only,
        "tmpfs": [f"{folder}:{options}" for folder, options in folders],
        "volumes": [*(mount.text for mount in container.mounts), *_models(container)],
        **_gpus(container, form),
        "secrets": [*map(_mounted, container.secret_files), *_variables(container, form)],
        "cap_drop": ["ALL"],
        "cap_add": list(container.capabilities),
        "security_opt": [*privileges, *seccomp],
        "mem_limit": running.memory,
        "memswap_limit": running.memory,
        "pids_limit": running.pids,
        "cpus": running.cpus,
        **_networks(container),
        "ports": [port.published for port in container.ports],
        "stop_grace_period": f"{running.stop_seconds}s",
        "restart": "no" if is_job else f"on-failure:{RESTARTS}",
        "healthcheck": _health(container, is_job=is_job),
    }
    return {key: value for key, value in written.items() if value not in ("", [], {}, 0.0, None) or value is False}


def _needed(service: RunningService) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in service.depends_on:
        restart = {"restart": True} if one.service in service.bound_to else {}
        yield one.service, {"condition": _CONDITIONS[one.condition], **restart}


def _memory(memory: MemoryVolume) -> dict[str, str]:
    return {"type": "tmpfs", "device": "tmpfs", "o": memory.options}


def _gpus(container: ContainerSpec, form: GpuFormat) -> dict[str, Any]:
    """Return what each program reads: podman-compose ignores ``driver: cdi``, docker compose asks it of the engine."""
    names = list(container.given_devices)
    if not names or form is GpuFormat.PODMAN:
        return {"devices": names}
    reserved = {"driver": "cdi", "device_ids": names, "capabilities": ["gpu"]}
    return {"deploy": {"resources": {"reservations": {"devices": [reserved]}}}}


def _models(container: ContainerSpec) -> Iterator[dict[str, str]]:
    if container.models:
        yield {"type": "image", "source": container.models.image, "target": container.models.target}


def _networks(container: ContainerSpec) -> dict[str, Any]:
    if container.networks:
        first = {"ipv4_address": container.address, "mac_address": container.mac}
        own, *others = container.networks
        more = {network.name: {"ipv4_address": network.guest} if network.guest else {} for network in others}
        hosts = [f"{name}:{address}" for name, address in container.networks[0].hosts if name != container.hostname]
        return {"networks": {own.name: first, **more}, "extra_hosts": hosts}
    if container.closed:
        return {"networks": [_CLOSED]}
    return {} if container.ports or container.running.outgoing else {"network_mode": "none"}


def _mounted(secret: SecretMount) -> dict[str, Any]:
    numbers = {"uid": str(secret.owner[0]), "gid": str(secret.owner[1])} if secret.owner else {}
    return {
        "source": secret.secret,
        "target": secret.name,
        **numbers,
        "mode": secret.mode,
    }  # a number would be read as decimal or as octal


def _variables(container: ContainerSpec, form: GpuFormat) -> Iterator[dict[str, str]]:
    """Yield secrets that are variables, as podman-compose alone reads them."""
    for secret in container.secret_variables if form is GpuFormat.PODMAN else ():
        yield {"source": secret.secret, "type": "env", "target": secret.variable}


def _from_shell(container: ContainerSpec, form: GpuFormat) -> dict[str, None]:
    """Return variables without a value, which docker compose takes from the shell that runs it."""
    names = [secret.variable for secret in container.secret_variables]
    return dict.fromkeys(names) if form is GpuFormat.DOCKER else {}


def _declared_secrets(environment: RunningEnvironment, form: GpuFormat) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield secrets by podman's names; one that becomes a variable is podman's own, even if a file holds it."""
    containers = [service.container for service in environment.services]
    files = {secret.secret for container in containers for secret in container.secret_files}
    variables = {secret.secret for container in containers for secret in container.secret_variables}
    for secret in environment.secrets:
        if form is GpuFormat.PODMAN and secret.name in variables:
            yield secret.name, {"external": True}
        elif secret.name in files:
            yield secret.name, _secret(secret)


def _owned(volume: VolumeMount, form: GpuFormat) -> dict[str, Any]:
    return {"driver_opts": {"o": volume.ownership}} if volume.owner and form is GpuFormat.PODMAN else {}


def _health(container: ContainerSpec, *, is_job: bool) -> dict[str, Any]:
    health = container.health
    if health is None or is_job:
        return {}
    return {
        "test": ["CMD", *health.test],
        "interval": f"{health.interval}s",
        "timeout": f"{health.timeout}s",
        "start_period": f"{health.start_period}s",
        "retries": health.retries,
    }


def _network(network: ServiceNetwork) -> dict[str, Any]:
    subnet = {"ipam": {"config": [{"subnet": network.subnet}]}} if network.subnet else {}
    closed = _closed_options() if network.closed else {}
    return {"name": network.name, **subnet, **closed, "x-podman.disable_dns": True}


def _joined(environment: RunningEnvironment) -> dict[str, Any]:
    """Return the network that another compose file, or `nox -s up`, makes."""
    name = environment.joined.network.name if environment.joined else ""
    return {name: {"name": name, "external": True}} if name else {}


def _closed_options() -> dict[str, Any]:
    option, _, value = NETWORK_OPTION.partition("=")
    return {"driver_opts": {option: value}}


def _secret(secret: NamedSecret) -> dict[str, Any]:
    return {"file": secret.source.file} if secret.source.file else {"external": True}


def _interpolated(value: Any) -> Any:  # noqa: ANN401 - a YAML value
    """Return the value with ``$`` doubled, which compose would interpolate."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _interpolated(item) for key, item in value.items()}
    return [_interpolated(item) for item in value] if isinstance(value, list) else value
