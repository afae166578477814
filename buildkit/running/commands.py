"""podman commands of a container or an environment, for a shell, and those that make what containers need. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator

from buildkit.running.environment import NamedSecret, RunningEnvironment
from buildkit.running.flags import NETWORK_OPTION, ContainerSpec, network_argv, run_argv
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.mounts import MemoryVolume, ServiceNetwork, VolumeMount

Labels = Iterable[tuple[str, str]]


def service_network_argv(network: ServiceNetwork, labels: Labels = (), *, closes: bool = True) -> tuple[str, ...]:
    """Return the command that makes a network of an environment; ``closes`` is whether podman can close one.

    Names are in the containers' hosts files. A name server would forward queries, and the data in them.
    """
    subnet = ("--subnet", network.subnet) if network.subnet else ()
    closed = ("--opt", NETWORK_OPTION) if network.closed and closes else ()
    return ("podman", "network", "create", "--disable-dns", *subnet, *closed, *_labels(labels), network.name)


def volume_argv(volume: VolumeMount, labels: Labels = ()) -> tuple[str, ...]:
    """Return the command that makes a volume."""
    owned = ("--opt", f"o={volume.ownership}") if volume.owner else ()
    return ("podman", "volume", "create", *owned, *_labels(labels), volume.volume)


def memory_volume_argv(memory: MemoryVolume, labels: Labels = ()) -> tuple[str, ...]:
    """Return the command that makes a volume in memory."""
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", f"o={memory.options}")
    return ("podman", "volume", "create", *options, *_labels(labels), memory.volume)


def _labels(labels: Labels) -> Iterator[str]:
    for name, value in labels:
        yield from ("--label", f"{name}={value}")


def render_command(container: ContainerSpec) -> str:
    """Return shell commands that start a container alone, one option a line."""
    before = f"{shlex.join(network_argv(container))}\n" if container.closed else ""
    notes = "".join(f"# {note}\n" for note in gpu_notes((container,), GpuFormat.HOST))
    return f"{notes}{before}{_format_run(container, '--rm')}\n"


def _format_run(container: ContainerSpec, how: str) -> str:
    argv = run_argv(container, how)
    count = 1 + len(container.command)
    return " \\\n    ".join((" ".join(argv[:3]), *map(shlex.quote, argv[3:-count]), shlex.join(argv[-count:])))


def render_commands(environment: RunningEnvironment) -> str:
    """Return shell commands that start an environment whose images are there, in the order of dependencies."""
    notes = gpu_notes((service.container for service in environment.services), GpuFormat.HOST)
    return "".join(f"# {note}\n" for note in notes) + "".join(f"{line}\n" for line in _lines(environment))


def _lines(environment: RunningEnvironment) -> Iterator[str]:
    for network in environment.networks:
        yield shlex.join(service_network_argv(network))
    if environment.joined:
        network = environment.joined.network
        yield f"podman network exists {network.name} || {shlex.join(service_network_argv(network))}"
    for volume in environment.volumes:
        yield shlex.join(volume_argv(environment.volume(volume)))
    for memory in environment.memory:
        yield shlex.join(memory_volume_argv(memory))
    for secret in environment.secrets:
        yield f"{_format_source(secret)} | podman secret create {secret.name} -"
    names = {service.name: service.container.name for service in environment.services}
    for service in environment.services:
        for dependency in service.depends_on:
            container = names[dependency.service]
            if dependency.condition == "healthy":
                yield f"until podman healthcheck run {container}; do sleep 1; done"
            elif dependency.condition == "completed":
                yield f'test "$(podman wait {container})" = 0'
        yield _format_run(service.container, "--detach")


def _format_source(secret: NamedSecret) -> str:
    source = secret.source
    if source.env:
        return f'printf %s "${source.env}"'
    if source.file:
        path = source.file.removeprefix("~/")
        return f"cat {'~/' if path != source.file else ''}{shlex.quote(path)}"
    if source.command:
        return shlex.join(source.command)
    return "head -c 32 /dev/urandom | base64 --wrap 0"
