"""What ``nox -s init`` writes, as values: a draft of stages and lists. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something of the repository that was not translated: where it is, what it is, and what a person can do.

    ``line`` counts from 1; 0 means the whole file.
    """

    file: str
    line: int
    text: str
    advice: str

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        advice = self.advice.replace("\n", "\n    ")
        return f"{self.file}{line}: {self.text}\n    {advice}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootDraft:
    """A root: a Debian ``suite``, or the ``image`` of a registry; and the Python in it."""

    python: str
    glibc: str
    interpreter: str
    suite: str = ""
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyDraft:
    """Files of the repository, and where they are in the image."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelsDraft:
    """Python packages: locks that exist, with their extras and groups, and lines of an input of our own.

    ``package`` is whether the image holds the project itself, ``member`` the workspace's member in its place.
    ``settings`` are options of the input, such as ``--index-url``; ``plain`` is whether some lines have no index.
    """

    locks: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    package: bool = False
    member: str = ""
    settings: tuple[str, ...] = ()
    plain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDraft:
    """A model: its ``source`` as in models.toml, its files (empty: all), and the folder above it in the image."""

    name: str
    source: str
    target: str
    files: tuple[str, ...] = ()
    version: str = ""


@dataclass(slots=True)
class ImageDraft:
    """One image: filled while the instructions that make it are read.

    ``texts`` are files that the instructions hold themselves, by their path in the repository; ``installed`` are places
    from which packages were installed; ``running`` is the table of that name; ``base`` is the stage below;
    ``compilers`` is whether an image of the file brings them.
    """

    name: str
    root: RootDraft | None = None
    base: str = "base"
    ships: bool = True
    apt: dict[str, None] = field(default_factory=dict)
    builder_apt: dict[str, None] = field(default_factory=dict)
    compilers: bool = False
    users: dict[str, int] = field(default_factory=dict)
    wheels: WheelsDraft = WheelsDraft()
    copies: dict[CopyDraft, None] = field(default_factory=dict)
    models: dict[ModelDraft, None] = field(default_factory=dict)
    installed: dict[str, None] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: dict[str, None] = field(default_factory=dict)
    volumes: dict[str, None] = field(default_factory=dict)
    workdir: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    stop_signal: str = ""
    healthcheck: tuple[str, ...] = ()
    health_times: dict[str, int] = field(default_factory=dict)
    running: dict[str, str | int] = field(default_factory=dict)
