"""A container as it should be started: the one place in which the recommended flags stand.

The flags follow the CIS Docker Benchmark 1.6.0, section 5. What they are for:

- ``--read-only`` with ``--read-only-tmpfs=false``: nothing can be written but the folders in memory that are named,
  and nothing that is written there can be started.
- ``--cap-drop=all``, ``--security-opt=no-new-privileges`` and podman's own seccomp profile, which is never named and so
  never replaced.
- ``--memory`` and ``--memory-swap`` with one value (no swap), ``--pids-limit``.
- ``--user``: that of the config, said again, so that another image under the name does not start as root.
- a network of its own with no way out and no name server, whose ports are published on loopback; none without a port.
- no ``--init``: it needs a program of the host's that not every host has, and puts it into a container which has none.
  A service that does not end on SIGTERM as process 1 is found by the audit; it may have a ``tini`` as its entrypoint.
- ``--pull=never``: what runs is what was built, or pulled by name before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from buildkit.declare.stage import Config, Healthcheck, Running

LOOPBACK = "127.0.0.1"
NETWORK_OPTION = "no_default_route=1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodmanFlag:
    """An option of ``podman run`` as it is typed, and the host feature it needs (see ``find_unsupported``)."""

    text: str
    needs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedPort:
    """A port of the container (``8000``, ``tcp``), and the host's on loopback: 0 for any that is free."""

    number: int
    protocol: str
    host: int

    @property
    def published(self) -> str:
        """As ``--publish`` takes it: ``127.0.0.1:8000:8000``."""
        host = str(self.host) if self.host else ""
        udp = "" if self.protocol == "tcp" else f"/{self.protocol}"
        return f"{LOOPBACK}:{host}:{self.number}{udp}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """What to start: an image under a name, with what its config says and what its stage lets it use.

    ``options`` are more of podman's, which may take back what the flags give; ``command`` replaces the image's.
    """

    image: str
    name: str
    running: Running
    user: str = ""
    ports: tuple[PublishedPort, ...] = ()
    health: Healthcheck | None = None
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether it has a network with no way out."""
        return bool(self.ports) and not self.running.outgoing

    def flags(self) -> tuple[PodmanFlag, ...]:
        """The recommended flags, in the order in which they are printed."""
        return tuple(self._flags())

    def _flags(self) -> Iterator[PodmanFlag]:
        running = self.running
        yield PodmanFlag(text="--pull=never")
        if self.user:
            yield PodmanFlag(text=f"--user={self.user}", needs="user")
        yield PodmanFlag(text="--read-only", needs="read-only")
        yield PodmanFlag(text="--read-only-tmpfs=false", needs="read-only")
        for folder, size in running.tmpfs:
            yield PodmanFlag(text=f"--tmpfs={folder}:{format_tmpfs(size)}", needs="tmpfs")
        yield PodmanFlag(text="--cap-drop=all", needs="capabilities")
        yield PodmanFlag(text="--security-opt=no-new-privileges", needs="no-new-privileges")
        yield PodmanFlag(text=f"--memory={running.memory}", needs="memory")
        yield PodmanFlag(text=f"--memory-swap={running.memory}", needs="memory")
        yield PodmanFlag(text=f"--pids-limit={running.pids}", needs="pids")
        yield from self._network()
        yield PodmanFlag(text=f"--stop-timeout={running.stop_seconds}")
        for option, value in health_options(self.health):
            yield PodmanFlag(text=f"--health-{option}={value}")

    def _network(self) -> Iterator[PodmanFlag]:
        if self.closed:
            yield PodmanFlag(text=f"--network={self.name}", needs="closed")
        elif not self.ports and not self.running.outgoing:
            yield PodmanFlag(text="--network=none", needs="no-network")
        for port in self.ports:
            yield PodmanFlag(text=f"--publish={port.published}")


def make_container(
    image: str, name: str, config: Config, running: Running, *, host_port: int | None = None
) -> ContainerSpec:
    """A container of an image by its config; ``host_port`` is that of the first port: its own number unless said."""
    ports = tuple(_parse_port(text) for text in config.ports)
    if ports and host_port is not None:
        first = PublishedPort(number=ports[0].number, protocol=ports[0].protocol, host=host_port)
        ports = (first, *ports[1:]) if host_port else tuple(_any(port) for port in ports)
    return ContainerSpec(
        image=image, name=name, running=running, user=config.user, ports=ports, health=config.healthcheck
    )


def network_argv(container: ContainerSpec) -> tuple[str, ...]:
    """The command that makes the container's network, in words that podman knows since 4.6."""
    return (
        "podman", "network", "create",
        "--disable-dns",  # podman's own server would pass questions, and what they hold, on
        "--opt", NETWORK_OPTION,
        container.name,
    )  # fmt: skip


def run_argv(
    container: ContainerSpec, how: str, *, lacking: frozenset[str] = frozenset(), needed: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """``podman run`` with the flags, but for those that need what is ``lacking``; ``how`` is --rm or --detach.

    ``needed`` are options without which this host starts nothing.
    """
    flags = (flag.text for flag in container.flags() if flag.needs not in lacking)
    name = f"--name={container.name}"
    return ("podman", "run", how, name, *flags, *needed, *container.options, container.image, *container.command)


def format_tmpfs(size: str) -> str:
    """Mount options of a folder in memory: for everybody's files, and for nothing that can be started."""
    return f"rw,nosuid,nodev,noexec,size={size},mode=1777"


def health_options(health: Healthcheck | None) -> Iterator[tuple[str, str]]:
    """The image's HEALTHCHECK as podman's options take it, without their ``health-``.

    podman reads a HEALTHCHECK from images of the Docker type alone, and what is pushed is of the OCI type: it is said.
    """
    if health is None:
        return
    yield "cmd", _say_test(health.test)
    yield "interval", f"{health.interval}s"
    yield "timeout", f"{health.timeout}s"
    yield "start-period", f"{health.start_period}s"
    yield "retries", str(health.retries)


def _say_test(test: tuple[str, ...]) -> str:
    """podman takes a JSON list for an argument list, but one of a single word for text to a shell."""
    return json.dumps(list(test), ensure_ascii=False) if len(test) > 1 else f"CMD {test[0]}"


def _parse_port(text: str) -> PublishedPort:
    number, _, protocol = text.partition("/")
    return PublishedPort(number=int(number), protocol=protocol or "tcp", host=int(number))


def _any(port: PublishedPort) -> PublishedPort:
    return PublishedPort(number=port.number, protocol=port.protocol, host=0)
