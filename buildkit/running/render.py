"""Render a container as a shell command, as a compose file, and as units for systemd (Quadlet)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

from buildkit.running.flags import (
    NETWORK_OPTION,
    NOTHING,
    ContainerSpec,
    health_options,
    network_argv,
    run_argv,
)

_RESTARTS = 5  # CIS Docker Benchmark 5.15
# podman mounts these for writing over a read-only root unless --read-only-tmpfs=false, for which compose has no setting
_ALWAYS = ("/run", "/tmp", "/var/tmp")  # noqa: S108 - the container's
_PROFILES = "%E/containers"  # /etc of the system, ~/.config of a user (systemd.unit(5))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@=,+")


def render_command(container: ContainerSpec) -> str:
    """Return shell commands, one option a line."""
    argv = run_argv(container, "--rm")
    lines = [" ".join(argv[:3]), *map(shlex.quote, argv[3:])]
    command = " \\\n    ".join(_join_command(container, lines))
    before = [shlex.join(network_argv(container))] if container.closed else []
    return "\n".join((*before, command)) + "\n"


def _join_command(container: ContainerSpec, lines: list[str]) -> list[str]:
    """Join the image and its command into one line."""
    count = 1 + len(container.command)
    return [*lines[:-count], " ".join(lines[-count:])]


def render_compose(container: ContainerSpec) -> str:
    """Return a compose file (https://github.com/compose-spec/compose-spec), for podman-compose and docker compose."""
    return "\n".join((*_service(container), *_networks(container))) + "\n"


def _service(container: ContainerSpec) -> Iterator[str]:
    running = container.running
    yield "services:"
    yield f"  {container.name}:"
    yield f"    image: {_text(container.image)}"
    yield f"    container_name: {_text(container.name)}"
    yield "    pull_policy: never"
    if container.user:
        yield f"    user: {_text(container.user)}"
    if container.command:
        yield f"    command: {_list(container.command)}"
    yield "    read_only: true"
    yield "    tmpfs:"
    for folder in sorted(set(_ALWAYS) - dict(container.folders).keys()):
        yield f"      - {_text(f'{folder}:{NOTHING}')}"
    for folder, options in container.folders:
        yield f"      - {_text(f'{folder}:{options}')}"
    yield "    cap_drop: [ALL]"
    seccomp = (f"seccomp={container.seccomp}",) if container.seccomp else ()
    yield f"    security_opt: {_list(('no-new-privileges:true', *seccomp))}"
    yield f"    mem_limit: {_text(running.memory)}"
    yield f"    memswap_limit: {_text(running.memory)}"
    yield f"    pids_limit: {running.pids}"
    if container.closed:
        yield "    networks: [closed]"
    elif not container.ports and not running.outgoing:
        yield "    network_mode: none"
    if container.ports:
        yield f"    ports: {_list(tuple(port.published for port in container.ports))}"
    yield f"    stop_grace_period: {running.stop_seconds}s"
    yield f'    restart: "on-failure:{_RESTARTS}"'
    yield from _compose_health(container)


def _compose_health(container: ContainerSpec) -> Iterator[str]:
    health = container.health
    if health is None:
        return
    yield "    healthcheck:"
    yield f"      test: {_list(('CMD', *health.test))}"
    yield f"      interval: {health.interval}s"
    yield f"      timeout: {health.timeout}s"
    yield f"      start_period: {health.start_period}s"
    yield f"      retries: {health.retries}"


def _networks(container: ContainerSpec) -> Iterator[str]:
    if container.closed:
        option, _, value = NETWORK_OPTION.partition("=")
        yield "networks:"
        yield "  closed:"
        yield f'    driver_opts: {{{option}: "{value}"}}'
        yield "    x-podman.disable_dns: true"


def render_quadlet(container: ContainerSpec) -> tuple[tuple[str, str], ...]:
    """Return file names and texts of units for podman-systemd.unit(5); they need podman 4.6."""
    units = [(f"{container.name}.container", "\n".join(_unit(container)) + "\n")]
    if container.closed:
        text = f"[Network]\nNetworkName={container.name}\nDisableDNS=true\nOptions={NETWORK_OPTION}\n"
        units.append((f"{container.name}.network", text))
    return tuple(units)


def _unit(container: ContainerSpec) -> Iterator[str]:
    running = container.running
    yield "[Unit]"
    yield f"StartLimitBurst={_RESTARTS}"
    yield "StartLimitIntervalSec=300"
    yield ""
    yield "[Container]"
    yield f"Image={_percent(container.image)}"
    yield f"ContainerName={container.name}"
    yield "Pull=never"
    if container.user:
        yield f"User={_percent(container.user)}"
    yield "ReadOnly=true"
    for folder, options in container.folders:
        yield f"Tmpfs={_percent(f'{folder}:{options}')}"
    yield "DropCapability=all"
    yield "NoNewPrivileges=true"
    if container.seccomp:
        yield f"SeccompProfile={_PROFILES}/{container.seccomp}"
    if container.closed:
        yield f"Network={container.name}.network"
    elif not container.ports and not running.outgoing:
        yield "Network=none"
    for port in container.ports:
        yield f"PublishPort={port.published}"
    for option, value in health_options(container.health):
        yield f"Health{_camel(option)}={_percent(value)}"
    limits = f"--memory={running.memory} --memory-swap={running.memory} --pids-limit={running.pids}"
    yield f"PodmanArgs=--read-only-tmpfs=false {limits} --stop-timeout={running.stop_seconds}"
    if container.command:
        yield f"Exec={_percent(' '.join(map(_quoted, container.command)))}"
    yield ""
    yield "[Service]"
    yield "Restart=on-failure"
    yield f"TimeoutStopSec={running.stop_seconds + 10}"
    yield ""
    yield "[Install]"
    yield "WantedBy=default.target"


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


def _text(text: str) -> str:
    """Return a YAML scalar in double quotes, as in JSON. Compose interpolates ``$`` unless it is doubled."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False)


def _list(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(_text, words)) + "]"
