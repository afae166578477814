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

from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.ports import PublishedPort, parse_port
from buildkit.declare.stage import Config, Healthcheck, Running
from buildkit.errors import BuildError
from buildkit.running.mounts import SECRETS, BindMount, ImageMount, SecretMount, ServiceNetwork, VolumeMount
from buildkit.running.seccomp import PROFILE

METRICS_LABEL = "io.xoe.buildkit.metrics"
"""The label of a container with metrics: port and path, as ``8002/metrics``."""
NETWORK_OPTION = "no_default_route=1"
NOTHING = "ro,nosuid,nodev,noexec,size=4k"  # mount options of an empty folder that stays empty
SECRET_FOLDER = "rw,nosuid,nodev,noexec,size=4k,mode=0755"  # noqa: S105 - mount options of a folder
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the container's


@dataclass(frozen=True, slots=True, kw_only=True)
class PodmanFlag:
    """An option of ``podman run`` as it is typed, and the host feature it needs (see ``find_unsupported``)."""

    text: str
    needs: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to start: an image and a name, values of the image's config, and what the stage allows.

    ``options`` are further options of podman, which may override the flags; ``entrypoint`` and ``command`` replace the
    image's.
    ``seccomp`` is the file of the seccomp profile, as printed commands name it; empty: podman's own profile.
    ``exceptions`` are protections that it cannot have (`Exemption.allow`). ``owner`` are the numbers of its user, if
    they are known. ``models`` is the image of its models, if that is mounted. With ``networks``, it joins those, and
    has no network of its own. ``gpu`` are the GPUs that it asks for, ``devices`` the CDI names of those that it gets,
    and ``mig`` the profiles of MIG devices among them (``3g.71gb``), as Kubernetes writes them. ``python`` is the
    interpreter of its wheels.
    """

    image: str
    name: str
    running: Running
    user: str = ""
    ports: tuple[PublishedPort, ...] = ()
    health: Healthcheck | None = None
    seccomp: str = ""
    options: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[VolumeMount | BindMount, ...] = ()
    models: ImageMount | None = None
    secrets: tuple[SecretMount, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    networks: tuple[ServiceNetwork, ...] = ()
    hostname: str = ""
    exceptions: tuple[str, ...] = ()
    owner: tuple[int, int] | None = None
    gpu: GpuRequest | None = None
    devices: tuple[str, ...] = ()
    python: str = ""
    mig: tuple[str, ...] = ()

    @property
    def given_devices(self) -> tuple[str, ...]:
        """The devices. Raises BuildError where it asks for GPUs and was given none: it would run on the CPU."""
        if self.gpu and not self.devices:
            raise BuildError(f"{self.name} was given no GPU, and asks for some")
        return self.devices

    @property
    def metrics(self) -> tuple[str, str] | None:
        """The port and the path of its metrics."""
        port, slash, path = self.running.metrics.partition("/")
        return (port, f"/{path}") if slash else None

    @property
    def own_labels(self) -> dict[str, str]:
        """Labels by which others find what it offers."""
        return {METRICS_LABEL: self.running.metrics} if self.running.metrics else {}

    @property
    def closed(self) -> bool:
        """Whether it can open no connection to other hosts."""
        return (bool(self.ports) or bool(self.networks)) and not self.running.outgoing

    @property
    def read_only(self) -> bool:
        """Whether the image is read-only."""
        return "writable-root" not in self.exceptions

    @property
    def gains_privileges(self) -> bool:
        """Whether setuid programs and file capabilities grant something."""
        return "new-privileges" in self.exceptions

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The capabilities that it keeps."""
        found = (one.removeprefix("capability:") for one in self.exceptions if one.startswith("capability:"))
        return tuple(sorted(name.removeprefix("CAP_") for name in found))

    @property
    def places(self) -> tuple[str, ...]:
        """The folders that it may write to: those in memory, volumes, and that in which runc makes secret files."""
        folders = (folder for folder, _ in self.running.tmpfs)
        return (*folders, *(mount.target for mount in self.mounts), *((SECRETS,) if self.secrets else ()))

    @property
    def address(self) -> str:
        """Its address in the network of its environment; empty without one."""
        return self.networks[0].addresses[self.hostname] if self.networks else ""

    @property
    def mac(self) -> str:
        """Its hardware address in that network, by its address: what knew its predecessor's knows this one's."""
        return format_mac(self.address)

    @property
    def secret_files(self) -> tuple[SecretMount, ...]:
        """The secrets that are files."""
        return tuple(secret for secret in self.secrets if not secret.variable)

    @property
    def secret_variables(self) -> tuple[SecretMount, ...]:
        """The secrets that are variables."""
        return tuple(secret for secret in self.secrets if secret.variable)

    @property
    def folders(self) -> tuple[tuple[str, str], ...]:
        """Folders in memory with their mount options: those of the stage, and ``/dev/shm``."""
        named = tuple(
            (folder, format_tmpfs(size, executable=f"executable:{folder}" in self.exceptions))
            for folder, size in self.running.tmpfs
        )
        mounted = {mount.target for mount in self.mounts}
        own = tuple((folder, options) for folder, options in named if folder not in mounted)
        return own if _SHARED_MEMORY in dict(named) or _SHARED_MEMORY in mounted else (*own, (_SHARED_MEMORY, NOTHING))

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
        if self.read_only:
            yield PodmanFlag(text="--read-only", needs="read-only")
            yield PodmanFlag(text="--read-only-tmpfs=false", needs="read-only")
        for folder, options in self.folders:
            yield PodmanFlag(text=f"--tmpfs={folder}:{options}", needs="tmpfs")
        yield PodmanFlag(text="--cap-drop=all", needs="capabilities")
        for capability in self.capabilities:
            yield PodmanFlag(text=f"--cap-add={capability}")
        if not self.gains_privileges:
            yield PodmanFlag(text="--security-opt=no-new-privileges", needs="no-new-privileges")
        if self.seccomp:
            yield PodmanFlag(text=f"--security-opt=seccomp={self.seccomp}", needs="seccomp")
        yield PodmanFlag(text=f"--memory={running.memory}", needs="memory")
        yield PodmanFlag(text=f"--memory-swap={running.memory}", needs="memory")
        yield PodmanFlag(text=f"--pids-limit={running.pids}", needs="pids")
        if running.cpus:
            yield PodmanFlag(text=f"--cpus={running.cpus:g}", needs="cpu")
        yield from self._network()
        yield PodmanFlag(text=f"--stop-timeout={running.stop_seconds}")
        for option, value in health_options(self.health):
            yield PodmanFlag(text=f"--health-{option}={value}")
        yield from self._given()

    def _network(self) -> Iterator[PodmanFlag]:
        if self.networks:
            yield PodmanFlag(text=f"--network={self.networks[0].name}:ip={self.address},mac={self.mac}")
            for network in self.networks[1:]:
                address = f":ip={network.guest},mac={format_mac(network.guest)}" if network.guest else ""
                yield PodmanFlag(text=f"--network={network.name}{address}")
            yield PodmanFlag(text=f"--hostname={self.hostname}")
            for name, address in self.networks[0].hosts:
                if name != self.hostname:
                    yield PodmanFlag(text=f"--add-host={name}:{address}")
        elif self.closed:
            yield PodmanFlag(text=f"--network={self.name}", needs="closed")
        elif not self.ports and not self.running.outgoing:
            yield PodmanFlag(text="--network=none", needs="no-network")
        for port in self.ports:
            yield PodmanFlag(text=f"--publish={port.published}")

    def _given(self) -> Iterator[PodmanFlag]:
        for device in self.given_devices:
            yield PodmanFlag(text=f"--device={device}")
        if self.entrypoint:
            yield PodmanFlag(text=f"--entrypoint={json.dumps(list(self.entrypoint), ensure_ascii=False)}")
        for name, value in self.env:
            yield PodmanFlag(text=f"--env={name}={value}")
        for mount in self.mounts:
            yield PodmanFlag(text=f"--volume={mount.text}")
        if self.models:
            yield PodmanFlag(text=f"--mount={self.models.text}")
        if self.secret_files and self.read_only:
            # runc cannot make the files' places in a read-only root
            yield PodmanFlag(text=f"--tmpfs={SECRETS}:{SECRET_FOLDER}")
        for secret in self.secrets:
            yield PodmanFlag(text=f"--secret={secret.text}")
        for name, value in (*self.own_labels.items(), *self.labels):
            yield PodmanFlag(text=f"--label={name}={value}")


def format_mac(address: str) -> str:
    """Return the hardware address that goes with an IPv4 address."""
    return "02:42:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def make_container(
    image: str, name: str, config: Config, running: Running, *, host_port: int | None = None
) -> ContainerSpec:
    """Return the container of an image; ``host_port`` publishes the first port (0: any free; default: its own)."""
    ports = tuple(parse_port(text) for text in config.ports)
    if ports and host_port is not None:
        changed = ports[:1] if host_port else ports
        ports = (*(replace(port, host=host_port) for port in changed), *ports[len(changed) :])
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

    ``needed`` are options without which this host starts no container. Raises BuildError for a container that would
    lack its GPUs, and so run on the CPU.
    """
    flags = (flag.text for flag in container.flags() if flag.needs not in lacking)
    name = f"--name={container.name}"
    return ("podman", "run", how, name, *flags, *needed, *container.options, container.image, *container.command)


def format_tmpfs(size: str, *, executable: bool = False) -> str:
    """Return the mount options of a folder in memory: writable for every user, no programs unless ``executable``."""
    return f"rw,nosuid,nodev,{'exec' if executable else 'noexec'},size={size},mode=1777"


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
