"""The parts of an export: the Containerfile under construction, its build stages and its side files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of an export.

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
        """The folder of the side files."""
        return f"{self.file}.d"

    @property
    def link_flags(self) -> tuple[str, ...]:
        """The flags that make a COPY into the image independent of the layers below."""
        return ("--link",) if self.link else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFile:
    """A file next to the Containerfile: path relative to the project, and text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerfileExport:
    """A Containerfile, and the side files that it needs."""

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
        """Return the text, with the comment above."""
        comment = "".join(f"# {line}\n" for line in self.comment.splitlines())
        return f"{comment}FROM {self.base} AS {self.name}\n" + "".join(f"{line}\n" for line in self.lines)


class ContainerfileBuilder:
    """A Containerfile under construction: arguments, ordered build stages, side files, and the sources it reads."""

    def __init__(self, options: ExportOptions, reserved: Iterable[str]) -> None:
        self.options = options
        self.arguments: dict[str, tuple[str, str]] = {}
        self.builds: list[BuildStage] = []
        self.files: list[SideFile] = []
        self.reads: dict[str, None] = {}
        self._taken = {"scratch", *reserved}

    def add_stage(self, name: str, base: str, comment: str, *, own: bool = False) -> BuildStage:
        """Add a build stage. Names of the project's own stages (``own``) are kept, others get a number if taken."""
        preferred = name if name[0].isalpha() else f"s-{name}"
        numbered = (preferred if turn == 1 else f"{preferred}-{turn}" for turn in range(1, len(self._taken) + 3))
        chosen = preferred if own else next(candidate for candidate in numbered if candidate not in self._taken)
        self._taken.add(chosen)
        self.builds.append(BuildStage(name=chosen, base=base, comment=comment))
        return self.builds[-1]

    def add_argument(self, name: str, default: str, comment: str) -> str:
        """Add a global build argument; return how FROM refers to it."""
        self.arguments[name] = (default, comment)
        return f"${{{name}}}"

    def add_file(self, name: str, text: str) -> str:
        """Add a side file, once for all its users; return its path in the build context."""
        file = SideFile(path=f"{self.options.folder}/{name}", text=text)
        if file not in self.files:
            self.files.append(file)
        return file.path

    def add_source(self, path: str) -> str:
        """Record that the build reads a file or folder of the repository; return its path."""
        self.reads[path] = None
        return path
