"""What a container gets from outside its image: volumes, files of the host, secrets, and a network with names."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

SECRETS = "/run/secrets"
_VOLUME_OPTIONS = "rw,nosuid,nodev,noexec"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMount:
    """A volume by podman's name, writable at ``target``; programs in it cannot be executed.

    A new one belongs to ``owner`` (user and group id), None: as podman does it. It needs ``size`` (``60g``), if known.
    """

    volume: str
    target: str
    owner: tuple[int, int] | None = None
    size: str = ""

    @property
    def text(self) -> str:
        """As ``--volume`` takes it."""
        return f"{self.volume}:{self.target}:{_VOLUME_OPTIONS}"

    @property
    def ownership(self) -> str:
        """Its owner as an option of a volume; empty without one."""
        return f"uid={self.owner[0]},gid={self.owner[1]}" if self.owner else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryVolume:
    """A volume in memory by podman's name, which containers share while they run.

    ``owner`` (user and group id) and ``mode`` are those of its folder; ``blocks`` of 4 KiB are the most that it holds:
    podman 4.3 takes ``size`` for a quota on disk, and refuses it.
    """

    volume: str
    owner: tuple[int, int]
    mode: str = "0755"
    blocks: int = 4096

    @property
    def options(self) -> str:
        """The options of its mount."""
        uid, gid = self.owner
        return f"nr_blocks={self.blocks},mode={self.mode},uid={uid},gid={gid},nosuid,nodev,noexec"


@dataclass(frozen=True, slots=True, kw_only=True)
class BindMount:
    """A file or folder of the host at ``target``; ``shared`` relabels it for SELinux.

    ``files`` are names and texts of all that the folder holds; its name is then that of this content, see `held_files`.
    """

    source: str
    target: str
    writable: bool = False
    shared: bool = True
    files: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """As ``--volume`` takes it."""
        access = "rw" if self.writable else "ro"
        return f"{self.source}:{self.target}:{access},nosuid,nodev{',z' if self.shared else ''}"


def held_files(folder: str, name: str, target: str, files: tuple[tuple[str, str], ...]) -> BindMount:
    """Return the mount of files that are written for a container, below ``folder`` by name and content."""
    digest = hashlib.sha256("\0".join(part for file in files for part in file).encode()).hexdigest()
    return BindMount(source=f"{folder}/{name}-{digest[:16]}", target=target, files=files)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMount:
    """An image of models, that of ``stage``, read-only at ``target``."""

    image: str
    target: str
    stage: str

    @property
    def text(self) -> str:
        """As ``--mount`` takes it."""
        return f"type=image,source={self.image},destination={self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretMount:
    """A secret by podman's name, a file ``/run/secrets/NAME`` that only ``owner`` (user and group id) may read.

    Without an owner, which only numbers can name, every user of the container may. With ``variable`` it is that
    variable of the program, and no file.
    """

    name: str
    secret: str
    owner: tuple[int, int] | None = None
    variable: str = ""

    @property
    def target(self) -> str:
        """The path in the container."""
        return f"{SECRETS}/{self.name}"

    @property
    def mode(self) -> str:
        """The permissions, in octal."""
        return "0400" if self.owner else "0444"

    @property
    def text(self) -> str:
        """As ``--secret`` takes it."""
        if self.variable:
            return f"{self.secret},type=env,target={self.variable}"
        owner = f",uid={self.owner[0]},gid={self.owner[1]}" if self.owner else ""
        return f"{self.secret},target={self.name}{owner},mode={self.mode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNetwork:
    """The network of an environment by podman's name, with the addresses of all services.

    ``subnet`` is an IPv4 network (``10.90.1.0/24``), whose last address no service has: it is for who watches them. A
    network that is not ``closed`` has a route to other hosts. ``replicas`` are addresses that stand in no hosts file:
    the proxy before them has a name there.
    """

    name: str
    subnet: str
    closed: bool
    hosts: tuple[tuple[str, str], ...] = ()
    replicas: tuple[tuple[str, str], ...] = ()

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each service and replica."""
        return dict((*self.hosts, *self.replicas))

    @property
    def guest(self) -> str:
        """The address of a container that joins from another environment; empty without a subnet."""
        return str(ipaddress.IPv4Network(self.subnet)[-2]) if self.subnet else ""
