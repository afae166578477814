"""Start and replace one container at a time, so that a failure leaves what ran before."""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from buildkit.declare.services import FILE
from buildkit.errors import BuildError, ToolError
from buildkit.running.environment import RunningService
from buildkit.services.compare import ServiceChange
from buildkit.services.wait import wait_healthy
from buildkit.tools import podman
from buildkit.tools.interrupts import deferred_interrupts
from buildkit.tools.podman_objects import Labels, list_containers, remove_secret, rename, start

_PREVIOUS = "-previous"  # behind the name of a container that is being replaced
_PATIENCE = 10.0  # seconds until what ran before is healthy again
_RELEASE_SECONDS = 3.0  # a port of a container that has just ended may stay busy for a moment
_PAUSE = 0.1
_TAKEN = re.compile("address already in use", re.IGNORECASE)  # runc's proxy and pasta spell it differently
_PORT = re.compile(r"(?P<where>[0-9.]+:[0-9]+|\[[0-9a-fA-F:]+\]:[0-9]+): bind: |bind port (?P<number>[0-9]+)")


@dataclass(slots=True)
class MadeObjects:
    """What a start has made, and which containers it has replaced, so that a failure can be undone."""

    containers: list[RunningService] = field(default_factory=list)
    replaced: list[RunningService] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)


@contextmanager
def undoing(labels: Labels) -> Iterator[MadeObjects]:
    """Yield a record of what is made; if the block fails, that is removed, and what was replaced runs again.

    Only containers with these ``labels`` are touched. Ctrl-C takes effect when that is done.
    """
    made = MadeObjects()
    try:
        yield made
    except BaseException:
        with deferred_interrupts():
            _undo(made, labels)
        raise
    with deferred_interrupts():
        for service in made.replaced:
            podman.remove(f"{service.container.name}{_PREVIOUS}")


def _undo(made: MadeObjects, labels: Labels) -> None:
    ours = {container.name for container in list_containers(labels, is_cleanup=True)}
    for service in reversed(made.containers):
        if service.container.name in ours:
            podman.remove(service.container.name, service.container.running.stop_seconds)
    for service in reversed(made.replaced):
        name = service.container.name
        if f"{name}{_PREVIOUS}" in ours:
            rename(f"{name}{_PREVIOUS}", name)
        podman.stop(name, service.container.running.stop_seconds)  # an interrupted stop leaves it half stopped
        start(name)
        if any(service.name in other.bound_to for other in made.replaced):
            with suppress(BuildError):  # the error that is being undone is raised
                wait_healthy(service, _PATIENCE)
    for secret in made.secrets:
        remove_secret(secret)
    for network in made.networks:
        podman.remove_network(network)


def retire(service: RunningService, made: MadeObjects) -> None:
    """Stop a service that is replaced, and keep its container under another name until `undoing` ends."""
    if service in made.replaced:
        return
    name = service.container.name
    made.replaced.append(service)
    podman.stop(name, service.container.running.stop_seconds)
    rename(name, f"{name}{_PREVIOUS}")


def start_container(service: RunningService, argv: tuple[str, ...], what: ServiceChange, made: MadeObjects) -> None:
    """Start a service by ``argv``; one that is replaced is retired before.

    Raises BuildError if podman cannot start it.
    """
    name = service.container.name
    if what is ServiceChange.REPLACE:
        retire(service, made)
    made.containers.append(service)
    end = time.monotonic() + (_RELEASE_SECONDS if what is ServiceChange.REPLACE else 0.0)
    while True:
        try:
            _check_ports(service)
            podman.start_detached(argv)
        except ToolError as error:
            if not _TAKEN.search(error.output) or time.monotonic() > end:
                raise _explain(service, error) from None
            podman.remove(name)
            time.sleep(_PAUSE)
        else:
            return


def _check_ports(service: RunningService) -> None:
    """Raise ToolError for a port that another program has: CNI keeps the address of a user's container that fails then.

    Every later start would fail, because that address stays reserved. What else forbids a port podman says.
    """
    for port in service.container.ports:
        if port.host and port.protocol == "tcp":
            with socket.socket(socket.AF_INET6 if ":" in port.address else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as podman's own programs do
                try:
                    probe.bind((port.address, port.host))
                except OSError as error:
                    if error.errno == errno.EADDRINUSE:
                        output = f"listen tcp {port.where}:{port.host}: bind: address already in use"
                        raise ToolError("a port is taken", output=output) from None


def _explain(service: RunningService, error: ToolError) -> BuildError:
    """Return an error about a service for podman's."""
    if _TAKEN.search(error.output):
        found = _PORT.search(error.output)
        ports = " or ".join(str(port.host) for port in service.container.ports)
        where = (found["where"] or found["number"]) if found else ports
        show = f"ss --listening --processes --numeric 'sport = {where.rpartition(':')[2]}' shows it"
        hint = f"{show}; `ports` in {FILE} takes another"
        return BuildError(f"{service.name}: port {where} of this host is in use by another program", hint=hint)
    if "is already in use" in error.output:
        hint = f"podman rm --force {service.container.name} removes it, if it is not needed"
        return BuildError(f"{service.name}: another container has the name {service.container.name}", hint=hint)
    return BuildError(f"{service.name}: {error.message}", hint=error.hint, output=error.output)
