"""``pylock.toml`` (PEP 751), read by ``packaging``: which of its packages a target gets, as pins.

uv writes the same format when it exports a ``uv.lock``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.declare.toml import parse_toml
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.choice_inputs import find_lines
from buildkit.locks.git_source import make_git_source
from buildkit.locks.pins import Pin, PinnedFile
from buildkit.locks.requirements_txt import DescribeLocal, applicable

if TYPE_CHECKING:
    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageWheel, Pylock

_ANSWER = "keep it below ./libs, or depend on a released version"


@dataclass(frozen=True, kw_only=True)
class PylockReader:
    """Reads packages of a lock in the format of pylock.toml.

    ``lines`` is the text in which people find the packages: of the lock itself, or of the uv.lock that it came from.
    """

    choice: LockChoice
    lines: str
    describe_local: DescribeLocal

    @cached_property
    def _lines(self) -> dict[tuple[str, str], int]:
        return find_lines(self.lines)

    def read(self, text: str, target: Target) -> tuple[Pin, ...]:
        """Return the pins that apply to ``target``. Raises DefinitionError with every problem found."""
        pylock = self._parse(text)
        self._check_python(pylock, target)
        self._check_names(pylock)
        problems: list[Problem] = []
        pins = [pin for package in pylock.packages for pin in self._pins(package, problems)]
        if problems:
            raise DefinitionError.of(problems)
        wanted = self._groups(pylock)
        return applicable(pins, target, {"extras": frozenset(self.choice.extras), "dependency_groups": wanted})

    def _parse(self, text: str) -> Pylock:
        from packaging.pylock import Pylock, PylockValidationError

        table = parse_toml(text, self.choice.file)
        try:
            return Pylock.from_dict(table)
        except PylockValidationError as error:
            raise DefinitionError.of([Problem(file=self.choice.file, what=f"is not a pylock.toml: {error}")]) from None

    def _check_python(self, pylock: Pylock, target: Target) -> None:
        """Raise DefinitionError if no release that the target may have is among those that the lock is for."""
        needs = pylock.requires_python
        releases = (target.python,) if target.is_exact else (f"{target.minor}.0", f"{target.minor}.9999")
        if needs is not None and not any(needs.contains(release, prereleases=True) for release in releases):
            what = f"needs Python {needs}, and the images have {target.python}"
            raise DefinitionError.of([Problem(file=self.choice.file, what=what)])

    def _groups(self, pylock: Pylock) -> Set[str]:
        if self.choice.only_groups:
            return frozenset(self.choice.only_groups)
        return frozenset((*(pylock.default_groups or ()), *self.choice.groups))

    def _check_names(self, pylock: Pylock) -> None:
        """Raise DefinitionError for an extra or group that the lock does not have."""
        if self.choice.kind != "pylock":
            return  # uv has checked them
        known = {"extra": pylock.extras or (), "group": pylock.dependency_groups or ()}
        asked = {"extra": self.choice.extras, "group": (*self.choice.groups, *self.choice.only_groups)}
        problems = [
            Problem(file=self.choice.file, what=f"has no {kind} `{name}`", hint=f"it has: {', '.join(known[kind])}")
            for kind, names in asked.items()
            for name in names
            if name not in known[kind]
        ]
        if problems:
            raise DefinitionError.of(problems)

    def _pins(self, package: Package, problems: list[Problem]) -> Iterator[Pin]:
        version = str(package.version or "")
        line = self._lines.get((package.name, version)) or self._lines.get((package.name, ""), 1)
        marker = str(package.marker or "")
        place = f"{self.choice.file}:{line}"
        if package.directory is not None:
            yield from self._local(package, line, marker)
            return
        if package.vcs is not None:
            yield from self._of_git(package, line, marker, problems)
            return
        listed = package.archive or package.sdist
        files = tuple(self._file(one) for one in (*(package.wheels or ()), *((listed,) if listed else ())))
        found = [file for file in files if file is not None]
        if not found:
            problems.append(
                Problem(
                    file=place,
                    what=f"{package.name} has no file with a SHA-256",
                    hint="lock from an index that has hashes; uv writes none for a folder of find-links",
                )
            )
            return
        yield Pin(
            name=package.name,
            version=version or _version_of(found[0].name),
            hashes=tuple(file.sha256 for file in found),
            file=self.choice.file,
            line=line,
            marker=marker,
            files=tuple(found),
        )

    def _of_git(self, package: Package, line: int, marker: str, problems: list[Problem]) -> Iterator[Pin]:
        vcs = package.vcs
        assert vcs is not None  # noqa: S101 - the caller's check
        try:
            if vcs.type != "git":
                raise ValueError(f"is in a repository of {vcs.type}, and only git is read; {_ANSWER}")
            git = make_git_source(vcs.url or vcs.path or "", vcs.commit_id, vcs.subdirectory or "")
        except ValueError as error:
            problems.append(Problem(file=f"{self.choice.file}:{line}", what=f"{package.name} {error}"))
            return
        yield Pin(
            name=package.name, version=str(package.version or ""), hashes=(), file=self.choice.file, line=line,
            marker=marker, git=git,
        )  # fmt: skip

    def _local(self, package: Package, line: int, marker: str) -> Iterator[Pin]:
        assert package.directory is not None  # noqa: S101 - the caller's check
        if not self.choice.project:
            return
        folder = posixpath.normpath(posixpath.join(self.choice.folder, package.directory.path))
        if folder.startswith(("../", "/")) or folder == "..":
            what = f"{package.name} is in {folder}, outside of the repository"
            raise DefinitionError.of([Problem(file=f"{self.choice.file}:{line}", what=what)])
        path = "." if folder == "." else f"./{folder}"
        version = str(package.version or "") or self.describe_local(path)[1]
        yield Pin(
            name=package.name, version=version, hashes=(), file=self.choice.file, line=line, marker=marker, path=path
        )  # fmt: skip

    def _file(self, listed: PackageWheel | PackageSdist | PackageArchive) -> PinnedFile | None:
        digits = listed.hashes.get("sha256", "")
        if len(digits) != 64 or digits not in self.lines:  # uv adds the hash of a file that it has, but nobody locked
            return None
        place = listed.url or posixpath.normpath(posixpath.join(self.choice.folder, listed.path or ""))
        name = getattr(listed, "name", None) or unquote(urlsplit(place).path.rpartition("/")[2])
        return PinnedFile(name=name, sha256=FileHash(digits), place=place, size=listed.size)


def _version_of(file: str) -> str:
    """Return the version in a file's name, for an archive whose lock does not say it."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        return str(parse_wheel_filename(file)[1])
    except InvalidWheelFilename:
        return ""
