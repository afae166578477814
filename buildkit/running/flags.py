"""The recommended flags for running an image, in one place.

The flags follow the CIS Docker Benchmark 1.6.0, section 5. What they are for:

- ``--read-only`` with ``--read-only-tmpfs=false``: only the named folders in memory are writable,
  and no file in them can be executed. ``/dev/shm`` is one of them only if the stage names it.
- ``--cap-drop=all``, ``--security-opt=no-new-privileges`` and a seccomp profile that allows fewer system calls than
  podman's own (see ``seccomp``).
- ``--memory`` and ``--memory-swap`` with one value (no swap), ``--pids-limit``.
- ``--user``: the config's, repeated, so that another image with the name does not start as root.
- an own network without a route to other hosts and without DNS, its ports published on loopback; no network
  without a port.
- no ``--init``: it needs a program that not every host has, and puts it into a container that has none.
  A service that does not end on SIGTERM as process 1 is found by the audit; it may have a ``tini`` as its entrypoint.
- ``--pull=never``: only an image that was built, or pulled explicitly, is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace

from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.running.seccomp import PROFILE

LOOPBACK = "127.0.0.1"
NETWORK_OPTION = "no_default_route=1"
NOTHING = "ro,nosuid,nodev,noexec,size=4k"  # mount options of an empty folder that stays empty
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the container's


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
    """A container to start: an image and a name, values of the image's config, and what the stage allows.

    ``options`` are further options of podman, which may override the flags; ``command`` replaces the image's.
    ``seccomp`` is the file of the seccomp profile, as printed commands name it; empty: podman's own profile.
    """

    image: str
    name: str
    running: Running
    user: str = ""
    ports: tuple[PublishedPort, ...] = ()
    health: Healthcheck | None = None
    seccomp: str = ""
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Whether its network has no route to other hosts."""
        return bool(self.ports) and not self.running.outgoing

    @property
    def folders(self) -> tuple[tuple[str, str], ...]:
        """Folders in memory with their mount options: those of the stage, and ``/dev/shm``."""
        named = tuple((folder, format_tmpfs(size)) for folder, size in self.running.tmpfs)
        return named if _SHARED_MEMORY in dict(named) else (*named, (_SHARED_MEMORY, NOTHING))

    def on_this_host(self) -> ContainerSpec:
        """Return the same container with the seccomp profile of this installation."""
        return replace(self, seccomp=str(PROFILE)) if self.seccomp else self

    def flags(self) -> tuple[PodmanFlag, ...]:
        """Return the recommended flags, in the order in which they are printed."""
        return tuple(self._flags())

    def _flags(self) -> Iterator[PodmanFlag]:
        running = self.running
        yield PodmanFlag(text="--pull=never")
        if self.user:
            yield PodmanFlag(text=f"--user={self.user}", needs="user")
        yield PodmanFlag(text="--read-only", needs="read-only")
        yield PodmanFlag(text="--read-only-tmpfs=false", needs="read-only")
        for folder, options in self.folders:
            yield PodmanFlag(text=f"--tmpfs={folder}:{options}", needs="tmpfs")
        yield PodmanFlag(text="--cap-drop=all", needs="capabilities")
        yield PodmanFlag(text="--security-opt=no-new-privileges", needs="no-new-privileges")
        if self.seccomp:
            yield PodmanFlag(text=f"--security-opt=seccomp={self.seccomp}", needs="seccomp")
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
    """Return the container of an image; ``host_port`` publishes the first port (0: any free; default: its own)."""
    ports = tuple(_parse_port(text) for text in config.ports)
    if ports and host_port is not None:
        first = PublishedPort(number=ports[0].number, protocol=ports[0].protocol, host=host_port)
        ports = (first, *ports[1:]) if host_port else tuple(_any_host_port(port) for port in ports)
    return ContainerSpec(
        image=image,
        name=name,
        running=running,
        user=config.user,
        ports=ports,
        health=config.healthcheck,
        seccomp=f"{name}.seccomp.json" if running.system_calls == "service" else "",
    )


def network_argv(container: ContainerSpec) -> tuple[str, ...]:
    """Return the command that creates the container's network, with options of podman 4.6 and later."""
    return (
        "podman", "network", "create",
        "--disable-dns",  # podman's DNS server would forward queries, and the data in them
        "--opt", NETWORK_OPTION,
        container.name,
    )  # fmt: skip


def run_argv(
    container: ContainerSpec, how: str, *, lacking: frozenset[str] = frozenset(), needed: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return ``podman run`` with the flags, except those that need a ``lacking`` feature; ``how`` is --rm or --detach.

    ``needed`` are options without which this host starts no container.
    """
    flags = (flag.text for flag in container.flags() if flag.needs not in lacking)
    name = f"--name={container.name}"
    return ("podman", "run", how, name, *flags, *needed, *container.options, container.image, *container.command)


def format_tmpfs(size: str) -> str:
    """Return the mount options of a folder in memory: writable for every user, no executables."""
    return f"rw,nosuid,nodev,noexec,size={size},mode=1777"


def health_options(health: Healthcheck | None) -> Iterator[tuple[str, str]]:
    """Yield the image's HEALTHCHECK as podman's options, without their prefix ``health-``.

    podman reads a HEALTHCHECK only from images of the Docker type, and pushed images are of the OCI type.
    """
    if health is None:
        return
    yield "cmd", _format_test(health.test)
    yield "interval", f"{health.interval}s"
    yield "timeout", f"{health.timeout}s"
    yield "start-period", f"{health.start_period}s"
    yield "retries", str(health.retries)


def _format_test(test: tuple[str, ...]) -> str:
    """Format a command for podman, which takes a JSON list of several words, but runs a single word in a shell."""
    return json.dumps(list(test), ensure_ascii=False) if len(test) > 1 else f"CMD {test[0]}"


def _parse_port(text: str) -> PublishedPort:
    number, _, protocol = text.partition("/")
    return PublishedPort(number=int(number), protocol=protocol or "tcp", host=int(number))


def _any_host_port(port: PublishedPort) -> PublishedPort:
    return PublishedPort(number=port.number, protocol=port.protocol, host=0)
