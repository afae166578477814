"""Facts about the host: values only. Their text comes from files and programs and is not sanitized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildkit.gpu.cdi_spec import CdiFiles
from buildkit.gpu.device import Gpus
from buildkit.gpu.mps_host import MpsHost
from buildkit.tools.isolation import Isolation


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSystem:
    """Who runs this; ``uid`` 0 is root."""

    user: str = "root"
    uid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledTool:
    """A program: its path and its version, empty if it is missing or prints none."""

    name: str
    path: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStorage:
    """Container storage as buildah sees it; ``problem`` is its error message."""

    driver: str = ""
    native_diff: bool | None = None  # None: the driver has no such notion
    mount_program: str = ""
    graph_root: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSpace:
    """The file system under ``path``, which holds ``use``; sizes in bytes."""

    use: str
    path: str
    free: int
    total: int
    in_memory: bool = False
    writable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageStoreFacts:
    """The image store: its folder, the effective storage.conf, and whether that names it.

    ``file_system`` is the type that stat(1) prints; ``problem`` is why nothing else is known, ``mend`` what to do.
    """

    folder: str = ""
    settings_file: str = ""
    is_listed: bool = False
    exists: bool = False
    is_readable: bool = False
    file_system: str = ""
    problem: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubordinateIds:
    """The numbers of the user's subordinate ids (subuid(5), subgid(5)); ``free`` is the first id after all ranges."""

    uids: int
    gids: int
    free: int = 100000


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNamespaces:
    """Permission for ordinary users to make user namespaces; ``profiles`` are the tools that AppArmor lets through."""

    allowed: bool = True
    apparmor_restricts: bool = False
    profiles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerHost:
    """The facts that determine whether podman runs containers here without a custom containers.conf(5).

    ``cgroups`` is ``v2``, ``hybrid``, ``v1`` or ``none``; ``nofile`` and ``nproc`` are the hard limits of open files
    and of processes in a container (-1: none), ``may_raise`` says whether they can be raised; ``backend`` is the
    network backend that podman chose, empty without podman or if it is unknown. A backend that is there lacks nothing
    that it starts; ``network_lacks`` are the Debian packages that the chosen one lacks. ``has_tun`` says whether this
    user may open /dev/net/tun, by which containers of ordinary users reach a network, ``user_networks`` which of the
    programs that do it are here.
    """

    cgroups: str = "v2"
    runtimes: tuple[str, ...] = ("crun",)
    rootful: bool = True
    nofile: int = 1048576
    nproc: int = -1
    may_raise: bool = True
    backend: str = ""
    has_cni: bool = False
    has_netavark: bool = True
    network_lacks: tuple[str, ...] = ()
    has_tun: bool = True
    user_networks: tuple[str, ...] = ("pasta", "slirp4netns")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """All facts that the checks use.

    ``emulated`` are the other processors that the project has images for, and whether programs for them run here.
    """

    system: HostSystem
    tools: tuple[InstalledTool, ...]
    storage: ContainerStorage
    containers: ContainerHost
    image_store: ImageStoreFacts = field(default_factory=ImageStoreFacts)
    emulated: Mapping[str, bool] = field(default_factory=dict)
    isolation: Isolation | None = None  # of steps; None without buildah
    disks: tuple[DiskSpace, ...] = ()
    ranges: SubordinateIds | None = None  # None for root, which needs none
    namespaces: UserNamespaces = field(default_factory=UserNamespaces)
    debian_keyring: bool = True
    runtime_folder: bool = True  # XDG_RUNTIME_DIR exists and belongs to the user
    logins: tuple[str, ...] = ()  # names of registries, never secrets
    gpus: Gpus = field(default_factory=Gpus)
    cdi: CdiFiles = field(default_factory=CdiFiles)
    devices_blocked: str = ""  # by SELinux, for containers: why, and what mends it
    mps: MpsHost = field(default_factory=MpsHost)
    settings: tuple[str, ...] = ()  # which files and variables steer indexes, proxies and certificates, never values

    def find_tool(self, name: str) -> InstalledTool:
        """Return the tool of that name; without a path if it was not probed."""
        return next((tool for tool in self.tools if tool.name == name), InstalledTool(name=name))
