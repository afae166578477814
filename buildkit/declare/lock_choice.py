"""What a stage takes from the lock, or the project file, of another tool: ``uv.lock`` with the extra ``gpu``.

Such a file says more than one image needs. So a choice has an own sidecar, whose path identifies it wherever a path of
a requirements lock does for others.
"""

from __future__ import annotations

import posixpath
import re

from buildkit.lazy_dataclass import dataclass

CHOSEN_FROM = r"(?:uv\.lock|poetry\.lock|pyproject\.toml|pylock(?:\.[^./]+)?\.toml)"
"""The names of files that a stage may choose from, as a pattern."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChoice:
    """The packages that a stage takes from ``file``, a path in the repository.

    ``package`` is a member of a workspace, empty for the project of ``file``. ``groups`` are added to the project's
    dependencies; ``only_groups`` replace them. ``project`` says whether packages of the repository are installed, too.
    """

    file: str
    package: str = ""
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    only_groups: tuple[str, ...] = ()
    project: bool = True

    @property
    def kind(self) -> str:
        """The format of the file: ``uv``, ``poetry``, ``pylock``, or ``pyproject``, which is an input."""
        return find_kind(self.file)

    @property
    def folder(self) -> str:
        """The folder of the file, relative to the repository; empty for its root."""
        return posixpath.dirname(self.file)

    @property
    def id(self) -> str:
        """The path of its sidecar (``uv.extra-gpu.wheels.toml``), or of the lock of an input; next to the file."""
        return self._stem + (".txt" if self.kind == "pyproject" else ".wheels.toml")

    @property
    def input(self) -> str:
        """The name of the input that a pyproject.toml stands for; there is no such file."""
        return f"{self._stem}.in"

    @property
    def _stem(self) -> str:
        words = (
            posixpath.splitext(self.file)[0],
            self.package,
            *(f"extra-{name}" for name in self.extras),
            *(f"group-{name}" for name in self.groups),
            *(f"only-{name}" for name in self.only_groups),
            "" if self.project else "no-project",
        )
        return ".".join(word for word in words if word)

    def __str__(self) -> str:
        """Return the choice for a message: ``uv.lock (extra gpu)``."""
        words = (
            f"package {self.package}" if self.package else "",
            *(f"extra {name}" for name in self.extras),
            *(f"group {name}" for name in (*self.groups, *self.only_groups)),
        )
        shown = ", ".join(word for word in words if word)
        return f"{self.file} ({shown})" if shown else self.file


def find_kind(file: str) -> str:
    """Return the format of another tool's file by its name; empty for a requirements lock."""
    name = posixpath.basename(file)
    return name.partition(".")[0] if re.fullmatch(CHOSEN_FROM, name) else ""
