"""Render services as units for systemd: Quadlet, podman-systemd.unit(5).

They need podman 4.6, and those of an environment podman 5.0 for ``Notify=healthy``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from buildkit.running.compose import RESTARTS
from buildkit.running.environment import RunningEnvironment
from buildkit.running.flags import NETWORK_OPTION, SECRET_FOLDER, ContainerSpec, format_mac, health_options
from buildkit.running.gpu_notes import GpuFormat, gpu_notes
from buildkit.running.mounts import SECRETS, MemoryVolume, ServiceNetwork, VolumeMount

_PROFILES = "%E/containers"  # /etc of the system, ~/.config of a user (systemd.unit(5))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@=,+")
_START_SECONDS = 90 - 30  # systemd waits 90 s for a unit unless it says more
_BOUND = "bound"  # it starts and ends with that unit
_RELATIONS = {"started": "Wants", _BOUND: "BindsTo"}
Units = tuple[tuple[str, str], ...]


def render_quadlet(container: ContainerSpec) -> Units:
    """Return file names and texts of the units of a container that runs alone."""
    units = [(f"{container.name}.container", _text(_unit(container)))]
    if container.closed:
        text = f"[Network]\nNetworkName={container.name}\nDisableDNS=true\nOptions={NETWORK_OPTION}\n"
        units.append((f"{container.name}.network", text))
    return tuple(units)


def render_quadlet_environment(environment: RunningEnvironment) -> Units:
    """Return file names and texts of the units of an environment.

    A service counts as started when it is healthy, so systemd starts each after those that it depends on. The secrets
    are podman's, which ``nox -s up`` or a command of ``--print`` makes.
    """
    units = []
    for service in environment.services:
        needed = ((environment.get(one.service).container.name, one.condition) for one in service.depends_on)
        after = tuple((f"{name}.service", condition) for name, condition in needed)
        after += tuple((f"{environment.get(name).container.name}.service", _BOUND) for name in service.bound_to)
        kind = "job" if service.name in environment.jobs else "service"
        units.append((f"{service.container.name}.container", _text(_unit(service.container, after, kind))))
    networks = (*environment.networks, *((environment.joined.network,) if environment.joined else ()))
    units += [(f"{network.name}.network", _text(_network(network))) for network in networks]
    units += [(f"{volume}.volume", _text(_volume(environment.volume(volume)))) for volume in environment.volumes]
    units += [(f"{one.volume}.volume", _text(_memory(one))) for one in environment.memory]
    return tuple(units)


def _text(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"


def _volume(volume: VolumeMount) -> Iterator[str]:
    yield "[Volume]"
    yield f"VolumeName={volume.volume}"
    if volume.owner:
        yield f"PodmanArgs=--opt o={volume.ownership}"


def _memory(memory: MemoryVolume) -> Iterator[str]:
    yield "[Volume]"
    yield f"VolumeName={memory.volume}"
    yield "Type=tmpfs"
    yield "Device=tmpfs"
    yield f"Options={memory.options}"


def _network(network: ServiceNetwork) -> Iterator[str]:
    yield "[Network]"
    yield f"NetworkName={network.name}"
    yield "DisableDNS=true"
    if network.subnet:
        yield f"Subnet={network.subnet}"
    if network.closed:
        yield f"Options={NETWORK_OPTION}"


def _unit(container: ContainerSpec, after: tuple[tuple[str, str], ...] = (), kind: str = "") -> Iterator[str]:
    """Yield a unit's lines; ``after`` are units with conditions, ``kind`` is ``job``, ``service`` or nothing."""
    for note in gpu_notes((container,), GpuFormat.HOST):
        yield f"# {note}"
    yield "[Unit]"
    for unit, condition in after:
        yield f"{_RELATIONS.get(condition, 'Requires')}={unit}"
        if condition != _BOUND:
            yield f"After={unit}"
    yield f"StartLimitBurst={RESTARTS}"
    yield "StartLimitIntervalSec=300"
    yield ""
    yield "[Container]"
    yield from _container(container)
    if kind == "service" and container.health:
        yield "Notify=healthy"
    yield ""
    yield "[Service]"
    if kind == "job":
        yield "Type=oneshot"
        yield "RemainAfterExit=yes"
    else:
        yield "Restart=on-failure"
        if kind == "service" and container.health and container.health.start_period > _START_SECONDS:
            yield f"TimeoutStartSec={container.health.start_period + _START_SECONDS}"
    yield f"TimeoutStopSec={container.running.stop_seconds + 10}"
    yield ""
    yield "[Install]"
    yield "WantedBy=default.target"


def _container(container: ContainerSpec) -> Iterator[str]:
    yield f"Image={_percent(container.image)}"
    yield f"ContainerName={container.name}"
    yield "Pull=never"
    if container.user:
        yield f"User={_percent(container.user)}"
    if container.read_only:
        yield "ReadOnly=true"
    for folder, options in container.folders:
        yield f"Tmpfs={_percent(f'{folder}:{options}')}"
    yield "DropCapability=all"
    for capability in container.capabilities:
        yield f"AddCapability={capability}"
    if not container.gains_privileges:
        yield "NoNewPrivileges=true"
    if container.seccomp:
        yield f"SeccompProfile={_PROFILES}/{container.seccomp}"
    yield from _networks(container)
    for port in container.ports:
        yield f"PublishPort={port.published}"
    for option, value in health_options(container.health):
        yield f"Health{_camel(option)}={_percent(value)}"
    yield from _given(container)
    yield f"PodmanArgs={' '.join(_options(container))}"
    yield from _run(container)


def _run(container: ContainerSpec) -> Iterator[str]:
    if container.entrypoint:
        yield f"Entrypoint={_percent(json.dumps(list(container.entrypoint)))}"
    if container.command:
        yield f"Exec={_percent(' '.join(map(_quoted, container.command)))}"


def _networks(container: ContainerSpec) -> Iterator[str]:
    if container.networks:
        yield f"Network={container.networks[0].name}.network:ip={container.address},mac={container.mac}"
        for network in container.networks[1:]:
            address = f":ip={network.guest},mac={format_mac(network.guest)}" if network.guest else ""
            yield f"Network={network.name}.network{address}"
        yield f"HostName={container.hostname}"
    elif container.closed:
        yield f"Network={container.name}.network"
    elif not container.ports and not container.running.outgoing:
        yield "Network=none"


def _given(container: ContainerSpec) -> Iterator[str]:
    for device in container.given_devices:
        yield f"AddDevice={_percent(device)}"
    for name, value in container.own_labels.items():
        yield f"Label={name}={_percent(value)}"
    for name, value in container.env:
        yield f"Environment={_percent(_quoted(f'{name}={value}'))}"
    for mount in container.mounts:
        own = f"{mount.volume}.volume" + mount.text.removeprefix(mount.volume) if isinstance(mount, VolumeMount) else ""
        yield f"Volume={_percent(own or mount.text)}"
    if container.models:
        yield f"Mount={_percent(container.models.text)}"
    if container.secret_files and container.read_only:
        yield f"Tmpfs={SECRETS}:{SECRET_FOLDER}"
    for secret in container.secrets:
        yield f"Secret={secret.text}"


def _options(container: ContainerSpec) -> Iterator[str]:
    """Yield options that units have no key for, or have one for in later versions only."""
    running = container.running
    if container.read_only:
        yield "--read-only-tmpfs=false"
    yield f"--memory={running.memory}"
    yield f"--memory-swap={running.memory}"
    yield f"--pids-limit={running.pids}"
    if running.cpus:
        yield f"--cpus={running.cpus:g}"
    for name, address in container.networks[0].hosts if container.networks else ():
        if name != container.hostname:
            yield f"--add-host={name}:{address}"
    yield f"--stop-timeout={running.stop_seconds}"


def _camel(option: str) -> str:
    return "".join(part.capitalize() for part in option.split("-"))


def _percent(text: str) -> str:
    """Escape percent signs, which begin systemd's specifiers, and line breaks, which would begin other settings."""
    return "".join(letter if letter.isprintable() else " " for letter in text.replace("%", "%%"))


def _quoted(word: str) -> str:
    """Quote a word of a command as systemd.syntax(7) reads it."""
    if word and _BARE.issuperset(word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("$", "$$")
    return '"' + _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'
