"""What an export is made of: build stages, and files beside the Containerfile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How a stage is exported.

    ``file`` is the Containerfile, relative to the project. ``root`` names an image to start from in place of a
    root by mmdebstrap, ``find_links`` a folder of the project that wheels come from in place of an index, ``uv`` an
    image that holds ``/uv``, which then installs in place of pip. ``ignored`` are lines of the project's own
    ``.containerignore``.
    """

    file: str = "Podmanfile"
    bytecode: bool = True
    link: bool = False
    root: str = ""
    find_links: str = ""
    uv: str = ""
    ignored: str = ""

    @property
    def folder(self) -> str:
        """Where the files beside the Containerfile are."""
        return f"{self.file}.d"

    @property
    def link_flags(self) -> tuple[str, ...]:
        """What a COPY into the image says, so that it does not depend on the layers below."""
        return ("--link",) if self.link else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFile:
    """A file beside the Containerfile: path relative to the project, and text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerfileExport:
    """A Containerfile, and the files that it needs besides those of the repository."""

    text: str
    files: tuple[SideFile, ...]


@dataclass(slots=True)
class BuildStage:
    """A build stage of the Containerfile: instructions on top of ``base``."""

    name: str
    base: str
    comment: str
    lines: list[str] = field(default_factory=list)

    def render(self) -> str:
        """Its text, with a comment above."""
        comment = "".join(f"# {line}\n" for line in self.comment.splitlines())
        return f"{comment}FROM {self.base} AS {self.name}\n" + "".join(f"{line}\n" for line in self.lines)


class ContainerfileBuilder:
    """The Containerfile while it is written: arguments, build stages in order, side files, and what is read."""

    def __init__(self, options: ExportOptions, reserved: Iterable[str]) -> None:
        self.options = options
        self.arguments: dict[str, tuple[str, str]] = {}
        self.builds: list[BuildStage] = []
        self.files: list[SideFile] = []
        self.reads: dict[str, None] = {}
        self._taken = {"scratch", *reserved}

    def add_stage(self, name: str, base: str, comment: str, *, own: bool = False) -> BuildStage:
        """A new build stage; ``own`` names are those of the project's stages, others are numbered where taken."""
        wanted = name if name[0].isalpha() else f"s-{name}"
        numbered = (wanted if turn == 1 else f"{wanted}-{turn}" for turn in range(1, len(self._taken) + 3))
        chosen = wanted if own else next(given for given in numbered if given not in self._taken)
        self._taken.add(chosen)
        self.builds.append(BuildStage(name=chosen, base=base, comment=comment))
        return self.builds[-1]

    def add_argument(self, name: str, default: str, comment: str) -> str:
        """A build argument that stands before every stage; returns how FROM names it."""
        self.arguments[name] = (default, comment)
        return f"${{{name}}}"

    def add_file(self, name: str, text: str) -> str:
        """A file beside the Containerfile, once for all who need it; returns its path in the context."""
        file = SideFile(path=f"{self.options.folder}/{name}", text=text)
        if file not in self.files:
            self.files.append(file)
        return file.path

    def add_source(self, path: str) -> str:
        """Note that the build reads a file or folder of the repository; returns it."""
        self.reads[path] = None
        return path
