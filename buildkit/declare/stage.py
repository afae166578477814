"""A stage as its file (``stages/NAME/stage.toml``) defines it: values."""

from __future__ import annotations

import posixpath

from buildkit.declare.apt_archives import USUAL, Archives
from buildkit.declare.containerfile_root import ContainerfileRoot
from buildkit.declare.framework import Framework
from buildkit.declare.gpu_request import GpuRequest
from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.serve_settings import Serving
from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account of the image; it owns its home. ``gid`` equals ``uid`` by default."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str = "/usr/sbin/nologin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Debian:
    """A root made by mmdebstrap from the lock of ``packages`` (an apt list).

    The patterns of ``exclude_file``, a path relative to the project, are in ``exclude`` once it is read.
    """

    suite: str
    packages: str
    variant: str = "minbase"
    components: tuple[str, ...] = ("main",)
    exclude: tuple[str, ...] = ()
    exclude_file: str = ""
    users: tuple[User, ...] = ()
    drop_setuid: bool = False
    archives: Archives = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file or folder of the repository that a step sees, read-only, at ``target``."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A step that runs inside the root and extends it; ``secrets`` are names, never values."""

    name: str
    command: tuple[str, ...]
    network: bool = False
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Models of a lock, each in its own folder below ``target``: those in ``names``, or all if it is empty."""

    lock: str
    target: str = "/models"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The files that git tracks below ``source``, or with ``untracked`` all files, at ``target`` in the image.

    `locate_source` says where the source is. A file whose target ends in a slash keeps its name below it.
    """

    source: str
    target: str
    untracked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """The health check of a container; times in seconds."""

    test: tuple[str, ...]
    interval: int = 30
    timeout: int = 10
    start_period: int = 0
    retries: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The image config of a stage; empty values are inherited."""

    user: str = ""
    workdir: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The resources of a container; neither part of the image nor of any recipe.

    Sizes are written as podman does (``512m``); ``tmpfs`` are folders in memory, which count towards ``memory``.
    ``system_calls`` are those that a "service" makes, or those that podman allows by "default". With ``strict``, a host
    that cannot apply a flag starts no container. ``cpus`` is 0 for all. ``metrics`` is where it has figures for
    Prometheus: a port and a path (``8002/metrics``).
    """

    memory: str = "1g"
    pids: int = 256
    tmpfs: tuple[tuple[str, str], ...] = (("/tmp", "64m"),)  # noqa: S108 - the container's
    outgoing: bool = False
    stop_seconds: int = 10
    system_calls: str = "service"
    strict: bool = False
    cpus: float = 0.0
    metrics: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage as its file defines it; ``file`` is relative to the project.

    ``image_archives`` are those from which `[apt]` installs into ``image``, where they are not the image's own.

    ``wheels`` are paths of requirements locks, and ids of ``choices``, in the order of the file.
    ``prefer`` are projects, whose files win where two wheels meet; the first wins over the next. ``used_args`` are the
    values of the build arguments that the stage used, once they are known. ``mount_models`` is whether the models of
    the image are mounted (None: as below). The image with them is that of a stage without a file, ``models_of`` this
    one.
    """

    name: str
    file: str
    summary: str
    base: str = ""
    include: tuple[str, ...] = ()
    ships: bool = False
    sbom: bool = False
    image: str = ""
    image_archives: Archives = USUAL
    debian: Debian | None = None
    containerfile: ContainerfileRoot | None = None
    apt: str = ""
    args: tuple[tuple[str, str], ...] = ()
    used_args: tuple[tuple[str, str], ...] = ()
    run: tuple[Run, ...] = ()
    wheels: tuple[str, ...] = ()
    choices: tuple[LockChoice, ...] = ()
    prefer: tuple[str, ...] = ()
    models: Models | None = None
    mount_models: bool | None = None
    models_of: str = ""
    copy: tuple[Copy, ...] = ()
    config: Config = Config()
    framework: Framework | None = None
    running: Running | None = None
    gpu: GpuRequest | None = None
    serve: Serving | None = None

    @property
    def has_root(self) -> bool:
        """Whether a root begins with it."""
        return bool(self.image or self.debian or self.containerfile)

    @property
    def archives(self) -> Archives:
        """The archives of the stage's own root."""
        return self.debian.archives if self.debian else self.image_archives

    @property
    def folder(self) -> str:
        """The stage's folder, relative to the project."""
        return posixpath.dirname(self.file)
