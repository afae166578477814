"""What is known while a Containerfile is read: variables, files, and the draft of the image. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from buildkit.adopt.draft import ImageDraft, Leftover
from buildkit.adopt.installs import LockInstall
from buildkit.adopt.variables import expand
from buildkit.declare.instructions import Instruction, ParsedContainerfile

_MOST_TEXT = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryFacts:
    """What the translation asks about the repository; all paths are relative to it.

    ``exists`` tells of a path whether it is there (a folder, if it ends in a slash), ``find`` returns what a pattern of
    ``COPY`` matches, ``read`` the text of a file, ``is_executable`` its mode. ``python`` is the minor version that the
    project wants, ``context`` the folder that sources are relative to, ``stage`` the name of the image's stage.
    """

    exists: Callable[[str], bool]
    find: Callable[[str], tuple[str, ...]] = lambda _: ()
    read: Callable[[str], str] = lambda _: ""
    is_executable: Callable[[str], bool] = lambda _: False
    python: str = ""
    context: str = "."
    stage: str = "app"


@dataclass(slots=True, kw_only=True)
class StageFiles:
    """The files of a build stage: ``copies`` are places in the image with their sources in the repository.

    ``packages`` are files that only installations read; ``locks`` are requirement files that were exported of a lock.
    ``generated`` are here-documents by their place.
    """

    workdir: str = ""
    copies: dict[tuple[str, str], None] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    locks: dict[str, LockInstall] = field(default_factory=dict)
    generated: dict[str, str] = field(default_factory=dict)

    def copy(self) -> StageFiles:
        """Return the files of a stage that begins with these."""
        return StageFiles(
            workdir=self.workdir,
            copies=dict(self.copies),
            packages=dict(self.packages),
            locks=dict(self.locks),
            generated=dict(self.generated),
        )

    def absolute(self, path: str) -> str:
        """Return a path of an instruction as one of the image."""
        return posixpath.normpath(posixpath.join(self.workdir or "/", path))

    def find_source(self, place: str) -> str | None:
        """Return the path in the repository of what is at ``place``; None if no file of it is there."""
        if place in self.packages:
            return self.packages[place]
        above = [(at, source) for at, source in self.copies if f"{place}/".startswith(f"{at.rstrip('/')}/")]
        if not above:
            return None
        at, source = max(above, key=lambda copy: len(copy[0]))
        return posixpath.normpath(posixpath.join(source, place[len(at.rstrip("/")) + 1 :]))

    @property
    def places(self) -> dict[str, str]:
        """The copies by their places: of several at one place the last."""
        return dict(list(self.copies))


@dataclass(slots=True, kw_only=True)
class ContainerfileReading:
    """The state of reading one image; ``is_dependency`` while a stage is read that files are copied from."""

    file: ParsedContainerfile
    tree: RepositoryFacts
    image: ImageDraft
    values: dict[str, str]
    files: StageFiles = field(default_factory=StageFiles)
    arguments: dict[str, str] = field(default_factory=dict)
    shell: tuple[str, ...] = ("/bin/sh", "-c")
    is_dependency: bool = False
    leftovers: dict[int, Leftover] = field(default_factory=dict)

    def expand(self, text: str, more: Mapping[str, str] | None = None) -> str | None:
        """Return the text with its variables replaced; None if one has no value."""
        return expand(text, {**self.values, **(more or {})})

    def in_context(self, source: str) -> str:
        """Return a source of ``COPY`` as a path of the repository."""
        return posixpath.normpath(posixpath.join(self.tree.context, source.lstrip("/") or "."))

    def leave(self, instruction: Instruction, advice: str, text: str = "") -> None:
        """Leave an instruction, or the part ``text`` of it, to a person; the first word on a line counts."""
        flags = "".join(f"--{name}={value} " for name, value in instruction.flags if name in ("from", "platform"))
        whole = f"{instruction.name} {flags}{text or instruction.value}"
        shown = whole if len(whole) <= _MOST_TEXT else f"{whole[: _MOST_TEXT - 1]}…"
        found = Leftover(file=self.file.path, line=instruction.line, text=shown, advice=advice)
        self.leftovers.setdefault(instruction.line, found)

    def leave_at(self, file: str, line: int, text: str, advice: str) -> None:
        """Leave something of another file to a person."""
        number = -len(self.leftovers) - 1
        self.leftovers[number] = Leftover(file=file, line=line, text=text, advice=advice)
