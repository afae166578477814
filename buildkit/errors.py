"""The error tree. The message says what is wrong and where, the hint says what to do; only the CLI exits.

BuildkitError
├── DefinitionError      a stage file, a lock, a setting or a request is wrong     exit code 2
├── BuildError           the build or a check failed                               exit code 1
│   ├── MissingTool      a program that the step needs is not installed
│   ├── ToolError        a program ran and failed; carries its output
│   ├── FetchError       a download failed
│   │   └── VersionsGoneError    the Debian archive no longer has locked versions
│   ├── MismatchError    bytes differ from what a lock or a digest names
│   ├── WheelError       a wheel is malformed or hostile
│   ├── ModelError       a model file runs code when it is loaded, or could not be scanned
│   ├── CollisionError   two wheels own one path with different bytes
│   ├── RegistryError    a registry is unreachable, or refused a request
│   └── LostError        something that the plan relies on is gone or damaged; a new plan repairs it
│       ├── RemoteLostError      the remote cache lacks a layer that it listed
│       └── LostBlobsError       blobs are not where they should be
│           ├── BlobsMissingError    a registry lacks blobs that the local cache lacks, too
│           └── DamagedError         the local cache holds other bytes under a digest
└── Interrupted          Ctrl-C or SIGTERM                                         exit code 130

``Interrupted`` is not a ``BuildError``, so ``except BuildError`` handles failures and never swallows a stop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from buildkit.lazy_dataclass import dataclass

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_DISK = {**_FULL, errno.EROFS: "the file system is read-only"}


class BuildkitError(Exception):
    """Any error that ends a request; ``exit_code`` is the exit code of the CLI."""

    exit_code = 1
    details: ClassVar[tuple[str, ...]] = ("hint", "output")  # keyword arguments of the constructor, and attributes

    def __init__(self, message: str, *, hint: str = "", output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.output = output

    def in_a_line(self) -> str:
        """Return the message and, in parentheses, the hint."""
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def as_json(self) -> dict[str, Any]:
        """Return ``{"kind", "message", …}`` with every detail, for ``from_json`` in another process."""
        details = {name: getattr(self, name) for name in self.details}
        return {"kind": type(self).__name__, "message": self.message, **details}

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], BuildkitError], tuple[dict[str, Any]]]:
        """Return how pickle makes it again: details are keyword arguments, which exceptions do not keep."""
        return BuildkitError.from_json, (self.as_json(),)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> BuildkitError:
        """Return the error that ``as_json`` described; a BuildError for a kind that this process has not imported."""
        kind = {kind.__name__: kind for kind in _kinds(BuildkitError)}.get(value["kind"], BuildError)
        details = {name: kind._parse_detail(name, value[name]) for name in kind.details if name in value}
        return kind(value["message"], **details)

    @classmethod
    def _parse_detail(cls, _name: str, value: Any) -> Any:  # noqa: ANN401 - a JSON value
        return tuple(value) if isinstance(value, list) else value


def _kinds(base: type[BuildkitError]) -> Iterator[type[BuildkitError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake in a file: the file (``stages/x/stage.toml``), the key or line, what is wrong, and what to do."""

    file: str
    what: str
    key: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}: `{self.key}`" if self.key else self.file
        text = f"{place}: {self.what}" + (f" ({self.hint})" if self.hint else "")
        return " ".join(text.splitlines())  # a newline in a name must not end the line


class DefinitionError(BuildkitError):
    """The user's input is wrong; ``problems`` holds everything found, not only the first mistake."""

    exit_code = 2
    details = (*BuildkitError.details, "problems")

    def __init__(self, message: str, *, hint: str = "", output: str = "", problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message, hint=hint, output=output)
        self.problems = problems

    def as_json(self) -> dict[str, Any]:
        """Return the same as for any error; each problem is an object of its fields."""
        return super().as_json() | {"problems": [asdict(problem) for problem in self.problems]}

    @classmethod
    def _parse_detail(cls, name: str, value: Any) -> Any:  # noqa: ANN401 - a JSON value
        if name == "problems":
            return tuple(Problem(**problem) for problem in value)
        return super()._parse_detail(name, value)

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
    """A program that this step needs is not installed, or cannot be started."""


class ToolError(BuildError):
    """A program ran and failed; ``output`` is the end of what it printed."""


class FetchError(BuildError):
    """A download failed."""


class VersionsGoneError(FetchError):
    """The Debian archive no longer has versions that a lock names: it keeps only the newest ones.

    ``names`` are those packages.
    """

    details = (*FetchError.details, "names")

    def __init__(self, message: str, *, hint: str = "", output: str = "", names: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint, output=output)
        self.names = names


class MismatchError(BuildError):
    """Bytes differ from what a lock or a digest names."""


class LostError(BuildError):
    """The cache lost something that the plan relies on; planning again notices that and repairs it."""


class RemoteLostError(LostError):
    """The remote cache lacks a layer that it listed; ``reported`` if the user has been told already."""

    details = (*LostError.details, "reported")

    def __init__(self, message: str, *, hint: str = "", output: str = "", reported: bool = False) -> None:
        super().__init__(message, hint=hint, output=output)
        self.reported = reported


class LostBlobsError(LostError):
    """Blobs are not where they should be; ``digests`` are their hexadecimal digits."""

    details = (*LostError.details, "digests")

    def __init__(self, message: str, *, digests: tuple[str, ...], hint: str = "", output: str = "") -> None:
        super().__init__(message, hint=hint, output=output)
        self.digests = digests


class BlobsMissingError(LostBlobsError):
    """A registry lacks blobs that the local cache lacks, too."""


class DamagedError(LostBlobsError):
    """The local cache holds other bytes under these digests."""


class RegistryError(BuildError):
    """A registry is unreachable (``down``), denies these credentials (``denied``), lacks a manifest (``absent``), or
    refused for another reason."""

    details = (*BuildError.details, "denied", "down", "absent")

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        output: str = "",
        denied: bool = False,
        down: bool = False,
        absent: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, output=output)
        self.denied = denied
        self.down = down
        self.absent = absent


class WheelError(BuildError):
    """A wheel is malformed or hostile."""


class ModelError(BuildError):
    """A model file contains code that runs when it is loaded, or could not be scanned for such code."""


class CollisionError(BuildError):
    """Two wheels own one path with different bytes."""


class Interrupted(BuildkitError):
    """The user or the system asked to stop."""

    exit_code = 130


def source_changed(source: str | os.PathLike[str]) -> MismatchError:
    """Return the error for a file of the repository that changed after the build first read it."""
    return MismatchError(f"{source} has changed since the build began", hint="build again")


def describe_disk_error(error: OSError) -> str:
    """Return what is wrong with the disk: full, quota used up, or read-only; empty for any other error."""
    return _DISK.get(error.errno or 0, "")


def is_disk_error(error: BaseException) -> bool:
    """Return whether an error says that a disk is full or read-only, so that other work would fail as well."""
    if isinstance(error, OSError):
        return bool(describe_disk_error(error))
    return isinstance(error, BuildkitError) and any(text in error.message for text in _DISK.values())


def describe_full_disk(output: str) -> str:
    """Return the same for a program's output that reports a full disk or a used-up quota; else empty."""
    text = output.lower()
    return next((message for number, message in _FULL.items() if os.strerror(number).lower() in text), "")
