"""A trap for the code of packages: the only Python that a resolver is given, which starts no build backend."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from buildkit.errors import BuildError
from buildkit.tools.isolation import worker_text


class HostBuildError(BuildError):
    """A resolver wanted to run code of a package; it did not run. ``tree`` is the folder of the package's source."""

    details: ClassVar[tuple[str, ...]] = ("hint", "output", "tree")

    def __init__(self, message: str, *, tree: str, hint: str = "", output: str = "") -> None:
        super().__init__(message, hint=hint, output=output)
        self.tree = tree


@dataclass(frozen=True, slots=True)
class PythonTrap:
    """A trap in an own folder, in which programs can be executed."""

    _folder: Path

    @property
    def program(self) -> Path:
        """The interpreter to give to the resolver."""
        return self._folder / "python"

    def set_up(self, version: str = "") -> PythonTrap:
        """Write the interpreter, and return the trap. It says that it is Python ``version``, if one is given."""
        argv = (sys.executable, "-I", "-c", worker_text("python_trap_worker"), str(self._log), version)
        self.program.write_text(f'#!/bin/sh\nexec {shlex.join(argv)} "$0" "$@"\n', "utf-8")
        self.program.chmod(0o700)
        return self

    def find_caught(self) -> Path | None:
        """Return the folder in which code was to run the last time, or None if none was."""
        if not self._log.exists():
            return None
        return Path(os.fsdecode(self._log.read_bytes().rstrip(b"\0").rpartition(b"\0")[2]))

    @property
    def _log(self) -> Path:
        return self._folder / "caught"
