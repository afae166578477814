"""What ``nox -s init`` writes, as values: a draft of stages and lists. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something of the repository that was not translated: where it is, what it is, and what a person can do."""

    file: str
    line: int
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}\n    {self.advice}"


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

    ``package`` is the project itself, if the image holds it.
    """

    locks: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    package: bool = False


@dataclass(slots=True)
class ImageDraft:
    """One image: filled while the instructions that make it are read."""

    name: str
    root: RootDraft | None = None
    apt: dict[str, None] = field(default_factory=dict)
    builder_apt: dict[str, None] = field(default_factory=dict)
    users: dict[str, int] = field(default_factory=dict)
    wheels: WheelsDraft = WheelsDraft()
    copies: dict[CopyDraft, None] = field(default_factory=dict)
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
