"""The error tree. A message says what and where, the hint says what to do; only the face exits.

BuildkitError
├── DefinitionError      a stage file, a lock, a setting or a request is wrong     exit code 2
└── BuildError           the build or a check failed                               exit code 1
    ├── MissingTool      a program that the step needs is not installed
    ├── ToolError        a program ran and failed; carries its output
    ├── FetchError       something could not be downloaded
    ├── MismatchError    bytes are not what a lock or a digest says
    ├── WheelError       a wheel is malformed or hostile
    ├── ModelError       a model file runs code when it is loaded, or could not be scanned
    ├── CollisionError   two wheels own one path with different bytes
    ├── RegistryError    a registry could not be asked, or refused
    ├── LostError        something planned on is gone or damaged: a new plan mends it
    │   ├── SharedLostError    a shared cache lacks what it said that it has
    │   ├── LackingError       a registry lacks blobs that are not here either
    │   └── DamagedError       the cache holds other bytes under a digest
    └── Interrupted      Ctrl-C or SIGTERM                                         exit code 130
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


class BuildkitError(Exception):
    """Anything that ends a request; ``exit_code`` is what the face exits with."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.output = output


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in a file: where (``stages/x/stage.toml``), at which key or line, what, and what to do."""

    file: str
    what: str
    key: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}: `{self.key}`" if self.key else self.file
        said = f"{place}: {self.what}" + (f" ({self.hint})" if self.hint else "")
        return " ".join(said.splitlines())  # a name must not end the line that it stands in


class DefinitionError(BuildkitError):
    """What the user wrote is wrong; ``problems`` holds everything found, not only the first."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems

    @classmethod
    def of(cls, problems: list[Problem]) -> DefinitionError:
        """One error for all ``problems`` (at least one) of a file or a request."""
        if len(problems) == 1:
            only = problems[0]
            bare = Problem(file=only.file, key=only.key, what=only.what)
            return cls(str(bare), hint=only.hint, problems=(only,))
        lines = "\n".join(f"  - {problem}" for problem in problems)
        return cls(f"{len(problems)} problems:\n{lines}", problems=tuple(problems))


class BuildError(BuildkitError):
    """The build or a check failed."""


class MissingTool(BuildError):
    """A program that this step needs is not installed."""


class ToolError(BuildError):
    """A program ran and failed; ``output`` is the end of what it printed."""


class FetchError(BuildError):
    """Something could not be downloaded."""


class MismatchError(BuildError):
    """Bytes are not what a lock or a digest says they are."""


class LostError(BuildError):
    """The cache lost something that the plan relied on; planning again finds that, and mends it."""


class SharedLostError(LostError):
    """A shared cache lost, or never had, what it said that it has; ``said`` where the user knows of it already."""

    def __init__(self, message: str, *, said: bool = False) -> None:
        super().__init__(message)
        self.said = said


class LackingError(LostError):
    """A registry lacks blobs that are not here either; ``digests`` are theirs, as hexadecimal digits."""

    def __init__(self, message: str, *, digests: tuple[str, ...]) -> None:
        super().__init__(message)
        self.digests = digests


class DamagedError(LostError):
    """The cache holds other bytes under a digest; ``digests`` are those, as hexadecimal digits."""

    def __init__(self, message: str, *, digests: tuple[str, ...], hint: str = "", output: str = "") -> None:
        super().__init__(message, hint=hint, output=output)
        self.digests = digests


class RegistryError(BuildError):
    """A registry could not be asked (``down``), or this log-in may not (``denied``), or it refused otherwise."""

    def __init__(self, message: str, *, hint: str = "", denied: bool = False, down: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.denied = denied
        self.down = down


class WheelError(BuildError):
    """A wheel is malformed or hostile."""


class ModelError(BuildError):
    """A model file holds what runs code when it is loaded, or could not be scanned for it."""


class CollisionError(BuildError):
    """Two wheels own one path with different bytes."""


class Interrupted(BuildError):
    """The user or the system asked to stop."""

    exit_code = 130


def changed(source: str | os.PathLike[str]) -> MismatchError:
    """The error for a file of the repository that is not what it was when the build looked at it first."""
    return MismatchError(f"{source} has changed since the build began", hint="build again")


def disk_trouble(error: OSError) -> str:
    """Why nothing can be written, where that is the disk's fault: full, quota used up, or read-only; else empty."""
    return {**_FULL, errno.EROFS: "the file system is read-only"}.get(error.errno or 0, "")


def find_full_disk(output: str) -> str:
    """The same, if a program's words say that its disk is full or the quota used up."""
    said = output.lower()
    return next((words for number, words in _FULL.items() if os.strerror(number).lower() in said), "")
